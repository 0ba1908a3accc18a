"""What the recognisers are asked in `asr_peers`: recordings, grammars, noise; files made once.

Digits are human: the test speakers of FSDD and the digit words of Speech Commands. Its other words
are what a digit grammar must refuse. Commands are synthetic, in voices that no training set has.
"""

import dataclasses
from pathlib import Path

import numpy as np

from solomonic.speech.audio import RATE, read_audio
from solomonic.speech.data.augment import synthetic_noise
from solomonic.speech.data.manifest import read_manifest
from solomonic.speech.data.synthesis import HELD_OUT_VOICES, synthesise

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COMMANDS = (
    "turn on the kitchen light",
    "turn off the kitchen light",
    "turn on the bedroom light",
    "turn off the bedroom light",
    "turn on the heating",
    "turn off the heating",
    "dim the lights to thirty percent",
    "set the temperature to twenty degrees",
    "open the garage door",
    "close the garage door",
    "lock the front door",
    "set a timer for five minutes",
    "set a timer for twenty minutes",
    "cancel the timer",
    "wake me up at seven",
    "set an alarm for six thirty",
    "what time is it",
    "what is the weather like today",
    "will it rain tomorrow",
    "play some music",
    "stop the music",
    "play the next song",
    "turn the volume up",
    "turn the volume down",
    "add milk to the shopping list",
    "add bread to the shopping list",
    "read my new messages",
    "call my brother",
    "remind me to water the plants",
    "good night",
)
# Half of them differ from a command by a word or two, half have nothing to do with any.
NEAR = (
    "turn on the kitchen radio", "turn off the bathroom light", "turn on the bedroom fan",
    "turn up the heating", "dim the lights to forty percent", "open the front door",
    "set the temperature to ninety degrees", "close the garden gate", "unlock the front door",
    "set a timer for nine minutes", "pause the timer", "wake me up at eleven",
    "set an alarm for nine thirty", "what day is it", "what is the traffic like today",
    "will it snow tomorrow", "play some news", "record the music", "play the first song",
    "turn the brightness up", "add sugar to the shopping list", "read my old letters",
    "call my doctor", "remind me to feed the cats", "good morning",
)  # fmt: skip
FAR = (
    "the old man sat by the river", "she bought three yellow flowers", "we walked home in the dark",
    "nobody knew where the captain was", "there are seven apples in the basket",
    "my sister lives near the station", "he opened his book and began to read",
    "it was a cold and windy morning", "they had never seen the ocean before",
    "please give me another chance", "the children were playing outside", "how far is the moon",
    "a small bird sang in the tree", "our train leaves from platform nine",
    "i would like a cup of coffee", "who wrote this letter", "the answer is not so simple",
    "his father worked on a farm", "that is exactly what i thought", "the soup needs more salt",
    "she has two younger brothers", "where did you put my keys", "time flies like an arrow",
    "the museum is closed on monday", "let us meet again next week",
)  # fmt: skip
CONDITIONS = ("clean", "white 20 dB", "white 10 dB", "recorded 20 dB", "recorded 10 dB")
DITHER = 1e-3  # deviation, a quiet microphone: exact zeros, and 1e-4 too, harm pocketsphinx
BEFORE, AFTER = 0.3, 0.5  # seconds of background around each recording


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recording as it is asked: its PCM file by condition."""

    text: str
    speaker: str | None
    files: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Ask:
    """Recordings under one grammar; with `inside` false none of them is a sentence of it."""

    name: str
    sentences: tuple[str, ...]
    inside: bool
    clips: list[Clip]


def asks(shared: Path, work: Path, limit: int | None) -> list[Ask]:
    """Everything that is asked; PCM and synthetic speech are made in `work` where missing.

    Args:
        limit: at most so many recordings of each, spread over it.
    """
    noises = recorded_noise(shared)
    fsdd = [(u.audio, u.text or "", u.speaker) for u in read_manifest(shared / "fsdd", "test")]
    words = [
        (u.audio, u.text or "", u.speaker)
        for u in read_manifest(shared / "speech_commands_subset", "test")
    ]
    spoken = {
        name: spoken_commands(work / "synthetic" / name, texts, seed)
        for seed, (name, texts) in enumerate(
            {"inside": (COMMANDS * 4)[:100], "near": NEAR, "far": FAR}.items()
        )
    }
    plan = [
        ("digits, FSDD", DIGITS, True, fsdd),
        ("digits, Speech Commands", DIGITS, True, [w for w in words if w[1] in DIGITS]),
        ("other words, Speech Commands", DIGITS, False, [w for w in words if w[1] not in DIGITS]),
        ("commands", COMMANDS, True, spoken["inside"]),
        ("sentences like commands", COMMANDS, False, spoken["near"]),
        ("sentences unlike commands", COMMANDS, False, spoken["far"]),
    ]
    return [
        Ask(
            name, grammar, inside, _clips(name, thin(rows, limit), noises, work / f"pcm-{DITHER:g}")
        )
        for name, grammar, inside, rows in plan
    ]


def thin(rows: list, limit: int | None) -> list:
    """At most `limit` of the rows, spread evenly."""
    if limit is None or len(rows) <= limit:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, limit).round().astype(int)]


def spoken_commands(folder: Path, texts: tuple[str, ...], seed: int) -> list[tuple]:
    """Each text by a voice that is for testing only: (file, text, voice)."""
    made = read_manifest(synthesise(texts, HELD_OUT_VOICES, folder, seed, split="test", workers=1))
    return [(u.audio, u.text or "", u.speaker) for u in made]


def recorded_noise(shared: Path) -> list[np.ndarray]:
    """The noise that is for testing and has no speech in it, longer than 0.4 s."""
    lines = read_manifest(shared / "noise_public_domain", "test", require_text=False)
    good = [u for u in lines if not u.extra.get("may_contain_speech") and u.duration > 0.4]
    return [read_audio(u.audio) for u in good]


def in_condition(
    samples: np.ndarray, condition: str, noises: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """(n,) 16-bit samples: background around the recording, dither, noise at its ratio.

    The ratio is that of the recording's own mean power to the noise's, before the background is
    put around it; noise covers all of it.
    """
    around = (round(BEFORE * RATE), round(AFTER * RATE))
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    out = np.pad(samples, around).astype(np.float64)
    if condition != "clean":
        kind, decibel, _ = condition.split()
        if kind == "white":
            noise = synthetic_noise("white", len(out), rng).astype(np.float64)
        else:
            recorded = noises[int(rng.integers(len(noises)))]
            start = int(rng.integers(len(recorded)))
            noise = np.take(recorded, np.arange(start, start + len(out)), mode="wrap")
        level = np.mean(np.square(noise, dtype=np.float64))
        out += noise * np.sqrt(power / max(level, 1e-12) / 10 ** (float(decibel) / 10))
    out += DITHER * rng.standard_normal(len(out))
    return np.clip(np.round(out * 32768), -32768, 32767).astype("<i2")


def _clips(name: str, rows: list[tuple], noises: list[np.ndarray], folder: Path) -> list[Clip]:
    """PCM files of every recording in every condition; drawn from its number and the condition."""
    folder = folder / name.replace(",", "").replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number, (audio, text, speaker) in enumerate(rows):
        path = Path(audio)  # names may repeat from folder to folder, as in Speech Commands
        stem = f"{path.parent.name}-{path.stem}"
        files = {c: folder / f"{stem}-{c.replace(' ', '-')}.pcm" for c in CONDITIONS}
        if not all(file.is_file() for file in files.values()):
            samples = read_audio(audio)
            for place, (condition, file) in enumerate(files.items()):
                rng = np.random.default_rng([number, place])
                in_condition(samples, condition, noises, rng).tofile(file)
        clips.append(Clip(text, speaker, {c: str(file) for c, file in files.items()}))
    return clips
