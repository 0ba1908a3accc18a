"""States of documents read apart, merged into one state: who reads on knows them all.

    merged = merge_states(["a.state", "b.state"])

What each memory does (docs/state-files.md):

fading     state-space layers: the mean over all orders of reading, in closed form
           (`solomonic.state.merge`); the delta rule, whose transitions do not commute: over all
           orders one by one up to 7 documents, over the rotations beyond.
eidetic    of all documents' slots, and of the tokens that the others had not yet judged, those of
           the highest innovation.
window, convolutions, outputs still to be faded in: the last document's; where it is shorter, what
           stood before it.
full attention: all caches, one after the other.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solomonic.core import CheckpointError, ConfigError
from solomonic.layers import BMojoState, CacheState, ModelConfig, RecurrentState, StackState
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.lm.state_files import ReadState, load_state
from solomonic.state import merge


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """Where everything goes: counts of tokens read by each document's state; time: of the merged
    stream; first: the time at which each document's tokens begin (the first may lose some)."""

    counts: tuple[int, ...]
    time: int
    first: tuple[int, ...]
    refresh: int
    method: str


def merge_states(
    states: Sequence[ReadState | str | Path],
    model: LanguageModel | None = None,
    method: str = "mean",
) -> ReadState:
    """One state of several documents, the last of which goes on.

    Args:
        states: state files, or what `load_state` gave; one row each.
        model: when given, must be the one that read them.
        method: "mean" over all orders, over the "rotations" of this one, or this "order" alone
            (what a model of one linear layer would hold after reading them in this order).

    Raises:
        CheckpointError: a file is damaged or of another model.
        ConfigError: nothing to merge, other models, more rows than one, an LSTM, no decays.
    """
    reads = [s if isinstance(s, ReadState) else load_state(s, model) for s in states]
    config = _check(reads, model)
    plan = _plan(reads, config, method)
    layers = tuple(
        _merge(str(index), parts, [read.decays for read in reads], plan)
        for index, parts in enumerate(zip(*(r.state.stack.layers for r in reads), strict=True))
    )
    decays = {name: _joined([read.decays[name] for read in reads]) for name in reads[0].decays}
    notes = dataclasses.replace(
        reads[-1].notes,
        documents=tuple(document for read in reads for document in read.notes.documents),
        merged=f"{method} of {len(reads)} states",
    )
    state = ModelState(torch.tensor([plan.time]), StackState(layers))
    return ReadState(state=state, decays=decays, notes=notes)


def _check(reads: Sequence[ReadState], model: LanguageModel | None) -> ModelConfig:
    if not reads:
        raise ConfigError("there is nothing to merge; give at least one state.")
    first = reads[0].notes
    mark = first.fingerprint if model is None else model.fingerprint()
    for number, read in enumerate(reads, start=1):
        if read.notes.fingerprint != mark or read.notes.tokenizer != first.tokenizer:
            raise CheckpointError(
                f"state {number} belongs to another model or tokenizer "
                f"({read.notes.fingerprint[:12]}, not {mark[:12]}); merge states of one model."
            )
        if len(read.state.time) != 1:
            raise ConfigError(f"state {number} has {len(read.state.time)} rows; merge one each.")
        if int(read.state.time[0]) == 0:
            raise ConfigError(f"state {number} has read nothing; leave it out.")
        for index, layer in enumerate(read.state.stack.layers):
            recurrent = isinstance(layer, RecurrentState) or (
                isinstance(layer, BMojoState) and layer.ssm is not None
            )
            if recurrent and str(index) not in read.decays:
                raise ConfigError(
                    f"state {number} does not say how much of its past has faded (layer {index}), "
                    "so it cannot be merged; write it with `solomonic read`."
                )
    assert first.config is not None
    return first.config


def _plan(reads: Sequence[ReadState], config: ModelConfig, method: str) -> _Plan:
    """Times of the merged stream.

    The last document's tokens that no refresh has judged yet must stand where they stood in their
    refresh block, so the time is the total lowered until its place in a block is the last
    document's. What that loses are places of the oldest tokens, not what is kept of them.
    """
    merge.orders_of(1, method)
    counts = tuple(int(read.state.time[0]) for read in reads)
    refresh = config.refresh if set(config.layers) & set("BFW") else 1
    lost = (sum(counts) - counts[-1]) % refresh
    first = [sum(counts[:index]) - lost for index in range(len(counts))]
    return _Plan(
        counts=counts,
        time=sum(counts) - lost,
        first=tuple(first),
        refresh=refresh,
        method=method,
    )


