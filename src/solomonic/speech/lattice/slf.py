"""Lattices as HTK standard lattice format (SLF) 1.0, for rescoring tools such as SRILM.

    VERSION=1.0
    N=3 L=3
    I=0 t=0.00
    J=0 S=0 E=1 W=turn d=:!NULL,0.12:turn,0.30: a=-3.25 l=1.5

Words stand on links. `a` is our acoustic score, `l` our bias (both natural logarithms), and the
segmentation `d` says where on the link the word lies.
"""

import math
import re
from collections.abc import Iterator

from solomonic.core import DataError
from solomonic.speech.lattice.build import Arc
from solomonic.speech.lattice.exchange import (
    DEFAULT_FRAME_SECONDS,
    Found,
    Score,
    StateNames,
    cost,
    join,
    refuse,
    score_text,
    whole,
)
from solomonic.speech.lattice.graph import Lattice

FORMAT = "SLF"
NULL = "!NULL"
_SILENT = {NULL, "<s>", "</s>", "<sil>", "!SENT_START", "!SENT_END", "!ENTER", "!EXIT", "<eps>"}
_FRAME_SECONDS = "# frame_seconds="
_FIELD = re.compile(r"""([A-Za-z]+)=("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\S*)(?:\s+|$)""")
_PLAIN = re.compile(r"[^\s\"'\\=:,]+")
_LONG = {
    "NODES": "N", "LINKS": "L", "time": "t", "WORD": "W", "START": "S", "END": "E",
    "acoustic": "a", "language": "l", "div": "d",
}  # fmt: skip


def to_slf(lattice: Lattice, utterance: str = "") -> str:
    """The lattice as SLF text."""
    lines = ["VERSION=1.0", f"{_FRAME_SECONDS}{lattice.frame_seconds!r}"]
    if utterance:
        lines.append(f"UTTERANCE={_quote(utterance)}")
    lines += ["base=2.718281828459045 lmscale=1.0 wdpenalty=0.0 acscale=1.0"]
    lines += [f"start=0 end={lattice.nodes - 1}", f"N={lattice.nodes} L={lattice.arcs}"]
    length = lattice.frame_seconds
    times = [_seconds(frame * length) for frame in lattice.frames.tolist()]
    lines += [f"I={node} t={time}" for node, time in enumerate(times)]
    spans = None if lattice.spans is None else lattice.spans.tolist()
    words = [_quote(symbol or NULL) for symbol in lattice.symbols]
    for arc in range(lattice.arcs):
        source, target = int(lattice.sources[arc]), int(lattice.targets[arc])
        word = words[lattice.labels[arc]]
        fields = [f"J={arc} S={source} E={target} W={word}"]
        if spans is not None and not word.startswith('"'):
            begin, end = spans[arc]
            gap = _seconds((begin - int(lattice.frames[source])) * length)
            fields.append(f"d=:{NULL},{gap}:{word},{_seconds((end - begin) * length)}:")
        fields += [f"a={score_text(lattice.acoustic[arc])} l={score_text(lattice.bias[arc])}"]
        lines.append(" ".join(fields))
    return "\n".join(lines) + "\n"


def from_slf(text: str, frame_seconds: float | None = None) -> Lattice:
    """A lattice from SLF text, ours or another program's.

    Words may stand on links or on nodes (then of the link's end, as HTK has it; a real word on the
    first node is put in front). `!NULL`, `<s>`, `</s>`, `<sil>` and their like are empty labels.
    Scales, the base of logarithms and the word penalty are applied; the penalty and `l` are taken
    as bias. Unknown fields, comments and blank lines are passed over. Where a node has no time,
    nodes are at frames 0, 1, ... by depth.

    Args:
        text: the file.
        frame_seconds: length of a frame in s; None: what our own comment says, else 0.06.

    Raises:
        DataError: a line is wrong (it is named), the numbers of nodes or links are not those
            announced, or the graph is no lattice.
    """
    if frame_seconds is None:
        stated = [line for line in text.splitlines() if line.startswith(_FRAME_SECONDS)]
        value = stated[0].removeprefix(_FRAME_SECONDS) if stated else str(DEFAULT_FRAME_SECONDS)
        frame_seconds = cost(value, FORMAT, 2)
    if not 0.0 < frame_seconds < math.inf:
        raise DataError(f"SLF text: frame_seconds must be positive, not {frame_seconds}.")
    reader = _Reader(frame_seconds)
    for line, fields in _lines(text):
        if "I" in fields:
            reader.node(line, fields)
        elif "J" in fields:
            reader.link(line, fields)
        else:
            reader.header.update(fields)
    return reader.lattice()


