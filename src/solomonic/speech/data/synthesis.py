"""Synthetic speech: sentences spoken by espeak-ng and flite, for people with text and no audio.

Both are Debian packages (espeak-ng, flite). Their voices are far from human ones, so a recogniser
needs real recordings too; what they give is exact text, exact times and any sentence. Voices of
`HELD_OUT_VOICES` are for testing only: its accent, variants and flite voice are in no other list.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.core import ConfigError, DataError, StorageError
from solomonic.speech.audio import RATE, resample
from solomonic.speech.data.augment import AugmentConfig, augment
from solomonic.speech.data.manifest import Utterance, write_manifest
from solomonic.text.spoken import normalise

Progress = Callable[[int, int], None]

_THRESHOLD_DB = 40.0  # below the loudest frame; both synthesisers pause at -45 dB or lower
_FRAME = RATE // 200
_FLITE_PITCH = {"kal": 105.0, "kal16": 105.0, "awb": 130.0, "rms": 95.0, "slt": 170.0}  # Hz
_ESPEAK_SPEED = 165  # words a minute
_FLITE_SHARE = 0.35  # of utterances when both synthesisers have voices: flite has few, but better
_JOURNAL, _PLAN = "journal.jsonl", "synthesis.json"


@dataclasses.dataclass(frozen=True, order=True)
class Voice:
    """A voice: the program ("espeak-ng" or "flite") and its name there ("en-gb+f2", "slt")."""

    engine: str
    name: str

    def __str__(self) -> str:
        return f"{self.engine}:{self.name}"


def _espeak(accents: str, variants: str) -> tuple[Voice, ...]:
    return tuple(
        Voice("espeak-ng", f"{accent}+{variant}")
        for accent in accents.split()
        for variant in variants.split()
    )


_TRAIN_ACCENTS = "en-us en-gb en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-us-nyc en-029"
_TRAIN_VARIANTS = (
    "m1 m3 m4 m5 m7 m8 f1 f2 f4 f5 klatt klatt3 Alex Andy Annie Denis Gene Lee Mario Michael adam "
    "anika aunty belinda benjamin boris caleb david ed edward linda max paul pablo quincy rob "
    "robert sandro shelby steph travis victor zac john grandma grandpa"
)
_HELD_OUT_VARIANTS = "m2 m6 f3 Diogo Hugo Jacky Alicia norbert marcelo"
TRAIN_VOICES = (
    *_espeak(_TRAIN_ACCENTS, _TRAIN_VARIANTS),
    *(Voice("flite", name) for name in ("slt", "awb", "kal16", "kal")),
)
HELD_OUT_VOICES = (
    *_espeak("en-us en-gb en-gb-scotland en-gb-x-gbcwmd", _HELD_OUT_VARIANTS),
    Voice("flite", "rms"),
)


@dataclasses.dataclass(frozen=True)
class Spoken:
    """Synthetic speech: (n,) float32 at 16 kHz, and where in it the voice begins and ends (s)."""

    samples: np.ndarray
    start: float
    end: float


def speak(
    text: str, voice: Voice, *, rate: float = 1.0, pitch: float = 1.0, spelled: bool = False
) -> Spoken:
    """Let `voice` say `text`.

    Args:
        rate: 1.2: a fifth faster than the voice's usual.
        pitch: 1.2: a fifth higher.
        spelled: "a" is the letter, not the article.

    Raises:
        ConfigError: the program or the voice is missing, or rate or pitch is not in 0.5 to 2.
        DataError: the text gives no sound.
    """
    if not (0.5 <= rate <= 2 and 0.5 <= pitch <= 2):
        raise ConfigError(f"rate = {rate} and pitch = {pitch} must lie in 0.5 to 2.")
    _check_voice(voice)
    if voice.engine == "flite":
        said = re.sub(r"\ba\b", "ay", text) if spelled else text
        mean = round(_FLITE_PITCH.get(voice.name, 120.0) * pitch, 1)
        options = {"duration_stretch": round(1 / rate, 3), "int_f0_target_mean": mean}
        settings = [part for k, v in options.items() for part in ("--setf", f"{k}={v}")]
        wave = _run(["flite", "-voice", voice.name, *settings, "-t", said, "-o", "/dev/stdout"])
    else:
        # Text goes through standard input: one that begins with "-" would be an option.
        said = re.sub(r"\ba\b", "[[eI]]", text) if spelled else text
        speed, height = round(_ESPEAK_SPEED * rate), round(np.clip(50 * pitch, 0, 99))
        command = ["espeak-ng", "-v", voice.name, "-s", str(speed), "-p", str(height), "--stdout"]
        wave = _run([*command, "--stdin"], said)
    samples = _decode(wave)
    start, end = speech_span(samples)
    if end <= start:
        raise DataError(f"{voice} gives no sound for '{text}'; give words.")
    return Spoken(samples, start, end)


def speech_span(samples: np.ndarray) -> tuple[float, float]:
    """Begin and end in seconds (5 ms steps) of what is within 40 dB of the loudest 5 ms.

    Exact for synthetic speech, whose pauses are silent; (0, 0) of silence.
    """
    count = len(samples) // _FRAME
    frames = samples[: count * _FRAME].reshape(count, _FRAME).astype(np.float64)
    energy = (frames**2).mean(axis=1)
    if not count or energy.max() <= 1e-10:
        return 0.0, 0.0
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-_THRESHOLD_DB / 10))
    return float(loud[0] * _FRAME / RATE), float((loud[-1] + 1) * _FRAME / RATE)


def synthesise(
    sentences: Sequence[str | Mapping[str, Any]],
    voices: Sequence[Voice],
    out: str | Path,
    seed: int = 0,
    *,
    noise: AugmentConfig | None = None,
    split: str = "train",
    workers: int = 2,
    progress: Progress | None = None,
) -> Path:
    """Speak every sentence once, by a voice, speed and pitch drawn from (seed, its number).

    Writes FLAC files and `manifest.jsonl`, with speech_start and speech_end in seconds, into the
    folder `out`. Speech stands between 0.1 to 0.5 s of silence before and 0.3 to 0.8 s after. An
    interrupted run goes on where it was; the result depends neither on that nor on `workers`.

    Args:
        sentences: texts, or records with a "text" whose other keys go into the manifest ("spelled"
            true: see `speak`).
        noise: what is done to the audio of speech and silence; its speeds must be 1.
        split: written into the manifest.
        progress: called with (sentences done, all).

    Returns:
        The manifest.

    Raises:
        ConfigError: a program or voice is missing.
        DataError: there is no sentence or voice, or a sentence gives no sound.
        StorageError: the disk is full or the place cannot be written.
    """
    out = Path(out)
    records = [{"text": s} if isinstance(s, str) else dict(s) for s in sentences]
    if not records or not voices:
        raise DataError("synthesis needs at least one sentence and one voice.")
    if noise is not None and set(noise.speeds) != {1.0}:
        raise ConfigError("noise.speeds must be 1: speech times would no longer be right.")
    for voice in voices:
        _check_voice(voice)
    settings = noise.to_json() if noise else None
    described = json.dumps([records, [str(v) for v in voices], seed, settings, split])
    plan = hashlib.sha256(described.encode()).hexdigest()[:16]
    manifest = out / "manifest.jsonl"
    try:
        (out / "audio").mkdir(parents=True, exist_ok=True)
        done = _journal(out, plan)
        if manifest.is_file() and len(done) == len(records):
            return manifest
        work = functools.partial(_make, records, tuple(voices), out / "audio", seed, noise)
        _work(work, done, len(records), out / _JOURNAL, workers, progress)
    except OSError as error:
        raise StorageError(
            f"cannot write into {out} ({error.strerror}); free some space."
        ) from error
    lines = [_line(records[i], done[i], out, split) for i in range(len(records))]
    write_manifest(manifest, lines)
    return manifest


def _work(
    make: Callable[[int], dict[str, Any]],
    done: dict[int, dict[str, Any]],
    total: int,
    journal: Path,
    workers: int,
    progress: Progress | None,
) -> None:
    """Make what is not done, noting each in the journal. Threads do: programs do the work."""
    waiting = [i for i in range(total) if i not in done]
    with (
        concurrent.futures.ThreadPoolExecutor(max(workers, 1)) as pool,
        open(journal, "a", encoding="utf-8") as notes,
    ):
        try:
            for future in concurrent.futures.as_completed([pool.submit(make, i) for i in waiting]):
                made = future.result()
                done[made["number"]] = made
                notes.write(json.dumps(made) + "\n")
                notes.flush()
                if progress:
                    progress(len(done), total)
        finally:
            pool.shutdown(cancel_futures=True)


def _make(
    records: list[dict[str, Any]],
    voices: tuple[Voice, ...],
    folder: Path,
    seed: int,
    noise: AugmentConfig | None,
    number: int,
) -> dict[str, Any]:
    """One recording; what the journal keeps of it."""
    import soundfile

    rng = np.random.default_rng([seed, number])
    voice = _draw(voices, rng)
    rate, pitch = float(rng.uniform(0.8, 1.25)), float(rng.uniform(0.8, 1.25))
    record = records[number]
    spoken = speak(
        record["text"], voice, rate=rate, pitch=pitch, spelled=bool(record.get("spelled"))
    )
    first, last = round(spoken.start * RATE), round(spoken.end * RATE)
    before, after = int(rng.uniform(0.1, 0.5) * RATE), int(rng.uniform(0.3, 0.8) * RATE)
    speech = spoken.samples[first:last]
    speech = speech * np.float32(rng.uniform(0.1, 0.9) / max(float(np.abs(speech).max()), 1e-6))
    samples = np.pad(speech, (before, after))
    if noise is not None:
        samples = augment(samples, noise, rng)
    samples = samples / max(1.0, float(np.abs(samples).max()))  # noise can push it over the top
    file = folder / f"{number:06d}.flac"
    temporary = file.with_suffix(".unfinished")
    soundfile.write(temporary, samples, RATE, subtype="PCM_16", format="FLAC")
    temporary.replace(file)
    return {
        "number": number,
        "voice": str(voice),
        "rate": round(rate, 3),
        "pitch": round(pitch, 3),
        "duration": round(len(samples) / RATE, 4),
        "speech_start": round(before / RATE, 4),
        "speech_end": round((before + len(speech)) / RATE, 4),
    }


def _draw(voices: tuple[Voice, ...], rng: np.random.Generator) -> Voice:
    flite = [v for v in voices if v.engine == "flite"]
    others = [v for v in voices if v.engine != "flite"]
    use = flite if flite and (not others or rng.random() < _FLITE_SHARE) else others
    return use[int(rng.integers(len(use)))]


def _line(record: dict[str, Any], made: dict[str, Any], out: Path, split: str) -> Utterance:
    extra = {k: v for k, v in record.items() if k not in ("text", "spelled")}
    notes = {k: v for k, v in made.items() if k not in ("number", "duration")}
    return Utterance(
        audio=out / "audio" / f"{made['number']:06d}.flac",
        duration=made["duration"],
        text=normalise(record["text"]),
        speaker=made["voice"],
        language="en",
        split=split,
        source="synthetic",
        extra={**extra, **notes},
    )


def _journal(out: Path, plan: str) -> dict[int, dict[str, Any]]:
    """What an earlier run of the same plan finished; another plan's notes are dropped."""
    file, notes = out / _PLAN, out / _JOURNAL
    known = file.read_text("utf-8") if file.is_file() else ""
    if known != json.dumps({"plan": plan}):
        (out / "manifest.jsonl").unlink(missing_ok=True)
        notes.unlink(missing_ok=True)
        file.write_text(json.dumps({"plan": plan}), "utf-8")
        return {}
    done = {}
    for line in notes.read_text("utf-8").split("\n") if notes.is_file() else ():
        try:
            made = json.loads(line)
        except ValueError:  # cut short by the interruption
            continue
        if (out / "audio" / f"{made['number']:06d}.flac").is_file():
            done[made["number"]] = made
    # Without the cut line, which the next note would be appended to.
    notes.write_text("".join(f"{json.dumps(made)}\n" for made in done.values()), "utf-8")
    return done


