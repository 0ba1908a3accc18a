"""`solomonic memory`: documents added once, found, checked against, forgotten; what is refused."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from solomonic.memory import Memory

from .conftest import Done

Cli = Callable[..., Done]
POEM = "so much depends\nupon\n\na red wheel\nbarrow\n\nglazed with rain\nwater\n"
NOTES = "# Grain\nThe mill “stands” by the river.\n\n## Losses\nThey were 12.5 % in 1911.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    (made / "poem.txt").write_text(POEM)
    (made / "notes.md").write_text(NOTES)
    return made


@pytest.fixture
def store(cli: Cli, tmp_path: Path, folder: Path) -> Path:
    assert cli("memory", "add", tmp_path / "m.db", folder).status == 0
    return tmp_path / "m.db"


def test_add_says_what_became_of_each(cli: Cli, tmp_path: Path, folder: Path) -> None:
    store = tmp_path / "m.db"
    done = cli("memory", "add", store, folder)
    assert done.status == 0
    assert done.out == ""
    assert f"{folder / 'notes.md'}: 2 passages, {len(NOTES)} characters" in done.err
    again = cli("memory", "add", store, folder / "poem.txt", "--json")
    (record,) = again.record["documents"]
    assert (record["status"], record["written"], record["characters"]) == ("known", 0, len(POEM))
    (folder / "poem.txt").write_text(POEM.upper())
    changed = cli("memory", "add", store, folder)
    assert f"1 passage, {len(POEM)} characters (replaces 1 of an older version)" in changed.err
    assert f"{folder / 'notes.md'}: already there (2 passages)" in changed.err


def test_refused_documents_keep_no_other_from_coming(
    cli: Cli, tmp_path: Path, folder: Path
) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 and nothing")
    store = tmp_path / "m.db"
    done = cli("memory", "add", store, folder, tmp_path / "none.txt")
    assert done.status == 2
    assert "refused:" in done.err
    assert "broken.pdf is a broken or cut PDF" in done.err
    assert "error: 2 of 4 documents were refused" in done.err
    assert len(Memory.open(store, read_only=True)) == 3
    alone = cli("memory", "add", store, folder / "broken.pdf", "--json")
    assert alone.status == 2
    assert alone.record["documents"][0]["status"] == "refused"
    assert alone.err.startswith("error: ") and "broken or cut PDF" in alone.err
    assert alone.err.count("\n") == 1


def test_standard_input_and_names(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    piped("Zürich".encode("windows-1252"))
    done = cli("memory", "add", tmp_path / "m.db", "-", "--name", "city")
    assert "city: 1 passage, 6 characters, read as windows-1252" in done.err
    piped(b'They wrote "Z\xc3\xbcrich".')
    assert "city:0-6" in cli("memory", "check", tmp_path / "m.db", "-").out


def test_search(cli: Cli, store: Path, folder: Path) -> None:
    done = cli("memory", "search", store, "losses 1911")
    assert done.out.startswith(f"1. [2] {folder / 'notes.md'}:")
    assert '"Grain > Losses"' in done.out
    record = cli("memory", "search", store, "wheel", "-k", "1", "--json").record
    (hit,) = record["hits"]
    assert hit["text"] == POEM
    assert hit["source"] == str(folder / "poem.txt")
    nothing = cli("memory", "search", store, "zebra")
    assert (nothing.status, nothing.out) == (0, "")
    assert "nothing found" in nothing.err


def test_validity(cli: Cli, tmp_path: Path, folder: Path) -> None:
    store = tmp_path / "m.db"
    dates = ("--valid-from", "2026-01-01", "--valid-to", "2026-02-01T12:00")
    assert cli("memory", "add", store, folder / "poem.txt", *dates).status == 0

    def found(at: str) -> int:
        return len(cli("memory", "search", store, "wheel", "--at", at, "--json").record["hits"])

    assert [found(at) for at in ("2025-12-31", "2026-01-01", "2026-02-01T13:00+02:00")] == [0, 1, 1]
    assert found("2026-02-01T12:00") == 0


def test_check_and_repair(cli: Cli, store: Path, tmp_path: Path, folder: Path) -> None:
    answer = tmp_path / "answer.txt"
    answer.write_text('It says "a red wheel", "by the river", "12.5 % in 1912" and "God does not".')
    done = cli("memory", "check", store, answer)
    assert done.status == 2
    assert f'ok    "a red wheel"  {folder / "poem.txt"}:22-33' in done.out
    assert 'WRONG "12.5 % in 1912"  nowhere in the store' in done.out
    assert "error: 2 of 4 quotations are not verbatim" in done.err
    record = cli("memory", "check", store, answer, "--repair", "--json").record
    assert record["wrong"] == 2
    assert record["quotations"][0]["places"][0] == {
        "source": str(folder / "poem.txt"), "start": 22, "end": 33,
    }  # fmt: skip
    mended = cli("memory", "check", store, answer, "--repair")
    assert mended.status == 0
    assert mended.out == (
        'It says "a red wheel", "by the river", "12.5 % in 1911" and God does not.'
    )
    assert '"God does not": marks taken away' in mended.err
    answer.write_text(mended.out)
    assert cli("memory", "check", store, answer).status == 0
    answer.write_text('"wheel barrow"')
    assert cli("memory", "check", store, answer).status == 2
    assert cli("memory", "check", store, answer, "--fold-whitespace").status == 0


def test_forget(cli: Cli, store: Path, folder: Path) -> None:
    source = folder / "notes.md"
    assert cli("memory", "forget", store, "3", "--yes", "--json").record == {"forgotten": 1}
    assert cli("memory", "forget", store, "--source", source, "--yes").status == 0
    assert cli("memory", "search", store, "mill wheel", "--json").record["hits"] == []
    assert "no item" in cli("memory", "forget", store, "3").err  # and is asked nothing
    absent = cli("memory", "forget", store, "3", "--yes")
    assert absent.status == 2
    assert "there is no item 3" in absent.err
    assert "2 passages" in cli("memory", "add", store, source).err  # it may come again


def test_stats_and_verify(cli: Cli, store: Path) -> None:
    record = cli("memory", "stats", store, "--json").record
    assert (record["items"], record["sources"], record["embedding"]) == (3, 2, None)
    assert "passage 3" in cli("memory", "stats", store).out
    assert cli("memory", "verify", store, "--json").record["ok"]
    assert "in order, 3 items" in cli("memory", "verify", store).err


def test_search_by_vectors_of_a_model(
    cli: Cli, tmp_path: Path, folder: Path, model_dir: Path
) -> None:
    store, plain = tmp_path / "m.db", tmp_path / "plain.db"
    assert cli("memory", "add", store, folder, "--lm", model_dir).status == 0
    for query in (POEM, NOTES[:20]):
        done = cli("memory", "search", store, query, "--lm", model_dir, "--json")
        assert len(done.record["hits"]) == 3
    first = cli("memory", "search", store, POEM, "--lm", model_dir, "-k", "1", "--json").record
    assert first["hits"][0]["text"] == POEM
    assert first["hits"][0]["similarity"] > 0.999
    both = cli("memory", "search", store, "wheel", "--lm", model_dir, "--both", "--json").record
    assert both["hits"][0]["text"] == POEM
    assert cli("memory", "search", store, "wheel", "--json").record["hits"][0]["text"] == POEM
    assert cli("memory", "stats", store, "--json").record["embedding"] == "model"
    foreign = cli("memory", "search", store, "wheel", "--lm", "shipped")
    assert foreign.status == 2
    assert "were written by the model 'model'" in foreign.err
    assert cli("memory", "add", store, folder / "poem.txt", "--lm", "shipped").status == 2
    assert cli("memory", "add", plain, folder).status == 0
    wordy = cli("memory", "search", plain, "wheel", "--lm", model_dir)
    assert wordy.status == 2
    assert "has no vectors of a language model" in wordy.err


def test_generate_quotes(cli: Cli, store: Path, model_dir: Path) -> None:
    """A model that nobody trained, inside a quotation from its prompt on."""
    begun = ("generate", model_dir, "--memory", store, "--prompt", 'They say "so mu')
    done = cli(*begun, "--quote", "--seed", 1, "-n", 40, "--json")
    (first, *_) = done.record["quotes"]
    assert first["text"].startswith("so mu")
    assert first["places"][0]["source"].endswith("poem.txt")
    assert all(one["ok"] or not one["closed"] for one in done.record["quotes"])
    shown = cli(*begun, "--quote", "--seed", 1, "-n", 40)
    assert "poem.txt:0-" in shown.out
    without = cli("generate", model_dir, "--prompt", "a", "--quote")
    assert without.status == 2
    assert "--quote quotes from a store" in without.err
    wrong = cli("generate", model_dir, "--memory", store, "--prompt", 'They say "so li', "--quote")
    assert wrong.status == 2
    assert "ends inside a quotation that the store does not hold" in wrong.err


def test_what_cannot_be_done_is_said(cli: Cli, store: Path, tmp_path: Path, folder: Path) -> None:
    other, poem = tmp_path / "other.db", folder / "poem.txt"
    other.write_text("so much depends upon\n" * 50)
    for arguments, message in (
        (("add", store, tmp_path / "none"), "cannot read"),
        (("add", store, poem, "--encoding", "tea"), "no text encoding 'tea'"),
        (("add", store, poem, "--kind", "tea"), "no kind of document 'tea'"),
        (("add", store, poem, "--size", "3"), "size = 3"),
        (("add", store, folder, "--name", "x"), "--name is for one document"),
        (("add", store, poem, "--valid-from", "soon"), "--valid-from 'soon' is no date"),
        (("add", store, poem, "--lm", tmp_path / "none"), "no language model"),
        (("add", other, poem), "not a memory of solomonic"),
        (("search", tmp_path / "none.db", "x"), "there is no memory"),
        (("search", store, " "), "nothing to search for"),
        (("search", store, "x", "--both"), "name the model with --lm"),
        (("search", store, "x", "-k", "0"), "ask for one answer"),
        (("search", other, "x"), "not a memory of solomonic"),
        (("check", store, tmp_path / "none"), "cannot read"),
        (("check", store, poem, "--repair", "--most", "2"), "most = 2"),
        (("forget", store), "say what to forget"),
        (("forget", store, "1", "--source", "a"), "say what to forget"),
        (("forget", store, "--source", "a", "--yes"), "is from 'a'"),
        (("forget", tmp_path / "none.db", "1", "--yes"), "there is no memory"),
        (("stats", tmp_path / "none.db"), "there is no memory"),
        (("verify", tmp_path / "none.db"), "there is no memory"),
    ):
        done = cli("memory", *arguments)
        assert done.status == 2, arguments
        assert message in done.err, done.err
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
    assert not (tmp_path / "none.db").exists()
    assert other.read_text().startswith("so much")
