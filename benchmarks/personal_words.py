"""Personal words: names that training never heard, among distractors, with search and attention.

    make bench ARGS="personal_words NAMES_MANIFEST [MODEL] [--distractors 100] [--part test]"

Every utterance gets a list of its own name and so many others. Arms on the same audio: plain,
search (the exact automaton, open anywhere), search behind carriers (the names as a class that
sentences of an assistant open), attention open anywhere and behind carriers, and attention with
each kind of search; MODEL as a device file runs in the native core. B-WER counts the listed words,
U-WER all others, over all utterances; those without a name show what a list costs where nothing of
it is said. A third of the names ("dev") is
for choosing the boosts; the figures are of the others.
"""

import argparse
import functools
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from solomonic.evals.biasing import BiasScore, score
from solomonic.evals.report import markdown_table, save_report
from solomonic.speech.audio import read_audio
from solomonic.speech.biasing import Biasing
from solomonic.speech.biasing.phrases import Phrase
from solomonic.speech.data.manifest import Utterance, read_manifest
from solomonic.speech.native_recognizer import ENDING, NativeRecognizer, PersonalWords
from solomonic.speech.recognizer import Recognizer
from solomonic.text.spoken import normalise

RESULTS = Path(__file__).parent / "results"
Hearing = Callable[[list[np.ndarray], list[list[str]], str], list[str]]
"""(samples, phrases, arm) -> texts."""
TOGETHER = 16  # streams read in step
CARRIED = "behind carriers"
ARMS = (
    "plain",
    "search",
    f"search {CARRIED}",
    "attention",
    f"attention {CARRIED}",
    "search and attention",
    f"search and attention {CARRIED}",
)
CARRIERS = (
    "(call|dial|ring|phone|text|message|email|tell|ask|remind) @contact",
    "(invite|add|remove|send|meet) @contact",
    "(is|was|where is|when is) @contact",
    "(answer|decline|take) the call from @contact",
    "start a [video] call with @contact",
    "(send|write) a (message|text|email) to @contact",
    "[show me] [read] the (message|email|photos|call|text) from @contact",
    "lunch with @contact",
)
KINDS = {"all": (True, False), "with a name": (True,), "without": (False,)}
BOOSTS = {
    "search": 1.5,
    f"search {CARRIED}": 2.5,
    "search and attention": 1.5,
    f"search and attention {CARRIED}": 2.5,
}
"""Nats a piece, of which a model with attention pays a part (`PointerConfig.search_scale`); chosen
on the names of the part "dev"."""
LEAST = 2.0**-10
"""Attention alone: the search follows the list and pays nothing that counts."""


def lists(utterances: list[Utterance], distractors: int, seed: int = 5) -> list[list[str]]:
    """A list for each utterance: its own name, where it has one, and names of others."""
    names = [normalise(str(u.extra.get("name") or "")) for u in utterances]
    pool = sorted({name for name in names if name})
    rng = np.random.default_rng(seed)
    found = []
    for name in names:
        others = [other for other in pool if other != name]
        drawn = rng.choice(others, size=min(distractors, len(others)), replace=False).tolist()
        found.append(sorted([*drawn, *([name] if name else [])]))
    return found


def hear(
    recognizer: Recognizer, audio: list[np.ndarray], phrases: list[list[str]], arm: str
) -> list[str]:
    """What one arm makes of recordings, read in step; each has its own list."""
    streams = []
    for samples, listed in zip(audio, phrases, strict=True):
        bias = None
        if arm != "plain":
            given = [Phrase(text, BOOSTS.get(arm, LEAST)) for text in listed]
            bias = (
                Biasing(
                    classes={"contact": given}, carriers=CARRIERS, pieces=recognizer.model.pieces
                )
                if CARRIED in arm
                else Biasing(given, pieces=recognizer.model.pieces, strict=False)
            )
        attention = "attention" in arm
        stream = recognizer.create_stream(bias, attention=attention, endpointing=False)
        stream.accept_waveform(16000, samples)
        stream.input_finished()
        streams.append(stream)
    recognizer.decode_streams(streams)
    return [stream.result().text for stream in streams]


