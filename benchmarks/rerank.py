"""Reranking: word errors of one-best, reranked and nearest path; a name said before.

    make bench ARGS="rerank SHARED SPEECH [--lm M] [--work DIR] [--weights W.json] [--limit N]"

SHARED is the folder of the shared data sets (an4, librispeech_small, speech_commands_subset),
SPEECH one with our synthetic sets (synthetic/{dev,test}, names/test); a set that is not
there is left out. The shipped recogniser makes the lattices in the native core, once, in --work;
weights are tuned on the dev splits alone (and written to --out), figures are of the test splits.

Names: one user says 100 names that no training set has, each in a sentence. The texts (not the
audio) are committed to the user's memory; then each name comes again, in another sentence and by
another voice. A name counts as heard when all its words are in the text, next to each other. The
weights of the memory are tuned on the names that are left, of another user.
"""

import argparse
import sys
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rerank_lattices import MANIFEST, make_lattices, shipped_recognizer
from solomonic.evals.report import markdown_table, save_report
from solomonic.serve.lm.loaded import LoadedModel, load_lm
from solomonic.serve.rescore import Memory, RerankConfig, Reranker, load_internal, load_reranker
from solomonic.serve.rescore.data import Example, read_examples
from solomonic.serve.rescore.errors import SetErrors, measure, total, word_edits
from solomonic.serve.rescore.tune import TuneConfig, choose, collect, table, tune
from solomonic.speech.biasing.phrases import Phrase
from solomonic.speech.native_recognizer import NativeRecognizer
from solomonic.text.spoken import normalise

RESULTS = Path(__file__).parent / "results"
SETS = {
    "commands, synthetic": ("speech", "synthetic"),
    "single words": ("shared", "speech_commands_subset"),
    "AN4": ("shared", "an4"),
    "LibriSpeech small": ("shared", "librispeech_small"),
}
NAMES = 100
BOOST = 1.5  # nats a piece of personal words, as in `personal_words`
SHARES = (0.2, 0.1, 0.4)  # of equally good ones the first is taken
RECALLS = (0.3, 0.0, 0.6)


class Recall(NamedTuple):
    """Names heard of how many, and the word error rate of their sentences."""

    heard: int
    names: int
    wer: float


def examples(
    recognizer: NativeRecognizer, places: dict[str, Path], work: Path, split: str, limit: int | None
) -> list[Example]:
    """Lattices of a split of all sets that are here."""
    found: list[Example] = []
    for name, (where, folder) in SETS.items():
        source = places[where] / folder
        own = source / split if (source / split).is_dir() else source
        if not own.is_dir():
            print(f"{name}: {own} is not there", file=sys.stderr)
            continue
        made = make_lattices(recognizer, own, split, work / f"{folder}-{split}")
        rows = read_examples(made)
        if limit is not None and limit < len(rows):
            picked = np.linspace(0, len(rows) - 1, limit).round().astype(int)
            rows = [rows[place] for place in picked]
        found += [Example(**{**vars(row), "source": name}) for row in rows]
    return found


def pairs(folder: Path) -> dict[str, list[Example]]:
    """Recordings of each name with several texts, the first text's first."""
    by_name: dict[str, list[Example]] = {}
    for example in read_examples(folder / MANIFEST):
        if example.extra.get("name"):
            by_name.setdefault(normalise(example.extra["name"]), []).append(example)
    found = {}
    for name, rows in by_name.items():
        others = [row for row in rows[1:] if row.reference != rows[0].reference]
        if others:
            found[name] = [rows[0], *others]
    return found


def heard(text: str, name: str) -> bool:
    """Whether all of the name was recognised."""
    return f" {normalise(name)} " in f" {text} "


def recall(reranker: Reranker, rows: list[Example], memory: Memory | None = None) -> list[Recall]:
    """Of the one-best and of what is reranked."""
    counts = [[0, 0], [0, 0]]
    for row in rows:
        texts = ["", ""]
        if row.lattice is not None:
            found = reranker.rerank(row.lattice, memory, n=1)
            texts = [found.one_best, found.text]
        for count, text in zip(counts, texts, strict=True):
            count[0] += heard(text, row.extra["name"])
            count[1] += word_edits(row.reference, text.split())
    words = sum(len(row.reference) for row in rows)
    return [Recall(names, len(rows), errors / words) for names, errors in counts]


def user(lm: LoadedModel, rows: list[Example]) -> Memory:
    """Who said all of these."""
    memory = Memory.new(lm)
    for row in rows:
        memory.read(" ".join(row.reference))
    return memory


def tune_memory(reranker: Reranker, dev: list[list[Example]]) -> RerankConfig:
    """share, recall and memory_scale with the fewest word errors when names come again."""
    memory = user(reranker.lm, [rows[0] for rows in dev])
    seconds = [row for rows in dev for row in rows[1:] if row.lattice is not None]
    best: tuple[int, RerankConfig] | None = None
    for share in SHARES:
        for recalled in RECALLS:
            config = reranker.config.replace(share=share, recall=recalled)
            one = Reranker(reranker.lm, config, reranker.internal)
            sheets = [collect(one, second, 20, memory) for second in seconds]
            config = choose(sheets, config, TuneConfig(weights=("memory_scale",), tries=50))
            (found,) = table(sheets, config)
            print(
                f"share {share}, recall {recalled}, memory_scale {config.memory_scale}: "
                f"{found.reranked} errors of {found.words} words",
                flush=True,
            )
            if best is None or found.reranked < best[0]:
                best = (found.reranked, config)
    assert best is not None
    return best[1]


