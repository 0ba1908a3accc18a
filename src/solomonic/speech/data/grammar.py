"""A grammar of sentences: a small text format, what it can say, and the built-in assistant's.

    # a comment
    @lights                                   a topic for the sentences below
    room = kitchen | living room              a list, used as {room}
    turn (on|off) the {room} light [please]   (a|b): one of them; [a]: one of them or nothing
    set it to {5-100/5} percent               {5-100/5}: five, ten, ... one hundred

Lists and groups may hold groups, options and other lists. Text is normalised, so that what comes
out is what a recogniser is trained on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.resources
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from solomonic.core import DataError
from solomonic.text.spoken import is_spoken, normalise, number_words

Split = Literal["train", "held_out"]

_DEFINITION = re.compile(r"([a-z_]+)\s*=(.*)")
_RANGE = re.compile(r"(\d{1,4})-(\d{1,4})(?:/(\d{1,3}))?")
_TOKEN = re.compile(r"[()\[\]|]|\{[^{}]*\}|[^()\[\]|{}]+")
_MOST_TRIES = 50  # draws in a row that give no new sentence before the grammar counts as used up
_HELD_OUT = 3  # one name in so many


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A sentence of a grammar: its words, its topic, and the entries drawn for its {lists}."""

    text: str
    topic: str = ""
    slots: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)


# A node is a word string, a reference {name}, or a tuple of alternatives of sequences of nodes.
@dataclasses.dataclass(frozen=True)
class _Reference:
    name: str


@dataclasses.dataclass(frozen=True)
class _Choice:
    options: tuple[tuple[_Node, ...], ...]


_Node = str | _Reference | _Choice


class Grammar:
    """A parsed grammar.

    Args:
        text: in the module's format.
        lists: entries by name that replace or add to the lists of the text, taken as they are.

    Attributes:
        topics: in their order; "" for sentences above the first @.

    Raises:
        DataError: a bracket or list is unknown, open, empty or used by itself; the line is named.
    """

    def __init__(self, text: str, lists: Mapping[str, Sequence[str]] | None = None) -> None:
        self._lists: dict[str, _Choice] = {}
        self._sentences: dict[str, list[tuple[_Node, ...]]] = {}
        topic = ""
        for number, line in enumerate(text.split("\n"), 1):
            line = line.split("#", 1)[0].strip()
            if line.startswith("@"):
                topic = line[1:].strip()
            elif match := _DEFINITION.fullmatch(line):
                self._lists[match[1]] = _parse(match[2], number)
            elif line:
                self._sentences.setdefault(topic, []).append((_parse(line, number),))
        for name, entries in (lists or {}).items():
            options = tuple((word,) for word in map(normalise, entries) if word)
            if not options:
                raise DataError(f"the list '{name}' of the grammar is empty; give it entries.")
            self._lists[name] = _Choice(options)
        if not self._sentences:
            raise DataError("the grammar has no sentence; write at least one line.")
        self._check()
        self.topics = tuple(self._sentences)

    def entries(self, name: str) -> tuple[str, ...]:
        """All that {name} can stand for.

        Raises:
            DataError: there is no such list.
        """
        if name not in self._lists:
            raise DataError(f"the grammar has no list '{name}'; it has {', '.join(self._lists)}.")
        return tuple(dict.fromkeys(self._expand((self._lists[name],))))

    def sample(self, rng: np.random.Generator, topic: str | None = None) -> Sentence:
        """A random sentence: topic, line and every choice drawn evenly."""
        if topic is not None and topic not in self._sentences:
            raise DataError(f"the grammar has no topic '{topic}'; give one of {self.topics}.")
        topic = topic if topic is not None else self.topics[int(rng.integers(len(self.topics)))]
        lines = self._sentences[topic]
        slots: dict[str, str] = {}
        words = self._draw(lines[int(rng.integers(len(lines)))], rng, slots)
        return Sentence(_join(words), topic, slots)

    def sentences(
        self, count: int, rng: np.random.Generator, topics: Sequence[str] | None = None
    ) -> list[Sentence]:
        """Up to `count` sentences with different texts, topics taking turns.

        Fewer when the grammar has no more to say (50 draws of a topic without a new one).
        """
        found: dict[str, Sentence] = {}
        left = dict.fromkeys(topics or self.topics, _MOST_TRIES)
        while len(found) < count and left:
            for topic in list(left):
                sentence = self.sample(rng, topic)
                new = bool(sentence.text) and sentence.text not in found
                left[topic] = _MOST_TRIES if new else left[topic] - 1
                if not left[topic]:
                    del left[topic]
                if new and len(found) < count:
                    found[sentence.text] = sentence
        return list(found.values())

    def expand(self, topic: str | None = None) -> Iterator[str]:
        """Every sentence, repeats included; the built-in grammar has far too many to wait for."""
        for name in self.topics if topic is None else (topic,):
            for line in self._sentences[name]:
                yield from self._expand(line)

    def _draw(
        self, nodes: tuple[_Node, ...], rng: np.random.Generator, slots: dict[str, str]
    ) -> list[str]:
        words: list[str] = []
        for node in nodes:
            if isinstance(node, str):
                words.append(node)
            elif isinstance(node, _Reference):
                drawn = self._draw((self._list(node.name),), rng, slots)
                words += drawn
                slots[node.name] = _join(drawn)
            else:
                options = node.options
                words += self._draw(options[int(rng.integers(len(options)))], rng, slots)
        return words

    def _expand(self, nodes: tuple[_Node, ...]) -> Iterator[str]:
        for words in itertools.product(*(self._alternatives(node) for node in nodes)):
            yield _join(words)

    def _alternatives(self, node: _Node) -> list[str]:
        if isinstance(node, str):
            return [node]
        choice = self._list(node.name) if isinstance(node, _Reference) else node
        return [text for option in choice.options for text in self._expand(option)]

    def _list(self, name: str) -> _Choice:
        return self._lists[name] if name in self._lists else _numbers(name)

    def _check(self) -> None:
        """Every list that is used exists and none leads back to itself."""
        done: set[str] = set()

        def visit(nodes: tuple[_Node, ...], above: tuple[str, ...]) -> None:
            for node in nodes:
                if isinstance(node, _Choice):
                    for option in node.options:
                        visit(option, above)
                elif isinstance(node, _Reference) and node.name not in done:
                    if node.name in above:
                        raise DataError(
                            f"the grammar's list '{node.name}' uses itself "
                            f"({' > '.join((*above, node.name))}); take that out."
                        )
                    visit((self._list(node.name),), (*above, node.name))
                    done.add(node.name)

        for lines in (*self._sentences.values(), [(choice,) for choice in self._lists.values()]):
            for line in lines:
                visit(line, ())


