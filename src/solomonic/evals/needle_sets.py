"""Facts hidden in long texts: needles (one sentence) and bAbI stories (a few), and what is asked.

One document serves all lengths: the facts asked at length L stand between the length before and L,
so a 256,000 token document is read once and stopped at each length. bAbI's people get names of
their own in every story: in one document they would contradict each other ("Mary" is in twenty
places). Choices make chance known: the answer and others of the same kind.
"""

import dataclasses
import gzip
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from solomonic.core import DataError
from solomonic.text import Tokenizer

STORIES = (1, 6, 7, 9, 10, 11, 12, 13, 14)
"""bAbI tasks that ask about people and are answered with one word."""

_PEOPLE = re.compile(r"\b(Mary|John|Daniel|Sandra|Bill|Fred|Julie|Jeff)\b")
_NAMES = """
Aaron Abigail Albert Alison Amber Andrew Angela Anton Audrey Barry Beatrice Benjamin Betty
Brenda Bruno Calvin Carmen Cecil Celia Chester Clara Claude Conrad Cora Cyril Daphne Dennis
Diana Dolores Dorothy Edgar Edith Edmund Eleanor Elmer Ernest Esther Eugene Felix Fiona
Florence Gerald Gilbert Gladys Gordon Graham Harold Harriet Hazel Hector Helen Herbert Hilda
Howard Hubert Ingrid Isabel Ivan Jasper Jerome Joan Joyce Judith Julian Karen Kenneth Laura
Leonard Lionel Lloyd Lorna Louise Lucas Luther Mabel Malcolm Marcus Marian Martha Maurice
Maxwell Melvin Mildred Milton Miriam Monica Myron Nancy Nathan Nora Norman Olive Oscar Otto
Pamela Patricia Percy Phyllis Quentin Rachel Ralph Raymond Regina Reuben Rhoda Roland Rosalind
Roy Rufus Ruth Selma Sidney Stella Steven Sylvia Theodore Thelma Ursula Vera Vernon Victor
Viola Virgil Wallace Walter Wanda Warren Wilbur Wilma Winston Yvonne
""".split()  # noqa: SIM905


@dataclasses.dataclass(frozen=True)
class Fact:
    """What is hidden and what is asked of it.

    name: "needles" or "babi"; kind: of needle, or the bAbI task; choices: the answer among others.
    """

    name: str
    kind: str
    text: str
    question: str
    answer: str
    choices: tuple[str, ...]

    @property
    def chance(self) -> float:
        """Accuracy of choosing blindly."""
        return 1 / len(self.choices)

    @property
    def prompt(self) -> str:
        """The question as it is put."""
        return ask(self.question)

    @property
    def stem(self) -> str | None:
        """The fact up to its answer, to be continued word by word; None for a story."""
        before, found, _ = self.text.partition(" " + self.answer)
        return f"\n {before}" if self.name == "needles" and found else None


@dataclasses.dataclass(frozen=True)
class Placed:
    """A fact in a document: tokens begin .. end - 1, asked when `length` tokens were read."""

    fact: Fact
    begin: int
    end: int
    length: int


def ask(question: str) -> str:
    """A question in the form of the texts around it."""
    return f"\n Question : {question.rstrip('?').strip()} ? Answer :"


def needle_facts(path: Path, splits: Sequence[str], choices: int, seed: int) -> list[Fact]:
    """Needles of some splits in a seeded order, each with up to `choices` answers of its kind.

    Raises:
        DataError: the file is missing.
    """
    records = [json.loads(line) for line in _lines(path)]
    chance = random.Random(seed)
    answers: dict[str, list[str]] = {}
    for record in records:
        answers.setdefault(record["kind"], []).append(record["answer"])
    facts = []
    for record in records:
        if record["split"] in splits:
            others = sorted(set(answers[record["kind"]]) - {record["answer"]})
            facts.append(
                Fact(
                    "needles", record["kind"], record["needle"] + ".", record["question"],
                    record["answer"], _mixed(record["answer"], others, choices, chance),
                )
            )  # fmt: skip
    chance.shuffle(facts)
    return facts


