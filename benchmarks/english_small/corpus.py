"""The synthetic part of the English model's corpus: sentences, who says them, where they go.

    python benchmarks/english_small/corpus.py OUT

OUT/synthetic/{train,dev,test} are commands (half of the assistant grammar, half of public command
texts), digits and spelled words; OUT/more/train and OUT/most/train are further training sentences
of the same kinds, OUT/words/train single words; OUT/names/{train,test} are contacts in sentences,
the test's names in no training text; OUT/contacts/train has names from a dictionary, for attention
to lists. Training and test share no voice, and no sentence of more than a word. Deterministic and
resumable.
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.speech.data.augment import AugmentConfig
from solomonic.speech.data.grammar import (
    Grammar,
    assistant_grammar,
    assistant_text,
    contact_names,
    held_out_words,
)
from solomonic.speech.data.synthesis import HELD_OUT_VOICES, TRAIN_VOICES, synthesise
from solomonic.text.spoken import is_spoken, normalise

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = (
    "librispeech_small", "wuw2_telephone", "an4", "speech_commands_subset", "fsdd",
    "arctic_kathleen",
)  # fmt: skip
SHARE = {
    "home_assistant_intents": 350, "slurp": 450, "slurp_lm": 550, "snips": 500, "clinc150": 300,
}  # fmt: skip
TESTED = ("snips", "slurp", "slurp_lm")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Row = dict[str, Any]


def texts(split: str, sets: tuple[str, ...] = REAL) -> set[str]:
    """What is said in the real recordings of a split."""
    found = set()
    for name in sets:
        for line in (SHARED / name / "manifest.jsonl").read_text("utf-8").splitlines():
            record = json.loads(line)
            if record["split"].startswith(split) and record.get("text"):
                found.add(normalise(record["text"]))
    return found


def commands(split: str) -> dict[str, list[str]]:
    """Short English command texts by source."""
    found: dict[str, dict[str, None]] = {}
    with gzip.open(SHARED / "text_nlu_commands" / "utterances.jsonl.gz", "rt") as lines:
        for line in lines:
            record = json.loads(line)
            english = record.get("language", "en") == "en"
            if record["split"] != split or not english:
                continue
            text = normalise(record["text"])
            if len(text) >= 3 and is_spoken(text) and len(text.split()) <= 12:
                found.setdefault(record["source"], {})[text] = None
    return {source: list(lines) for source, lines in found.items()}


def spelled(rng: np.random.Generator, count: int) -> list[Row]:
    """Strings of digits and letters, and spelled names."""
    names = [word for contact in contact_names("train") for word in contact.split()]

    def digits(low: int, high: int) -> list[str]:
        drawn = rng.integers(10, size=int(rng.integers(low, high)))
        return ["oh" if rng.random() < 0.1 else DIGITS[i] for i in drawn]

    def letters(low: int, high: int) -> list[str]:
        return [LETTERS[i] for i in rng.integers(26, size=int(rng.integers(low, high)))]

    found: dict[str, Row] = {}
    for number in range(count):
        kind = number % 7
        if kind < 3:
            words = digits(3, 11)
        elif kind < 4:
            words = letters(2, 8)
        elif kind < 6:
            name = names[int(rng.integers(len(names)))]
            words = [*name] if rng.random() < 0.6 else [name, *name]
        else:
            words = letters(1, 5) + digits(1, 5)
        text = " ".join(words)
        found[text] = {"text": text, "kind": "spelled", "spelled": True}
    return list(found.values())


class Plan:
    """Draws sentences so that none is in two sets."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.grammar = assistant_grammar("train")
        self.commands = {split: commands(split) for split in ("train", "dev", "test")}
        self.seen: set[str] = set()
        # Single words are in every set; sentences are not to be.
        self.held = {t for s in ("dev", "test") for t in texts(s) if len(t.split()) > 2}
        for split in ("dev", "test"):
            self.held |= {t for lines in self.commands[split].values() for t in lines}

    def assistant(self, count: int, topics: list[str] | None = None) -> list[Row]:
        """New sentences of the grammar."""
        found: list[Row] = []
        for one in self.grammar.sentences(4 * count + 400, self.rng, topics):
            if one.text not in self.seen and one.text not in self.held and len(found) < count:
                self.seen.add(one.text)
                name = one.slots.get("contact")
                found.append(
                    {"text": one.text, "kind": "assistant", "topic": one.topic, "name": name}
                )
        return found

    def public(self, split: str, count: int, sources: tuple[str, ...]) -> list[Row]:
        """New sentences of the public texts; training has neither held-out names nor sentences."""
        pool = [t for source in sources for t in self.commands[split].get(source, [])]
        pool = [t for t in pool if t not in self.seen]
        if split == "train":
            names = held_out_words()
            pool = [
                t
                for t in pool
                if t not in self.held and not names & set(t.replace("'s", "").split())
            ]
        found = [pool[i] for i in self.rng.permutation(len(pool))[:count]]
        self.seen.update(found)
        return [{"text": text, "kind": "commands"} for text in found]


