"""Manifests: everything kept, every fault named, nothing skipped in silence."""

import json
from pathlib import Path
from typing import Any

import pytest

from solomonic.core import DataError, StorageError
from solomonic.speech.data.manifest import (
    Utterance,
    drop_unclear,
    read_manifest,
    refuse,
    write_manifest,
)


def line(number: int, **changes: Any) -> dict[str, Any]:
    record = {"audio": f"audio/{number}.wav", "duration": 1.5, "text": f"text {number}",
              "speaker": "s", "language": "en", "split": "train"}  # fmt: skip
    return {**record, **changes}


def write(folder: Path, lines: list[Any], missing: tuple[int, ...] = ()) -> Path:
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    for number in range(len(lines)):
        if number not in missing:
            (folder / "audio" / f"{number}.wav").write_bytes(b"")
    text = "".join(
        f"{x if isinstance(x, str) else json.dumps(x, ensure_ascii=False)}\n" for x in lines
    )
    (folder / "manifest.jsonl").write_text(text, "utf-8")
    return folder / "manifest.jsonl"


def test_reads_one_or_several_and_keeps_all(tmp_path: Path) -> None:
    first = write(tmp_path / "one", [line(0, kind="x", nested={"a": [1]}), line(1, split="dev")])
    write(tmp_path / "two", [line(0, text="\u2028 line separator", source="named")])
    found = read_manifest([first, tmp_path / "two"])
    assert [u.source for u in found] == ["one", "one", "named"]
    assert found[0].extra == {"kind": "x", "nested": {"a": [1]}}
    assert found[0].audio == tmp_path / "one" / "audio" / "0.wav" and found[0].duration == 1.5
    assert found[2].text == "\u2028 line separator"
    assert [u.text for u in read_manifest(first, "dev")] == ["text 1"]
    assert len({*map(hash, found)}) == 3


def test_written_and_read_again(tmp_path: Path) -> None:
    found = read_manifest(write(tmp_path / "a", [line(0, text="é"), line(1, text="", gender="F")]))
    write_manifest(tmp_path / "a" / "copy.jsonl", found)
    assert read_manifest(tmp_path / "a" / "copy.jsonl") == found
    relative = json.loads((tmp_path / "a" / "copy.jsonl").read_text("utf-8").split("\n")[0])
    assert relative["audio"] == "audio/0.wav"
    write_manifest(tmp_path / "b" / "manifest.jsonl", found)  # audio outside: absolute
    assert [u.audio for u in read_manifest(tmp_path / "b")] == [u.audio for u in found]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_manifest(tmp_path / "file" / "manifest.jsonl", found)


def test_all_missing_recordings_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, [line(i) for i in range(30)], missing=tuple(range(25)))
    with pytest.raises(DataError) as caught:
        read_manifest(file)
    message = str(caught.value)
    assert message.startswith("25 of 30 recordings are missing") and "more" not in message
    assert all(f"audio/{i}.wav" in message for i in range(25)) and "25.wav" not in message


def test_of_a_whole_missing_set_a_thousand_are_named() -> None:
    names = [f"{i}.wav" for i in range(1005)]
    with pytest.raises(DataError) as caught:
        refuse(names, 2000, "recordings are missing", "copy them")
    message = str(caught.value)
    assert message.startswith("1005 of 2000 recordings are missing; copy them: 0.wav, 1.wav, ")
    assert message.endswith(", 999.wav and 5 more.")


def test_missing_texts(tmp_path: Path) -> None:
    file = write(tmp_path, [line(0), line(1, text=None), line(2, text="")])
    with pytest.raises(DataError, match=r"1 of 3 recordings have no text.*1\.wav"):
        read_manifest(file)
    assert [u.text for u in read_manifest(file, require_text=False)] == ["text 0", None, ""]


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ("{", "no JSON"),
        ("[1]", "not a JSON object"),
        (line(1, audio=None), "'audio'"),
        (line(1, audio=""), "'audio'"),
        (line(1, duration="1"), "'duration'"),
        (line(1, duration=True), "'duration'"),
        (line(1, duration=-1), "'duration'"),
        ('{"audio": "audio/1.wav", "duration": NaN}', "'duration'"),
        ({"audio": "audio/1.wav"}, "'duration'"),
        (line(1, text=5), "'text'"),
        (line(1, split=["train"]), "'split'"),
    ],
)
def test_bad_lines_are_named_by_number(tmp_path: Path, bad: Any, what: str) -> None:
    file = write(tmp_path, [line(0), bad, "", line(3)])
    with pytest.raises(DataError, match=rf"line 2: {what}"):
        read_manifest(file)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no utterances"):
        read_manifest(write(tmp_path / "a", []))
    file = write(tmp_path / "b", [line(0), line(1, split="dev")])
    with pytest.raises(DataError, match="'test'; there are dev, train"):
        read_manifest(file, "test")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_manifest(tmp_path / "binary.jsonl")


def test_unclear_ones_are_dropped_and_counted() -> None:
    clear = Utterance(audio=Path("a"), duration=1.0, extra={"has_partial_word": False})
    unclear = Utterance(audio=Path("b"), duration=1.0, extra={"unintelligible_part": True})
    assert drop_unclear([clear, unclear, clear]) == ([clear, clear], 1)