def story_facts(
    path: Path, splits: Sequence[str], choices: int, seed: int, lines: int = 6
) -> list[Fact]:
    """bAbI stories, the tasks in turn, each with its last question within `lines` lines.

    Raises:
        DataError: the file is missing.
    """
    records = [json.loads(line) for line in _lines(path)]
    chance = random.Random(seed)
    tasks: dict[str, list[dict]] = {}
    answers: dict[str, set[str]] = {}
    for record in records:
        if int(record["task"][2:].partition("_")[0]) not in STORIES:
            continue
        answers.setdefault(record["task"], set()).update(q["answer"] for q in record["questions"])
        asked = [q for q in record["questions"] if q["after"] <= lines]
        if asked and record["split"] in splits:
            tasks.setdefault(record["task"], []).append({**record, "asked": asked[-1]})
    names = list(_NAMES)
    chance.shuffle(names)
    for stories in tasks.values():
        chance.shuffle(stories)
    facts, used = [], 0
    for turn in range(max(map(len, tasks.values()), default=0)):
        for task in sorted(tasks):
            if turn >= len(tasks[task]):
                continue
            story = tasks[task][turn]
            question = story["asked"]
            text = " ".join(story["lines"][: question["after"]])
            people = sorted(set(_PEOPLE.findall(text + question["question"])))
            new = {one: names[(used + i) % len(names)] for i, one in enumerate(people)}
            used += len(people)
            others = sorted(answers[task] - {question["answer"]})
            facts.append(
                Fact(
                    "babi", task.partition("_")[0], _rename(text, new),
                    _rename(question["question"], new), question["answer"],
                    _mixed(question["answer"], others, choices, chance),
                )
            )  # fmt: skip
    return facts


def document(
    tokenizer: Tokenizer, haystack: np.ndarray, facts: Sequence[Fact], lengths: Sequence[int],
    seed: int = 0,
) -> tuple[np.ndarray, list[Placed]]:  # fmt: skip
    """A text of max(lengths) tokens with the facts in it, as many for each length.

    Facts of one length are spread evenly, with chance within each part, between the length before
    and 64 tokens before its end; they go between lines where that is near.

    Returns:
        (n,) int64 tokens, the first the end of text, and where each fact stands.

    Raises:
        DataError: the haystack is too short.
    """
    chance = random.Random(seed)
    share = len(facts) // len(lengths)
    spots: list[tuple[int, Fact, int]] = []
    for level, length in enumerate(lengths):
        low, high = (lengths[level - 1] if level else 64), length - 256
        for i, fact in enumerate(facts[level * share : (level + 1) * share]):
            width = (high - low) / share
            spots.append((int(low + width * (i + chance.random())), fact, length))
    spots.sort(key=lambda spot: spot[0])
    parts, placed, taken = [np.array([tokenizer.eos_id])], [], 0
    size = 1
    for spot, fact, length in spots:
        more = max(spot - size, 0)
        if taken + more > len(haystack):
            break
        parts.append(haystack[taken : taken + more])
        taken, size = taken + more, size + more
        mine = np.array(tokenizer.encode(f"\n {fact.text}\n"))
        parts.append(mine)
        placed.append(Placed(fact, size, size + len(mine), length))
        size += len(mine)
    rest = lengths[-1] - size
    if taken + rest > len(haystack) or len(placed) < len(spots):
        raise DataError(
            f"the haystack has {len(haystack)} tokens, too few for {lengths[-1]}; give more text "
            "or shorter lengths."
        )
    parts.append(haystack[taken : taken + rest])
    return np.concatenate(parts).astype(np.int64), placed


def _mixed(answer: str, others: list[str], most: int, chance: random.Random) -> tuple[str, ...]:
    picked = [answer, *chance.sample(others, min(most - 1, len(others)))]
    chance.shuffle(picked)
    return tuple(picked)


def _rename(text: str, names: dict[str, str]) -> str:
    return _PEOPLE.sub(lambda found: names[found.group()], text)


def _lines(path: Path) -> list[str]:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return file.read().splitlines()
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); give the folder that holds text_needles and "
            "text_babi."
        ) from error
