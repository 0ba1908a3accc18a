"""What the figures must show (issue 3), as a table: who against whom, the ratio wanted and found.

Records are what speed.py writes: {cell name: {"rows": {label: {"rates": [tokens/s, ...], ...}}}}.
A ratio is taken round by round, because both sides of a round ran within seconds of each other, and
given as median and quartiles. A target without its two figures is open, never met.
"""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import limits
from sizes import flops_per_token, touched_bytes

Records = Mapping[str, Mapping[str, Any]]


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Of one value all three are the same."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def paired(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Of the ratios of the rounds that both took part in."""
    return spread([a / b for a, b in zip(above, below, strict=False)])


@dataclasses.dataclass(frozen=True)
class Target:
    """`ours` over `peer` in that cell must be at least `wanted`.

    figure: "rates" (tokens a second) or "bytes" (then the peer over ours, so that more is better).
    A peer of "limit" is the memory bandwidth.
    """

    name: str
    cell: str
    ours: str
    peer: str
    wanted: float
    figure: str = "rates"


def decode_targets() -> list[Target]:
    """Decoding a stream."""
    gguf = "llama.cpp/mamba2/float32"
    targets = []
    for threads in (1, 2):
        at = f"{threads} thread" + "s" * (threads > 1)
        cell = f"decode/10M/{threads}"
        large = f"decode/130M/{threads}/512"
        targets += [
            Target(f"M float32 / llama.cpp Mamba-2 float32, {at}",
                   f"{cell}/512", "ours/M/float32", gguf, 1.2),
            Target(f"B float32 / llama.cpp Mamba-2 float32, {at}",
                   f"{cell}/512", "ours/B/float32", gguf, 1.0),
        ]  # fmt: skip
        targets += [
            Target(f"{letter} int8 / llama.cpp Llama Q8_0 at {words}, {at}",
                   f"{cell}/{position}", f"ours/{letter}/int8", "llama.cpp/llama/int8", wanted)
            for letter in "MB"
            for words, position, wanted in (("512", 512, 1.2), ("16 k", 16_384, 10.0))
        ]  # fmt: skip
        targets += [
            Target(f"130 M, M {kind} / memory bandwidth, {at}",
                   large, f"ours/M/{kind}", "limit", 0.8)
            for kind in ("float32", "bfloat16", "int8")
        ]  # fmt: skip
        targets.append(
            Target(f"130 M, M int8 / llama.cpp Mamba-2 Q8_0, {at}",
                   large, "ours/M/int8", "llama.cpp/mamba2/int8", 1.4)
        )  # fmt: skip
    for letter in "MB":
        for kind in ("float32", "int8"):
            label = f"ours/{letter}/{kind}"
            name = f"{letter} {kind} at 1 M positions / at 512 (flat: within 5%)"
            targets.append(
                Target(name, "flat/10M/1/512", f"{label}/@1000000", f"{label}/@512", 0.95)
            )
    return targets


