"""Attention over a list of phrases: each audio frame asks which of them it may be saying (CATT).

    phrases -> piece embeddings -> bidirectional LSTM -> keys, values; once a request
    frame x -> query -> attention over the entries and "none of them" -> c
    "add":  y = x + O c
    "gate": y = x + O (silu(G norm(x) + C c) - silu(G norm(x)))

Entries are whole phrases (grain "phrase": the LSTM's last states) or the pieces of all phrases
(grain "piece": its states at every piece and the piece itself). A phrase has one value for all of
its frames, so that the frame must know by itself which part of it is being said; a piece stands in
its phrase, and its value is the sound that comes next, which is learned from far fewer names.

The value of "none of them" is zero and has only a learned key, so a frame that attends to nothing
else is left bit for bit as it was; an O of zeros makes the untrained module the identity. A frame
sees itself alone, so streaming is frame by frame.
(Chang et al., arXiv 2111.03250, with audio queries; "add" is the contextual adapter of Sathyendra
et al., arXiv 2205.13660. "gate", ours, stands for the former's feed-forward combiner; it can say
more of a frame, and with little data learn the training speech by heart.)
"""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from solomonic.core import Config, ConfigError, ShapeError, require
from solomonic.layers import Linear, RMSNorm
from solomonic.speech.biasing.pointer import PointerBiasing
from solomonic.speech.biasing.vocabulary import check_phrases, leading_directions
from solomonic.state import State, concatenate, field

COMBINERS = ("add", "gate")
GRAINS = ("phrase", "piece")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextConfig(Config):
    """Sizes of the attention over phrases.

    Raises:
        ConfigError: a size is not positive, or the heads do not divide `size`.
    """

    vocab_size: int
    """Word pieces and the blank, which is 0."""
    hidden_size: int
    """Of the encoder's frames."""
    embedding_size: int = 64
    """Of a piece, and of each direction of the LSTM."""
    size: int = 128
    """Of a phrase: keys, values and what the frames get."""
    heads: int = 4
    combiner: str = "gate"
    grain: str = "phrase"
    """What an entry of the attention is."""
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "embedding_size", "size", "heads"):
            value = getattr(self, name)
            require(value > 0, f"{name} must be positive, not {value}.")
        require(
            self.size % self.heads == 0,
            f"size {self.size} is not a multiple of heads {self.heads}; change one of them.",
        )
        for name, known in (("combiner", COMBINERS), ("grain", GRAINS)):
            value = getattr(self, name)
            require(value in known, f"{name} '{value}' is unknown; choose from {', '.join(known)}.")


@dataclasses.dataclass
class Context(State):
    """What a request's phrases become, made once. Rows may have different numbers of entries.

    keys, values (B, K + 1, A): entry 0 is "none of them", then the phrases in their order (all
    pieces of the first, of the second, ... with grain "piece"); exists (B, K + 1) bool.
    B is 1 when every row of a batch has the same phrases.
    """

    keys: Tensor = field(grows=True)
    values: Tensor = field(grows=True)
    exists: Tensor = field(grows=True)


