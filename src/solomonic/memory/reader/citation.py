"""Citations: which stretch of the output came from which stretch of which source."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from solomonic.memory.reader.recall import Reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Citation:
    """A stretch of the output and where it stands verbatim.

    Attributes:
        start, end: tokens of the output, counted from its beginning; `end` is behind the last.
        source: as it was given with the text; "(this text)" for the stream itself.
        offset: characters of the source before the stretch.
        text: the stretch as the source has it.
        weight: mean share of the output's probability that came from there, 0 to 1.
        expert: which memory said it, at the first token.
    """

    start: int
    end: int
    source: str
    offset: int
    text: str
    weight: float
    expert: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def join(
    references: Mapping[int, Reference],
    letters: np.ndarray,
    tokens: Sequence[int],
    decode: Callable[[Iterable[int]], str],
) -> list[Citation]:
    """Tokens that follow one another in the output and in one source become one citation.

    Args:
        references: by token of the output.
        letters: (V,) characters that begin in each token.
        tokens: the output.
    """
    found: list[Citation] = []
    positions = sorted(references)
    start = 0
    while start < len(positions):
        end = start + 1
        while end < len(positions) and _follows(references, positions[end - 1], positions[end]):
            end += 1
        run = positions[start:end]
        first = references[run[0]]
        found.append(
            Citation(
                start=run[0],
                end=run[-1] + 1,
                source=first.place.source,
                offset=first.place.base + int(letters[first.before()].sum()),
                text=decode([tokens[position] for position in run]),
                weight=float(np.mean([references[position].weight for position in run])),
                expert=first.expert,
            )
        )
        start = end
    return found


def _follows(references: Mapping[int, Reference], one: int, other: int) -> bool:
    """Whether `other` comes right after `one`, in the output and in the source."""
    a, b = references[one].place, references[other].place
    same = a.source == b.source and a.base == b.base
    return other == one + 1 and same and b.index == a.index + 1