class _Reader:
    """What has been read so far."""

    def __init__(self, frame_seconds: float) -> None:
        self.frame_seconds = frame_seconds
        self.header: dict[str, str] = {}
        self.states = StateNames()
        self.words: dict[int, str] = {}
        self.frames: dict[int, int] = {}
        self.links: list[tuple[int, dict[str, str]]] = []

    def node(self, line: int, fields: dict[str, str]) -> None:
        before = len(self.states)
        state = self.states[whole(fields["I"], FORMAT, line, "a node")]
        if state != before:
            raise refuse(FORMAT, line, f"node {fields['I']} is there twice")
        if "W" in fields:
            self.words[state] = fields["W"]
        if "t" in fields:
            seconds = cost(fields["t"], FORMAT, line)
            if not 0.0 <= seconds < 1e7:
                raise refuse(FORMAT, line, f"a time must be 0 s or more, not {fields['t']}")
            self.frames[state] = round(seconds / self.frame_seconds)

    def link(self, line: int, fields: dict[str, str]) -> None:
        for name in ("S", "E"):
            known = len(self.states)
            if name not in fields:
                raise refuse(FORMAT, line, f"the link has no {name}=")
            if self.states[whole(fields[name], FORMAT, line, "a node")] == known:
                raise refuse(FORMAT, line, f"there is no node {fields[name]}")
        self.links.append((line, fields))

    def lattice(self) -> Lattice:
        """Raises DataError where what was read is no lattice."""
        for name, found in (("N", len(self.states)), ("L", len(self.links))):
            if name in self.header and self.header[name] != str(found):
                raise DataError(
                    f"SLF text: {name}={self.header[name]} is announced and {found} were read; is "
                    "the file cut short?"
                )
        arcs = [self._arc(line, fields) for line, fields in self.links]
        frames = None
        if len(self.frames) == len(self.states):
            frames = [self.frames[state] for state in range(len(self.states))]
        start, ends = self._ends(arcs)
        if self._word(self.words.get(start, "")):
            arcs.append(Arc(len(self.states), start, self.words[start], 0.0))
            if frames is not None:
                frames.append(frames[start])
            start = len(self.states)
        found = Found(arcs, ends, frames, self.states.names, start)
        return join(found, self.frame_seconds, FORMAT)

    def _ends(self, arcs: list[Arc]) -> tuple[int, dict[int, Score]]:
        """The start, and the ends: as the header says, else the nodes without links."""
        states = set(range(len(self.states)))
        found: dict[str, set[int]] = {
            "start": states - {arc.target for arc in arcs},
            "end": states - {arc.source for arc in arcs},
        }
        for name in found:
            if name in self.header:
                before = len(self.states)
                found[name] = {self.states[whole(self.header[name], FORMAT, 1, f"{name}=")]}
                if found[name] == {before}:
                    raise DataError(f"SLF text: {name}={self.header[name]} is no node.")
        if len(found["start"]) != 1:
            raise DataError(
                f"SLF text: {len(found['start'])} nodes could be the start; say start= which one."
            )
        return found["start"].pop(), dict.fromkeys(sorted(found["end"]), (0.0, 0.0))

    def _word(self, text: str) -> str:
        return "" if text in _SILENT else text

    def _arc(self, line: int, fields: dict[str, str]) -> Arc:
        source, target = (self.states[int(fields[name])] for name in ("S", "E"))
        word = self._word(fields.get("W", self.words.get(target, "")))
        acoustic = self._log(fields.get("a"), line) * self._scale("acscale", 1.0)
        bias = self._log(fields.get("l"), line) * self._scale("lmscale", 1.0)
        bias += self._scale("wdpenalty", 0.0) if word else 0.0
        return Arc(source, target, word, acoustic, bias, self._span(source, fields.get("d", "")))

    def _scale(self, name: str, default: float) -> float:
        return cost(self.header[name], FORMAT, 1) if name in self.header else default

    def _log(self, text: str | None, line: int) -> float:
        """A score in nats, from the base that the header names (0: from probabilities)."""
        if text is None:
            return 0.0
        base, value = self._scale("base", math.e), cost(text, FORMAT, line)
        if base == 0.0 and value > 0.0:
            return math.log(value)
        if base <= 0.0 or base == 1.0 or math.isinf(value):
            raise refuse(FORMAT, line, f"{text} is no logarithm to base {base:g}")
        return value if math.isclose(base, math.e, rel_tol=1e-5) else value * math.log(base)

    def _span(self, source: int, segments: str) -> tuple[int, int] | None:
        """Frames of the word where `d` is ours: a gap, then the word."""
        parts = segments.strip(":").split(":")
        if len(parts) != 2 or not parts[0].startswith(NULL + ",") or source not in self.frames:
            return None
        try:
            gap, length = (float(part.rsplit(",", 1)[1]) for part in parts)
        except (IndexError, ValueError):
            return None
        begin = self.frames[source] + round(gap / self.frame_seconds)
        return begin, begin + round(length / self.frame_seconds)


def _lines(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Numbered lines as fields by their short names."""
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        fields, at = {}, 0
        while at < len(line):
            match = _FIELD.match(line, at)
            if not match:
                raise refuse(FORMAT, number, f"name=value is expected at '{line[at : at + 20]}'")
            name, value = match.groups()
            if value[:1] in ('"', "'"):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            fields[_LONG.get(name, name)] = value
            at = match.end()
        yield number, fields


def _quote(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    if "\n" in text or "\r" in text:
        raise DataError(f"the symbol {text!r} cannot be written to SLF; rename it.")
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