@functools.cache
def assistant_text() -> str:
    """The built-in grammar's file."""
    return (
        importlib.resources.files("solomonic.speech.data")
        .joinpath("assistant.grammar")
        .read_text("utf-8")
    )


def assistant_grammar(split: Split = "train") -> Grammar:
    """The built-in grammar of a home assistant, with the contacts of `split`."""
    return Grammar(assistant_text(), {"contact": contact_names(split)})


def contact_names(split: Split) -> tuple[str, ...]:
    """First names, and as many full names, of a split; no word is in both splits.

    Raises:
        DataError: another split.
    """
    first, family = _names("first_name", split), _names("family_name", split)
    full = [f"{name} {family[i % len(family)]}" for i, name in enumerate(first)]
    return (*first, *full)


def held_out_words() -> frozenset[str]:
    """Every name that training text must not contain."""
    return frozenset(_names("first_name", "held_out") + _names("family_name", "held_out"))


@functools.cache
def _names(kind: str, split: str) -> tuple[str, ...]:
    if split not in ("train", "held_out"):
        raise DataError(f"there is no split '{split}' of the names; give train or held_out.")
    line = re.search(rf"^{kind} = (.*)$", assistant_text(), re.MULTILINE)
    assert line is not None
    names = [name.strip() for name in line[1].split("|")]
    wanted = split == "held_out"
    return tuple(name for name in names if _held_out(name) == wanted)


def _held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % _HELD_OUT == 0


def _parse(text: str, number: int) -> _Choice:
    """A line as nested choices; brackets are kept on a stack."""

    def bad(what: str) -> DataError:
        return DataError(f"line {number} of the grammar: {what} in '{text.strip()}'.")

    stack: list[tuple[str, list[list[_Node]]]] = [("", [[]])]
    for token in _TOKEN.findall(text):
        alternatives = stack[-1][1]
        if token in "([":
            stack.append((token, [[]]))
        elif token in ")]":
            opened, options = stack.pop()
            if not stack or opened + token not in ("()", "[]"):
                raise bad(f"a '{token}' that closes nothing")
            if token == "]":
                options.append([])
            stack[-1][1][-1].append(_Choice(tuple(map(tuple, options))))
        elif token == "|":
            alternatives.append([])
        elif token.startswith("{"):
            alternatives[-1].append(_Reference(token[1:-1].strip()))
        else:
            # A piece may touch a list: "{contact}'s" is one word.
            words = normalise(token)
            if token.startswith("'") and words:
                words = f"'{words}" if not words.startswith("'") else words
            if not is_spoken(words):
                raise bad(f"'{words}', which is not words of a to z,")
            if words:
                alternatives[-1].append(words)
    if len(stack) > 1:
        raise bad(f"a '{stack[-1][0]}' that is not closed")
    if "".join(_TOKEN.findall(text)) != text:
        raise bad("a brace that is not closed")
    return _Choice(tuple(map(tuple, stack[0][1])))


@functools.cache
def _numbers(name: str) -> _Choice:
    match = _RANGE.fullmatch(name)
    first, last, step = (int(g or 1) for g in match.groups()) if match else (1, 0, 1)
    if not match or first > last or step < 1:
        raise DataError(
            f"the grammar has no list '{{{name}}}'; define '{name} = a | b', or write a range of "
            "numbers such as {1-60} or {5-100/5}."
        )
    return _Choice(tuple((number_words(n),) for n in range(first, last + 1, step)))


def _join(words: Sequence[str]) -> str:
    return " ".join(word for word in words if word).replace(" 's", "'s")
