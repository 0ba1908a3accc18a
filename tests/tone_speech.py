"""Made-up speech for tests of training: every word is two tones, so no synthesiser is needed."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

RATE = 16_000
WORDS = {"go": (300, 900), "stop": (1400, 500), "left": (700, 2200), "right": (2600, 400)}


def say(text: str, rng: np.random.Generator) -> np.ndarray:
    """(n,) float32: 0.2 s a tone, a short pause after each word, faint noise over all."""
    parts = []
    t = np.arange(RATE // 5) / RATE
    for word in text.split():
        for hertz in WORDS[word]:
            parts.append(0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.97, 1.03) * t))
        parts.append(np.zeros(RATE // 10))
    samples = np.concatenate(parts) if parts else np.zeros(RATE // 2)
    return (samples + 0.003 * rng.normal(size=len(samples))).astype(np.float32)


def sentences(count: int, rng: np.random.Generator) -> list[str]:
    """Sentences of one to three words."""
    names = list(WORDS)
    return [" ".join(rng.choice(names, rng.integers(1, 4))) for _ in range(count)]


def write_corpus(
    folder: Path,
    splits: Sequence[tuple[str | None, int]] = (("train", 12), ("dev", 4)),
    seed: int = 0,
    speakers: int = 4,
) -> Path:
    """WAV files and a manifest in `folder`; the manifest.

    Args:
        splits: (split, number of recordings).
    """
    import soundfile

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for split, count in splits:
        for text in sentences(count, rng):
            samples = say(text, rng)
            name = f"{len(lines):03d}.wav"
            soundfile.write(folder / name, samples, RATE)
            line = {"audio": name, "duration": len(samples) / RATE, "text": text}
            line["speaker"] = f"s{len(lines) % speakers}"
            lines.append(line if split is None else {**line, "split": split})
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest
