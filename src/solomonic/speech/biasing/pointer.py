"""Attention from the joint network to a list of phrases: which of their pieces may come next.

    phrases -> prefix tree -> LSTM down the tree -> a key for every node
    open(u): the nodes that would go on with a phrase after the labels so far; always those that
             begin one (Aho and Corasick: all phrases that the labels end in the middle of)
    score(t, u, n) = (Q_a norm(acoustic_t) + Q_l norm(label_u)) . key_n / sqrt(A)
                     + depth_n + w log share_n          for n in open(u)
    logits(t, u, v) += sum over open nodes n of piece v of softplus(score(t, u, n))

Where the attention over frames (`attention`) must find out for itself how far a phrase has been
said, here the labels say it, exactly, and what is learned is when to believe that a listed phrase
comes: from the sound, from the words before it, from how far it has been said and from how many
phrases go on this way (share: of the phrases that reach the node above). No weight is taken from
one phrase by another, so a long list is not a faint one. An empty list is the plain model, bit for
bit, because then nothing here is called.

Queries of frame and label as in CATT (Chang et al., arXiv 2111.03250); a tree that says what is
open, and a path to the output that does not go through the hidden units: tree-constrained pointer
generator (Sun et al., arXiv 2109.00627). A sum of softplus instead of its interpolated softmax is
ours: the transducer's own softmax then weighs the pieces, blank among them.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from solomonic.core import Config, ShapeError, require
from solomonic.layers import Linear, RMSNorm
from solomonic.speech.biasing.trie import PhraseGraph
from solomonic.speech.biasing.vocabulary import check_phrases, leading_directions

DEPTHS = 4
"""Nodes deeper than this share what is learned of the depth."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointerConfig(Config):
    """Sizes of the attention to phrases' pieces.

    Raises:
        ConfigError: a size is not positive, or `search_scale` is not in [0, 1].
    """

    vocab_size: int
    """Word pieces and the blank, which is 0."""
    joint_size: int
    """Of the joint network's acoustic and label vectors."""
    embedding_size: int = 64
    """Of a piece, and of the LSTM."""
    size: int = 64
    """Of keys and queries."""
    search_scale: float = 0.25
    """What is left of the search's own weights where this attention hears the phrases already; a
    power of two keeps their sums exact. Chosen on held-out names (docs/personal-words.md)."""
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("vocab_size", "joint_size", "embedding_size", "size"):
            value = getattr(self, name)
            require(value > 0, f"{name} must be positive, not {value}.")
        require(
            0 <= self.search_scale <= 1,
            f"search_scale = {self.search_scale} must lie in [0, 1].",
        )


class PhraseTree:
    """The phrases of one request as a tree of pieces; node 0 is the root.

    Attributes:
        pieces, parents, depths: (N,) int64 of nodes 1 to N.
        shares: (N,) float64, log of the share of the parent's phrases that go on here.

    Raises:
        ShapeError: there is no phrase, or one is empty.
        VocabularyError: a piece is the blank or outside the vocabulary.
    """

    def __init__(self, phrases: Sequence[Sequence[int]], vocab_size: int) -> None:
        if not phrases:
            raise ShapeError("there are no phrases; without any, do without a context.")
        check_phrases(phrases, vocab_size)
        self._graph = PhraseGraph(phrases, [1.0] * len(phrases), [False] * vocab_size)
        tree = self._graph.tree
        self.parents, self.pieces = np.divmod(tree.keys, vocab_size)
        sizes = np.diff(tree.levels[1:])
        self.depths = np.repeat(np.arange(1, len(sizes) + 1), sizes)
        counts = (tree.worth > 0).astype(np.int64)
        for depth in range(len(sizes), 0, -1):
            nodes = np.flatnonzero(self.depths == depth)
            np.add.at(counts, self.parents[nodes], counts[nodes + 1])
        self.shares = np.log(counts[1:] / counts[self.parents])

    def __len__(self) -> int:
        """How many nodes there are besides the root."""
        return len(self.pieces)

    def step(self, state: int, token: int) -> int:
        """The state after one more label; 0 before any."""
        return self._graph.step(state, token)[0]

    def open(self, state: int) -> np.ndarray:
        """int64: the nodes, counted from 0 as in the arrays, that go on with a phrase here."""
        return self._graph.open(state) - 1


