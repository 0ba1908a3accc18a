"""The texts of the assistant language model: what is said to assistants, dialogues, books, wiki.

    python benchmarks/assistant_small/corpus.py OUT

OUT/train.jsonl and OUT/dev.jsonl hold one document a line, in spoken form (`text.spoken`). Most are
single sentences. Sessions are runs of sentences in which a few names come back, so that a model
learns to look for a name where it was said before. Dialogues have a line a turn, the user's behind
"> " and the assistant's behind "< ". Nothing here is in the dev or test parts of the recordings,
and no text has a word of the names kept back for tests. Deterministic.
"""

import argparse
import gzip
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from solomonic.speech.data.grammar import assistant_grammar, contact_names, held_out_words
from solomonic.text.spoken import is_spoken, normalise

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks are no package
from english_small.corpus import LETTERS, REAL, SHARED, Plan, spelled, texts

COMMON = {"the", "of", "and", "my", "doctor"}  # in names, and everywhere else
SYLLABLES = re.findall(
    r"\w+",
    "ba be bi bo bra da de di do fa fen ga gor ha hel jo ka kel ki la len li lo ma mar mi mo na "
    "nel ni no pa per ra ren ri ro sa sel shi so ta ten ti to va ven vi wen ya zan zel zo",
)
ENDINGS = re.findall(r"\w+", "n r s l a e o y th ck rt sh ne la ra ta na da")
Names = list[str]


def nlu(split: str) -> Iterator[str]:
    """English command texts of every source."""
    with gzip.open(SHARED / "text_nlu_commands" / "utterances.jsonl.gz", "rt") as lines:
        for line in lines:
            record = json.loads(line)
            if record["split"] == split and record.get("language", "en") == "en":
                yield record["text"]


def dialogues() -> Iterator[list[tuple[str, str]]]:
    """Turns (speaker, text) of every dialogue."""
    with gzip.open(SHARED / "text_dialogue_sgd" / "dialogues.jsonl.gz", "rt") as lines:
        for line in lines:
            yield [(turn["speaker"], turn["text"]) for turn in json.loads(line)["turns"]]


def sentences(text: str) -> Iterator[str]:
    """Sentences of printed text; wrapped lines are joined first."""
    for paragraph in re.split(r"\n\s*\n", text.replace("\r", "")):
        whole = " ".join(paragraph.replace("@-@", "-").replace("_", " ").split())
        yield from re.split(r"(?<=[.!?;:])[\"”')]*\s+", whole)


def books() -> Iterator[str]:
    """Sentences of the books and articles that are there for training."""
    for file in sorted((SHARED / "text_gutenberg" / "train").glob("*.txt")):
        yield from sentences(file.read_text("utf-8"))
    for line in (SHARED / "text_wikitext2" / "train.txt").read_text("utf-8").splitlines():
        if "<unk>" not in line and not line.strip().startswith("="):
            yield from sentences(line.replace(" .", ".").replace(" ,", ","))


class Filter:
    """Lets through what is spoken text and no part of a test."""

    def __init__(self) -> None:
        self.names = held_out_words() - COMMON
        plan = Plan(0)
        self.held = set(plan.held) | {t for s in ("dev", "test") for t in texts(s)}
        self.grams = {g for text in self.held for g in _grams(text.split())}

    def __call__(self, lines: Iterable[str], longest: int = 40) -> Iterator[str]:
        for line in lines:
            text = normalise(line)
            words = text.split()
            if not words or len(words) > longest or not is_spoken(text):
                continue
            bare = {word.removesuffix("'s") for word in words}
            if self.names & bare or text in self.held or self.grams.intersection(_grams(words)):
                continue
            yield text


def _grams(words: list[str], size: int = 6) -> list[str]:
    return [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]


