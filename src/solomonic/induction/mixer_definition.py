"""The context mixer in Python: the definition that native/src/induction/mixer.cpp is held to.

Eight predictions a byte, each mixed of what followed in 14 contexts: orders 0 to 6, words, a gap,
the line above, the verbatim match. All numbers are integers or float32 and every sum has one order,
so that both implementations agree to the last bit.
"""

import copy
from typing import Any, Self

import numpy as np

from solomonic.induction.bitwise import BitCore
from solomonic.induction.numbers import MASK, ONE, scramble, squash_table, stretch_table

CONTEXTS, INPUTS, SETS = 14, 48, 6
MAPS, LENGTHS, MIN_MATCH, LONGEST = 512, 32, 6, 400
BINS, HASHED = 33, 1 << 16
SET_SIZES = (256 * 4, 256, 16 * 8, 256, LENGTHS * 8, 256 * 8)
MATCH, HINT = 3 * CONTEXTS, 3 * CONTEXTS + 3  # among the inputs
FIRST = (0.15, 0.2, 0.1)  # weights before anything was learned
RATE, EARLY, FINAL_RATE = (np.float32(x) for x in (0.002, 0.02, 0.002))
MOST = 250
LIMIT = np.float32(12)
F = np.float32
_RATES = [int(65536 / (i + 1.5)) for i in range(256)]


def squash(x: np.float32) -> np.float32:
    """1 / (1 + e^-x) by interpolation."""
    x = min(max(x, F(0.01) - LIMIT), LIMIT - F(0.01))
    place = (x + LIMIT) * F(4096 / 24.0)
    i = int(place)
    table = squash_table()
    return table[i] + (table[i + 1] - table[i]) * (place - F(i))


def stretch(p: int) -> np.float32:
    """ln(p / (1 - p)) of p in 65536ths."""
    return stretch_table()[p >> 4]


def nudged(p: int, bit: int, rate: int) -> int:
    """p moved towards the bit by rate / 65536."""
    return p + (((65535 if bit else 0) - p) * rate >> 16)


def map_of(history: int, count: int) -> int:
    """Histories of seven bits are told apart by how many were before."""
    if history < 128:
        return history
    return (history & 127) + 128 * (1 if count < 14 else 2 if count < 40 else 3)


def first_map() -> list[int]:
    """Where each history leaves off: the ones among its bits, the newest counting most."""
    found = []
    for i in range(MAPS):
        history = i if i < 128 else 128 + (i & 127)
        ones = total = 0.0
        weight = 1.0
        for k in range(max(history.bit_length() - 1, 0)):
            total += weight
            ones += weight * ((history >> k) & 1)
            weight *= 0.8
        found.append(int(65535 * ((ones + 0.25) / (total + 0.5))))
    return found


