"""What is still known of facts stated long ago: needles and bAbI stories in long documents.

A document is read once. At each length the question is put to a copy of what the reader holds,
and the answer is chosen among others of its kind by its probability (chance is known), and written
by the model itself (verbatim or not). Needles are also asked as sentences to be continued.
Readers: the model alone; with the neighbour and match memory of `memory.reader`; with memory
attention. All share one pass over the document.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from solomonic.core import Config, require
from solomonic.evals.needle_sets import Placed, document, needle_facts, story_facts
from solomonic.lm.attending import (
    AttendingState,
    AttentionConfig,
    MemoryAttention,
    characters,
)
from solomonic.lm.corpus import Corpus
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.memory.reader.match import MatchMemory
from solomonic.memory.reader.neighbours import Datastore, NeighbourConfig
from solomonic.memory.reader.recall import Recall, RecallConfig, Shelf
from solomonic.state import gather
from solomonic.text import Tokenizer

MEMORIES = ("none", "reader", "attention")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeedlesConfig(Config):
    """What is hidden and how it is asked.

    Raises:
        ConfigError: a value out of range.
    """

    lengths: tuple[int, ...] = (4_000, 32_000, 256_000)
    """Tokens read before the questions, growing."""
    facts: int = 12
    """Of each set (needles, bAbI) at each length."""
    choices: int = 8
    """Answers to choose from, at most."""
    splits: tuple[str, ...] = ("test", "dev")
    """Of the sets."""
    memories: tuple[str, ...] = MEMORIES
    """Readers: "none" (the model alone), "reader" and "attention"."""
    top: int = 4
    """Chunks that memory attention recalls for a question."""
    warm: int = 600
    """Tokens before a question that the memory reader foretells, so that its gate has learned."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("lengths", "splits", "memories"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        require(
            bool(self.lengths) and list(self.lengths) == sorted(set(self.lengths)),
            f"lengths = {list(self.lengths)} must be growing numbers of tokens.",
        )
        require(self.lengths[0] >= 1000, "the first length must be at least 1000 tokens.")
        require(self.facts >= 1, f"facts = {self.facts} must be at least 1.")
        require(self.choices >= 2, f"choices = {self.choices} must be at least 2.")
        wrong = set(self.memories) - set(MEMORIES)
        require(not wrong, f"memories {sorted(wrong)} are unknown; use {', '.join(MEMORIES)}.")


@dataclasses.dataclass(frozen=True)
class Asked:
    """One question answered by one reader.

    form: "question", or "continue" (the sentence up to the answer). right: the answer was the most
    probable of the choices; verbatim: it was written; cited: memory attention had at least half of
    the fact in its layers, or the memory reader took a token from it; None without memory.
    """

    name: str
    kind: str
    form: str
    memory: str
    length: int
    distance: int
    chance: float
    right: bool
    verbatim: bool
    cited: bool | None


class Reader(Protocol):
    """Something that has read the document and can be asked, again and again."""

    def answer(
        self, prompt: list[int], choices: list[list[int]], right: int, placed: Placed
    ) -> "Answer":
        """What it makes of the choices after the prompt; as many tokens as the right one has are
        written."""
        ...


@dataclasses.dataclass(frozen=True)
class Answer:
    """Log-probability in nats of each choice, the tokens it would write, and whether it cites."""

    scores: list[float]
    written: list[int]
    cited: bool | None


