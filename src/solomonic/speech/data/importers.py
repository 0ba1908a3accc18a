"""Utterances from LibriSpeech, Common Voice and Kaldi folders, as `manifest.write_manifest` takes.

    utterances = librispeech("LibriSpeech/dev-clean", split="dev")
    write_manifest("dev/manifest.jsonl", utterances)

Texts are kept as they are; `text.spoken.normalise` makes words of them when they are used.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from solomonic.core import DataError
from solomonic.speech.data.manifest import Utterance, refuse


def librispeech(folder: str | Path, split: str | None = None) -> list[Utterance]:
    """Every `SPEAKER-CHAPTER.trans.txt` below `folder` with the .flac (or .wav, .opus) beside it.

    Args:
        split: written into the utterances; None: the name of the folder ("dev-clean").

    Raises:
        DataError: there are no transcripts, a line is malformed, or recordings are missing (all
            are named, of more than 1,000 the first).
    """
    folder = Path(folder)
    found, missing = [], []
    for transcript in sorted(folder.rglob("*.trans.txt")):
        for number, line in _lines(transcript):
            name, _, text = line.partition(" ")
            speaker = name.split("-")[0]
            if not text.strip() or name.count("-") != 2:
                raise DataError(f"{transcript}, line {number}: not 'SPEAKER-CHAPTER-NUMBER TEXT'.")
            endings = (".flac", ".wav", ".opus")
            files = [transcript.parent / f"{name}{ending}" for ending in endings]
            audio = next((file for file in files if file.is_file()), None)
            if audio is None:
                missing.append(str(files[0]))
                continue
            found.append(
                Utterance(
                    audio=audio,
                    duration=duration(audio),
                    text=text.strip(),
                    speaker=f"librispeech-{speaker}",
                    language="en",
                    split=split or folder.resolve().name,
                    source="librispeech",
                )
            )
    _finish(found, missing, f"{folder} holds no LibriSpeech transcripts (*.trans.txt)")
    return found


def common_voice(
    folder: str | Path, table: str = "validated", split: str | None = None
) -> list[Utterance]:
    """The clips of one table (`train.tsv`, `dev.tsv`, `test.tsv`, `validated.tsv`) of a release.

    Args:
        folder: the language's folder, which holds the tables and `clips/`.
        split: written into the utterances; None: the name of the table.

    Raises:
        DataError: the table is missing, lacks a column, or recordings are missing.
    """
    folder = Path(folder)
    file = folder / f"{table}.tsv"
    found, missing = [], []
    rows = csv.DictReader(
        (line for _, line in _lines(file)), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    needed = {"client_id", "path", "sentence"}
    if not needed <= set(rows.fieldnames or ()):
        raise DataError(
            f"{file} has no columns {', '.join(sorted(needed))}; give a release's table."
        )
    for row in rows:
        audio = folder / "clips" / (row["path"] or "")
        if not audio.suffix:
            audio = audio.with_suffix(".mp3")  # as the first releases wrote it
        if not audio.is_file():
            missing.append(str(audio))
            continue
        found.append(
            Utterance(
                audio=audio,
                duration=duration(audio),
                text=row["sentence"] or "",
                speaker=f"cv-{row['client_id'][:16]}",
                language=row.get("locale") or folder.resolve().name,
                split=split or table,
                source="common_voice",
                extra={k: row[k] for k in ("age", "gender", "accents") if row.get(k)},
            )
        )
    _finish(found, missing, f"{file} lists no clips")
    return found


def kaldi(folder: str | Path, out: str | Path, split: str | None = None) -> list[Utterance]:
    """A Kaldi data directory: `wav.scp`, `text`, and where there are `utt2spk` and `segments`.

    With `segments` each utterance is cut out into `OUT/audio/NAME.flac`; without, the recordings
    stay where they are. Paths in `wav.scp` are relative to where this runs, as Kaldi has it, or
    else to the folder. Commands ("sox ... |") are not run.

    Args:
        out: for the cut recordings.
        split: written into the utterances; None: the name of the folder.

    Raises:
        DataError: a file is missing or malformed or has a name twice, a recording is a command,
            missing or without text, a text is without recording, or a segment lies outside its
            recording.
    """
    folder, out = Path(folder), Path(out)
    wavs = {name: _kaldi_path(path, folder) for name, path in _table(folder / "wav.scp")}
    missing = [str(path) for path in wavs.values() if not path.is_file()]
    refuse(missing, len(wavs), "recordings are missing", "copy them or remove their lines")
    texts = dict(_table(folder / "text", empty=True))
    speakers = dict(_table(folder / "utt2spk")) if (folder / "utt2spk").is_file() else {}
    if (folder / "segments").is_file():
        pieces = list(_segments(folder / "segments", wavs, out / "audio"))
    else:
        pieces = [(name, path, duration(path)) for name, path in wavs.items()]
    silent = [name for name, _, _ in pieces if name not in texts]
    refuse(silent, len(pieces), "utterances have no line in text", "add or remove them")
    found = [
        Utterance(
            audio=path,
            duration=seconds,
            text=texts[name],
            speaker=speakers.get(name),
            split=split or folder.resolve().name,
            source=folder.resolve().name,
            extra={"utterance": name},
        )
        for name, path, seconds in pieces
    ]
    _finish(found, [], f"{folder / 'wav.scp'} lists no recordings")
    heard = {name for name, _, _ in pieces}
    unheard = [name for name in texts if name not in heard]
    refuse(unheard, len(texts), "lines in text have no recording", "add or remove them")
    return found


def duration(audio: Path) -> float:
    """Seconds of a recording, from its header.

    Raises:
        DataError: it is no audio.
    """
    import soundfile

    try:
        info = soundfile.info(audio)
    except soundfile.SoundFileError as error:
        raise DataError(f"cannot read {audio} as audio ({error}); copy it again.") from error
    return info.frames / info.samplerate


def _segments(file: Path, wavs: dict[str, Path], out: Path) -> Iterator[tuple[str, Path, float]]:
    """Cut each 'NAME RECORDING START END' line out into a FLAC file."""
    import soundfile

    for name, rest in _table(file):
        fields = rest.split()
        try:
            recording, start, end = fields[0], float(fields[1]), float(fields[2])
        except (IndexError, ValueError) as error:
            raise DataError(f"{file}, '{name}': not 'NAME RECORDING START END'.") from error
        if recording not in wavs:
            raise DataError(f"{file}, '{name}': the recording '{recording}' is not in wav.scp.")
        total = duration(wavs[recording])
        end = total if end == -1 else end  # Kaldi's "to the end"
        # Segments are often rounded up by a little.
        if not 0 <= start < end <= total + 0.1:
            raise DataError(
                f"{file}, '{name}': {start} to {end} s is no part of a recording of {total:.3f} s."
            )
        with soundfile.SoundFile(wavs[recording]) as audio:
            rate = audio.samplerate
            audio.seek(round(start * rate))
            samples = audio.read(round((min(end, total) - start) * rate))
        path = out / f"{name.replace('/', '_')}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, subtype="PCM_16")
        yield name, path, len(samples) / rate


def _kaldi_path(text: str, folder: Path) -> Path:
    if text.endswith("|"):
        raise DataError(
            f"{folder / 'wav.scp'}: '{text}' is a command, which is not run; write its output to a "
            "file and name that."
        )
    path = Path(text)
    return path if path.is_file() or path.is_absolute() else folder / path


def _table(file: Path, empty: bool = False) -> Iterator[tuple[str, str]]:
    """(key, rest) of each line of a Kaldi table; `empty` allows lines without a rest."""
    keys = set()
    for number, line in _lines(file):
        key, *rest = line.split(maxsplit=1)  # a blank or a tab
        if not rest and not empty:
            raise DataError(f"{file}, line {number}: '{key}' stands alone; a value must follow.")
        if key in keys:
            raise DataError(f"{file}, line {number}: '{key}' is there twice; remove one of them.")
        keys.add(key)
        yield key, rest[0].strip() if rest else ""


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise DataError(
            f"cannot read {file} ({error.strerror}); is it the right folder?"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no UTF-8 text.") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def _finish(found: list[Utterance], missing: list[str], nothing: str) -> None:
    total = len(found) + len(missing)
    refuse(missing, total, "recordings are missing", "copy them or remove their lines")
    if not found:
        raise DataError(f"{nothing}; give another folder.")