def log_length(length: int) -> int:
    """0 .. 31."""
    return length if length < 16 else min(16 + (length - 16) // 8, LENGTHS - 1)


def mixed_hash(a: int, b: int) -> int:
    return scramble((a * 0x9E3779B97F4A7C15 + b) & MASK)


def lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


def letter(byte: int) -> bool:
    return 97 <= byte <= 122 or byte >= 128


class MixerDefinition(BitCore):
    """See the module; `bits` is the base-2 logarithm of the slots a context has."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.buckets = 1 << (bits - 4)
        self.ring = bytearray(1 << bits)
        self.places: dict[int, int] = {}
        self.place_mask = (1 << (bits - 2)) - 1
        self.tables: list[dict[int, list[Any]]] = [{} for _ in range(CONTEXTS)]
        self.maps, self.map_counts = first_map() * CONTEXTS, [0] * (CONTEXTS * MAPS)
        self.match_p = [65535 - 65536 // (i + 3) for i in range(LENGTHS)]
        row = np.zeros(INPUTS, dtype=F)
        row[:MATCH] = np.tile(np.array(FIRST, dtype=F), CONTEXTS)
        row[MATCH] = row[HINT] = 0.5
        self.weights = np.tile(row, (sum(SET_SIZES), 1))
        self.final = np.full((256, SETS), F(1) / F(SETS), dtype=F)
        stage = [int(squash(F(i - 16) * F(0.75)) * F(65535)) for i in range(BINS)]
        self.stages = np.tile(np.array(stage, dtype=np.int64), (1024 + 2 * HASHED, 1))
        self.count = self.history = self.word = 0
        self.words = [0, 0]
        self.line_begin = self.above_begin = 0
        self.match_at = self.match_length = 0
        self.expected = -1
        self.outside: np.ndarray | None = None
        self._begin_byte()
        self._settle()

    def bit(self) -> float:
        return self.found["q"] * (1.0 / ONE)

    def distribution(self) -> np.ndarray:
        """Bits of one byte share weights, so a bit's prediction depends on those before it having
        been learned: each way through the byte is learned and taken back."""
        if self.partial != 1:
            raise ValueError("a byte has begun; read the rest of its bits.")
        out = np.empty(256)
        self._explore(1.0, out)
        return out

    def _explore(self, reach: float, out: np.ndarray) -> None:
        one, partial = self.bit(), self.partial
        if partial >= 128:
            out[2 * partial - 256], out[2 * partial - 255] = reach * (1 - one), reach * one
            return
        before = self._before()
        for bit in (0, 1):
            self._learn_here(bit)
            if 16 <= self.partial < 32:
                self.now = [self._peek(i, self.partial) for i in range(CONTEXTS)]
            self.found = self._predict(self.partial, self.now)
            self._explore(reach * (one if bit else 1 - one), out)
            self._put_back(before)

    def _before(self) -> dict[str, Any]:
        """What learning a bit in the middle of a byte changes."""
        found = self.found
        return {
            "found": found, "partial": self.partial, "now": self.now,
            "weights": self.weights[found["rows"]], "final": self.final[found["final"]].copy(),
            "stages": [self.stages[cell] for cell in found["stages"]],
            "slots": [slot[:] for slot in found["slots"]],
            "maps": [(at, self.maps[at], self.map_counts[at]) for at in found["maps"] if at >= 0],
            "match": self.match_p[:],
        }  # fmt: skip

    def _put_back(self, before: dict[str, Any]) -> None:
        self.found = found = before["found"]
        self.partial, self.now = before["partial"], before["now"]
        self.weights[found["rows"]] = before["weights"]
        self.final[found["final"]] = before["final"]
        for cell, value in zip(found["stages"], before["stages"], strict=True):
            self.stages[cell] = value
        for slot, values in zip(found["slots"], before["slots"], strict=True):
            slot[:] = values
        for at, p, count in before["maps"]:
            self.maps[at], self.map_counts[at] = p, count
        self.match_p[:] = before["match"]

    def copy(self) -> Self:
        """Everything anew; `now` must point into the copy's own tables."""
        other = copy.deepcopy(self)
        other._settle()
        return other

    def hint(self, probabilities: np.ndarray) -> None:
        """Somebody else's opinion on the next byte, mixed in until the byte ends."""
        reach = np.zeros(512, dtype=F)
        reach[256:] = probabilities
        for i in range(255, 0, -1):
            reach[i] = reach[2 * i] + reach[2 * i + 1]
        self.outside = reach
        self.found = self._predict(self.partial, self.now)

    def _learn_here(self, bit: int) -> None:
        expected = self._expected_bit(self.partial)
        if expected >= 0:
            at = log_length(self.match_length)
            self.match_p[at] = nudged(self.match_p[at], int(expected == bit), 300)
        self._learn_weights(bit)
        self._learn_slots(bit)
        self.partial = self.partial * 2 + bit

    def learn(self, bit: int) -> None:
        self._learn_here(bit)
        if self.partial >= 256:
            self._end_byte(self.partial & 255)
            self.partial = 1
            self._begin_byte()
        self.remember(bit)
        if self.partial == 1 or 16 <= self.partial < 32:
            self._settle()
        else:
            self.found = self._predict(self.partial, self.now)

    @staticmethod
    def _root(partial: int) -> int:
        if partial < 16:
            return 1
        return partial >> (partial.bit_length() - 5)

    def _settle(self) -> None:
        root = self._root(self.partial)
        self.now = [self._seat(i, root) for i in range(CONTEXTS)]
        self.found = self._predict(self.partial, self.now)

    def _key(self, context: int, root: int) -> tuple[int, int]:
        value = scramble((self.contexts[context] + root * 0xC2B2AE3D27D4EB4F) & MASK)
        return (value >> 20) & (self.buckets - 1), (value & 0xFFFF) | 1

    def _peek(self, context: int, root: int) -> list[Any]:
        at, check = self._key(context, root)
        for i in range(3):
            bucket = self.tables[context].get(at ^ i)
            if bucket is not None and bucket[0] == check:
                return bucket
        return [0, [[0, 0, 0] for _ in range(15)]]

    def _seat(self, context: int, root: int) -> list[Any]:
        at, check = self._key(context, root)
        table, poorest, least = self.tables[context], at, 1 << 30
        for i in range(3):
            bucket = table.get(at ^ i)
            if bucket is not None and bucket[0] == check:
                return bucket
            seen = 0 if bucket is None else bucket[1][0][2] + 1
            if seen < least:
                poorest, least = at ^ i, seen
        table[poorest] = [check, [[0, 0, 0] for _ in range(15)]]  # slots: p, history, count
        return table[poorest]

    def _begin_byte(self) -> None:
        value, contexts = 0, [0]
        for order in range(1, 7):
            value = mixed_hash(value, ((self.history >> (8 * (order - 1))) & 255) + 1)
            contexts.append(value + order)
        newest, mask = self.history & 255, len(self.ring) - 1
        at = self.above_begin + self.count - self.line_begin
        seen = at < self.line_begin and self.count - self.above_begin <= mask
        above = self.ring[at & mask] + 1 if seen else 0
        length = log_length(self.match_length)
        word = self.word
        self.contexts = [
            *contexts,
            mixed_hash(word, newest) + 7,
            mixed_hash(mixed_hash(word, self.words[0]), newest) + 8,
            mixed_hash(self.history & 0xFFFF00, 9),
            mixed_hash(above * 256 + newest, 10),
            mixed_hash((self.expected + 1) * 32 + length, 11),
            mixed_hash(mixed_hash(word, self.words[1]), 12),
            mixed_hash(self.history & 0xFFFFFF00, 13),
        ]

    def _expected_bit(self, partial: int) -> int:
        if self.expected < 0:
            return -1
        shift = 9 - partial.bit_length()
        if (self.expected | 256) >> shift != partial:
            return -1
        return (self.expected >> (shift - 1)) & 1

    def _predict(self, partial: int, buckets: list[list[Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        known = self._inputs(partial, buckets, found)
        self._mix(partial, known, found)
        self._refine(partial, found)
        return found

    def _inputs(self, partial: int, buckets: list[list[Any]], found: dict[str, Any]) -> int:
        root = self._root(partial)
        depth = partial.bit_length() - root.bit_length()
        slot = (1 << depth) - 1 + partial - (root << depth)
        inputs = np.zeros(INPUTS, dtype=F)
        found |= {"slots": [], "maps": [], "inputs": inputs}
        known = 0
        for i, bucket in enumerate(buckets):
            one = bucket[1][slot]
            found["slots"].append(one)
            if not one[1]:
                found["maps"].append(-1)
                continue
            known += 1
            at = i * MAPS + map_of(one[1], one[2])
            found["maps"].append(at)
            inputs[3 * i] = stretch(one[0])
            inputs[3 * i + 1] = stretch(self.maps[at])
            inputs[3 * i + 2] = (F(self.maps[at]) - F(32768)) * F(1 / 16384)
        bit = self._expected_bit(partial)
        if bit >= 0:
            p = self.match_p[log_length(self.match_length)]
            inputs[MATCH] = stretch(p) if bit else -stretch(p)
            inputs[MATCH + 1] = (F(p) - F(32768)) * F(1 / 16384 if bit else -1 / 16384)
        inputs[MATCH + 2] = 0.4
        if self.outside is not None:
            reach, one = self.outside[partial], self.outside[2 * partial + 1]
            share = one / reach if reach > 0 else F(0.5)
            inputs[HINT] = stretch(min(max(int(share * F(65536)), 1), 65535))
        return known

    def _mix(self, partial: int, known: int, found: dict[str, Any]) -> None:
        c1, c2 = self.history & 255, (self.history >> 8) & 255
        place = partial.bit_length() - 1
        length = 0 if self._expected_bit(partial) < 0 else self.match_length
        kinds = 4 * letter(lower(c1)) + 2 * letter(lower(c2)) + (self.words[0] != 0)
        chosen = (
            partial * 4 + _steps(length), c1, known * 8 + place, c2,
            log_length(length) * 8 + place, partial * 8 + kinds,
        )  # fmt: skip
        base, rows, dots = 0, [], []
        for size, one in zip(SET_SIZES, chosen, strict=True):
            rows.append(base + one)
            base += size
            dots.append(min(max(_dot(self.weights[rows[-1]], found["inputs"]), -LIMIT), LIMIT))
        x = F(0)
        for weight, dot in zip(self.final[partial], dots, strict=True):
            x = x + weight * dot
        found |= {"rows": rows, "dots": dots, "chances": [squash(dot) for dot in dots]}
        found |= {"final": partial, "mixed": min(max(x, -LIMIT), LIMIT)}

    def _refine(self, partial: int, found: dict[str, Any]) -> None:
        length = 0 if self._expected_bit(partial) < 0 else self.match_length
        hashed = scramble((self.history & 0xFFFFFF) * 256 + partial) & (HASHED - 1)
        contexts = (
            partial * 4 + _steps(length),
            1024 + (self.history & 255) * 256 + partial,
            1024 + HASHED + hashed,
        )
        place = (found["mixed"] + LIMIT) * (F(1) / F(0.75))
        at = min(int(place), BINS - 2)
        part = place - F(at)
        refined, found["stages"] = [], []
        for context in contexts:
            low, high = (F(value) for value in self.stages[context, at : at + 2])
            refined.append((low * (F(1) - part) + high * part) * F(1 / 65536))
            found["stages"].append((context, at + (1 if part > F(0.5) else 0)))
        p = squash(found["mixed"]) * F(0.4) + (refined[0] * F(0.15) + refined[1] * F(0.2))
        p = p + refined[2] * F(0.25)
        found["q"] = min(max(int(p * F(65536)), 1), 65535)

    def _learn_slots(self, bit: int) -> None:
        for at, slot in zip(self.found["maps"], self.found["slots"], strict=True):
            if at >= 0:
                self.maps[at] = nudged(self.maps[at], bit, _RATES[self.map_counts[at]])
                self.map_counts[at] = min(self.map_counts[at] + 1, 250)
            if not slot[1]:
                slot[:] = [32768, 1, 0]
            slot[0] = nudged(slot[0], bit, _RATES[slot[2]])
            slot[2] = min(slot[2] + 1, MOST)
            history = slot[1] * 2 + bit
            slot[1] = history if history < 256 else (history & 127) | 128

    def _learn_weights(self, bit: int) -> None:
        found, target = self.found, F(bit)
        rate = RATE + EARLY / (F(1) + F(self.count) * F(1 / 256))
        wrong = target - squash(found["mixed"])
        for i, row in enumerate(found["rows"]):
            self.final[found["final"], i] += FINAL_RATE * wrong * found["dots"][i]
            self.weights[row] += found["inputs"] * (rate * (target - found["chances"][i]))
        for context, at in found["stages"]:
            self.stages[context, at] = nudged(int(self.stages[context, at]), bit, 1300)

    def _end_byte(self, byte: int) -> None:
        self.ring[self.count & (len(self.ring) - 1)] = byte
        self.count += 1
        self.history = (self.history << 8 | byte) & MASK
        if byte == 10:
            self.above_begin, self.line_begin = self.line_begin, self.count
        small = lower(byte)
        if letter(small):
            self.word = mixed_hash(self.word, small)
        elif self.word:
            self.words = [self.word, self.words[0]]
            self.word = 0
        self.outside = None
        self._follow(byte)

    def _follow(self, byte: int) -> None:
        mask, here = len(self.ring) - 1, self.count
        if self.match_length > 0 and self.expected == byte:
            self.match_length = min(self.match_length + 1, LONGEST)
            self.match_at += 1
        else:
            self.match_length = 0
        if here < MIN_MATCH:
            return
        slot = scramble(self.history & 0xFFFFFFFFFFFF) & self.place_mask
        place = self.places.get(slot, 0)
        if self.match_length == 0 and place and here - place < mask:
            # What agrees before both places; the hash alone proves nothing.
            most, length = min(LONGEST, mask - (here - place), place), 0
            while length < most and (
                self.ring[(place - 1 - length) & mask] == self.ring[(here - 1 - length) & mask]
            ):
                length += 1
            if length >= MIN_MATCH:
                self.match_length, self.match_at = length, place
        self.places[slot] = here
        self.expected = self.ring[self.match_at & mask] if self.match_length > 0 else -1


def _steps(length: int) -> int:
    return 0 if length == 0 else 1 if length < 16 else 2 if length < 32 else 3


def _dot(a: np.ndarray, b: np.ndarray) -> np.float32:
    """In eight lanes, as the native one."""
    rows = (a * b).reshape(-1, 8)
    s = np.zeros(8, dtype=F)
    for row in rows:
        s = s + row
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
