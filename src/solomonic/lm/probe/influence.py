"""Causal influence: what a prediction owes to one token of its past.

A token is replaced by another of the same text and the model reads on; how far its predictions
then differ is measured at many distances at once, so one replaced token costs one short reading.
Where an eidetic memory of the undisturbed run still held the token is counted apart.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from solomonic.lm.model import LanguageModel, ModelState
from solomonic.lm.probe.record import Influence
from solomonic.state import concatenate

ROWS = 8  # replaced tokens that are read side by side


def lags_up_to(longest: int) -> np.ndarray:
    """1, 2, 3, 4, 6, 8, 12, 16, ... `longest`."""
    found = {int(base * 2**k) for k in range(32) for base in (1, 1.5) if base * 2**k >= 1}
    return np.array(sorted(lag for lag in found if lag <= longest), dtype=np.int64)


@torch.no_grad()
def influence(
    model: LanguageModel,
    ids: Tensor,
    *,
    longest: int = 512,
    places: int = 64,
    seconds: float = 30.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Influence | None:
    """Replace tokens of ids (T,) and look at the predictions up to `longest` tokens later.

    Args:
        places: replaced tokens, at most; rounded up to whole batches.
        seconds: start no batch after so long.
        progress: told (places done, places wanted).

    Returns:
        None where the text is too short or no batch was finished in time.
    """
    longest = min(longest, len(ids) - 2)
    lags = lags_up_to(longest)
    if len(lags) == 0:
        return None
    began = time.monotonic()
    chance = np.random.default_rng(seed)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    was = model.training
    model.eval()
    try:
        done = 0
        while done < places and (not found or time.monotonic() - began < seconds):
            starts = np.sort(chance.integers(0, len(ids) - longest, ROWS))
            found.append(_batch(model, ids, starts, lags, chance))
            done += ROWS
            if progress is not None:
                progress(min(done, places), places)
    finally:
        model.train(was)
    effect, kept, flips = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _summary(lags, effect, kept, flips)


def _batch(
    model: LanguageModel,
    ids: Tensor,
    starts: np.ndarray,
    lags: np.ndarray,
    chance: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects in bits, whether kept, whether the likeliest token changed: (ROWS, lags) each."""
    rows, longest = len(starts), int(lags[-1])
    state = _state_before(model, ids, starts)
    real = torch.stack([ids[s : s + longest + 1] for s in starts.tolist()]).to(model.device)
    changed = real.clone()
    changed[:, 0] = _others(ids, real[:, 0], chance)
    trace: list[dict] = []
    clean, _ = model.hidden(real, state, trace=trace)
    dirty, _ = model.hidden(changed, state)
    at = torch.from_numpy(lags)
    first, second = (_log_chances(model, hidden[:, at]) for hidden in (clean, dirty))
    effect = (first.exp() * (first - second)).sum(-1) / np.log(2)
    flips = first.argmax(-1) != second.argmax(-1)
    kept = np.zeros((rows, len(lags)), dtype=bool)
    refresh = model.config.refresh
    for entry in trace:
        times = entry["kept"].cpu().numpy()  # (B, blocks + 1, slots)
        block = (starts[:, None] + lags) // refresh - starts[:, None] // refresh
        block = np.minimum(block, times.shape[1] - 1)
        held = (times == starts[:, None, None]).any(-1)
        kept |= np.take_along_axis(held, block, axis=1)
    return effect.clamp(min=0).cpu().numpy(), kept, flips.cpu().numpy()


def _state_before(model: LanguageModel, ids: Tensor, starts: np.ndarray) -> ModelState:
    """The state of the undisturbed text before each of the (sorted) starts, a row each."""
    state, done, parts = model.init_state(1), 0, []
    for start in starts.tolist():
        if start > done:
            _, state = model.hidden(ids[None, done:start].to(model.device), state)
            done = start
        parts.append(state)
    return concatenate(parts)


def _others(ids: Tensor, tokens: Tensor, chance: np.random.Generator) -> Tensor:
    """For each token another one, drawn from the text."""
    drawn = ids[torch.from_numpy(chance.integers(0, len(ids), (len(tokens), 32)))]
    drawn = drawn.to(tokens.device)
    differs = (drawn != tokens[:, None]).long().argmax(dim=1)
    return drawn.gather(1, differs[:, None])[:, 0]


def _log_chances(model: LanguageModel, hidden: Tensor) -> Tensor:
    logits = model.head(hidden)
    kind = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(kind).log_softmax(dim=-1).double()


def _summary(
    lags: np.ndarray, effect: np.ndarray, kept: np.ndarray, flips: np.ndarray
) -> Influence:
    count = len(effect)
    spread = effect.std(axis=0, ddof=1) if count > 1 else np.zeros(len(lags))

    def mean(chosen: np.ndarray) -> np.ndarray:
        places = chosen.sum(axis=0)
        total = (effect * chosen).sum(axis=0)
        return np.where(places > 0, total / np.maximum(places, 1), np.nan)

    return Influence(
        lags=lags,
        effect=effect.mean(axis=0),
        error=spread / np.sqrt(count),
        kept=mean(kept),
        left=mean(~kept),
        kept_places=kept.sum(axis=0),
        left_places=(~kept).sum(axis=0),
        flips=flips.mean(axis=0),
        places=count,
    )
