"""Interventions: change what happens inside a language model while a block of code runs.

    with steer(model, 3, direction, 4.0), ablate(model, 1, "mixer"):
        logits, state = model(tokens)

All are context managers; they nest in any order, act on every row of a batch or on `rows`, and are
gone afterwards, also when the block raises. Positions count from the beginning of each stream, not
of the call. Without a change the numbers are those of the plain model, to the last bit.

Sites name places: "embed" (what enters layer 0), "layer.3" (the residual stream after layer 3),
"mixer.3" and "mlp.3" (what these halves of layer 3 add to it), "fading.3" (the output of the
state-space model inside a B'MOJO layer), "norm" (what the head reads).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from solomonic.core import ConfigError, ShapeError
from solomonic.layers import Block, BMojo, BMojoState
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.state import State

Change = Callable[[Tensor, Tensor], Tensor | None]
"""(value (B, T, d), positions (B, T)) -> the value to go on with; None or the same: no change."""
StateChange = Callable[[Any], Any]
"""The state of one layer -> the state to go on with."""
PARTS = ("layer", "mixer", "mlp", "fading")


@contextmanager
def hook(model: LanguageModel, site: str, change: Change) -> Iterator[None]:
    """Let `change` see, and replace, the value at a site.

    Raises:
        ConfigError: there is no such site, or the model is no `LanguageModel`.
        ShapeError: later, when the replacement has another shape.
    """
    module = _module(model, site)
    with _clock(model) as clock:

        def act(_: nn.Module, inputs: tuple, output: Any) -> Any:
            value = output[0] if isinstance(output, tuple) else output
            found = change(value, clock.positions(value))
            if found is None or found is value:
                return None
            if found.shape != value.shape:
                raise ShapeError(
                    f"the change at '{site}' made {tuple(found.shape)} of {tuple(value.shape)}; "
                    "it must keep the shape."
                )
            return (found, *output[1:]) if isinstance(output, tuple) else found

        handle = module.register_forward_hook(act)
        try:
            yield
        finally:
            handle.remove()


@dataclasses.dataclass(eq=False)
class Recording:
    """What went through sites, joined over calls: values[site] (B, T, d), positions (B, T)."""

    values: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    positions: Tensor | None = None


@contextmanager
def record(model: LanguageModel, *sites: str) -> Iterator[Recording]:
    """Keep the values at sites (without gradient); what `patch` takes."""
    found = Recording()

    def keep(site: str) -> Change:
        def act(value: Tensor, positions: Tensor) -> None:
            before = found.values.get(site)
            new = value.detach().clone()
            found.values[site] = new if before is None else torch.cat((before, new), dim=1)
            if site == sites[0]:
                old = found.positions
                found.positions = positions if old is None else torch.cat((old, positions), dim=1)

        return act

    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(hook(model, site, keep(site)))
        yield found


@contextmanager
def patch(
    model: LanguageModel,
    site: str,
    value: Tensor,
    positions: Sequence[int] | None = None,
    rows: Sequence[int] | None = None,
) -> Iterator[None]:
    """Put values of another run in the place of this one's.

    Args:
        value: (d,), (n, d) or (B, n, d); the i-th belongs to the i-th position.
        positions: of the stream; None: 0 .. n - 1, of a single (d,) everywhere.
    """
    places = list(range(value.shape[-2])) if positions is None and value.dim() > 1 else positions
    if places is not None and value.dim() > 1 and value.shape[-2] != len(places):
        raise ShapeError(f"{value.shape[-2]} values were given for {len(places)} positions.")

    def act(old: Tensor, at: Tensor) -> Tensor:
        new = value.to(old.device, old.dtype)
        chosen = _rows(old, rows)
        if places is None:
            return torch.where(chosen[:, None, None], new.expand_as(old), old)
        out = old
        for index, place in enumerate(places):
            one = new if new.dim() == 1 else new[..., index, :]
            here = (at == place) & chosen[:, None]
            full = (one if one.dim() == 2 else one[None]).unsqueeze(1).expand_as(old)
            out = torch.where(here[..., None], full, out)
        return out

    with hook(model, site, act):
        yield


@contextmanager
def ablate(
    model: LanguageModel, layer: int, part: str = "layer", rows: Sequence[int] | None = None
) -> Iterator[None]:
    """Take a layer out, or one half of it, or its fading memory.

    Args:
        part: "layer" (the residual stream passes by), "mixer", "mlp" or "fading" (set to zero).
    """
    if part not in PARTS:
        raise ConfigError(f"part = '{part}' is unknown; use one of {', '.join(PARTS)}.")
    with ExitStack() as stack:
        if part == "layer":
            halves = ["mixer"] + (["mlp"] if _block(model, layer).mlp is not None else [])
        else:
            halves = [part]
        for half in halves:
            stack.enter_context(
                hook(
                    model,
                    f"{half}.{layer}",
                    lambda v, _: torch.where(_rows(v, rows)[:, None, None], torch.zeros_like(v), v),
                )
            )
        yield


@contextmanager
def ablate_tokens(
    model: LanguageModel,
    positions: Sequence[int],
    by: int | None = None,
    rows: Sequence[int] | None = None,
) -> Iterator[None]:
    """Read nothing at some positions: the mean of all embeddings, or token `by` instead."""
    weight = model.embed.weight.detach()
    filler = weight.mean(0) if by is None else weight[by]
    with patch(model, "embed", filler.expand(len(positions), -1), positions, rows):
        yield


@contextmanager
def steer(
    model: LanguageModel,
    layer: int,
    vector: Tensor,
    scale: float = 1.0,
    positions: Sequence[int] | None = None,
    rows: Sequence[int] | None = None,
) -> Iterator[None]:
    """Add scale · vector (d,) to the residual stream after a layer, everywhere or at positions."""
    if vector.shape != (model.config.hidden_size,):
        raise ShapeError(
            f"a direction has shape ({model.config.hidden_size},), not {tuple(vector.shape)}."
        )

    def act(value: Tensor, at: Tensor) -> Tensor | None:
        if scale == 0:
            return None
        where = _rows(value, rows)[:, None].expand(value.shape[:2])
        if positions is not None:
            where = where & torch.isin(at, torch.tensor(list(positions), device=at.device))
        pushed = value + scale * vector.to(value.device, value.dtype)
        return torch.where(where[..., None], pushed, value)

    with hook(model, f"layer.{layer}", act):
        yield


@contextmanager
def replace_state(
    model: LanguageModel,
    layer: int,
    change: StateChange | State,
    every: str = "call",
) -> Iterator[None]:
    """Change what a layer remembers before it reads on.

    Args:
        change: from the layer's state to a new one (the same object: no change); or a state of
            another run, which takes the place of this one's once, at the next call.
        every: "call", or "block": at each refresh of the eidetic memory within a call as well.
            Blocks are then read one by one, which may round differently in the last digit.
    """
    if every not in ("call", "block"):
        raise ConfigError(f"every = '{every}' is unknown; use 'call' or 'block'.")
    mixer = _block(model, layer).mixer
    edits = mixer.__dict__.setdefault("_state_edits", [])
    entry = (_once(change) if isinstance(change, State) else change, every)
    if not edits:
        mixer.forward = _edited(mixer, edits, model.config.refresh)
    edits.append(entry)
    try:
        yield
    finally:
        edits[:] = [one for one in edits if one is not entry]
        if not edits:
            del mixer.__dict__["forward"], mixer.__dict__["_state_edits"]


@contextmanager
def replace_slot(
    model: LanguageModel,
    layer: int,
    positions: Sequence[int] | Tensor,
    pairs: Tensor | None = None,
    every: str = "block",
) -> Iterator[None]:
    """Empty the eidetic slots that hold the tokens at `positions`, or give them other contents.

    Args:
        positions: of the stream; a tensor (B, n) has a row's own.
        pairs: (2, G, D) keys and values instead; None empties the slots.
        every: as `replace_state`; a token that is still in the window is kept again at the next
            refresh, so "block" looks again.
    """
    if not isinstance(_block(model, layer).mixer, BMojo):
        raise ConfigError(f"layer {layer} has no eidetic memory; choose a 'B' layer.")

    def change(state: BMojoState) -> BMojoState:
        return edit_slots(state, positions, pairs)

    with replace_state(model, layer, change, every):
        yield


def edit_slots(
    state: BMojoState, positions: Sequence[int] | Tensor, pairs: Tensor | None = None
) -> BMojoState:
    """A layer's state without the slots of some positions, or with other pairs in them.

    `positions` is the same for all rows, or a tensor (B, n) with a row's own.
    """
    wanted = torch.as_tensor(positions, dtype=torch.int64, device=state.slot_time.device)
    rows = wanted if wanted.dim() == 2 else wanted.expand(len(state.slot_time), -1)
    held = (state.slot_time[:, :, None] == rows[:, None]).any(dim=-1)
    if not bool(held.any()):
        return state
    if pairs is not None:
        new = pairs.to(state.slots.device, state.slots.dtype).expand_as(state.slots)
        return dataclasses.replace(
            state, slots=torch.where(held[..., None, None, None], new, state.slots)
        )
    # Empty slots stand behind the filled ones, which are ordered by their innovation.
    eps = state.slot_eps.masked_fill(held, -torch.inf)
    order = eps.argsort(dim=1, descending=True, stable=True)
    slots = state.slots.masked_fill(held[..., None, None, None], 0.0)
    index = order[..., None, None, None].expand_as(slots)
    return dataclasses.replace(
        state,
        slots=slots.gather(1, index),
        slot_eps=eps.gather(1, order),
        slot_time=state.slot_time.masked_fill(held, -1).gather(1, order),
    )


def layer_state(state: ModelState, layer: int) -> State:
    """What one layer remembers, for `replace_state` in another run."""
    return state.stack.layers[layer]


def _once(state: State) -> StateChange:
    """A change that gives `state` at its first call and lets be afterwards."""
    left = [state]
    return lambda old: left.pop() if left else old


def _edited(mixer: nn.Module, edits: list, refresh: int) -> Callable:
    """`mixer.forward` that lets the edits change the state first."""
    plain = type(mixer).forward

    def apply(state: Any, u: Tensor, kinds: tuple[str, ...]) -> Any:
        given = mixer.init_state(len(u), u) if state is None else state  # type: ignore
        found = given
        for change, every in edits:
            if every in kinds:
                found = change(found)
        # The plain model reads a beginning without a state; an unchanged one stays what it was.
        return state if found is given else found

    def forward(
        u: Tensor, state: Any = None, lengths: Tensor | None = None, *rest: Any, **more: Any
    ) -> Any:
        state = apply(state, u, ("call", "block"))
        if all(every == "call" for _, every in edits) or u.shape[1] == 0:
            return plain(mixer, u, state, lengths, *rest, **more)
        if lengths is not None or (state is not None and not _together(state)):
            raise ShapeError(
                "every = 'block' needs rows that have read equally many tokens; read them one by "
                "one, or use every = 'call'."
            )
        phase = 0 if state is None else int(state.time[0]) % refresh
        outputs, start = [], 0
        while start < u.shape[1]:
            if start:
                state = apply(state, u, ("block",))
            stop = min(start + refresh - phase, u.shape[1])
            out, state = plain(mixer, u[:, start:stop], state, None, *rest, **more)
            outputs.append(out)
            start, phase = stop, 0
        return torch.cat(outputs, dim=1), state

    return forward


def _together(state: Any) -> bool:
    time = getattr(state, "time", None)
    if time is None:
        raise ConfigError("every = 'block' is for layers with an eidetic memory; use 'call'.")
    return bool((time == time[0]).all())


class _Clock:
    """Knows where in their streams the rows of the present call are."""

    def __init__(self) -> None:
        self.users = 0
        self.start: Tensor | None = None

    def positions(self, value: Tensor) -> Tensor:
        """(B, T) of a value (B, T, d)."""
        steps = torch.arange(value.shape[1], device=value.device).expand(len(value), -1)
        return steps if self.start is None else self.start[:, None].to(value.device) + steps


@contextmanager
def _clock(model: LanguageModel) -> Iterator[_Clock]:
    """The model's clock; `hidden` is wrapped while anybody looks at it."""
    clock = model.__dict__.get("_clock")
    if clock is None:
        clock = _Clock()
        plain = type(model).hidden

        def hidden(tokens: Any, state: ModelState | None = None, *rest: Any, **more: Any) -> Any:
            clock.start = None if state is None else state.time
            return plain(model, tokens, state, *rest, **more)

        model.__dict__["_clock"], model.__dict__["hidden"] = clock, hidden
    clock.users += 1
    try:
        yield clock
    finally:
        clock.users -= 1
        if not clock.users:
            del model.__dict__["_clock"], model.__dict__["hidden"]


