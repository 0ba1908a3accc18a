"""`solomonic diff` and `solomonic patch`: the new file byte for byte, or the old one and a status
that says why."""

from collections.abc import Callable
from pathlib import Path

import pytest

from delta_support import generations

from .conftest import Done

Cli = Callable[..., Done]
FILES = generations(4)


@pytest.fixture
def place(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four generations, 0.solo to 3.solo, and the updates between them, 0.update to 2.update."""
    monkeypatch.chdir(tmp_path)
    for number, data in enumerate(FILES):
        (tmp_path / f"{number}.solo").write_bytes(data)
    for i in range(3):
        done = cli("diff", f"{i}.solo", f"{i + 1}.solo", "-o", named(i))
        assert done.status == 0, done.err
    return tmp_path


def named(number: int) -> str:
    return f"{number}.update"


def test_there(cli: Cli, place: Path) -> None:
    done = cli("patch", "0.solo", "0.update", "-o", "new.solo")
    assert (done.status, done.out) == (0, "")
    assert "new.solo" in done.err and "1 of 1 updates" in done.err
    assert (place / "new.solo").read_bytes() == FILES[1]
    assert (place / "0.solo").read_bytes() == FILES[0]


def test_what_is_in_an_update(cli: Cli, place: Path) -> None:
    record = cli("diff", "0.solo", "1.solo", "-o", "u", "--json").record
    assert record["out"] == "u"
    assert record["bytes"] == (place / "u").stat().st_size
    assert record["new_bytes"] == len(FILES[1])
    assert record["share"] == pytest.approx(record["bytes"] / len(FILES[1]))
    assert "embed.weight" in {change["name"] for change in record["changes"]}
    shown = cli("diff", "0.solo", "1.solo", "-o", "u").out
    assert "│ embed " in shown and f"{record['bytes']:,} bytes" in shown


def test_a_chain_in_place_and_the_way_back(cli: Cli, place: Path) -> None:
    updates = [named(i) for i in range(3)]
    done = cli("patch", "0.solo", *updates, "-o", "0.solo", "--keep-undo", "undo", "--json")
    assert done.status == 0
    record = done.record
    assert record["updates"] == 3 and record["bytes"] == len(FILES[3])
    assert record["undo_bytes"] == (place / "undo").stat().st_size
    assert (place / "0.solo").read_bytes() == FILES[3]
    assert cli("patch", "0.solo", "undo", "-o", "0.solo").status == 0
    assert (place / "0.solo").read_bytes() == FILES[0]


def refused(cli: Cli, place: Path, status: int, why: str, *updates: str) -> None:
    """The status, one line that says why, and nothing written."""
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    done = cli("patch", "0.solo", *updates, "-o", "0.solo", "--keep-undo", "undo", "--json")
    assert (done.status, done.out) == (status, "")
    assert why in done.err and done.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_the_wrong_base_has_its_status(cli: Cli, place: Path) -> None:
    refused(cli, place, 3, "1.update applies to the model", "1.update")
    refused(cli, place, 3, "2.update applies to the model", "0.update", "2.update")


def test_applied_already_has_its_status(cli: Cli, place: Path) -> None:
    (place / "0.solo").write_bytes(FILES[1])
    refused(cli, place, 4, "0.solo is what 0.update makes already", "0.update")


def test_every_cut_update_has_its_status(cli: Cli, place: Path) -> None:
    whole = (place / "0.update").read_bytes()
    sizes = [0, 1, 7, 8, 11, 12, 20, 127, 128, *range(129, len(whole), 997), len(whole) - 1]
    for size in sizes:
        (place / "cut").write_bytes(whole[:size])
        refused(cli, place, 5, "cut, byte ", "cut")


def test_a_damaged_update_has_its_status(cli: Cli, place: Path) -> None:
    whole = (place / "0.update").read_bytes()
    for at in (0, 25, 60, 90, 130, len(whole) // 2, len(whole) - 1):
        (place / "bad").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        refused(cli, place, 5, "bad, byte ", "bad")
    refused(cli, place, 5, "1.solo, byte 0: this is no update", "1.solo")


def test_a_newer_update_has_its_status(cli: Cli, place: Path) -> None:
    whole = bytearray((place / "0.update").read_bytes())
    whole[8] = 2
    (place / "newer").write_bytes(whole)
    refused(cli, place, 6, "newer, byte 8: the update has version 2", "newer")


def test_nothing_is_written_over_what_is_read(cli: Cli, place: Path) -> None:
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    for words in (
        ("diff", "0.solo", "1.solo", "-o", "1.solo"),
        ("diff", "0.solo", "1.solo", "-o", "./0.solo"),
        ("patch", "0.solo", "0.update", "-o", "0.update"),
        ("patch", "0.solo", "0.update", "-o", "new.solo", "--keep-undo", "0.solo"),
        ("patch", "0.solo", "0.update", "-o", "new.solo", "--keep-undo", "new.solo"),
    ):
        done = cli(*words)
        assert done.status == 2 and "would be written over" in done.err, done.err
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_files_that_are_not_there(cli: Cli, place: Path) -> None:
    refused(cli, place, 2, "cannot read the update missing", "missing")
    done = cli("diff", "0.solo", place, "-o", "u")
    assert done.status == 2 and "is a folder" in done.err
    done = cli("diff", "0.update", "1.solo", "-o", "u")
    assert done.status == 2 and "0.update, byte 0: this is no device file" in done.err
    done = cli("patch", "0.solo", "0.update", "-o", "1.solo/new.solo")
    assert done.status == 2 and "1.solo" in done.err
    assert not (place / "u").exists()