def _merge(
    name: str, parts: Sequence[Any], decays: Sequence[dict[str, Tensor]], plan: _Plan
) -> Any:
    first = parts[0]
    if isinstance(first, RecurrentState):
        return _recurrent(parts, [found[name] for found in decays], plan)
    if isinstance(first, CacheState):
        return _cache(parts, plan)
    if not isinstance(first, BMojoState):
        raise ConfigError(
            f"layer {name} is an LSTM, whose state after two documents does not follow from the "
            "states after each; read the documents one after the other."
        )
    changes: dict[str, Any] = {"time": torch.tensor([plan.time])}
    for part in ("raw", "raw_eps", "faded", "past", "conv"):
        tensors = [getattr(layer, part) for layer in parts]
        if tensors[0] is not None:
            changes[part] = _tail(tensors, plan)
    if first.raw_eps.shape[1] == 0:
        changes["raw_eps"] = first.raw_eps
    if first.slots.shape[1]:
        changes |= _slots(parts, plan)
    if first.ssm is not None:
        changes["ssm"] = _recurrent([p.ssm for p in parts], [d[name] for d in decays], plan)
    return dataclasses.replace(first, **changes)


def _recurrent(
    parts: Sequence[RecurrentState], products: Sequence[Tensor], plan: _Plan
) -> RecurrentState:
    states = torch.cat([part.h for part in parts])
    decays = torch.cat(list(products))
    orders = merge.orders_of(len(parts), plan.method)
    scalar = decays.dim() == 2
    if orders is None:
        h = (merge.scalar_mean if scalar else merge.matrix_mean)(states, decays)
    else:
        h = (merge.scalar_orders if scalar else merge.matrix_orders)(states, decays, orders)
    return RecurrentState(h[None], _tail([part.conv for part in parts], plan))


def _tail(parts: Sequence[Tensor], plan: _Plan) -> Tensor:
    """The last entries of the documents one after the other, as many as one of them carries."""
    size = parts[0].shape[1]
    return merge.last_entries([part[0] for part in parts], plan.counts, size)[None]


def _slots(parts: Sequence[BMojoState], plan: _Plan) -> dict[str, Tensor]:
    """The eidetic memory: the highest innovations of all, the last document's unjudged excepted."""
    pairs, eps, times = [], [], []
    for index, part in enumerate(parts):
        begin = plan.first[index]
        pairs.append(part.slots[0])
        eps.append(part.slot_eps[0])
        times.append((part.slot_time[0] + begin).clamp(min=0))
        pending = plan.counts[index] % plan.refresh
        if index < len(parts) - 1 and pending:
            ring = part.raw.shape[1]
            pairs.append(part.raw[0, ring - pending :].to(part.slots.dtype))
            eps.append(part.raw_eps[0, ring - pending :])
            now = begin + plan.counts[index]
            times.append(torch.arange(now - pending, now).clamp(min=0))
    (chosen,), surprise, when = merge.top_set(
        [torch.cat(pairs)], torch.cat(eps), torch.cat(times), parts[0].slots.shape[1]
    )
    return {"slots": chosen[None], "slot_eps": surprise[None], "slot_time": when[None]}


def _cache(parts: Sequence[CacheState], plan: _Plan) -> CacheState:
    real = [part.kv[0][part.kv_time[0] >= 0] for part in parts]
    kv = torch.cat(real)[-plan.time :]
    conv = None if parts[0].conv is None else _tail([_given(p.conv) for p in parts], plan)
    return CacheState(
        time=torch.tensor([plan.time]), kv=kv[None], kv_time=torch.arange(len(kv))[None], conv=conv
    )


def _given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def _joined(products: Sequence[Tensor]) -> Tensor:
    """The product of all documents' decays, the last on the left."""
    total = products[0]
    for product in products[1:]:
        total = product * total if product.dim() == 2 else product @ total
    return total
