"""The lattice itself: what it refuses, and building one from loose arcs."""

import dataclasses

import numpy as np
import pytest

from solomonic.core import DataError
from solomonic.speech.lattice import Arc, Lattice, build_lattice, take_arcs

SMALL = {
    "frames": [0, 2, 2, 5],
    "sources": [0, 0, 1, 2],
    "targets": [1, 2, 3, 3],
    "labels": [1, 2, 2, 0],
    "acoustic": [-1.0, -2.0, -0.5, 0.0],
    "bias": [0.0, 1.5, 0.0, 0.0],
    "symbols": ("", "on", "off"),
    "frame_seconds": 0.06,
}


def small(**changes: object) -> Lattice:
    return Lattice(**(SMALL | changes))  # type: ignore[arg-type]


def test_it_keeps_what_it_is_given() -> None:
    lattice = small()
    assert (lattice.nodes, lattice.arcs) == (4, 4)
    assert lattice.seconds == pytest.approx(0.3)
    assert lattice.scores(2.0, 0.5).tolist() == [-2.0, -3.25, -1.0, 0.0]
    assert lattice.text([1, 0, 2]) == "on off"
    assert lattice.frames.dtype == np.int32 and lattice.acoustic.dtype == np.float32
    assert lattice.arc_spans().tolist() == [[0, 2], [0, 2], [2, 5], [2, 5]]
    assert lattice == small() and lattice != small(bias=[0.0, 1.5, 0.0, 0.5])
    with pytest.raises(ValueError, match="read-only"):
        lattice.frames[0] = 1


def test_it_does_not_change_with_the_array_it_was_made_of() -> None:
    frames = np.array([0, 2, 2, 5], dtype=np.int32)
    lattice = small(frames=frames)
    frames[0] = 1
    assert lattice.frames[0] == 0


