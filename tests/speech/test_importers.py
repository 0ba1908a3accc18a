"""Importers of LibriSpeech, Common Voice and Kaldi folders, on small made ones."""

from pathlib import Path

import numpy as np
import pytest

from solomonic.core import DataError
from solomonic.speech.data.importers import common_voice, kaldi, librispeech
from solomonic.speech.data.manifest import read_manifest, write_manifest

soundfile = pytest.importorskip("soundfile")


def record(path: Path, seconds: float = 0.5, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 0.5, round(seconds * rate))
    soundfile.write(path, ramp, rate, format="FLAC" if path.suffix == ".mp3" else None)
    return path


def test_librispeech(tmp_path: Path) -> None:
    folder = tmp_path / "dev-clean"
    for chapter, lines in (("10/100", "10-100-0000 HELLO THERE\n10-100-0001 BYE\n"),
                           ("20/7", "20-7-0000 IT'S LATE\n")):  # fmt: skip
        place = folder / chapter
        place.mkdir(parents=True)
        (place / f"{chapter.replace('/', '-')}.trans.txt").write_text(lines)
        for text in lines.splitlines():
            record(place / f"{text.split()[0]}.flac", 0.25)
    found = librispeech(folder)
    assert [u.text for u in found] == ["HELLO THERE", "BYE", "IT'S LATE"]
    assert [u.speaker for u in found] == ["librispeech-10"] * 2 + ["librispeech-20"]
    assert {u.split for u in found} == {"dev-clean"} and found[0].duration == 0.25
    write_manifest(tmp_path / "manifest.jsonl", found)
    assert read_manifest(tmp_path, "dev-clean") == found
    assert {u.split for u in librispeech(folder, "dev")} == {"dev"}

    (folder / "20/7/20-7-0000.flac").unlink()
    with pytest.raises(DataError, match=r"1 of 3 recordings are missing.*20-7-0000\.flac"):
        librispeech(folder)
    (folder / "20/7/20-7.trans.txt").write_text("20-7-0000\n")
    with pytest.raises(DataError, match="line 1"):
        librispeech(folder)
    with pytest.raises(DataError, match="no LibriSpeech transcripts"):
        librispeech(tmp_path / "none")


def test_common_voice(tmp_path: Path) -> None:
    folder = tmp_path / "en"
    head = "client_id\tpath\tsentence\tage\tgender\taccents\tlocale\n"
    rows = 'abc\tone.mp3\tHe said "stop.\t\tfemale\t\ten\nabd\ttwo\tGo!\ttwenties\t\t\ten\n'
    record(folder / "clips" / "one.mp3")
    record(folder / "clips" / "two.mp3")
    (folder / "train.tsv").write_text(head + rows)
    found = common_voice(folder, "train")
    assert [u.text for u in found] == ['He said "stop.', "Go!"], "quotes are no quoting"
    assert found[0].extra == {"gender": "female"} and found[1].extra == {"age": "twenties"}
    assert found[0].speaker != found[1].speaker and found[0].split == "train"

    (folder / "clips" / "two.mp3").unlink()
    with pytest.raises(DataError, match=r"1 of 2 recordings.*two\.mp3"):
        common_voice(folder, "train")
    with pytest.raises(DataError, match="cannot read"):
        common_voice(folder, "dev")
    (folder / "dev.tsv").write_text("path\tsentence\n")
    with pytest.raises(DataError, match="no columns"):
        common_voice(folder, "dev")
    (folder / "dev.tsv").write_text(head)
    with pytest.raises(DataError, match="lists no clips"):
        common_voice(folder, "dev")


def kaldi_folder(folder: Path) -> Path:
    record(folder / "wav" / "a.wav", 2.0, 8000)
    record(folder / "wav" / "b.wav", 1.0)
    (folder / "wav.scp").write_text(f"a {folder}/wav/a.wav\nb wav/b.wav\n")
    (folder / "text").write_text("a hello there\nb\n")
    (folder / "utt2spk").write_text("a s1\nb s2\n")
    return folder


def test_kaldi(tmp_path: Path) -> None:
    folder = kaldi_folder(tmp_path / "train")
    found = kaldi(folder, tmp_path / "out")
    assert [(u.text, u.speaker, u.duration) for u in found] == [
        ("hello there", "s1", 2.0), ("", "s2", 1.0),
    ]  # fmt: skip
    assert not (tmp_path / "out").exists(), "whole recordings stay where they are"
    (folder / "text").write_text("a\thello there\nb\n")
    (folder / "utt2spk").write_text("a\ts1\nb  s2\n")
    assert kaldi(folder, tmp_path / "out") == found, "tabs and several blanks separate as well"


def test_kaldi_segments(tmp_path: Path) -> None:
    folder = kaldi_folder(tmp_path / "train")
    (folder / "segments").write_text("a-1 a 0.5 1.25\na-2 a 1.5 -1\n")
    (folder / "text").write_text("a-1 one\na-2 two\n")
    (folder / "utt2spk").unlink()
    found = kaldi(folder, tmp_path / "out")
    assert [(u.text, u.speaker, u.duration) for u in found] == [
        ("one", None, 0.75),
        ("two", None, 0.5),
    ]
    cut, rate = soundfile.read(found[0].audio)
    whole, _ = soundfile.read(folder / "wav" / "a.wav")
    assert rate == 8000 and np.allclose(cut, whole[4000:10000], atol=1e-4)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("wav.scp", "a sox x.wav - |\n", "is a command"),
        ("wav.scp", "a gone.wav\n", r"1 of 1 recordings are missing.*gone\.wav"),
        ("wav.scp", "a\n", "line 1: 'a' stands alone"),
        ("wav.scp", "", "lists no recordings"),
        ("wav.scp", "a wav/a.wav\na wav/b.wav\n", "line 2: 'a' is there twice"),
        ("wav.scp", "a wav/a.wav\n", "1 of 2 lines in text have no recording.*: b"),
        ("text", "a hi\n", "1 of 2 utterances have no line in text"),
        ("segments", "x c 0 1\n", "'c' is not in wav.scp"),
        ("segments", "x a 1\n", "NAME RECORDING START END"),
        ("segments", "x a 1.5 3.0\n", "no part of a recording of 2.000 s"),
    ],
)
def test_kaldi_faults(tmp_path: Path, file: str, content: str, message: str) -> None:
    folder = kaldi_folder(tmp_path / "train")
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message):
        kaldi(folder, tmp_path / "out")
