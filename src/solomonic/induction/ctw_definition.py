"""Context-tree weighting in Python: the definition that native/src/induction/ctw.cpp is held to."""

import copy
import struct
from typing import Self

import numpy as np

from solomonic.induction.bitwise import BitCore
from solomonic.induction.numbers import MASK, scramble

FAR = 1e150  # bounds of a ratio: beyond, one of the two explanations has long won
_ALPHA = 1 / 16


def bounded(ratio: float) -> float:
    """`ratio` within 1 / FAR and FAR."""
    return min(max(ratio, 1 / FAR), FAR)


class TreeDefinition:
    """All trees of contexts up to `depth` over a small alphabet, weighed 1/2 a split.

    A node holds counts and `ratio`: how much better the mixture of what is below it has predicted
    so far than its own estimate. Then  p_w = (p_e + ratio p_w_below) / (1 + ratio)  at a node,
    p_w = p_e at the deepest; a symbol multiplies the ratio by p_w_below / p_e.
    """

    def __init__(self, alphabet: int, depth: int, alpha: float) -> None:
        self.alphabet, self.depth, self.alpha = alphabet, depth, alpha
        self.children: list[int] = []
        self.counts: list[float] = []
        self.totals: list[float] = []
        self.ratios: list[float] = []
        self.past = [0] * depth  # newest first
        self._add()

    def _add(self) -> int:
        self.children += [0] * self.alphabet
        self.counts += [0.0] * self.alphabet
        self.totals.append(0.0)
        self.ratios.append(1.0)
        return len(self.totals) - 1

    def _path(self) -> list[int]:
        nodes = [0]
        for symbol in self.past:
            child = self.children[nodes[-1] * self.alphabet + symbol]
            if not child:
                break
            nodes.append(child)
        return nodes

    def _estimate(self, node: int, symbol: int) -> float:
        count = self.counts[node * self.alphabet + symbol]
        return (count + self.alpha) / (self.totals[node] + self.alphabet * self.alpha)

    def predict(self) -> np.ndarray:
        nodes = self._path()
        out = np.empty(self.alphabet)
        for symbol in range(self.alphabet):
            mixed = 1.0 / self.alphabet if len(nodes) <= self.depth else 0.0
            for level in range(len(nodes) - 1, -1, -1):
                estimate, ratio = self._estimate(nodes[level], symbol), self.ratios[nodes[level]]
                deepest = level == self.depth
                mixed = estimate if deepest else (estimate + ratio * mixed) / (1 + ratio)
            out[symbol] = mixed
        return out

    def learn(self, symbol: int) -> None:
        nodes = self._path()
        while len(nodes) <= self.depth:
            fresh = self._add()
            self.children[nodes[-1] * self.alphabet + self.past[len(nodes) - 1]] = fresh
            nodes.append(fresh)
        mixed = 0.0
        for level in range(self.depth, -1, -1):
            node = nodes[level]
            estimate, below = self._estimate(node, symbol), mixed
            if level == self.depth:
                mixed = estimate
            else:
                ratio = self.ratios[node]
                mixed = (estimate + ratio * below) / (1 + ratio)
                self.ratios[node] = bounded(ratio * below / estimate)
            self.counts[node * self.alphabet + symbol] += 1
            self.totals[node] += 1
        self.past = [symbol, *self.past][: self.depth]

    def copy(self) -> Self:
        return copy.deepcopy(self)

    def state(self) -> bytes:
        parts = []
        for code, values in zip("idddB", self._arrays(), strict=True):
            parts.append(struct.pack("<Q", len(values)) + np.array(values, dtype=code).tobytes())
        return b"".join(parts)

    def load(self, data: bytes) -> None:
        """Raises ValueError where `data` is no state of a tree of this alphabet and depth."""
        at, found = 0, []
        for code in "idddB":
            kind = np.dtype(code)
            # A length that is cut short reads as one that nothing can follow.
            count = int.from_bytes(data[at : at + 8].ljust(8, b"\xff"), "little")
            if count > (len(data) - at - 8) // kind.itemsize:
                raise ValueError("the state of a predictor is cut short.")
            found.append(np.frombuffer(data, kind, count, at + 8))
            at += 8 + count * kind.itemsize
        children, counts, totals, ratios, past = found
        nodes = len(totals)
        whole = at == len(data) and nodes >= 1 and len(ratios) == nodes and len(past) == self.depth
        if not (whole and len(children) == len(counts) == nodes * self.alphabet):
            raise ValueError("the state of a predictor has arrays that do not fit together.")
        outside = children.min() < 0 or children.max() >= nodes
        if outside or (past.size and past.max() >= self.alphabet):
            raise ValueError("the state of a predictor names nodes or symbols that are not there.")
        self.children, self.counts, self.totals, self.ratios, self.past = (
            values.tolist() for values in found
        )

    def _arrays(self) -> tuple[list, ...]:
        return self.children, self.counts, self.totals, self.ratios, self.past


