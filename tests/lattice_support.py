"""Random lattices for tests, and every path of a small one by brute force."""

from collections.abc import Iterator

import numpy as np

from solomonic.speech.lattice import Arc, Lattice, build_lattice

PIECES = ("▁", "▁a", "▁ab", "b", "a", "▁b", "")
WORDS = ("turn", "on", "off", "the", "light", "lights", "")
COMMAND = ("turn", "on", "the", "light", "in", "the", "kitchen", "at", "seven", "thirty")
SOUNDS_LIKE = {
    "turn": ("turned", "term", "to", "tern", "torn", "churn"),
    "on": ("an", "in", "and", "one", "own", "of"),
    "the": ("a", "then", "they", "their", "that", "this"),
    "light": ("lights", "lie", "like", "lied", "right", "night"),
    "in": ("and", "an", "on", "inn", "him", "if"),
    "kitchen": ("chicken", "kitchens", "kit", "kitten", "ketchum", "hitching"),
    "at": ("it", "add", "that", "had", "an", "as"),
    "seven": ("eleven", "severn", "sever", "heaven", "several", "seventh"),
    "thirty": ("thirteen", "dirty", "thirsty", "third", "forty", "thirties"),
}


def random_lattice(
    seed: int,
    *,
    nodes: int = 7,
    extra: int = 6,
    symbols: tuple[str, ...] = WORDS,
    reach: int = 3,
    spread: float = 6.0,
) -> Lattice:
    """Every node on a path, `extra` arcs besides; scores are multiples of 1/64 (sums are exact)."""
    rng = np.random.default_rng(seed)
    frames = np.sort(rng.integers(0, nodes * 2, nodes)).tolist()
    frames[0] = 0
    pairs = [(max(0, k - int(rng.integers(1, reach + 1))), k) for k in range(1, nodes)]
    pairs += [(k, min(nodes - 1, k + int(rng.integers(1, reach + 1)))) for k in range(nodes - 1)]
    for _ in range(extra):
        source = int(rng.integers(0, nodes - 1))
        pairs.append((source, int(rng.integers(source + 1, min(nodes, source + reach + 1)))))
    arcs = [
        Arc(
            source,
            target,
            symbols[int(rng.integers(len(symbols)))],
            -round(float(rng.exponential(spread)) * 64) / 64,
            round(float(rng.uniform(0, 3)) * 64) / 64 if rng.random() < 0.3 else 0.0,
        )
        for source, target in pairs
    ]
    return build_lattice(frames, arcs, nodes - 1, frame_seconds=0.06)


def command_lattice(
    seed: int, *, words: tuple[str, ...] = COMMAND, rivals: int = 5, seconds: float = 5.0
) -> Lattice:
    """Like a decoder's after a command: per word, rivals and other times of the same word."""
    rng = np.random.default_rng(seed)
    frames, arcs, here = [0], [], [0]
    last = round(seconds / 0.06)
    step = (last - 8) // len(words)
    for index, word in enumerate(words):
        frame = (index + 1) * step
        there = [len(frames), len(frames) + 1]
        frames += [frame, frame + 1]
        heard = [word, *rng.permutation(list(SOUNDS_LIKE[word]))[: rivals - 1].tolist(), word]
        for rank, text in enumerate(heard):
            source = here[int(rng.integers(len(here)))] if rank else here[0]
            target = there[rank % 2 if rank else 0]
            loss = float(rng.gamma(2.0, 2.0)) if rank else float(rng.gamma(1.0, 0.15))
            begin = max(frames[source], frame - 1 - int(rng.integers(0, 4)))
            span = (begin, frames[target] + 1)
            arcs.append(Arc(source, target, text, -loss, 0.0, span))
        here = there
    end = len(frames)
    frames.append(last)
    # The last words end at the end of the audio, as in a word lattice.
    arcs = [a._replace(target=end) if a.target in here else a for a in arcs]
    return build_lattice(frames, arcs, end, frame_seconds=0.06)


def all_paths(lattice: Lattice) -> Iterator[tuple[int, ...]]:
    """The arcs of every path from start to end."""

    def walk(node: int, before: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if node == lattice.nodes - 1:
            yield before
            return
        for arc in np.flatnonzero(lattice.sources == node).tolist():
            yield from walk(int(lattice.targets[arc]), (*before, arc))

    yield from walk(0, ())


def said(lattice: Lattice, arcs: tuple[int, ...]) -> str:
    """The text of a path."""
    return lattice.text(lattice.labels[list(arcs)])


def best_by_text(lattice: Lattice, **scales: float) -> dict[str, float]:
    """The best score of every text that the lattice has, by brute force."""
    scores = lattice.scores(**scales)
    best: dict[str, float] = {}
    for arcs in all_paths(lattice):
        text = said(lattice, arcs)
        best[text] = max(best.get(text, -np.inf), float(scores[list(arcs)].sum()))
    return best
