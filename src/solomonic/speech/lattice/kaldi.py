"""Lattices as Kaldi text archives (`ark,t`), compact or plain.

    utterance-1
    0 1 turn -1.5,3.25,1_1_1      from, to, word, graph cost, acoustic cost, one number a frame
    2 0,0,

Costs are negative scores: graph costs hold our bias, acoustic costs our acoustic scores. Compact
arcs carry as many transition ids as frames, which is where times come from; ours are all 1, as
there is no transition model. Plain lattices (`0 1 7 7 -1.5,3.25`) have no place for times.
"""

from collections.abc import Mapping

import numpy as np

from solomonic.core import DataError
from solomonic.speech.lattice.build import Arc
from solomonic.speech.lattice.exchange import (
    DEFAULT_FRAME_SECONDS,
    EPSILON,
    Found,
    Line,
    Score,
    StateNames,
    cost,
    join,
    label_text,
    refuse,
    score_text,
    whole,
)
from solomonic.speech.lattice.graph import Lattice

FORMAT = "Kaldi"


def to_kaldi(
    lattice: Lattice, key: str, *, ids: Mapping[str, int] | None = None, compact: bool = True
) -> str:
    """One entry of a text archive.

    Spans of words are not written: a Kaldi arc lasts from node to node.

    Args:
        lattice: of words or pieces.
        key: name of the utterance.
        ids: ids of words (`exchange.symbol_table`), as Kaldi's programs want them; None: the words
            themselves, as `int2sym.pl` shows them.
        compact: with times. A plain lattice has none.

    Raises:
        DataError: a word or the key contains a blank, or a word has no id.
    """
    missing = [symbol for symbol in lattice.symbols if ids is not None and symbol not in ids]
    if missing:
        raise DataError(f"the table of word ids lacks '{missing[0]}'.")
    if not key or key.split() != [key]:
        raise DataError(f"a Kaldi key is one word without blanks, not {key!r}.")
    if ids is None:
        labels = [label_text(symbol) for symbol in lattice.symbols]
    else:
        labels = [str(ids[symbol]) for symbol in lattice.symbols]
    lines = [key]
    durations = (lattice.frames[lattice.targets] - lattice.frames[lattice.sources]).tolist()
    for arc in range(lattice.arcs):
        label = labels[lattice.labels[arc]]
        weight = f"{score_text(-lattice.bias[arc])},{score_text(-lattice.acoustic[arc])}"
        rest = f"{label} {weight},{'_'.join('1' * durations[arc])}" if compact else ""
        rest = rest or f"{label} {label} {weight}"
        lines.append(f"{lattice.sources[arc]} {lattice.targets[arc]} {rest}")
    lines.append(f"{lattice.nodes - 1} 0,0," if compact else f"{lattice.nodes - 1} 0,0")
    return "\n".join(lines) + "\n\n"


def from_kaldi(
    text: str,
    *,
    words: Mapping[int, str] | None = None,
    frame_seconds: float = DEFAULT_FRAME_SECONDS,
) -> dict[str, Lattice]:
    """The lattices of a text archive by key, compact or plain, ours or Kaldi's.

    Args:
        text: entries with blank lines between them.
        words: symbols by id (`exchange.symbols_from_text`); None: labels are words, and only
            `<eps>` is empty.
        frame_seconds: length of a frame in s, which Kaldi does not store.

    Missing weights, several final states and their weights are taken. Where numbers of frames are
    missing or contradict each other, nodes are at frames 0, 1, ... by depth.

    Raises:
        DataError: a line is wrong (it is named), a key is there twice, or a graph has a cycle.
    """
    found: dict[str, Lattice] = {}
    for line, key, entry in _entries(text):
        if key in found:
            raise refuse(FORMAT, line, f"the key '{key}' is there twice")
        found[key] = _read(entry, words, frame_seconds)
    if not found:
        raise DataError("Kaldi text: there is no lattice in it.")
    return found


