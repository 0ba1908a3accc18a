"""Memory attention: chunks of long ago enter the softmax of chosen layers, anew at every boundary.

    reader = MemoryAttention(model, tokenizer)
    reader.learn("some text", source="notes.md")          # a shelf that all streams read
    hidden, state = reader.hidden(tokens)                  # as a LanguageModel
    state.cited[0]                                         # what row 0 has open now

Every `period` tokens the last `query` tokens search the shelf and what the stream itself has read
and let go of; the keys and values of the best chunks, as each layer had them when it read them,
stand beside window, fading and eidetic memory until the next boundary. A boundary is absolute in
time, so any cut into calls gives the same numbers, and a chunk sees nothing that came after it
began.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from solomonic.core import Config, ConfigError, require_least, require_one_of
from solomonic.kernels import Recalled
from solomonic.layers import BMojo, LayerRecall, ModelConfig
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.memory.attention.chunks import SEARCHES, ChunkMemory, ChunkPlace, Shape
from solomonic.state import gather
from solomonic.text import Tokenizer

HIDDEN, LAYER = "hidden", "layer"
SEARCH = ("words", HIDDEN, LAYER)
OWN = "(this text)"
"""Source of chunks that stood earlier in the stream itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionConfig(Config):
    """What is recalled, when, and into which layers.

    Raises:
        ConfigError: a value out of range.
    """

    layers: tuple[int, ...] | None = None
    """Indices of the layers that read it; None: all with eidetic memory ('B')."""
    chunk: int = 64
    """Tokens a chunk of the memory."""
    period: int = 64
    """Tokens between two boundaries."""
    query: int = 64
    """How many of the last tokens search."""
    top: int = 2
    """Chunks found at a boundary."""
    follow: int = 1
    """Chunks entered after each that was found: what came next is what helps to foretell."""
    search: str = "words"
    """Similarity of "words" (BM25), "hidden" (mean hidden states) or "layer" (mean keys)."""
    bias: float = 0.0
    """Added to the scores of recalled slots; a model that never saw them may want less than 0."""
    own: bool = True
    """Remember the stream itself, beyond its window."""

    def __post_init__(self) -> None:
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))  # JSON has only lists
        require_least(self, 1, "chunk", "period", "query", "top")
        require_least(self, 0, "follow")
        require_one_of("search", self.search, SEARCH)


class Entered(NamedTuple):
    """A chunk that stands in the layers of a row since the boundary at token `time`."""

    time: int
    source: str
    begin: int
    end: int
    score: float
    tokens: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Row:
    """One stream. `own` may be shared with streams that went another way; the first `count` of its
    chunks are this one's."""

    own: ChunkMemory
    count: int = 0
    place: int = 0  # characters before the tokens in `unread`
    recent: tuple[int, ...] = ()  # the last `query` tokens
    states: tuple[np.ndarray, ...] = ()  # their vectors, where vectors search
    unread: tuple[int, ...] = ()  # tokens of the chunk that is not full yet
    parts: tuple[Mapping[int, np.ndarray], ...] = ()  # their keys and values
    vectors: tuple[np.ndarray, ...] = ()
    entered: tuple[Entered, ...] = ()


@dataclasses.dataclass(frozen=True)
class AttendingState:
    """A value, as every state: the model's, each row's memory, and the slots that stand now."""

    model: ModelState
    rows: tuple[_Row, ...]
    slots: Mapping[int, Recalled] | None = None

    @property
    def time(self) -> Tensor:
        """(B,) int64 tokens read."""
        return self.model.time

    def map(self, change: Callable[[float, Tensor], Tensor]) -> "AttendingState":
        """As `State.map`, of what the model remembers; what is recalled has no gradient."""
        return dataclasses.replace(self, model=self.model.map(change))

    def gather(self, rows: Sequence[int]) -> "AttendingState":
        """These rows, in this order; one may stand several times (a beam, or several answers)."""
        index = torch.tensor(list(rows), device=self.time.device)
        slots = self.slots and {
            layer: Recalled(one.pairs[index], one.bias[index], one.begin[index], one.period)
            for layer, one in self.slots.items()
        }
        return AttendingState(gather(self.model, index), tuple(self.rows[i] for i in rows), slots)

    @property
    def cited(self) -> list[tuple[Entered, ...]]:
        """For each row the chunks that stand in its layers now."""
        return [row.entered for row in self.rows]


