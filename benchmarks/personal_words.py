"""Personal words: names that training never heard, among distractors, with search and attention.

    make bench ARGS="personal_words NAMES_MANIFEST [MODEL] [--distractors 100]"

Every utterance gets a list of its own name and so many others. Four arms on the same audio: plain,
search (the exact automaton), attention, both. B-WER counts the listed words, U-WER all others;
utterances without a name show what a list costs where nothing of it is said.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from solomonic.evals.biasing import BiasScore, score
from solomonic.evals.report import markdown_table, save_report
from solomonic.speech.audio import read_audio
from solomonic.speech.biasing import Biasing
from solomonic.speech.data.manifest import Utterance, read_manifest
from solomonic.speech.recognizer import Recognizer
from solomonic.text.spoken import normalise

RESULTS = Path(__file__).parent / "results"
ARMS = ("plain", "search", "attention", "search and attention")


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


def hear(recognizer: Recognizer, audio: np.ndarray, phrases: list[str], arm: str) -> str:
    """What one arm makes of a recording."""
    if arm == "plain":
        return recognizer.transcribe(audio, endpointing=False).text
    bias = Biasing(phrases, pieces=recognizer.model.pieces, strict=False)
    if arm == "attention":
        bias.graph = None
    stream = recognizer.create_stream(bias, attention=arm != "search", endpointing=False)
    stream.accept_waveform(16000, audio)
    stream.input_finished()
    return stream.result().text


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=personal_words")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--distractors", type=int, default=100)
    parser.add_argument("--limit", type=int, default=400)
    given = parser.parse_args(arguments)
    recognizer = Recognizer.from_pretrained(given.model)
    utterances = read_manifest(given.manifest)[: given.limit]
    references = [normalise(u.text or "").split() for u in utterances]
    phrases = lists(utterances, given.distractors)
    named = [bool(u.extra.get("name")) for u in utterances]
    arms = ARMS if recognizer.model.transducer.context is not None else ARMS[:2]
    scores: dict[str, dict[str, BiasScore]] = {}
    seconds = dict.fromkeys(arms, 0.0)
    heard: dict[str, list[list[str]]] = {arm: [] for arm in arms}
    for number, (utterance, listed) in enumerate(zip(utterances, phrases, strict=True)):
        audio = read_audio(utterance.audio)
        for arm in arms:
            started = time.process_time()
            heard[arm].append(hear(recognizer, audio, listed, arm).split())
            seconds[arm] += time.process_time() - started
        if number % 50 == 49:
            print(f"{number + 1} of {len(utterances)}", flush=True)
    for arm in arms:
        scores[arm] = {}
        for kind, wanted in (("with a name", True), ("without", False)):
            rows = [i for i, has in enumerate(named) if has == wanted]
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
        "distractors": given.distractors,
        "processor_seconds": seconds,
        "scores": {a: {k: asdict(s) for k, s in kinds.items()} for a, kinds in scores.items()},
    }
    print(save_report(RESULTS, "personal-words", record))