def other_targets() -> list[Target]:
    """Reading, training, many streams."""
    targets = []
    for tokens in (2_048, 8_192, 65_536):
        cell = f"prefill/10M/1/{tokens}"
        gguf = "llama.cpp/mamba2"
        targets += [
            Target(f"prefill {tokens:,}: {letter} {kind} / llama.cpp Mamba-2 {theirs}",
                   cell, f"ours/{letter}/{kind}", f"{gguf}/{theirs}", wanted)
            for letter, kind, theirs, wanted in (
                ("M", "float32", "float32", 1.8), ("M", "bfloat16", "bfloat16", 2.7),
                ("M", "bfloat16", "float32", 2.7), ("B", "float32", "float32", 1.2),
            )
        ]  # fmt: skip
    cell = "prefill/10M/1/8192"
    targets += [
        Target("prefill 8,192: M float32 / Transformers Llama",
               cell, "ours/M/float32", "transformers/llama/float32", 4.0),
        Target("prefill 8,192: M float32 / Transformers Mamba-2",
               cell, "ours/M/float32", "transformers/mamba2/float32", 5.0),
    ]  # fmt: skip
    for kind in ("float32", "bfloat16"):
        short, long = "train/10M/1/512", "train/10M/1/8192"
        llama, mamba = f"transformers/llama/{kind}", f"transformers/mamba2/{kind}"
        targets += [
            Target(f"training 4 x 512: M / Transformers Mamba-2, {kind}",
                   short, f"torch/M/{kind}", mamba, 2.0),
            Target(f"training 4 x 512: B / Transformers Llama, {kind}",
                   short, f"torch/B/{kind}", llama, 1.0),
        ]  # fmt: skip
        for letter in "MB":
            name = f"training at 8,192: {letter} / Transformers Llama, {kind}"
            mine = f"torch/{letter}/{kind}"
            targets += [
                Target(name, long, mine, llama, 3.0),
                Target(f"memory at 8,192: Transformers Llama / {letter}, {kind}",
                       long, mine, llama, 3.0, "bytes"),
                Target(f"{name}, with checkpoints",
                       long, f"torch/{letter}+checkpoints/{kind}", llama, 3.0),
                Target(f"memory at 8,192: Transformers Llama / {letter}, {kind}, with checkpoints",
                       long, f"torch/{letter}+checkpoints/{kind}", llama, 3.0, "bytes"),
            ]  # fmt: skip
    targets += [
        Target(f"64 streams together / one, {cell.split('/')[1][:-1]} M, {letter} {kind}", cell,
               f"ours/{letter}/{kind}/x64", f"ours/{letter}/{kind}", 8.0)
        for cell, letter, kind in (
            ("streams/10M/1/512", "M", "float32"), ("streams/10M/1/512", "M", "int8"),
            ("streams/10M/1/512", "B", "float32"), ("streams/10M/1/512", "B", "int8"),
            ("streams/130M/1/64", "M", "float32"), ("streams/130M/1/64", "M", "int8"),
            ("streams/130M/1/64", "B", "float32"),
        )
    ]  # fmt: skip
    return targets


OPEN = (
    "GPU: training tokens/s of a 370 M B'MOJO at 2 k and 32 k / Transformer and Mamba-2",
    "GPU: decode batch 64 at 32 k context / Transformer (5 times)",
)


def judge(targets: Iterable[Target], records: Records, found: Mapping[str, float]) -> list[dict]:
    """Every target with its ratio and a verdict: "met", "missed" or "open".

    Args:
        found: the limits of the machine, as `limits.measure` names them.
    """
    table = []
    for target in targets:
        ratio = measured(target, records, found)
        verdict = "open" if ratio is None else "met" if ratio.median >= target.wanted else "missed"
        row = {"target": target.name, "wanted": target.wanted, "verdict": verdict}
        table.append(row | ({} if ratio is None else ratio._asdict()))
    return table + [{"target": name, "wanted": None, "verdict": "open"} for name in OPEN]


def measured(target: Target, records: Records, found: Mapping[str, float]) -> Spread | None:
    """The ratio that the target is about, if both sides were measured."""
    rows = records.get(target.cell, {}).get("rows", {})
    ours = rows.get(target.ours, {})
    if target.peer == "limit":
        parts = target.cell.split("/")
        share = memory_share(ours, int(parts[2]), found)
        return None if share is None else spread(share)
    peer = rows.get(target.peer, {})
    if not ours.get(target.figure) or not peer.get(target.figure):
        return None
    if target.figure == "bytes":
        return spread([peer["bytes"] / ours["bytes"]])
    return paired(ours["rates"], peer["rates"])


def memory_share(
    row: Mapping[str, Any], threads: int, found: Mapping[str, float]
) -> list[float] | None:
    """Bytes a second that decoding moved, of those that the machine can read: from memory, or from
    the third-level cache when everything fits there. None in between (a part of the weights then
    stays in the cache, and neither rate is the limit) or if something is unknown."""
    moved = touched_bytes(row.get("weight_bytes", 0), row.get("state_bytes", 0))
    level = limits.third_level()
    place = "cache" if moved < 0.75 * level else "memory" if moved >= 3 * level else "between"
    limit = found.get(f"{place}/{threads}")  # between the two there is none
    if not moved or limit is None or not row.get("rates"):
        return None
    return [rate / row.get("rows", 1) * moved / limit for rate in row["rates"]]


def matrix_share(
    row: Mapping[str, Any], label: str, size: str, threads: int, found: Mapping[str, float]
) -> list[float] | None:
    """Arithmetic a second of reading a text, of what PyTorch's matrix product reaches."""
    kind = label.split("/")[2]
    limit = found.get(f"matrix/{kind}/{threads}")
    if limit is None or not row.get("rates") or not row.get("parameters"):
        return None
    work = flops_per_token(size, label.split("/")[1], row["parameters"])
    return [rate * work / limit for rate in row["rates"]]


ALL = (*decode_targets(), *other_targets())