def new_name(rng: np.random.Generator) -> str:
    """A word that is no name anybody has: a reader of it can only copy."""
    count = int(rng.integers(1, 3))
    first = "".join(SYLLABLES[int(i)] for i in rng.integers(len(SYLLABLES), size=count))
    return first + ENDINGS[int(rng.integers(len(ENDINGS)))]


def sessions(count: int, rng: np.random.Generator, keep: Filter) -> Iterator[list[str]]:
    """Sentences of one user: few names, each said several times."""
    grammar, contacts = assistant_grammar("train"), contact_names("train")
    named = list(grammar.sentences(9000, rng, ["names", "calls", "messages"]))
    others = [s.text for s in grammar.sentences(6000, rng)]
    templates = [(s.text, s.slots["contact"]) for s in named if s.slots.get("contact")]
    for _ in range(count):
        pool: Names = []
        for _ in range(int(rng.integers(1, 4))):
            known = rng.random() < 0.4
            name = contacts[int(rng.integers(len(contacts)))] if known else new_name(rng)
            if not known and rng.random() < 0.4:
                name += " " + new_name(rng)
            pool.append(name)
        lines = []
        for _ in range(int(rng.integers(4, 13))):
            if rng.random() < 0.65:
                text, name = templates[int(rng.integers(len(templates)))]
                lines.append(text.replace(name, pool[int(rng.integers(len(pool)))]))
            else:
                lines.append(others[int(rng.integers(len(others)))])
        yield list(keep(lines))


def documents() -> tuple[list[list[str]], list[list[str]]]:
    """Blocks of documents to train on and to hold out; a block stays together."""
    rng, keep = np.random.default_rng(20261121), Filter()
    plan = Plan(20261122)
    commands = list(keep(nlu("train")))
    blocks = [[text] for text in commands for _ in range(3)]
    grammar = [s.text for s in plan.grammar.sentences(40_000, rng)]
    blocks += [[text] for text in keep(grammar)]
    blocks += list(sessions(6000, rng, keep))
    blocks += [[row["text"]] for row in spelled(rng, 6000) if row["text"] not in keep.held]
    blocks += [[" ".join(rng.choice([*LETTERS], size=int(rng.integers(1, 4))))] for _ in range(500)]
    blocks += [[text] for text, times in _recordings(keep) for _ in range(times)]
    talks = []
    for turns in dialogues():
        lines = [(who, next(iter(keep([text], 60)), None)) for who, text in turns]
        if all(text for _, text in lines):
            talks.append("\n".join(("> " if who == "user" else "< ") + text for who, text in lines))
        blocks += [[text] for who, text in lines if text and who == "user"]
    blocks += [[talk] for talk in talks[: int(0.97 * len(talks))] for _ in range(2)]
    blocks += [[text] for text in keep(books()) if len(text.split()) > 2]
    held = [[text] for text in keep(nlu("dev"))]
    held += list(sessions(150, np.random.default_rng(1), keep))
    held += [[talk] for talk in talks[int(0.97 * len(talks)) :]]
    return [blocks[i] for i in rng.permutation(len(blocks))], held


def _recordings(keep: Filter) -> Iterator[tuple[str, int]]:
    """What is said in the training parts of the recordings and how often to read it: a single word
    as often as the commonest commands."""
    single = set()
    for name in REAL:
        for line in (SHARED / name / "manifest.jsonl").read_text("utf-8").splitlines():
            record = json.loads(line)
            if record["split"] == "train" and record.get("text"):
                text = normalise(record["text"])
                if len(text.split()) == 1 and is_spoken(text):
                    single.add(text)
                else:
                    yield from ((kept, 6 if name == "an4" else 3) for kept in keep([text]))
    yield from ((word, 60) for word in sorted(single))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, blocks in zip(("train", "dev"), documents(), strict=True):
        lines = [json.dumps({"text": text}) for block in blocks for text in block]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        words = sum(len(line.split()) for line in lines)
        print(f"{name}: {len(lines)} documents, {words} words")


if __name__ == "__main__":
    main()