def _check_voice(voice: Voice) -> None:
    if voice.engine not in ("espeak-ng", "flite"):
        raise ConfigError(f"there is no synthesiser '{voice.engine}'; use espeak-ng or flite.")
    known, variants = _voices(voice.engine)
    name, _, variant = voice.name.partition("+")
    # espeak-ng itself would speak with another voice and say nothing.
    if name not in known or (variant and variant not in variants):
        raise ConfigError(
            f"{voice.engine} has no voice '{voice.name}'; see `{voice.engine} "
            f"{'-lv' if voice.engine == 'flite' else '--voices'}`."
        )


@functools.cache
def _voices(engine: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names and variants that the installed program has."""
    if shutil.which(engine) is None:
        raise ConfigError(
            f"the program {engine} is not installed; install the Debian package {engine} (apt "
            f"install {engine})."
        )
    if engine == "flite":
        listed = _run([engine, "-lv"]).decode().partition(":")[2]
        return frozenset(listed.split()), frozenset()
    rows = _run([engine, "--voices"]).decode().splitlines()[1:]
    names = {row.split()[1] for row in rows}
    rows = _run([engine, "--voices=variant"]).decode().splitlines()[1:]
    return frozenset(names), frozenset(re.findall(r"!v/(\S+)", "\n".join(rows)))


def _run(command: list[str], text: str | None = None) -> bytes:
    given = None if text is None else f"{text}\n".encode()
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=True)
    except FileNotFoundError as error:
        raise ConfigError(
            f"the program {command[0]} is not installed; install the Debian package {command[0]}."
        ) from error
    except subprocess.SubprocessError as error:
        raise DataError(f"{command[0]} failed: {error}.") from error
    return done.stdout


def _decode(wave: bytes) -> np.ndarray:
    import soundfile

    # A program that writes to a pipe cannot fill in the lengths in a WAV header afterwards.
    at = wave.find(b"data")
    if at >= 0:
        size = len(wave) - at - 8
        wave = wave[: at + 4] + size.to_bytes(4, "little") + wave[at + 8 :]
        wave = wave[:4] + (len(wave) - 8).to_bytes(4, "little") + wave[8:]
    try:
        samples, rate = soundfile.read(io.BytesIO(wave), dtype="float32")
    except soundfile.SoundFileError as error:
        raise DataError(f"the synthesiser gave no audio ({error}).") from error
    return resample(samples, rate, RATE)
