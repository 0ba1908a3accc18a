"""One frame of the search: by beam, with prefix merging and path merging, or greedily.

Both are generators: they ask for the log-probabilities after some prefixes and are sent them. So
the decoder can gather what many streams ask for, and each stream's own steps stay the same
whoever shares the batch.

A frame goes in rounds. Round r looks at all ways of emitting r labels in this frame: each takes its
blank, and its best labels make the ways of round r + 1. Equal prefixes are summed, so with no
pruning the result is the exact sum over all alignments with at most `max_symbols` labels a frame.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from solomonic.speech.decode.prefix import Prefix
from solomonic.speech.decode.record import Hyp

if TYPE_CHECKING:
    from solomonic.speech.decode.search import Search

Steps = Generator[list[Prefix], np.ndarray, None]
_INF = float("inf")


def greedy_frame(search: "Search") -> Steps:
    """Take the best symbol, biased, until it is the blank."""
    (hyp,) = search.hyps
    for round_ in range(search.config.max_symbols + 1):
        log_probs = search.scored((yield [hyp.prefix]))
        blank = float(log_probs[0, 0])
        token = 0
        if round_ < search.config.max_symbols:
            token = int(search.biased(log_probs, [hyp.prefix])[0].argmax())
        if not token:
            break
        prefix = search.tree.child(hyp.prefix, token)
        score, bonus = float(log_probs[0, token]), search.config.label_bonus
        hyp = hyp.emitted(prefix, search.frame, score, blank, bonus)
    search.hyps = [hyp.closed(blank)]
    search.greedy = hyp.prefix


def beam_frame(search: "Search") -> Steps:
    """All ways through the frame that are worth following."""
    closed: dict[Prefix, Hyp] = {}
    ways = search.hyps
    greedy_goes_on = True
    for round_ in range(search.config.max_symbols + 1):
        prefixes = [way.prefix for way in ways]
        log_probs = search.scored((yield prefixes))
        actions = search.biased(log_probs, prefixes)
        for way, blank in zip(ways, log_probs[:, 0].tolist(), strict=True):
            end = way.closed(blank)
            same = closed.setdefault(way.prefix, end)
            if same is not end:
                same.add_alignments(end, search.frame)
                same.blank = blank
        if round_ == search.config.max_symbols:
            break
        forced = None
        if greedy_goes_on:
            row = prefixes.index(search.greedy)
            token = int(actions[row].argmax())
            greedy_goes_on = token != 0
            if token:
                forced = row * actions.shape[1] + token
                search.greedy = search.tree.child(search.greedy, token)
        chosen = _choose(search, ways, actions, closed, forced)
        if not chosen:
            break
        search.emissions += len(chosen)
        size = actions.shape[1]
        next_ways = []
        for index in chosen:
            row, token = divmod(index, size)
            way = ways[row]
            prefix = search.tree.child(way.prefix, token)
            values = log_probs[row]
            score, blank = float(values[token]), float(values[0])
            bonus = search.config.label_bonus
            next_ways.append(way.emitted(prefix, search.frame, score, blank, bonus))
        ways = next_ways
    search.hyps = _survivors(search, list(closed.values()))


def _choose(
    search: "Search",
    ways: list[Hyp],
    actions: np.ndarray,
    closed: dict[Prefix, Hyp],
    forced: int | None,
) -> list[int]:
    """The labels to go on with, as indices into the flattened `actions` (ways, V).

    A label must come within `expand_beam` of the best step of its hypothesis, within `state_beam`
    of the best hypothesis that has ended the frame, and above the last of the `beam` best of these:
    the blank still to come can only lower it. At most `beam` are taken, and `forced`.
    """
    config = search.config
    ends = sorted((hyp.total for hyp in closed.values()), reverse=True)
    floor = ends[0] - config.state_beam
    if len(ends) >= config.beam:
        floor = max(floor, ends[config.beam - 1])
    base = np.array([[way.total] for way in ways])
    totals = actions + base
    totals[:, 0] = -_INF
    least = np.maximum(actions.max(axis=1, keepdims=True) + base - config.expand_beam, floor)
    flat = totals.ravel()
    chosen = np.flatnonzero((totals >= least) & (totals > -_INF))
    if len(chosen) > config.beam:
        chosen = chosen[np.argsort(-flat[chosen], kind="stable")[: config.beam]]
    found = chosen.tolist()
    if forced is not None and forced not in found:
        found.append(forced)
    return found


def _survivors(search: "Search", hyps: list[Hyp]) -> list[Hyp]:
    """Path merging and pruning at the end of a frame, best first; the greedy path always stays."""
    config, greedy = search.config, search.greedy
    hyps.sort(key=lambda hyp: -hyp.total)  # stable: ties keep the order of expansion
    floor = hyps[0].total - config.state_beam
    kept: list[Hyp] = []
    guarded: Hyp | None = None
    by_context: dict[tuple[int, ...], Hyp] = {}
    for hyp in hyps:
        if hyp.total < floor and hyp.prefix is not greedy:
            continue
        if config.label_context:
            winner = by_context.setdefault(hyp.prefix.context, hyp)
            if winner is not hyp:
                if hyp.prefix is greedy:
                    guarded = hyp
                elif config.lattice:
                    winner.take_over(hyp, search.frame, config.lattice_beam, config.alternatives)
                continue
        kept.append(hyp)
    if guarded is None:
        guarded = next((hyp for hyp in kept[config.beam :] if hyp.prefix is greedy), None)
    kept = kept[: config.beam]
    if guarded is not None:
        kept = [*kept[: config.beam - 1], guarded]
    return kept
