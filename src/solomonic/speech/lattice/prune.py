"""Smaller lattices: by score, and to a number of bytes."""

from collections.abc import Callable

import numpy as np

from solomonic.core import ConfigError, DataError
from solomonic.speech.lattice.build import take_arcs
from solomonic.speech.lattice.graph import Lattice
from solomonic.speech.lattice.paths import best_from_start, best_to_end

# Sums along a path differ in their last digits by the order they are taken in. An arc of the best
# path must not fall out of beam 0 for that.
_ROUNDING = 1e-9
_ENOUGH = 0.96  # of a limit: no need to look for a wider beam


def arc_losses(
    lattice: Lattice, *, acoustic_scale: float = 1.0, bias_scale: float = 1.0
) -> np.ndarray:
    """(A,) float64, nats >= 0: how far the best path over each arc lies below the best of all."""
    scores = lattice.scores(acoustic_scale, bias_scale)
    forward, backward = best_from_start(lattice, scores), best_to_end(lattice, scores)
    losses = backward[0] - (forward[lattice.sources] + scores + backward[lattice.targets])
    losses[losses < rounding(scores)] = 0.0
    return losses


def rounding(scores: np.ndarray) -> float:
    """Nats by which sums of arcs' scores (A,) may differ for the order they were taken in."""
    return _ROUNDING * max(1.0, float(np.abs(scores).sum()))


def prune(
    lattice: Lattice, beam: float = 8.0, *, acoustic_scale: float = 1.0, bias_scale: float = 1.0
) -> Lattice:
    """Keep the arcs whose best path is at most `beam` nats below the best path.

    Every path within the beam is kept whole; beam 0 keeps the best path (and those as good).

    Raises:
        ConfigError: the beam is negative or not a number.
    """
    if not beam >= 0.0:
        raise ConfigError(f"beam of prune must be at least 0 nats, not {beam}.")
    losses = arc_losses(lattice, acoustic_scale=acoustic_scale, bias_scale=bias_scale)
    return take_arcs(lattice, _whole(lattice, losses, beam))


def prune_to_bytes(lattice: Lattice, limit: int, measure: Callable[[Lattice], int]) -> Lattice:
    """A beam whose lattice takes at most `limit` bytes by `measure`, and little less.

    Raises:
        DataError: even the best path alone takes more.
    """
    whole = measure(lattice)
    if whole <= limit:
        return lattice
    losses = arc_losses(lattice)
    beams = np.unique(losses)
    narrow = take_arcs(lattice, _whole(lattice, losses, 0.0))
    least = measure(narrow)
    if least > limit:
        raise DataError(
            f"the best path alone takes {least} bytes, more than the limit of {limit}; raise the "
            "limit or cut the audio into shorter utterances."
        )
    # Bytes grow about as arcs do, so that a look or two is enough. What is returned was measured:
    # the limit holds even where they do not.
    counts = np.searchsorted(np.sort(losses), beams, side="right")
    low, high = 0, len(beams) - 1
    small, large, tries = least, whole, 0
    while high - low > 1 and small < _ENOUGH * limit:
        share = (limit * (1 + _ENOUGH) / 2 - small) / max(1, large - small)
        wanted = counts[low] + share * (counts[high] - counts[low])
        tries += 1
        guess = (low + high) // 2 if tries % 3 == 0 else int(np.searchsorted(counts, wanted))
        guess = min(max(guess, low + 1), high - 1)
        wider = take_arcs(lattice, _whole(lattice, losses, float(beams[guess])))
        size = measure(wider)
        if size <= limit:
            low, small, narrow = guess, size, wider
        else:
            high, large = guess, size
    return narrow


def density(lattice: Lattice, words: int) -> float:
    """Arcs with a label per word of the reference.

    Raises:
        ConfigError: `words` is not positive.
    """
    if words < 1:
        raise ConfigError(f"density needs a reference of at least 1 word, not {words}.")
    return float(np.count_nonzero(lattice.labels)) / words


def _whole(lattice: Lattice, losses: np.ndarray, beam: float) -> np.ndarray:
    """(A,) bool: arcs within the beam, less those that rounding has left without a path."""
    keep = losses <= beam + _ROUNDING
    reached = np.zeros(lattice.nodes, dtype=bool)
    leads = np.zeros(lattice.nodes, dtype=bool)
    reached[0] = leads[-1] = True
    sources, targets = lattice.sources, lattice.targets
    for arc in np.flatnonzero(keep):
        reached[targets[arc]] |= reached[sources[arc]]
    for arc in np.flatnonzero(keep)[::-1]:
        leads[sources[arc]] |= leads[targets[arc]]
    return keep & reached[sources] & leads[targets]
