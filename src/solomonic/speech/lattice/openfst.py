"""Lattices as OpenFst text: what `fstcompile`, pynini and kaldifst read.

Weights are tropical costs, -(acoustic + bias) in nats, so that `fstshortestpath` finds our best
path. OpenFst arcs have one weight: acoustic and bias costs also stand apart in two more files over
the same states. It knows no times either; they stand in a fourth file that only we read.

    fstcompile --acceptor --isymbols=x.syms --keep_isymbols x.fst.txt x.fst
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from solomonic.core import DataError, StorageError
from solomonic.speech.lattice.build import Arc
from solomonic.speech.lattice.exchange import (
    DEFAULT_FRAME_SECONDS,
    EPSILON,
    Found,
    Line,
    StateNames,
    cost,
    join,
    label_text,
    lines_of,
    refuse,
    score_text,
    symbol_table,
    symbols_from_text,
    symbols_to_text,
    whole,
)
from solomonic.speech.lattice.graph import Lattice

FORMAT = "OpenFst"
ENDINGS = {
    "total": ".fst.txt",
    "acoustic": ".acoustic.fst.txt",
    "bias": ".bias.fst.txt",
    "symbols": ".syms",
    "times": ".times",
}


@dataclass(frozen=True)
class OpenFstText:
    """The texts of one lattice.

    Args:
        total: arcs with -(acoustic + bias).
        acoustic: the same arcs with -acoustic.
        bias: the same arcs with -bias.
        symbols: lines "symbol id".
        times: "frame_seconds F", "node STATE FRAME" and, for words, "arc ARC BEGIN END".
    """

    total: str
    acoustic: str
    bias: str
    symbols: str
    times: str


def to_openfst(lattice: Lattice) -> OpenFstText:
    """The lattice as acceptors.

    Raises:
        DataError: a symbol contains a blank.
    """
    times = [f"frame_seconds {lattice.frame_seconds!r}"]
    times += [f"node {node} {frame}" for node, frame in enumerate(lattice.frames.tolist())]
    if lattice.spans is not None:
        spans = lattice.spans.tolist()
        times += [f"arc {arc} {begin} {end}" for arc, (begin, end) in enumerate(spans)]
    return OpenFstText(
        total=_acceptor(lattice, lattice.scores()),
        acoustic=_acceptor(lattice, lattice.acoustic),
        bias=_acceptor(lattice, lattice.bias),
        symbols=symbols_to_text(symbol_table([lattice])),
        times="\n".join(times) + "\n",
    )


def from_openfst(
    text: str,
    symbols: str | Mapping[int, str] | None = None,
    *,
    bias: str | None = None,
    times: str | None = None,
    acceptor: bool | None = None,
) -> Lattice:
    """A lattice from OpenFst text, ours or what `fstprint` wrote.

    Args:
        text: arcs with costs; those are acoustic, all of them where there is no `bias`.
        symbols: table for labels that are ids. Labels found in it by name are names.
        bias: the same arcs with the costs of biasing.
        times: see `OpenFstText`; without it nodes are at frames 0, 1, ... by depth.
        acceptor: whether arcs have one label; None: judged by the file (5 columns, or a fourth
            that is no number, mean two). Of two labels the second, the output, is taken.

    Blank lines, missing weights, several final states, final weights and arcs of infinite cost
    (left out) are taken. The state of the first line is the start.

    Raises:
        DataError: a line is wrong (it is named), the graph has a cycle, or the files differ.
    """
    table = symbols_from_text(symbols) if isinstance(symbols, str) else symbols
    states = StateNames()
    arcs, ends = _read(text, states, acceptor)
    scores = [-weight for *_, weight in arcs]
    extra, end_extra = [0.0] * len(arcs), dict.fromkeys(ends, 0.0)
    if bias is not None:
        other, other_ends = _read(bias, states, acceptor)
        same = [arc[:3] for arc in arcs] == [arc[:3] for arc in other] and set(ends) == set(
            other_ends
        )
        if not same:
            raise DataError("OpenFst text: the files of acoustic and bias costs have other arcs.")
        extra, end_extra = [-weight for *_, weight in other], other_ends
    names = _names([label for _, _, label, _ in arcs], table)
    frames, spans, frame_seconds = _read_times(times, states, len(arcs))
    made = [
        Arc(source, target, names[label], score, more, spans.get(index))
        for index, ((source, target, label, _), score, more) in enumerate(
            zip(arcs, scores, extra, strict=True)
        )
        if np.isfinite([score, more]).all()
    ]
    finals = {state: (-weight + 0.0, -end_extra[state] + 0.0) for state, weight in ends.items()}
    return join(Found(made, finals, frames, states.names), frame_seconds, FORMAT)


def save_openfst(lattice: Lattice, stem: str | Path) -> list[Path]:
    """Write `stem`.fst.txt and the four files that belong to it.

    Raises:
        DataError: a symbol contains a blank.
        StorageError: a file cannot be written.
    """
    texts = to_openfst(lattice)
    paths = []
    for name, ending in ENDINGS.items():
        path = Path(f"{stem}{ending}")
        try:
            path.write_text(getattr(texts, name), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}.") from error
        paths.append(path)
    return paths


def load_openfst(stem: str | Path) -> Lattice:
    """Read what `save_openfst` wrote.

    Raises:
        DataError: a file is missing or wrong.
    """
    texts = {}
    for name, ending in ENDINGS.items():
        path = Path(f"{stem}{ending}")
        try:
            texts[name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}.") from error
    return from_openfst(
        texts["acoustic"], texts["symbols"], bias=texts["bias"], times=texts["times"], acceptor=True
    )


def _acceptor(lattice: Lattice, scores: np.ndarray) -> str:
    labels = [label_text(symbol) for symbol in lattice.symbols]
    lines = [
        f"{source}\t{target}\t{labels[label]}\t{score_text(-score)}"
        for source, target, label, score in zip(
            lattice.sources.tolist(),
            lattice.targets.tolist(),
            lattice.labels.tolist(),
            scores.tolist(),
            strict=True,
        )
    ]
    return "\n".join([*lines, str(lattice.nodes - 1)]) + "\n"


_Read = tuple[int, int, str, float]


def _read(
    text: str, states: StateNames, acceptor: bool | None
) -> tuple[list[_Read], dict[int, float]]:
    """Arcs (source, target, label, cost) and costs of final states."""
    lines = list(lines_of(text))
    if acceptor is None:
        acceptor = not any(_is_transducer(fields) for _, fields in lines)
    arcs: list[_Read] = []
    ends: dict[int, float] = {}
    for line, fields in lines:
        if len(fields) <= 2:
            weight = cost(fields[1], FORMAT, line) if len(fields) == 2 else 0.0
            if weight < float("inf"):
                ends[states[whole(fields[0], FORMAT, line, "a state")]] = weight
        else:
            arcs.append(_read_arc((line, fields), states, acceptor))
    return arcs, ends


def _is_transducer(fields: list[str]) -> bool:
    if len(fields) != 4:
        return len(fields) == 5
    try:
        float(fields[3])
    except ValueError:
        return True
    return False


def _read_arc(numbered: Line, states: StateNames, acceptor: bool) -> _Read:
    line, fields = numbered
    least = 3 if acceptor else 4
    if not least <= len(fields) <= least + 1:
        raise refuse(FORMAT, line, f"an arc has {least} or {least + 1} columns, not {len(fields)}")
    source, target = (states[whole(name, FORMAT, line, "a state")] for name in fields[:2])
    weight = cost(fields[least], FORMAT, line) if len(fields) > least else 0.0
    return source, target, fields[least - 1], weight


def _names(labels: list[str], table: Mapping[int, str] | None) -> dict[str, str]:
    """What each label says."""
    if table is None:
        return {label: "" if label in (EPSILON, "0") else label for label in labels}
    known = set(table.values()) | {EPSILON}
    if all(label in known for label in labels):
        return {label: "" if label == EPSILON else label for label in labels}
    names = {}
    for label in labels:
        if not label.isdigit() or int(label) not in table:
            raise DataError(f"OpenFst text: the label '{label}' is not in the symbol table.")
        names[label] = table[int(label)]
    return names


def _read_times(
    times: str | None, states: StateNames, arcs: int
) -> tuple[list[int] | None, dict[int, tuple[int, int]], float]:
    """Frames of all states, spans of arcs, length of a frame."""
    if times is None:
        return None, {}, DEFAULT_FRAME_SECONDS
    frames, spans, frame_seconds = {}, {}, DEFAULT_FRAME_SECONDS
    for line, fields in lines_of(times):
        match fields:
            case ["frame_seconds", value]:
                frame_seconds = cost(value, "times", line)
            case ["node", state, frame]:
                frames[whole(state, "times", line, "a state")] = whole(
                    frame, "times", line, "a frame"
                )
            case ["arc", arc, begin, end]:
                index = whole(arc, "times", line, "an arc")
                if index >= arcs:
                    raise refuse("times", line, f"arc {index} does not exist")
                spans[index] = (
                    whole(begin, "times", line, "a frame"),
                    whole(end, "times", line, "a frame"),
                )
            case _:
                raise refuse("times", line, "frame_seconds, node or arc is expected")
    missing = [name for name in states.names if name not in frames]
    if missing:
        raise DataError(f"times text: there is no line for node {missing[0]}.")
    return [frames[name] for name in states.names], spans, frame_seconds
