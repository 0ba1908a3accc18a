"""Events, results and lattices in the forms that clients are sent."""

from typing import Any

import numpy as np

from solomonic.speech.events import Event
from solomonic.speech.lattice import (
    Lattice,
    arc_confidences,
    arc_posteriors,
    best_path,
    n_best,
    prune,
    word_lattice,
)
from solomonic.speech.lattice.paths import LatticePath
from solomonic.speech.result import Alternative, Result
from solomonic.speech.words import Word

MOST_ARCS = 2000
"""Of a lattice that is sent as JSON or reranked: a larger one is pruned."""
ALTERNATIVES = 10


def event_json(event: Event) -> dict[str, Any]:
    """The event with its kind as "type"."""
    plain = event.to_json()
    return {"type": plain.pop("event"), **plain}


def lattice_json(lattice: Lattice) -> dict[str, Any]:
    """{"lattice": nodes and arcs, "best": indices of the arcs of the one-best}."""
    posteriors, spans = arc_posteriors(lattice), lattice.arc_spans()
    arcs = [
        {
            "source": int(lattice.sources[arc]),
            "target": int(lattice.targets[arc]),
            "word": lattice.symbols[lattice.labels[arc]],
            "acoustic": round(float(lattice.acoustic[arc]), 4),
            "bias": round(float(lattice.bias[arc]), 4),
            "start": _seconds(lattice, spans[arc, 0]),
            "end": _seconds(lattice, spans[arc, 1]),
            "posterior": round(float(posteriors[arc]), 4),
        }
        for arc in range(lattice.arcs)
    ]
    nodes = [int(frame) for frame in lattice.frames]
    plain = {"frame_seconds": lattice.frame_seconds, "nodes": nodes, "arcs": arcs}
    return {"lattice": plain, "best": list(best_path(lattice).arcs)}


def for_reranking(lattice: Lattice) -> Lattice:
    """The lattice with one arc a word, pruned to what may be sent and reranked in bounded time."""
    lattice = word_lattice(lattice) if lattice.is_pieces else lattice
    beam = 8.0
    while lattice.arcs > MOST_ARCS and beam > 0.1:
        lattice, beam = prune(lattice, beam), beam / 2
    return lattice


def lattice_result(lattice: Lattice, reason: str = "") -> Result:
    """What a lattice of words says, as the recogniser would have said it."""
    paths = n_best(lattice, ALTERNATIVES)
    return Result(
        text=paths[0].text,
        words=path_words(lattice, paths[0]),
        nbest=tuple(Alternative(text=p.text, acoustic=p.acoustic, bias=p.bias) for p in paths),
        lattice=lattice,
        start=_seconds(lattice, lattice.frames[0]),
        end=_seconds(lattice, lattice.frames[-1]),
        reason=reason,
    )


def path_words(lattice: Lattice, path: LatticePath) -> tuple[Word, ...]:
    """The words of a path with their times and confidences."""
    sure = arc_confidences(lattice, arc_posteriors(lattice))
    spans = lattice.arc_spans()
    return tuple(
        Word(
            lattice.symbols[lattice.labels[arc]],
            _seconds(lattice, spans[arc, 0]),
            _seconds(lattice, spans[arc, 1]),
            float(sure[arc]),
        )
        for arc in path.arcs
        if lattice.labels[arc]
    )


def hypotheses_json(lattice: Lattice, n: int) -> dict[str, Any]:
    """What a lattice says by itself, in the form of a `Reranked`, where nothing reranks."""
    paths = n_best(lattice, n)
    return {
        "text": paths[0].text,
        "one_best": paths[0].text,
        "arcs": list(paths[0].arcs),
        "hypotheses": [
            {
                "text": path.text,
                "arcs": list(path.arcs),
                "acoustic": round(path.acoustic, 4),
                "bias": round(path.bias, 4),
                "lm": 0.0,
                "internal": 0.0,
                "memory": 0.0,
                "words": len(path.words),
                "score": round(path.score, 4),
            }
            for path in paths
        ],
        "memory_hits": [],
    }


def _seconds(lattice: Lattice, frame: np.integer) -> float:
    return round(float(frame) * lattice.frame_seconds, 3)