class MemoryAttention:
    """A `LanguageModel` with a long-term memory in its layers: `hidden`, `next_logits`, call.

    Args:
        model: with at least one B'MOJO layer (letters W, F, B).
        tokenizer: of the model; offsets are counted in characters of its text.
        config: what is recalled.
        shelf: chunks read before, by the same model; grows by `learn`.
        kind: type of stored keys and values; float16 unless something is to be proved.

    Raises:
        ConfigError: a layer cannot read recalled slots, or the shelf has chunks of another size.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        config: AttentionConfig | None = None,
        shelf: ChunkMemory | None = None,
        kind: type = np.float16,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.options = config or AttentionConfig()
        self.layers = _layers(model, self.options)
        self.kind = kind
        self._letters = characters(tokenizer)
        self.shelf = self.empty() if shelf is None else shelf
        if self.shelf.shape != self.shape:
            raise ConfigError(
                f"the shelf holds chunks {self.shelf.shape}, this reader wants {self.shape}; read "
                "the texts again with these settings."
            )

    @property
    def shape(self) -> Shape:
        """Of the chunks that this reader keeps."""
        config = self.model.config
        if self.options.search == LAYER:
            vector = len(self.layers) * config.key_value_heads * config.head_size
        else:
            vector = config.hidden_size if self.options.search == HIDDEN else 0
        return Shape(
            self.options.chunk, self.layers, config.key_value_heads, config.head_size, vector
        )

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.model.device

    @property
    def head(self) -> torch.nn.Module:
        """The model's head."""
        return self.model.head

    @property
    def training(self) -> bool:
        return self.model.training

    def parameters(self) -> Any:
        """The model's parameters."""
        return self.model.parameters()

    def eval(self) -> "MemoryAttention":
        self.model.eval()
        return self

    def train(self, mode: bool = True) -> "MemoryAttention":
        self.model.train(mode)
        return self

    def empty(self) -> ChunkMemory:
        """A memory without chunks that fits this reader."""
        return ChunkMemory(self.shape, self.kind)

    def init_state(self, batch: int) -> AttendingState:
        """Before any token."""
        rows = tuple(_Row(self.empty()) for _ in range(batch))
        return AttendingState(self.model.init_state(batch), rows)

    @torch.no_grad()
    def learn(
        self, text: str | bytes | np.ndarray, source: str = "", offset: int = 0,
        log_weight: float = 0.0,
    ) -> int:  # fmt: skip
        """Read a text as a document of its own, without recalling, and put it on the shelf.

        Args:
            text: or its tokens.
            offset: characters of the source before the text.
            log_weight: logarithm of how much of it still counts, at most 0.

        Returns:
            How many chunks it became; the last one is left out when it is not full.
        """
        tokens = text if isinstance(text, np.ndarray) else np.array(self.tokenizer.encode(text))
        first = len(self.shelf)
        state = None
        row = _Row(self.shelf, first, place=offset)
        for part in np.split(tokens, range(1024, len(tokens), 1024)):
            ids = torch.from_numpy(part.astype(np.int64))[None].to(self.device)
            begin = np.array([self.tokenizer.eos_id]) if state is None else part[:0]
            if state is None:  # a document begins after the end of another
                _, state = self.model.hidden(torch.from_numpy(begin)[None].to(self.device))
            taking = {layer: LayerRecall(take=True) for layer in self.layers}
            hidden, state = self.model.hidden(ids, state, recall=taking)
            row = self._keep(row, part.tolist(), *_bring(hidden[0], taking, 0), source)
        self.shelf.log_weight[first:] = log_weight
        return len(self.shelf) - first

    def learn_items(self, items: Iterable[Any]) -> int:
        """Read items of a `solomonic.memory.Memory` (text, source, offset) onto the shelf."""
        return sum(
            self.learn(item.text, item.source, item.offset, min(item.log_weight, 0.0))
            for item in items
        )

    def hidden(
        self, tokens: Tensor, state: AttendingState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, AttendingState]:
        """As `LanguageModel.hidden`: (B, T, d) and the next state; `state` is left as it was."""
        state = state or self.init_state(len(tokens))
        rows = len(tokens)
        left = [tokens.shape[1]] * rows if lengths is None else lengths.tolist()
        outs, at = [], 0
        while any(left) or not outs:
            state = self._at_boundary(state, left)
            times = state.time.tolist()
            gaps = [self.options.period - t % self.options.period for t in times]
            span = min((g for g, more in zip(gaps, left, strict=True) if more), default=0)
            span = min(span, max(left))
            counts = [min(span, more) for more in left]
            part = tokens[:, at : at + span]
            ragged = None if min(counts) == span else torch.tensor(counts, device=tokens.device)
            out, state = self._read(part, state, ragged, counts)
            outs.append(out)
            at += span
            left = [more - count for more, count in zip(left, counts, strict=True)]
        if at < tokens.shape[1]:
            outs.append(outs[0].new_zeros(rows, tokens.shape[1] - at, outs[0].shape[2]))
        return torch.cat(outs, dim=1), state

    def absorb(
        self, tokens: Tensor, state: AttendingState | None = None
    ) -> tuple[Tensor, AttendingState]:
        """Read (B, T) without recalling anything, remembering it: the model's hidden states are
        those it has alone, and what follows can recall from all of it."""
        state = dataclasses.replace(state or self.init_state(len(tokens)), slots=None)
        return self._read(tokens, state, None, [tokens.shape[1]] * len(tokens))

    def recall(self, state: AttendingState) -> AttendingState:
        """Search now and not only at the next boundary: at the end of a question, say."""
        return self._refresh(state, [True] * len(state.rows))

    def __call__(
        self, tokens: Tensor, state: AttendingState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, AttendingState]:
        """Logits (B, T, V) and the next state."""
        hidden, state = self.hidden(tokens, state, lengths)
        return self.model.head(hidden), state

    def next_logits(
        self, tokens: Tensor, state: AttendingState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, AttendingState]:
        """Logits (B, V) after each row's last real token, and the next state."""
        hidden, state = self.hidden(tokens, state, lengths)
        if lengths is None:
            return self.model.head(hidden[:, -1]), state
        rows = torch.arange(len(tokens), device=hidden.device)
        return self.model.head(hidden[rows, (lengths - 1).clamp(min=0)]), state

    def _read(
        self, tokens: Tensor, state: AttendingState, lengths: Tensor | None, counts: list[int]
    ) -> tuple[Tensor, AttendingState]:
        """Tokens between two boundaries."""
        slots = state.slots or {}
        recall = {i: LayerRecall(slots.get(i), take=self.options.own) for i in self.layers}
        hidden, model = self.model.hidden(tokens, state.model, lengths, recall=recall)
        rows = []
        for row, count in enumerate(counts):
            mine = state.rows[row]
            if count:
                ids = tokens[row, :count].tolist()
                vectors, pairs = _bring(hidden[row, :count], recall, row)
                pairs = {layer: pair[:count] for layer, pair in pairs.items()}
                mine = self._remember(mine, ids, vectors, pairs)
            rows.append(mine)
        return hidden, dataclasses.replace(state, model=model, rows=tuple(rows))

    def _remember(
        self, row: _Row, ids: list[int], hidden: np.ndarray, pairs: dict[int, np.ndarray]
    ) -> _Row:
        """A row after the tokens it has just read."""
        keep = self.options.query
        vectors = self._vectors(hidden, pairs)
        states = (*row.states, *vectors)[-keep:]
        row = dataclasses.replace(row, recent=(*row.recent, *ids)[-keep:], states=states)
        return self._keep(row, ids, hidden, pairs, OWN) if self.options.own else row

    def _keep(
        self, row: _Row, ids: list[int], hidden: np.ndarray, pairs: dict[int, np.ndarray],
        source: str,
    ) -> _Row:  # fmt: skip
        """Put what was read into chunks; full ones go into the row's memory."""
        size = self.options.chunk
        unread = (*row.unread, *ids)
        parts = (*row.parts, pairs)
        vectors = (*row.vectors, self._vectors(hidden, pairs))
        own, count, place = row.own, row.count, row.place
        if len(unread) >= size:
            joined = {i: np.concatenate([part[i] for part in parts]) for i in self.layers}
            flat = np.concatenate(vectors)
            if len(own) != count:  # another stream went on from here
                own = own.copy(count)
            for begin in range(0, len(unread) - size + 1, size):
                cut = slice(begin, begin + size)
                mine = np.array(unread[cut])
                end = place + int(self._letters[mine].sum())
                chunk = {i: part[cut] for i, part in joined.items()}
                own.add(mine, chunk, flat[cut].mean(0), ChunkPlace(source, place, end))
                place, count = end, count + 1
            rest = slice(len(unread) // size * size, None)
            unread = unread[rest]
            parts, vectors = ({i: part[rest] for i, part in joined.items()},), (flat[rest],)
        return dataclasses.replace(
            row, own=own, count=count, place=place, unread=unread, parts=parts, vectors=vectors
        )

    def _vectors(self, hidden: np.ndarray, pairs: dict[int, np.ndarray]) -> np.ndarray:
        """What searches by vectors compare, (T, d)."""
        if self.options.search == HIDDEN:
            return hidden
        if self.options.search == LAYER:
            return np.concatenate([pairs[i][:, 0].reshape(len(hidden), -1) for i in self.layers], 1)
        return hidden[:, :0]

    def _at_boundary(self, state: AttendingState, left: list[int]) -> AttendingState:
        """The state with a search done where a row stands at a boundary and has more to read."""
        times, period = state.time.tolist(), self.options.period
        due = [t % period == 0 and t > 0 and more > 0 for t, more in zip(times, left, strict=True)]
        return self._refresh(state, due) if any(due) else state

    def _refresh(self, state: AttendingState, due: list[bool]) -> AttendingState:
        """Search for the rows that are due and enter what is found."""
        times = state.time.tolist()
        rows = list(state.rows)
        found = [
            self._search(mine, time) if needs else None
            for mine, time, needs in zip(rows, times, due, strict=True)
        ]
        most = max(len(hits) for hits in found if hits is not None)
        old = state.slots or {}
        before = next(iter(old.values())).pairs.shape[2] if old else 0
        size = max(most * self.options.chunk, before)
        slots = {layer: self._blank(len(rows), size, old.get(layer)) for layer in self.layers}
        for row, hits in enumerate(found):
            if hits is None:
                continue
            entered = []
            for layer in self.layers:
                slots[layer].bias[row] = -torch.inf
                slots[layer].begin[row] = times[row]
            for n, (memory, chunk, score, weight) in enumerate(hits):
                cut = slice(n * self.options.chunk, (n + 1) * self.options.chunk)
                for layer in self.layers:
                    pair = torch.from_numpy(memory.pairs(layer, [chunk])[0])
                    slots[layer].pairs[row, 0, cut] = pair.to(slots[layer].pairs)
                    slots[layer].bias[row, 0, cut] = self.options.bias + weight
                ids = tuple(memory.tokens[chunk].tolist())
                entered.append(Entered(times[row], *memory.places[chunk], score, ids))
            rows[row] = dataclasses.replace(rows[row], entered=tuple(entered))
        return dataclasses.replace(state, rows=tuple(rows), slots=slots)

    def _blank(self, rows: int, size: int, old: Recalled | None) -> Recalled:
        """Room for `size` slots, with what other rows have there."""
        config, like = self.model.config, self.model.embed.weight
        shape = (rows, 1, size, 2, config.key_value_heads, config.head_size)
        pairs = torch.zeros(shape, dtype=like.dtype, device=like.device)
        bias = torch.full(shape[:3], -torch.inf, dtype=like.dtype, device=like.device)
        begin = torch.zeros(rows, dtype=torch.int64, device=like.device)
        if old is not None:
            held = old.pairs.shape[2]
            pairs[:, :, :held], bias[:, :, :held], begin = old.pairs, old.bias, old.begin.clone()
        return Recalled(pairs, bias, begin, self.options.period)

    def _search(self, row: _Row, time: int) -> list[tuple[ChunkMemory, int, float, float]]:
        """Chunks to enter at a boundary: (memory, chunk, score, log weight), the best first."""
        by = SEARCHES[self.options.search != "words"]
        query = np.array(row.recent) if by == "words" else np.mean(row.states, axis=0)
        # Only chunks that have left the window: those inside it are read already.
        over = (time - self.model.config.window_size + 1) // self.options.chunk
        limit = max(min(row.count, over), 0) if self.options.own else 0
        found = []
        for memory, most in ((self.shelf, len(self.shelf)), (row.own, limit)):
            hits = memory.search(query, self.options.top, by=by, limit=most)
            found += [(hit.score, memory, hit, most) for hit in hits]
        found.sort(key=lambda one: -one[0])
        entered: dict[tuple[int, int], tuple[ChunkMemory, int, float, float]] = {}
        for score, memory, hit, most in found[: self.options.top]:
            chunk: int | None = hit.chunk
            for _ in range(self.options.follow + 1):
                if chunk is None:
                    break
                entered.setdefault((id(memory), chunk), (memory, chunk, score, hit.log_weight))
                chunk = memory.following(chunk, most)
        return list(entered.values())


def characters(tokenizer: Tokenizer) -> np.ndarray:
    """(V,) int64: characters that begin in each token's bytes (UTF-8)."""
    return np.array(
        [
            sum((byte & 0xC0) != 0x80 for byte in tokenizer.token_bytes(token))
            for token in range(tokenizer.vocab_size)
        ]
    )


def _layers(model: LanguageModel, config: AttentionConfig) -> tuple[int, ...]:
    """The layers that read, in order."""
    able = [i for i, block in enumerate(model.blocks) if isinstance(block.mixer, BMojo)]
    chosen: Sequence[int] = config.layers or ()
    if config.layers is None:
        chosen = [i for i in able if model.config.layers[i] == "B"] or able
    wrong = [i for i in chosen if i not in able]
    if wrong or not chosen:
        raise ConfigError(
            f"layers {list(chosen)} of pattern '{model.config.layers}' cannot read recalled slots; "
            f"choose among the B'MOJO layers (letters W, F and B): {able}."
        )
    return tuple(sorted(chosen))


def _bring(
    hidden: Tensor, recall: Mapping[int, LayerRecall], row: int
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """One row's hidden states (T, d) and pairs (T, 2, G, D) as arrays."""
    pairs = {
        layer: one.pairs[row].detach().cpu().to(torch.promote_types(one.pairs.dtype, torch.float32))
        for layer, one in recall.items()
        if one.pairs is not None
    }
    kind = torch.promote_types(hidden.dtype, torch.float32)
    states = hidden.detach().cpu().to(kind).numpy()
    return states, {layer: pair.numpy() for layer, pair in pairs.items()}