def hear_native(
    recognizer: NativeRecognizer, audio: list[np.ndarray], phrases: list[list[str]], arm: str
) -> list[str]:
    """The same in the native core, one after the other."""
    texts = []
    for samples, listed in zip(audio, phrases, strict=True):
        given = [Phrase(text, BOOSTS.get(arm, LEAST)) for text in listed]
        bias = None
        if CARRIED in arm:
            bias = PersonalWords(classes={"contact": given}, carriers=CARRIERS)
        elif arm != "plain":
            bias = PersonalWords(phrases=given)
        attention = "attention" in arm
        stream = recognizer.create_stream(bias, attention=attention, endpointing=False)
        stream.accept_waveform(16000, samples)
        stream.input_finished()
        texts.append(stream.result().text)
    return texts


def in_part(utterance: Utterance, part: str) -> bool:
    """A third of the names, and of the sentences without one, is "dev", the others "test"."""
    key = normalise(str(utterance.extra.get("name") or "")) or str(utterance.text)
    return part == "all" or (zlib.crc32(key.encode()) % 3 == 0) == (part == "dev")


def contender(model: str | None) -> tuple[tuple[str, ...], Hearing]:
    """The arms that a model has, and what hears them."""
    if model and model.endswith(ENDING):
        native = NativeRecognizer(model)
        arms = ARMS if native.describe()["attention"] else ARMS[:3]
        return arms, functools.partial(hear_native, native)
    recognizer = Recognizer.from_pretrained(model)
    net = recognizer.model.transducer
    arms = ARMS if net.context is not None or net.pointer is not None else ARMS[:3]
    return arms, functools.partial(hear, recognizer)


def hear_all(
    utterances: list[Utterance], phrases: list[list[str]], arms: tuple[str, ...], hearing: Hearing
) -> tuple[dict[str, list[list[str]]], dict[str, float]]:
    """The words that each arm hears in each recording, and its seconds of processor time."""
    seconds = dict.fromkeys(arms, 0.0)
    heard: dict[str, list[list[str]]] = {arm: [[] for _ in utterances] for arm in arms}
    audio = [read_audio(utterance.audio) for utterance in utterances]
    order = sorted(range(len(audio)), key=lambda i: len(audio[i]))  # equal lengths go together
    for start in range(0, len(order), TOGETHER):
        rows = order[start : start + TOGETHER]
        for arm in arms:
            started = time.process_time()
            found = hearing([audio[i] for i in rows], [phrases[i] for i in rows], arm)
            seconds[arm] += time.process_time() - started
            for row, text in zip(rows, found, strict=True):
                heard[arm][row] = text.split()
        print(f"{start + len(rows)} of {len(order)}", file=sys.stderr, flush=True)
    return heard, seconds


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=personal_words")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--distractors", type=int, default=100)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--part", default="test", choices=("dev", "test", "all"))
    given = parser.parse_args(arguments)
    every = read_manifest(given.manifest)
    listed = dict(zip((u.audio for u in every), lists(every, given.distractors), strict=True))
    utterances = [u for u in every if in_part(u, given.part)][: given.limit]
    arms, hearing = contender(given.model)
    references = [normalise(u.text or "").split() for u in utterances]
    phrases = [listed[utterance.audio] for utterance in utterances]
    named = [bool(u.extra.get("name")) for u in utterances]
    scores: dict[str, dict[str, BiasScore]] = {}
    heard, seconds = hear_all(utterances, phrases, arms, hearing)
    for arm in arms:
        scores[arm] = {}
        for kind, wanted in KINDS.items():
            rows = [i for i, has in enumerate(named) if has in wanted]
            if rows:
                scores[arm][kind] = score(
                    [references[i] for i in rows],
                    [heard[arm][i] for i in rows],
                    [phrases[i] for i in rows],
                )
    rows = [
        (
            arm,
            kind,
            *(f"{100 * getattr(one, name).value:.1f}" for name in ("wer", "b_wer", "u_wer")),
        )
        for arm, kinds in scores.items()
        for kind, one in kinds.items()
    ]
    print(markdown_table(("arm", "utterances", "WER %", "B-WER %", "U-WER %"), rows))
    record = {
        "model": given.model or "shipped",
        "utterances": len(utterances),
        "part": given.part,
        "distractors": given.distractors,
        "boosts": BOOSTS,
        "processor_seconds": seconds,
        "scores": {a: {k: asdict(s) for k, s in kinds.items()} for a, kinds in scores.items()},
    }
    print(save_report(RESULTS, "personal-words", record))