class Listed:
    """A request's phrases, ready for one stream's search; made by `PointerBiasing.embed`.

    NumPy, because a frame needs few and small products. What is computed for a hypothesis depends
    on its labels and the frame alone.
    """

    start = 0

    def __init__(self, tree: PhraseTree, module: "PointerBiasing", keys: Tensor) -> None:
        self.tree = tree
        self._keys = _array(keys)
        self._constants = _array(module.constants(tree))
        self._acoustic = _array(module.acoustic_query.weight * module.acoustic_norm.weight)
        self._label = _array(module.label_query.weight * module.label_norm.weight)
        self._eps = module.config.norm_eps

    def step(self, state: int, token: int) -> int:
        """The state after one more label."""
        return self.tree.step(state, token)

    def query(self, label: np.ndarray) -> np.ndarray:
        """What a prefix asks for (A,), from its label vector (J,)."""
        return self._label @ _normalised(label, self._eps)

    def add(
        self,
        log_probs: np.ndarray,
        acoustic: np.ndarray,
        queries: Sequence[np.ndarray],
        states: Sequence[int],
        allowed: Sequence[np.ndarray | None] | None = None,
    ) -> np.ndarray:
        """Log-probabilities (n, V) of the next symbol with the phrases heard; rows where none goes
        on stay bit for bit.

        Args:
            acoustic: the frame (J,).
            queries, states: of each row's prefix.
            allowed: for each row which pieces may be heard (V,) bool, where not all.
        """
        found = log_probs.copy()
        frame = self._acoustic @ _normalised(acoustic, self._eps)
        for index, (row, query, state) in enumerate(zip(found, queries, states, strict=True)):
            nodes = self.tree.open(state)
            only = allowed[index] if allowed is not None else None
            if only is not None:
                nodes = nodes[only[self.tree.pieces[nodes]]]
            if not len(nodes):
                continue
            scores = self._keys[nodes] @ (frame + query) + self._constants[nodes]
            np.add.at(row, self.tree.pieces[nodes], np.logaddexp(scores, 0.0))
            row -= row.max()
            row -= np.log(np.exp(row).sum())
        return found


class Opened(NamedTuple):
    """A batch's phrases along its labels.

    keys (B, N, A); constants (B, N); open (B, U + 1, N) bool; pieces (B, N) int64, 0 where a row
    has fewer nodes.
    """

    keys: Tensor
    constants: Tensor
    open: Tensor
    pieces: Tensor


