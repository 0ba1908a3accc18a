"""Markdown to parts: its source as it stands, one part a section, with the headings above it."""

import re
from collections.abc import Iterable, Iterator

from solomonic.memory.documents.part import Part

_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


class Headings:
    """The path of headings above a place: entering a level leaves all deeper ones."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> None:
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, " ".join(title.split())))

    def __str__(self) -> str:
        return " > ".join(title for _, title in self._path if title)


def sections(blocks: Iterable[str]) -> Iterator[Part]:
    """Parts of a Markdown text; a heading with nothing under it stays with the next section.

    Lines that look like headings inside fenced code are code.
    """
    headings, lines, filled, fence = Headings(), [], False, ""
    section = ""
    for line in _lines(blocks):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        heading = None if fence or mark else _HEADING.match(line.rstrip("\n"))
        if heading:
            if filled:
                yield Part("".join(lines), section=section, whole=True)
                lines, filled = [], False
            headings.enter(len(heading[1]), heading[2])
            section = str(headings)
        elif line.strip():
            filled = True
        lines.append(line)
    if lines:
        yield Part("".join(lines), section=section, whole=True)


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    """Lines with their ends, from blocks cut anywhere."""
    rest: list[str] = []
    for block in blocks:
        first, *others = block.split("\n")
        rest.append(first)
        for line in others:
            yield "".join(rest) + "\n"
            rest = [line]
    if last := "".join(rest):
        yield last