def run_needles(
    model: LanguageModel,
    tokenizer: Tokenizer,
    sets: Path,
    haystack: Sequence[Path],
    config: NeedlesConfig | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[Asked]:
    """Read one document and ask at each length.

    Args:
        sets: the folder that holds text_needles and text_babi.
        haystack: text files, one after the other.
        tell: is told how far it is.

    Raises:
        DataError: a set is missing, or the haystack is too short.
    """
    config = config or NeedlesConfig()
    tokens, placed = lay_out(tokenizer, sets, haystack, config)
    say = tell or (lambda line: None)
    settings = AttentionConfig(top=config.top, follow=1, query=24)
    attention = MemoryAttention(model, tokenizer, settings)
    asked: list[Asked] = []
    reached, state, hiddens = 0, None, []
    began = time.perf_counter()
    for length in config.lengths:
        while reached < length:
            part = torch.from_numpy(tokens[reached : min(reached + 1024, length)])[None]
            with torch.no_grad():
                hidden, state = attention.absorb(part.to(model.device), state)
            hiddens.append(hidden[0].to(torch.float16).cpu().numpy())
            reached += part.shape[1]
        assert state is not None
        say(f"{length} tokens read after {time.perf_counter() - began:.0f} s")
        past = np.concatenate(hiddens)
        hiddens = [past]
        readers = _readers(attention, state, tokens[:length], past, config)
        for one in placed:
            if one.length == length:
                asked += _ask(tokenizer, one, readers)
        say(f"{length} tokens: asked after {time.perf_counter() - began:.0f} s")
    return asked


def lay_out(
    tokenizer: Tokenizer, sets: Path, haystack: Sequence[Path], config: NeedlesConfig
) -> tuple[np.ndarray, list[Placed]]:
    """The document and where its facts stand."""
    facts, levels = config.facts, len(config.lengths)
    needles = needle_facts(
        sets / "text_needles/needles.jsonl", config.splits, config.choices, config.seed
    )
    stories = story_facts(
        sets / "text_babi/stories.jsonl.gz", config.splits, config.choices, config.seed
    )
    mixed = [fact for pair in zip(needles, stories, strict=False) for fact in pair]
    text = b"".join(piece.data for path in haystack for piece in Corpus(path).pieces())
    hay = tokenizer.encode_array(text)
    wanted = mixed[: 2 * facts * levels]
    return document(tokenizer, hay, wanted, config.lengths, config.seed)


def _readers(
    attention: MemoryAttention, state: AttendingState, tokens: np.ndarray, past: np.ndarray,
    config: NeedlesConfig,
) -> dict[str, Reader]:  # fmt: skip
    """The readers as they stand after `tokens`."""
    found: dict[str, Reader] = {}
    if "none" in config.memories:
        found["none"] = _Alone(attention.model, state.model)
    if "reader" in config.memories:
        found["reader"] = _Recalling(attention.model, state.model, tokens, past, config.warm)
    if "attention" in config.memories:
        letters = characters(attention.tokenizer)[tokens].cumsum()
        found["attention"] = _Attending(attention, state, letters)
    return found


def _ask(tokenizer: Tokenizer, placed: Placed, readers: dict[str, Reader]) -> list[Asked]:
    """Both forms of a question to every reader."""
    fact = placed.fact
    choices = [tokenizer.encode(f" {choice}") for choice in fact.choices]
    right = fact.choices.index(fact.answer)
    asked = []
    for form, prompt in (("question", fact.prompt), ("continue", fact.stem)):
        if prompt is None:
            continue
        for memory, reader in readers.items():
            answer = reader.answer(tokenizer.encode(prompt), choices, right, placed)
            asked.append(
                Asked(
                    fact.name, fact.kind, form, memory, placed.length, placed.length - placed.end,
                    fact.chance, bool(np.argmax(answer.scores) == right),
                    answer.written == choices[right], answer.cited,
                )
            )  # fmt: skip
    return asked


class _Alone:
    """The model with its own state, which has seen the whole document."""

    def __init__(self, model: LanguageModel | MemoryAttention, state: Any) -> None:
        self.model, self.state = model, state

    @torch.no_grad()
    def answer(
        self, prompt: list[int], choices: list[list[int]], right: int, placed: Placed
    ) -> Answer:
        hidden, state = self.model.hidden(_row(prompt, self.model), self.state)
        scores = _weigh(self.model, hidden[:, -1], state, choices)
        return Answer(scores, _write(self.model, hidden[:, -1], state, len(choices[right])), None)


class _Attending:
    """The same with chunks of the document recalled before the end of the prompt."""

    def __init__(self, model: MemoryAttention, state: AttendingState, ends: np.ndarray) -> None:
        """ends (n,): characters of the document up to each token's end."""
        self.model, self.state, self.ends = model, state, ends

    @torch.no_grad()
    def answer(
        self, prompt: list[int], choices: list[list[int]], right: int, placed: Placed
    ) -> Answer:
        _, state = self.model.hidden(_row(prompt[:-1], self.model), self.state)
        hidden, state = self.model.hidden(_row(prompt[-1:], self.model), self.model.recall(state))
        scores = _weigh(self.model, hidden[:, -1], state, choices)
        written = _write(self.model, hidden[:, -1], state, len(choices[right]))
        begin, end = int(self.ends[placed.begin - 1]), int(self.ends[placed.end - 1])
        held = sum(
            max(0, min(end, one.end) - max(begin, one.begin)) for one in state.cited[0]
        )  # chunks do not overlap
        return Answer(scores, written, 2 * held >= end - begin)


def _row(tokens: list[int], model: Any) -> Tensor:
    return torch.tensor([tokens], device=model.device)


def _weigh(model: Any, hidden: Tensor, state: Any, choices: list[list[int]]) -> list[float]:
    """Log-probability of each choice after `hidden` (1, d), all of them read as one batch."""
    first = model.head(hidden)[0].double().log_softmax(-1)
    scores = [float(first[choice[0]]) for choice in choices]
    most = max(map(len, choices)) - 1
    if most == 0:
        return scores
    rows = torch.zeros(len(choices), most, dtype=torch.int64, device=model.device)
    for i, choice in enumerate(choices):
        rows[i, : len(choice) - 1] = torch.tensor(choice[:-1])
    if isinstance(state, AttendingState):
        many = state.gather([0] * len(choices))
    else:
        many = gather(state, torch.zeros(len(choices), dtype=torch.int64, device=model.device))
    # What stands behind a choice's end is read by no one: models are causal.
    after = model.head(model.hidden(rows, many)[0]).double().log_softmax(-1)
    for i, choice in enumerate(choices):
        scores[i] += sum(float(after[i, j, token]) for j, token in enumerate(choice[1:]))
    return scores


def _write(model: Any, hidden: Tensor, state: Any, length: int) -> list[int]:
    """The likeliest `length` tokens, one after the other."""
    written = [int(model.head(hidden).argmax())]
    while len(written) < length:
        out, state = model.hidden(_row(written[-1:], model), state)
        written.append(int(model.head(out[:, -1]).argmax()))
    return written


class _Recalling:
    """The model mixed with verbatim matches and nearest states of the whole document."""

    def __init__(
        self, model: LanguageModel, state: ModelState, tokens: np.ndarray, past: np.ndarray,
        warm: int,
    ) -> None:  # fmt: skip
        self.model, self.state = model, state
        old = len(tokens) - warm
        match = MatchMemory()
        match.begin("document")
        match.extend(tokens[:old])
        keys = Datastore(past[: old - 1].astype(np.float32), tokens[1:old])
        config = RecallConfig(neighbours=NeighbourConfig(capacity=4 * warm))
        shelf = Shelf(match, keys, np.arange(1, old))
        self.recall = Recall(model.config.vocab_size, past.shape[1], [shelf], config)
        scores = torch.from_numpy(past[old - 1 : -1].astype(np.float32))
        with torch.no_grad():
            known = model.head(scores.to(model.device)).log_softmax(-1).cpu().numpy()
        for i in range(warm):
            self.recall.predict(known[i], past[old - 1 + i].astype(np.float32))
            self.recall.update(int(tokens[old + i]))

    @torch.no_grad()
    def answer(
        self, prompt: list[int], choices: list[list[int]], right: int, placed: Placed
    ) -> Answer:
        recall = self.recall.copy()
        for token in prompt:
            recall.update(token)  # the question is read, not foretold
        hidden, state = self.model.hidden(_row(prompt, self.model), self.state)
        scores = []
        for choice in choices:
            known = hidden[0, -1:]
            if len(choice) > 1:
                more, _ = self.model.hidden(_row(choice[:-1], self.model), state)
                known = torch.cat((known, more[0]))
            scores.append(self._score(recall.copy(), known, choice))
        places, written = [], []
        for _ in choices[right]:
            chances = self._foretell(recall, hidden[0, -1])
            written.append(int(chances.argmax()))
            reference = recall.refer(written[-1])
            places.append(-1 if reference is None else reference.place.index)
            recall.update(written[-1])
            hidden, state = self.model.hidden(_row(written[-1:], self.model), state)
        return Answer(scores, written, any(placed.begin <= at < placed.end for at in places))

    def _score(self, recall: Recall, known: Tensor, choice: list[int]) -> float:
        """Log-probability of a choice; known (length, d): the states before its tokens."""
        score = 0.0
        for hidden, token in zip(known, choice, strict=True):
            score += math.log(max(float(self._foretell(recall, hidden)[token]), 1e-300))
            recall.update(token)
        return score

    def _foretell(self, recall: Recall, hidden: Tensor) -> np.ndarray:
        """The mixture after a state (d,)."""
        known = self.model.head(hidden).double().log_softmax(-1)
        return recall.predict(known.cpu().numpy(), hidden.float().cpu().numpy())


def summarise(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """Shares right, verbatim and cited, by set, form, memory and length, with a 95% interval."""
    groups: dict[tuple, list[Asked]] = {}
    for one in asked:
        groups.setdefault((one.name, one.form, one.memory, one.length), []).append(one)
    found = []
    for (name, form, memory, length), mine in sorted(groups.items(), key=lambda g: str(g[0])):
        right = sum(one.right for one in mine)
        low, high = wilson(right, len(mine))
        cited = [one.cited for one in mine if one.cited is not None]
        found.append(
            {
                "set": name, "form": form, "memory": memory, "length": length,
                "questions": len(mine), "right": right / len(mine), "low": low, "high": high,
                "chance": sum(one.chance for one in mine) / len(mine),
                "verbatim": sum(one.verbatim for one in mine) / len(mine),
                "cited": sum(cited) / len(cited) if cited else None,
            }
        )  # fmt: skip
    order = {memory: i for i, memory in enumerate(MEMORIES)}
    return sorted(found, key=lambda r: (r["set"], r["form"], r["length"], order[r["memory"]]))


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share that holds the true one in 95% of cases (Wilson 1927)."""
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)