def test_pieces_are_joined_to_words() -> None:
    lattice = small(symbols=("", "▁tur", "n"))
    assert lattice.is_pieces and not small().is_pieces
    assert lattice.text([1, 2, 0, 1, 2]) == "turn turn"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": [0, 2, 2.5, 5]}, "frames must be whole numbers"),
        ({"frames": [[0, 2, 2, 5]]}, "frames must be whole numbers on 1 axes"),
        ({"frames": [-1, 2, 2, 5]}, "frames must lie in 0"),
        ({"frames": [0, 2, 2, 1 << 31]}, "frames must lie in 0"),
        ({"frames": [0, 3, 2, 5]}, "node 2 .* at frame 2, before node 1"),
        ({"labels": [1, 2, 2]}, "labels has 3 entries for 4 arcs"),
        ({"labels": [1, 2, 3, 0]}, "arc 2 .* label beyond 3"),
        ({"targets": [1, 2, 3, 4]}, "arc 3 .* does not exist"),
        ({"targets": [1, 2, 1, 3]}, "arc 2 .* number nodes topologically"),
        ({"sources": [0, 1, 0, 2]}, "arc 2 .* sort arcs"),
        ({"frames": [0, 1, 2, 2, 5], "targets": [2, 2, 4, 4]}, "node 1 .* is never reached"),
        ({"targets": [1, 2, 3, 3], "sources": [0, 0, 1, 1]}, "node 2 .* leads nowhere"),
        ({"acoustic": [-1.0, float("nan"), 0.0, 0.0]}, "acoustic must be finite; arc 1 has nan"),
        ({"bias": [-1.0, 0.0, float("-inf"), 0.0]}, "bias must be finite; arc 2"),
        ({"bias": [-1.0, 0.0, 1e39, 0.0]}, "bias must be finite; arc 2"),
        ({"bias": ["a", "b", "c", "d"]}, "bias must be numbers"),
        ({"symbols": ("<eps>", "on", "off")}, r'symbols\[0\] of a lattice is ""'),
        ({"symbols": ("", "on", "")}, "symbol 2 .* must be text"),
        ({"symbols": ("", "on", "\ud800")}, "symbol 2 .* must be text"),
        ({"symbols": ("", "on", "on")}, "symbol 2 .* is there twice"),
        ({"frame_seconds": 0.0}, "frame_seconds must be positive"),
        ({"frame_seconds": float("nan")}, "frame_seconds must be positive"),
        ({"spans": [[0, 1]] * 3}, "spans has shape"),
        ({"spans": [[0, 3], [0, 4], [2, 3], [2, 3]]}, "arc 1 .* span"),
        ({"spans": [[0, 3], [0, 3], [1, 3], [2, 3]]}, "arc 2 .* span"),
    ],
)
def test_it_refuses(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        small(**changes)


def test_an_empty_one_is_refused() -> None:
    none: dict = {name: [] for name in ("sources", "targets", "labels", "acoustic", "bias")}
    with pytest.raises(DataError, match="at least 2 nodes and 1 arc"):
        small(frames=[0], **none)


def test_building_trims_numbers_and_sorts() -> None:
    arcs = [
        Arc(5, 1, "off", -0.5),
        Arc(7, 3, "dead end", -9.0),
        Arc(7, 5, "on", -1.0, 0.25),
        Arc(2, 1, "unreached", -9.0),
        Arc(7, 1, "", -3.0),
    ]
    lattice = build_lattice([9, 8, 0, 1, 0, 2, 0, 0], arcs, 1, start=7, frame_seconds=0.04)
    expected = Lattice(
        frames=[0, 2, 8],  # type: ignore[arg-type]
        sources=[0, 0, 1],  # type: ignore[arg-type]
        targets=[1, 2, 2],  # type: ignore[arg-type]
        labels=[1, 0, 2],  # type: ignore[arg-type]
        acoustic=[-1.0, -3.0, -0.5],  # type: ignore[arg-type]
        bias=[0.25, 0.0, 0.0],  # type: ignore[arg-type]
        symbols=("", "on", "off"),
        frame_seconds=0.04,
    )
    assert lattice == expected


def test_building_joins_several_ends() -> None:
    arcs = [Arc(0, 1, "a", -1.0), Arc(0, 2, "b", -2.0, span=(1, 2))]
    ends = {1: (-0.5, 0.25), 2: (0.0, 0.0)}
    lattice = build_lattice([0, 3, 4], arcs, ends, frame_seconds=0.06)
    assert lattice.frames.tolist() == [0, 3, 4, 4]
    assert lattice.targets.tolist() == [1, 2, 3, 3]
    assert lattice.acoustic.tolist() == [-1.0, -2.0, -0.5, 0.0]
    assert lattice.bias.tolist() == [0.0, 0.0, 0.25, 0.0]
    assert lattice.arc_spans().tolist() == [[0, 3], [1, 2], [3, 4], [4, 4]]


def test_building_refuses_an_end_that_does_not_exist() -> None:
    arcs = [Arc(0, 1, "a", 0.0)]
    for ends in (5, {1: (0.0, 0.0), 7: (0.0, 0.0)}, -1):
        with pytest.raises(DataError, match="start or end of a lattice, does not exist"):
            build_lattice([0, 1], arcs, ends, frame_seconds=0.06)


@pytest.mark.parametrize(
    ("frames", "arcs", "message"),
    [
        ([0, 0, 0], [(0, 1), (1, 0), (1, 2)], "no cycles"),
        ([0, 0, 0], [(0, 1), (1, 1), (1, 2)], "no cycles"),
        ([0, 5, 3], [(0, 1), (1, 2)], "back in time, from frame 5 to 3"),
        ([0, 1, 2], [(0, 1)], "no path"),
        ([0, 1, 2], [(0, 7)], "0 -> 7 is between nodes that do not exist"),
    ],
)
def test_building_refuses(frames: list[int], arcs: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build_lattice(frames, [Arc(*ends, "a", 0.0) for ends in arcs], 2, frame_seconds=0.06)


def test_taking_arcs_renumbers_nodes_and_symbols() -> None:
    lattice = small(spans=[[0, 2], [1, 3], [2, 3], [4, 5]])
    taken = take_arcs(lattice, np.array([False, True, False, True]))
    assert taken.frames.tolist() == [0, 2, 5]
    assert taken.symbols == ("", "off")
    assert taken.labels.tolist() == [1, 0]
    assert taken.arc_spans().tolist() == [[1, 3], [4, 5]]
    with pytest.raises(DataError, match="of a lattice"):
        take_arcs(lattice, np.array([True, False, False, True]))
    assert dataclasses.replace(taken) == taken