class ContextBiasing(nn.Module):
    """y = biasing(hidden, context). Without a context the model does not call it at all."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.config = config
        e, a, d = config.embedding_size, config.size, config.hidden_size
        self.pieces = nn.Embedding(config.vocab_size, e)
        self.encoder = nn.LSTM(e, e, batch_first=True, bidirectional=True)
        wide = 3 * e if config.grain == "piece" else 2 * e
        self.phrase_norm = RMSNorm(wide, config.norm_eps)
        self.key = Linear(wide, a)
        self.value = Linear(wide, a)
        self.no_bias = nn.Parameter(torch.zeros(a))
        self.frame_norm = RMSNorm(d, config.norm_eps)
        self.query = Linear(d, a)
        gated = config.combiner == "gate"
        self.gate = Linear(d, a) if gated else None
        self.content = Linear(a, a) if gated else None
        self.output = Linear(a, d)
        nn.init.zeros_(self.output.weight)

    @torch.no_grad()
    def start_from(self, output: Tensor, project: Tensor) -> None:
        """Begin where a frame's query is already like the keys of the pieces that it may be saying.

        The joint network's logits of a frame x are about `output` @ `project` @ x (V, D): their
        leading singular directions become the pieces' embeddings and the queries of the first head.
        The attention then has to learn which phrases the pieces stand in, and not also how letters
        sound. For grain "piece"; what the frames get stays zero until it is trained.

        Args:
            output: (V, J) the joint network's. project: (J, D) from the encoder to it.

        Raises:
            ConfigError: the grain is "phrase".
            ShapeError: they are of another recogniser.
        """
        config = self.config
        if config.grain != "piece":
            raise ConfigError('only an attention with grain "piece" can start from pieces.')
        shape = (config.vocab_size, config.hidden_size)
        if (len(output), project.shape[1]) != shape:
            raise ShapeError(
                f"logits of {len(output)} pieces from {project.shape[1]} hidden units do not fit "
                f"an attention for {shape[0]} from {shape[1]}."
            )
        most = min(config.embedding_size, config.size // config.heads)
        pieces, queries = leading_directions(output, most, project)
        rank = len(queries)
        self.pieces.weight[:, :rank] = pieces
        where = 2 * config.embedding_size  # the piece itself stands behind the LSTM's states
        for part in (self.key, self.value):
            part.weight[:rank] = 0.0
            part.weight[range(rank), range(where, where + rank)] = 1.0
        # Scores of a typical frame then spread by 2 nats over the pieces.
        self.query.weight[:rank] = queries * (2 * math.sqrt(config.size / config.heads))

    def embed(self, phrases: Sequence[Sequence[int]]) -> Context:
        """The context of one request's phrases, in piece ids (`Biasing.tokens`).

        Raises:
            ShapeError: a phrase is empty.
            VocabularyError: a piece is the blank or outside the vocabulary.
        """
        return self.embed_batch([phrases])

    def embed_batch(self, lists: Sequence[Sequence[Sequence[int]]]) -> Context:
        """The context of a batch with one list of phrases a row; equal phrases are read once.

        Raises:
            ShapeError: a phrase is empty, or there are no lists.
            VocabularyError: a piece is the blank or outside the vocabulary.
        """
        if not lists:
            raise ShapeError("there is no list of phrases; give one for each row of the batch.")
        rows = [[tuple(phrase) for phrase in phrases] for phrases in lists]
        known = list(dict.fromkeys(phrase for row in rows for phrase in row))
        places = dict(zip(known, self.entries(known), strict=True))
        keys, values = self._read(known)
        index = [torch.tensor([0, *(i for phrase in row for i in places[phrase])]) for row in rows]
        picked = pad_sequence(index, batch_first=True, padding_value=-1).to(keys.device)
        exists = picked >= 0
        picked = picked.clamp_min(0)
        return Context(keys[picked], values[picked] * exists[..., None], exists)

    def entries(self, phrases: Sequence[Sequence[int]]) -> list[range]:
        """Where each phrase of a list stands in its context: one entry, or one for each piece."""
        sizes = (len(phrase) if self.config.grain == "piece" else 1 for phrase in phrases)
        found, first = [], 1
        for size in sizes:
            found.append(range(first, first + size))
            first += size
        return found

    def attend(self, hidden: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """What frames (B, T, D) take from the phrases: (B, T, A), and the weights (B, H, T, K + 1).

        Raises:
            ShapeError: `hidden` is not (B, T, D), or the context has another number of rows.
        """
        self._check(hidden, context)
        heads = self.config.heads
        query = self.query(self.frame_norm(hidden)).unflatten(-1, (heads, -1)).transpose(1, 2)
        keys = context.keys.unflatten(-1, (heads, -1)).transpose(1, 2)
        values = context.values.unflatten(-1, (heads, -1)).transpose(1, 2)
        scores = query @ keys.transpose(2, 3) / math.sqrt(query.shape[-1])
        absent = ~context.exists[:, None, None, :]
        weights = scores.masked_fill(absent, float("-inf")).softmax(-1)
        return (weights @ values).transpose(1, 2).flatten(-2), weights

    def combine(self, hidden: Tensor, taken: Tensor) -> Tensor:
        """Frames (B, T, D) changed by what they took (B, T, A); zeros change nothing."""
        if self.gate is None or self.content is None:
            return hidden + self.output(taken)
        gate = self.gate(self.frame_norm(hidden))
        return hidden + self.output(silu(gate + self.content(taken)) - silu(gate))

    def forward(self, hidden: Tensor, context: Context | Sequence[Context]) -> Tensor:
        """Frames (B, T, D) to frames (B, T, D); one context for all rows, or one for each.

        Raises:
            ShapeError: `hidden` is not (B, T, D), or the contexts are not as many as the rows.
        """
        if not isinstance(context, Context):
            context = concatenate(list(context))
        return self.combine(hidden, self.attend(hidden, context)[0])

    def _read(self, phrases: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """Keys and values (K + 1, A) of the phrases' entries, "none of them" first."""
        empty = self.no_bias.new_zeros(1, self.config.size)
        if not phrases:
            return self.no_bias[None], empty
        check_phrases(phrases, self.config.vocab_size)
        lengths = torch.tensor([len(phrase) for phrase in phrases])
        tokens = pad_sequence([torch.tensor(phrase) for phrase in phrases], batch_first=True)
        embedded = self.pieces(tokens.to(self.no_bias.device))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, (last, _) = self.encoder(packed)
        if self.config.grain == "piece":
            states, _ = pad_packed_sequence(states, batch_first=True)
            there = torch.arange(tokens.shape[1]) < lengths[:, None]
            read = torch.cat((states, embedded), -1)[there.to(embedded.device)]
        else:
            read = last.transpose(0, 1).flatten(1)
        read = self.phrase_norm(read)
        keys = torch.cat((self.no_bias[None], self.key(read)))
        return keys, torch.cat((empty, self.value(read)))

    def _check(self, hidden: Tensor, context: Context) -> None:
        if hidden.dim() != 3 or hidden.shape[-1] != self.config.hidden_size:
            raise ShapeError(
                f"hidden must be (B, T, {self.config.hidden_size}), not {tuple(hidden.shape)}."
            )
        if len(context.keys) not in (1, len(hidden)):
            raise ShapeError(
                f"the context has {len(context.keys)} rows and the batch {len(hidden)}; give one "
                "context, or one for each row."
            )


def guided_attention_loss(weights: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log of the attention that frames pay to what they say; () nats.

    `weights` (B, H, T, K + 1) are `attend`'s; `targets` (B, T) int64 are places in the context: 0
    for "none of them", one of `ContextBiasing.entries`, -1 for frames not to count.
    """
    counted = targets >= 0
    mass = weights.mean(1).gather(-1, targets.clamp_min(0)[..., None])[..., 0]
    loss = -mass.clamp_min(torch.finfo(mass.dtype).tiny).log()
    return (loss * counted).sum() / counted.sum().clamp_min(1)


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Freeze all of `model` but its attention to personal words; return its parameters.

    The recogniser then stays bit for bit what it was wherever no context is given.
    """
    model.requires_grad_(False)
    kinds = (ContextBiasing, PointerBiasing)
    modules = [part for part in model.modules() if isinstance(part, kinds)]
    for part in modules:
        part.requires_grad_(True)
    return [parameter for part in modules for parameter in part.parameters()]