def _rows(value: Tensor, rows: Sequence[int] | None) -> Tensor:
    """(B,) bool: the rows that a change is for."""
    if rows is None:
        return torch.ones(len(value), dtype=torch.bool, device=value.device)
    chosen = torch.zeros(len(value), dtype=torch.bool, device=value.device)
    chosen[list(rows)] = True
    return chosen


def _block(model: LanguageModel, layer: int) -> Block:
    if not isinstance(model, LanguageModel):
        raise ConfigError("interventions need a LanguageModel; a packed model has no such places.")
    if not 0 <= layer < len(model.blocks):
        raise ConfigError(f"layer {layer} does not exist; the model has {len(model.blocks)}.")
    return cast(Block, model.blocks[layer])


def _module(model: LanguageModel, site: str) -> nn.Module:
    name, _, number = site.partition(".")
    if name in ("embed", "norm") and not number and isinstance(model, LanguageModel):
        return model.embed if name == "embed" else model.norm
    if name not in PARTS or not number.isdigit():
        raise ConfigError(
            f"there is no site '{site}'; use embed, norm, or layer.N, mixer.N, mlp.N, fading.N."
        )
    block = _block(model, int(number))
    found = {
        "layer": block,
        "mixer": block.mixer,
        "mlp": block.mlp,
        "fading": block.mixer.ssm if isinstance(block.mixer, BMojo) else None,
    }[name]
    if found is None:
        raise ConfigError(f"layer {number} has no {name}; it is of kind '{block.kind}'.")
    return found
