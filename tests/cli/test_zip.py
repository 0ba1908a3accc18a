"""`solomonic zip`, `unzip` and `gen universal`: round trips, refusals, what they leave behind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from needs import needs_core
from solomonic.cli import zip

from .conftest import Done

Cli = Callable[..., Done]
TEXT = b"so much depends upon a red wheel barrow glazed with rain water\n" * 20


@needs_core
@pytest.mark.parametrize("predictor", ["mix", "ctw"])
def test_a_round_trip(cli: Cli, tmp_path: Path, predictor: str) -> None:
    source = tmp_path / "poem.txt"
    source.write_bytes(TEXT)
    done = cli("zip", str(source), "--predictor", predictor, "--json")
    archive = tmp_path / "poem.txt.slz"
    record = json.loads(done.out)
    assert done.status == 0
    assert record["text_bytes"] == len(TEXT)
    assert record["archive_bytes"] == archive.stat().st_size < len(TEXT) / 8
    assert cli("unzip", str(archive)).status == 2  # poem.txt is there
    source.unlink()
    assert cli("unzip", str(archive)).status == 0
    assert source.read_bytes() == TEXT


@needs_core
def test_long_work_says_how_far_it_is(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip, "_PAUSE", 0.0)
    source = tmp_path / "poem.txt"
    source.write_bytes(TEXT)
    done = cli("zip", str(source), "--json")
    assert json.loads(done.out)["text_bytes"] == len(TEXT)
    assert done.err.splitlines() == ["0 of 1,260 bytes", "1,260 of 1,260 bytes"]
    source.unlink()
    size = (tmp_path / "poem.txt.slz").stat().st_size
    assert f"of {size:,} bytes" in cli("unzip", str(tmp_path / "poem.txt.slz")).err


@needs_core
def test_a_cut_archive_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    source, cut = tmp_path / "a", tmp_path / "cut.slz"
    source.write_bytes(TEXT)
    assert cli("zip", str(source)).status == 0
    cut.write_bytes((tmp_path / "a.slz").read_bytes()[:-3])
    done = cli("unzip", str(cut))
    assert done.status == 2
    assert "cut short" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.slz", "cut.slz"]


def test_what_cannot_be_done_is_said(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x")
    for arguments, message in (
        (("zip", str(source), "--predictor", "tea"), "no predictor 'tea'"),
        (("zip", str(tmp_path / "none")), "cannot read"),
        (("zip", str(source), "-o", str(source)), "there already"),
        (("unzip", str(source)), "does not end in .slz"),
        (("unzip", str(source), "-o", str(tmp_path / "b")), "cut short"),
        (("gen", "universal", "--out", str(source)), "is a file"),
        (("gen", "universal", "--out", str(tmp_path / "c"), "--alphabet", "40"), "2 to 36"),
        (("eval", "regret", "--sources", "tea"), "no source 'tea'"),
        (("eval", "regret", "--untrained"), "give the DIR of a trained one"),
    ):
        done = cli(*arguments)
        assert done.status == 2, arguments
        assert message in done.err


@needs_core
def test_universal_text_is_the_same_for_equal_seeds(cli: Cli, tmp_path: Path) -> None:
    def made(folder: str, seed: int) -> list[bytes]:
        options = ("--count", "30", "--shard", "20", "--length", "32", "--alphabet", "3")
        out = tmp_path / folder
        assert cli("gen", "universal", "--out", str(out), *options, "--seed", str(seed)).status == 0
        return [path.read_bytes() for path in sorted(out.glob("*.jsonl"))]

    first = made("a", 0)
    assert [len(shard.splitlines()) for shard in first] == [20, 10]
    texts = [json.loads(line)["text"] for line in b"".join(first).splitlines()]
    assert all(len(text) == 32 and set(text) <= set("012") for text in texts)
    assert len(set(texts)) > 5
    assert made("b", 0) == first
    assert made("c", 1) != first
    (tmp_path / "a" / "universal-00001.jsonl").unlink()
    assert made("a", 0) == first
    other = cli("gen", "universal", "--out", tmp_path / "a", "--count", "30", "--alphabet", "2")
    assert other.status == 2
    assert "another run (--length 32, not 256); choose another --out" in other.err


def test_a_language_model_zips_and_only_it_unzips(
    cli: Cli, model_dir: Path, tmp_path: Path
) -> None:
    source, again = tmp_path / "a", tmp_path / "b"
    data = b"any bytes: \xff\x00\xc3\xa9 and text"
    source.write_bytes(data)
    assert cli("zip", str(source), "--predictor", f"lm:{model_dir}").status == 0
    assert cli("unzip", str(tmp_path / "a.slz"), "-o", str(again)).status == 0
    assert again.read_bytes() == data
    done = cli("unzip", tmp_path / "a.slz", "-o", tmp_path / "c", "--predictor", "mix")
    assert done.status == 2
    assert "another predictor or model" in done.err
    assert not (tmp_path / "c").exists()