class ByteTreeDefinition(BitCore):
    """Bytes bit by bit (Volf): a binary tree of contexts, previous bytes, for each partial byte.

    Nodes lie in a table of fixed size, four to a line; the poorest of a line makes room.
    """

    def __init__(self, depth: int, bits: int) -> None:
        super().__init__()
        self.depth, self.bits = depth, bits
        self.past = [0] * 16  # newest first
        self.table: dict[int, list] = {}  # place: [ratio, zeros, ones, check]
        self._begin_byte()
        self._look()

    def bit(self) -> float:
        return self.mixed[0]

    def _begin_byte(self) -> None:
        value = 0
        self.contexts = [0]
        for level in range(1, self.depth + 1):
            value = (value + self.past[level - 1] + 1) * 0x9E3779B97F4A7C15 & MASK
            self.contexts.append(scramble(value))

    def _key(self, level: int, partial: int) -> int:
        salt = (level * 256 + partial) * 0xC2B2AE3D27D4EB4F
        return scramble((self.contexts[level] + salt) & MASK) | 1

    def _find(self, key: int) -> list:
        line = (key >> (64 - self.bits)) & ~3
        for at in range(line, line + 4):
            node = self.table.get(at)
            if node is not None and node[3] == key & 0xFFFFFFFF:
                return node
        return [1.0, 0, 0, 0]

    def _seat(self, key: int) -> list:
        line = (key >> (64 - self.bits)) & ~3
        poorest, least = line, 1 << 30
        for at in range(line, line + 4):
            node = self.table.get(at)
            if node is not None and node[3] == key & 0xFFFFFFFF:
                return node
            seen = 0 if node is None else node[1] + node[2] + 1
            if seen < least:
                poorest, least = at, seen
        self.table[poorest] = [1.0, 0, 0, key & 0xFFFFFFFF]
        return self.table[poorest]

    def _mix(self, partial: int) -> tuple[list[float], list[float]]:
        estimates, mixed = [0.0] * (self.depth + 1), [0.0] * (self.depth + 1)
        for level in range(self.depth, -1, -1):
            ratio, zeros, ones, _ = self._find(self._key(level, partial))
            estimate = (ones + _ALPHA) / (zeros + ones + 2 * _ALPHA)
            estimates[level] = estimate
            deepest = level == self.depth
            mixed[level] = (
                estimate if deepest else (estimate + ratio * mixed[level + 1]) / (1 + ratio)
            )
        return estimates, mixed

    def _look(self) -> None:
        self.estimates, self.mixed = self._mix(self.partial)

    def chance_at(self, partial: int) -> float:
        return self._mix(partial)[1][0]

    def learn(self, bit: int) -> None:
        for level in range(self.depth, -1, -1):
            node = self._seat(self._key(level, self.partial))
            if level == self.depth:
                node[0] = 1.0
            else:
                below = self.mixed[level + 1] if bit else 1 - self.mixed[level + 1]
                estimate = self.estimates[level] if bit else 1 - self.estimates[level]
                node[0] = bounded(node[0] * below / estimate)
            if node[1 + bit] == 65535:
                node[1], node[2] = (node[1] + 1) // 2, (node[2] + 1) // 2
            node[1 + bit] += 1
        self.partial = self.partial * 2 + bit
        if self.partial >= 256:
            self.past = [self.partial & 255, *self.past[:15]]
            self.partial = 1
            self._begin_byte()
        self.remember(bit)
        self._look()