def names(
    reranker: Reranker, recognizer: NativeRecognizer, places: dict[str, Path], work: Path
) -> dict[str, Recall]:
    """A name's first and second utterance, by what is known of the user."""
    source = places["speech"] / "names" / "test"
    make_lattices(recognizer, source, "test", work / "names-test")
    found = list(pairs(work / "names-test").values())[:NAMES]
    firsts, seconds = [rows[0] for rows in found], [rows[1] for rows in found]
    memory = user(reranker.lm, firsts)
    results: dict[str, Recall] = {}
    keys = ("one-best", "reranked")
    for key, value in zip(keys, recall(reranker, firsts), strict=True):
        results[f"first, {key}"] = value
    for key, value in zip(keys, recall(reranker, seconds), strict=True):
        results[f"second, {key}, no memory"] = value
    results["second, reranked with memory"] = recall(reranker, seconds, memory)[1]
    # What the memory knows is also given to the recogniser as personal words.
    listed = memory.names(NAMES)
    folder = work / f"names-test-listed-{zlib.crc32(' '.join(listed).encode()):08x}"
    phrases = [Phrase(text, BOOST) for text in listed]
    chosen = {second.extra["number"] for second in seconds}
    make_lattices(recognizer, source, "test", folder, words=lambda _: phrases, only=chosen)
    again = read_examples(folder / MANIFEST)
    assert [one.reference for one in again] == [
        one.reference for one in sorted(seconds, key=lambda one: one.extra["number"])
    ]
    own, both = recall(reranker, again, memory)
    results["second, personal words of the memory, one-best"] = own
    results["second, personal words and memory"] = both
    return results


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--lm", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/rerank"))
    parser.add_argument("--weights", type=Path, help="take these instead of tuning")
    parser.add_argument("--out", type=Path, help="write the tuned weights")
    parser.add_argument("--limit", type=int, help="lattices of a set")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    places, started = {"shared": options.shared, "speech": options.speech}, time.monotonic()
    recognizer, options.work = shipped_recognizer(options.work)
    lm = load_lm(options.lm)
    if options.weights is not None:
        reranker = load_reranker(lm, options.weights)
    else:
        reranker = tuned(lm, recognizer, places, options)
    test = examples(recognizer, places, options.work, "test", options.limit)
    sets = measure(reranker, test)
    sets = [*sets, total(sets)]
    said = names(reranker, recognizer, places, options.work)
    report = {
        "lm": lm.describe(),
        "settings": reranker.config.to_json(),
        "sets": [{**vars(one), "gain": one.gain, "closed": one.closed} for one in sets],
        "names": {key: value._asdict() for key, value in said.items()},
        "seconds": round(time.monotonic() - started, 1),
    }
    show(sets, said)
    print(save_report(RESULTS, "rerank", report))


def tuned(
    lm: LoadedModel, recognizer: NativeRecognizer, places: dict[str, Path], options: Any
) -> Reranker:
    """A reranker with weights from the dev splits, written to --out."""
    internal = load_internal()
    start = RerankConfig(lm_scale=0.4, internal_scale=0.15, word_bonus=1.0)
    dev = examples(recognizer, places, options.work, "dev", options.limit)
    config = TuneConfig(weights=("lm_scale", "word_bonus", "internal_scale"), texts=30, rounds=1)
    found = tune(Reranker(lm, start, internal), dev, config)
    print("tuned on the dev splits:")
    show([*found.sets, total(found.sets)], {})
    reranker = Reranker(lm, found.config, internal)
    print(found.config, flush=True)
    source = places["speech"] / "names" / "test"
    make_lattices(recognizer, source, "test", options.work / "names-test")
    config = tune_memory(reranker, list(pairs(options.work / "names-test").values())[NAMES:])
    print(config, flush=True)
    if options.out is not None:
        rows = [vars(one) for one in [*found.sets, total(found.sets)]]
        config.save(options.out, {"lm": lm.describe(), "sets": rows})
    return Reranker(lm, config, internal)


def show(sets: list[SetErrors], said: dict[str, Recall]) -> None:
    header = ("set", "recordings", "words", "one-best WER %", "reranked", "nearest path",
              "errors mended %", "of the distance %")  # fmt: skip
    rows = [
        (one.name, str(one.utterances), str(one.words), *(f"{100 * x:.1f}" for x in one.rates()),
         f"{100 * one.gain:.1f}", f"{100 * one.closed:.1f}")
        for one in sets
    ]  # fmt: skip
    print(markdown_table(header, rows), flush=True)
    if said:
        rows = [(key, f"{one.heard} of {one.names}", f"{100 * one.wer:.1f}")
                for key, one in said.items()]  # fmt: skip
        print(markdown_table(("utterance", "names heard", "WER %"), rows), flush=True)


if __name__ == "__main__":
    main()
