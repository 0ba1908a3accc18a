"""The lattices of one recording, end to end."""

from collections.abc import Sequence

from solomonic.speech.lattice.build import Arc, build_lattice
from solomonic.speech.lattice.graph import Lattice


def chain(lattices: Sequence[Lattice]) -> Lattice:
    """Word lattices of one recording's utterances, end to end, as one.

    Raises:
        DataError: they are not in the order of time.
    """
    if len(lattices) == 1:
        return lattices[0]
    frames: list[int] = []
    arcs: list[Arc] = []
    for number, lattice in enumerate(lattices):
        first = len(frames)
        if number:
            arcs.append(Arc(first - 1, first, "", 0.0, 0.0))
        spans = lattice.arc_spans().tolist()
        for arc in range(lattice.arcs):
            arcs.append(
                Arc(
                    first + int(lattice.sources[arc]),
                    first + int(lattice.targets[arc]),
                    lattice.symbols[lattice.labels[arc]],
                    float(lattice.acoustic[arc]),
                    float(lattice.bias[arc]),
                    (spans[arc][0], spans[arc][1]),
                )
            )
        frames += lattice.frames.tolist()
    return build_lattice(frames, arcs, len(frames) - 1, frame_seconds=lattices[0].frame_seconds)