def plans() -> dict[str, list[Row]]:
    """The sentences of every set, in random order, so that a part of a set is a sample of it."""
    plan = Plan(20261121)
    test = plan.assistant(250) + plan.public("test", 250, TESTED)
    dev = plan.assistant(150) + plan.public("dev", 150, TESTED)
    train = plan.assistant(2200)
    for source, count in SHARE.items():
        train += plan.public("train", count, (source,))
    train += [row for row in spelled(plan.rng, 740) if row["text"] not in plan.held][:700]
    named = [row for row in plan.assistant(1200, ["names", "calls", "messages"]) if row["name"]]
    sets = {
        "synthetic/train": train,
        "names/train": named[:800],
        "synthetic/dev": dev,
        "synthetic/test": test,
        "names/test": _names_test(plan, [*train, *named[:800]]),
        "more/train": _more(plan),
    }
    mixed = _shuffled(plan, sets)
    # What came later draws later, so that the sets before it stay what they were.
    mixed |= _shuffled(plan, {"most/train": _most(plan)})
    learned = {row["text"] for k, rows in mixed.items() if k.endswith("train") for row in rows}
    for name in ("synthetic/dev", "synthetic/test", "names/test"):
        assert not learned & {row["text"] for row in mixed[name]}, name
    mixed |= _shuffled(plan, {"words/train": _words(12_000)})
    return mixed | {"contacts/train": _contacts(plan, learned, 24_000)}


def _shuffled(plan: Plan, sets: dict[str, list[Row]]) -> dict[str, list[Row]]:
    return {k: [rows[i] for i in plan.rng.permutation(len(rows))] for k, rows in sets.items()}


def _more(plan: Plan) -> list[Row]:
    """More sentences to train on, with none of the words that the test keeps back as names."""
    found = plan.assistant(4500)
    for source in SHARE:
        found += plan.public("train", 900, (source,))
    found += [row for row in spelled(plan.rng, 1500) if row["text"] not in plan.held]
    return _without_test_names(found)


def _most(plan: Plan) -> list[Row]:
    """Every public text that is left, in random order, and as many new ones of the grammar."""
    public = plan.public("train", 100_000, (*SHARE, "banking77", "restaurant8k"))
    return _without_test_names(public + plan.assistant(12_000))


def _words(count: int) -> list[Row]:
    """Digits, and the single words that people say in the recordings, each in many voices."""
    words = [*DIGITS * 3, *sorted(texts("train", ("speech_commands_subset",)) - set(DIGITS))]
    return [{"text": words[i % len(words)], "kind": "word"} for i in range(count)]


def _contacts(plan: Plan, learned: set[str], count: int) -> list[Row]:
    """Sentences with names that the recogniser never learned, to learn attention to lists with:
    one or two words of a dictionary of pronunciations that no other training text has."""
    known = {word for text in learned for word in text.split()} | held_out_words()
    known |= {word for text in texts("train") | plan.held for word in text.split()}
    with gzip.open(SHARED / "lexicon_cmudict" / "cmudict.txt.gz", "rt", encoding="latin-1") as file:
        listed = {line.split()[0].lower() for line in file if line.strip()}
    rare = sorted(w for w in listed - known if 3 <= len(w) <= 10 and w.isascii() and w.isalpha())
    words = [rare[i] for i in plan.rng.permutation(len(rare))]
    pairs = [f"{a} {b}" for a, b in zip(words[1::3], words[2::3], strict=False)]
    grammar = Grammar(assistant_text(), {"contact": [*words[::3], *pairs]})
    found: dict[str, Row] = {}
    for one in grammar.sentences(4 * count, plan.rng, ["names", "calls", "messages"]):
        if name := one.slots.get("contact"):
            found[one.text] = {"text": one.text, "kind": "contact", "name": name}
    return list(found.values())[:count]


def _without_test_names(found: list[Row]) -> list[Row]:
    names = {word for contact in contact_names("held_out") for word in contact.split()}
    kept = {"the", "of", "and", "my", "doctor"}
    return [row for row in found if not (names - kept) & set(row["text"].split())]


def _names_test(plan: Plan, train: list[Row]) -> list[Row]:
    """400 sentences with names that no training text has a word of, 200 without a name."""
    words = {word for row in train for word in row["text"].split()}
    words |= {word for text in texts("train") for word in text.split()}
    contacts = [c for c in contact_names("held_out") if not words & set(c.split())]
    grammar = Grammar(assistant_text(), {"contact": contacts})
    found: list[Row] = []
    used: dict[str, int] = {}
    for one in grammar.sentences(4000, plan.rng, ["names"]):
        name = one.slots["contact"]
        if one.text not in plan.seen and used.get(name, 0) < 4 and len(found) < 400:
            used[name] = used.get(name, 0) + 1
            plan.seen.add(one.text)
            found.append({"text": one.text, "kind": "name", "topic": one.topic, "name": name})
    topics = [topic for topic in plan.grammar.topics if topic not in ("names", "digits")]
    none = [
        row
        for row in plan.assistant(500, topics)
        if not row["name"] and not held_out_words() & set(row["text"].split())
    ]
    return found + [{**row, "kind": "no_name"} for row in none[:200]]


def noise(split: str) -> AugmentConfig:
    """Rooms and noise for training, a little noise for testing."""
    folder = SHARED / "noise_public_domain"
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    files = tuple(
        str(folder / record["audio"])
        for record in map(json.loads, lines)
        if record["split"] == split and not record.get("may_contain_speech")
    )
    if split == "test":
        return AugmentConfig(noise=1.0, snr_db=(30, 50), noise_files=files, synthetic=0.3)
    return AugmentConfig(
        noise=1.0,
        snr_db=(18, 50),
        noise_files=files,
        synthetic=0.4,
        reverberation=0.3,
        direct_db=(5, 20),
        gain_db=(-12, 3),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for number, (name, sentences) in enumerate(plans().items()):
        training = name.endswith("train")
        manifest = synthesise(
            sentences,
            TRAIN_VOICES if training else HELD_OUT_VOICES,
            out / name,
            100 + number,
            noise=noise("train" if training else "test"),
            split=name.split("/")[1],
            workers=2,
        )
        print(manifest, len(sentences), flush=True)


if __name__ == "__main__":
    main()