class PointerBiasing(nn.Module):
    """logits += biasing(acoustic, label, opened). Without phrases it is not called at all."""

    def __init__(self, config: PointerConfig) -> None:
        super().__init__()
        self.config = config
        e, a, j = config.embedding_size, config.size, config.joint_size
        self.pieces = nn.Embedding(config.vocab_size, e)
        self.cell = nn.LSTMCell(e, e)
        self.key = Linear(2 * e, a)
        self.acoustic_norm = RMSNorm(j, config.norm_eps)
        self.acoustic_query = Linear(j, a)
        self.label_norm = RMSNorm(j, config.norm_eps)
        self.label_query = Linear(j, a)
        # A first piece is rarely right, a piece that goes on with a phrase often.
        self.depth = nn.Parameter(torch.tensor([-2.0] + [1.0] * (DEPTHS - 1)))
        self.share = nn.Parameter(torch.zeros(1))

    @torch.no_grad()
    def start_from(self, output: Tensor) -> None:
        """Begin with frames that ask for the pieces that the joint network hears in them.

        Its logits are about `output` (V, J) @ acoustic: their leading singular directions become
        the pieces' embeddings and the frames' queries, with scores that spread by 1 nat.

        Raises:
            ShapeError: `output` is of another recogniser.
        """
        config = self.config
        if output.shape != (config.vocab_size, config.joint_size):
            raise ShapeError(
                f"output weights {tuple(output.shape)} do not fit an attention for "
                f"{config.vocab_size} pieces and {config.joint_size} joint units."
            )
        pieces, queries = leading_directions(output, min(config.embedding_size, config.size))
        rank = len(queries)
        self.pieces.weight[:, :rank] = pieces
        where = config.embedding_size  # the piece itself stands behind the LSTM's state
        self.key.weight[:rank] = 0.0
        self.key.weight[range(rank), range(where, where + rank)] = 1.0
        self.acoustic_query.weight[:rank] = queries * math.sqrt(config.size)
        self.label_query.weight.mul_(0.1)

    def embed(self, phrases: Sequence[Sequence[int]]) -> Listed | None:
        """One request's phrases, in piece ids (`Biasing.tokens`); None: there are none.

        Raises:
            ShapeError: a phrase is empty.
            VocabularyError: a piece is the blank or outside the vocabulary.
        """
        if not phrases:
            return None
        tree = PhraseTree(phrases, self.config.vocab_size)
        return Listed(tree, self, self.keys([tree])[0])

    def open(self, lists: Sequence[Sequence[Sequence[int]]], labels: Tensor) -> Opened:
        """A batch with a list of phrases a row, along the labels (B, U) of its references.

        Raises:
            ShapeError: there are not as many lists as rows, or a phrase is empty.
            VocabularyError: a piece is the blank or outside the vocabulary.
        """
        if len(lists) != len(labels):
            raise ShapeError(f"{len(lists)} lists of phrases for {len(labels)} rows.")
        size = self.config.vocab_size
        trees = [PhraseTree(phrases, size) if phrases else None for phrases in lists]
        there = [tree for tree in trees if tree is not None]
        most = max(map(len, there), default=0)
        rows, steps = labels.shape
        keys = self.depth.new_zeros(rows, most, self.config.size)
        constants = self.depth.new_zeros(rows, most)
        opened = np.zeros((rows, steps + 1, most), bool)
        pieces = np.zeros((rows, most), np.int64)
        made = iter(self.keys(there))
        for row, tree in enumerate(trees):
            if tree is None:
                continue
            keys[row, : len(tree)] = next(made)
            constants[row, : len(tree)] = self.constants(tree)
            pieces[row, : len(tree)] = tree.pieces
            state = 0
            opened[row, 0, tree.open(0)] = True
            for step, token in enumerate(labels[row].tolist(), 1):
                state = tree.step(state, token)
                opened[row, step, tree.open(state)] = True
        masks = (torch.from_numpy(array).to(self.depth.device) for array in (opened, pieces))
        return Opened(keys, constants, *masks)

    def keys(self, trees: Sequence[PhraseTree]) -> list[Tensor]:
        """(N, A) for each tree: the LSTM runs down all of them at once, a level at a time."""
        if not trees:
            return []
        sizes = [len(tree) for tree in trees]
        device = self.depth.device
        # Nodes of all trees in a row, from 1 on; 0 is the root that they share.
        starts = np.cumsum([0, *sizes[:-1]])
        parents = np.concatenate([
            np.where(tree.parents > 0, start + tree.parents, 0)
            for tree, start in zip(trees, starts, strict=True)
        ])  # fmt: skip
        depths = np.concatenate([tree.depths for tree in trees])
        order = np.argsort(depths, kind="stable")
        place = np.zeros(len(order) + 1, np.int64)  # of a node among those read so far
        place[order + 1] = np.arange(1, len(order) + 1)
        tokens = torch.from_numpy(np.concatenate([tree.pieces for tree in trees])).to(device)
        embedded = self.pieces(tokens)
        hidden = memory = embedded.new_zeros(1, self.config.embedding_size)
        for level in np.split(order, np.flatnonzero(np.diff(depths[order])) + 1):
            above = torch.from_numpy(place[parents[level]]).to(device)
            read = embedded[torch.from_numpy(level).to(device)]
            now = self.cell(read, (hidden[above], memory[above]))
            hidden, memory = (torch.cat(both) for both in zip((hidden, memory), now, strict=True))
        states = hidden[torch.from_numpy(place[1:]).to(device)]
        keys = self.key(torch.cat((states, embedded), -1)) / math.sqrt(self.config.size)
        return list(keys.split(sizes))

    def constants(self, tree: PhraseTree) -> Tensor:
        """(N,): what is added to a node's score, whoever asks."""
        depths = torch.from_numpy(np.minimum(tree.depths, DEPTHS) - 1).to(self.depth.device)
        shares = torch.from_numpy(tree.shares).to(self.depth)
        return self.depth[depths] + self.share * shares

    def forward(self, acoustic: Tensor, label: Tensor, opened: Opened) -> Tensor:
        """What is added to the logits (B, T, U + 1, V).

        Args:
            acoustic: (B, T, J) and label (B, U + 1, J), as the joint network reads them.
        """
        keys = opened.keys.transpose(1, 2)
        frames = self.acoustic_query(self.acoustic_norm(acoustic)) @ keys
        labels = self.label_query(self.label_norm(label)) @ keys + opened.constants[:, None]
        scores = softplus(frames[:, :, None] + labels[:, None]) * opened.open[:, None]
        wide = torch.nn.functional.one_hot(opened.pieces, self.config.vocab_size)
        flat = scores.flatten(1, 2) @ wide.to(scores.dtype)
        return flat.unflatten(1, scores.shape[1:3])


def _normalised(vector: np.ndarray, eps: float) -> np.ndarray:
    return vector / np.sqrt((vector * vector).mean() + eps)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().to(torch.promote_types(tensor.dtype, torch.float32)).numpy()