def _entries(text: str) -> list[tuple[int, str, list[Line]]]:
    """Line, key and lines of each entry; an entry ends with a blank line."""
    entries: list[tuple[int, str, list[Line]]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            # Kaldi writes no blank line between a key and its arcs; others may.
            inside = inside and not entries[-1][2]
        elif not inside:
            if len(fields) != 1:
                raise refuse(FORMAT, number, "the key of an utterance is expected, alone")
            entries.append((number, fields[0], []))
            inside = True
        else:
            entries[-1][2].append((number, fields))
    return entries


_Read = tuple[int, int, str, Score, int | None]


def _read(entry: list[Line], words: Mapping[int, str] | None, frame_seconds: float) -> Lattice:
    states = StateNames()
    arcs: list[_Read] = []
    ends: dict[int, tuple[Score, int | None]] = {}
    for line, fields in entry:
        if len(fields) <= 2:
            weight = fields[1] if len(fields) == 2 else ""
            ends[states[whole(fields[0], FORMAT, line, "a state")]] = _weight(weight, line)
            continue
        if len(fields) > 5:
            raise refuse(FORMAT, line, f"an arc has 3 to 5 columns, not {len(fields)}")
        source, target = (states[whole(name, FORMAT, line, "a state")] for name in fields[:2])
        compact = len(fields) == 3 or (len(fields) == 4 and "," in fields[3])
        label = _label(fields[2 if compact else 3], words, line)
        at = 3 if compact else 4
        score, frames = _weight(fields[at] if len(fields) > at else "", line)
        if not compact:  # a transition id takes one frame, epsilon none
            frames = int(fields[2] not in ("0", EPSILON))
        arcs.append((source, target, label, score, frames))
    frames = _frames(arcs, len(states))
    made = [Arc(s, t, label, *score) for s, t, label, score, _ in arcs if np.isfinite(score).all()]
    ends = {state: end for state, end in ends.items() if np.isfinite(end[0]).all()}
    if not any(count for _, count in ends.values()) or frames is None:
        finals = {state: score for state, (score, _) in ends.items()}
        return join(Found(made, finals, frames, states.names), frame_seconds, FORMAT)
    # Final weights have frames too, after the last word.
    made += [Arc(state, len(states), "", *score) for state, (score, _) in ends.items()]
    frames.append(max(frames[state] + (count or 0) for state, (_, count) in ends.items()))
    end = {len(states): (0.0, 0.0)}
    return join(Found(made, end, frames, states.names), frame_seconds, FORMAT)


def _weight(text: str, line: int) -> tuple[Score, int | None]:
    """Scores (acoustic, bias) and number of frames of "graph,acoustic[,1_2_3]"."""
    if not text:
        return (0.0, 0.0), 0
    graph, comma, rest = text.partition(",")
    acoustic, has_frames, frames = rest.partition(",")
    if not comma:
        raise refuse(FORMAT, line, f"a weight is 'graph,acoustic', not '{text}'")
    count = len(frames.split("_")) if frames else 0
    score = (-cost(acoustic, FORMAT, line) + 0.0, -cost(graph, FORMAT, line) + 0.0)
    return score, count if has_frames else None


def _label(text: str, words: Mapping[int, str] | None, line: int) -> str:
    if text == EPSILON:
        return ""
    if words is None:
        return text
    index = whole(text, FORMAT, line, "a word id")
    if index and index not in words:
        raise refuse(FORMAT, line, f"word id {index} is not in the table")
    return words[index] if index else ""


def _frames(arcs: list[_Read], states: int) -> list[int] | None:
    """Frame of each state by the frames of arcs; None where these do not tell."""
    frames: dict[int, int] = {0: 0}
    waiting = list(arcs)
    while waiting:
        later = []
        for arc in waiting:
            source, target, _, _, count = arc
            if source not in frames:
                later.append(arc)
            elif count is None or frames.setdefault(target, frames[source] + count) != (
                frames[source] + count
            ):
                return None
        if len(later) == len(waiting):
            return None
        waiting = later
    return [frames.get(state, 0) for state in range(states)]
