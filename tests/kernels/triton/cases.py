"""Calls of B'MOJO attention: every kind of set, phase, padding and past, small enough to interpret.

Also used at real sizes on a GPU.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from solomonic.kernels import AttentionSpec, Carry, empty_carry
from solomonic.kernels.attention import AttentionOutput, blocks


@dataclasses.dataclass(frozen=True)
class Case:
    """One call. before: tokens each row has read already (None: fresh); lengths of the new ones."""

    spec: AttentionSpec
    steps: int = 23
    before: tuple[int, int] | None = None
    lengths: tuple[int, int] | None = None
    heads: tuple[int, int] = (2, 1)
    size: int = 16

    @property
    def name(self) -> str:
        """What pytest calls it."""
        spec = self.spec
        parts = [f"w{spec.window}r{spec.refresh}m{spec.slots}"]
        parts += [f"f{spec.fading}{'chunk' if spec.chunked_fading else 'band'}{spec.lag}"]
        parts += ["dup"] * spec.keep_duplicates + ["rope"] * (spec.rope_theta is not None)
        parts += [f"t{self.steps}", f"h{self.heads[0]}g{self.heads[1]}d{self.size}"]
        parts += [f"past{self.before}"] * (self.before is not None)
        return "-".join(parts + [f"len{self.lengths}"] * (self.lengths is not None))


def spec(window: int = 8, **changes: object) -> AttentionSpec:
    """Window 8, refresh 4, 5 slots, 2 fading tokens at lag 8, or what `changes` says."""
    settings = {"refresh": max(window // 2, 1), "slots": 5, "fading": 2, "lag": window}
    return AttentionSpec(window=window, **settings | changes)  # type: ignore[arg-type]


CASES = [
    Case(spec(), heads=(4, 2)),
    Case(spec(rope_theta=100.0), steps=13, before=(11, 6), lengths=(13, 9)),
    Case(spec(chunked_fading=True, refresh=8, fading=9), steps=19, before=(5, 30)),
    Case(spec(keep_duplicates=True, slots=18, fading=0), before=(3, 0), heads=(3, 1), size=6),
    Case(spec(slots=0, fading=1, lag=0), before=(1, 20), lengths=(0, 23), heads=(2, 2)),
    Case(spec(slots=0, fading=0, rope_theta=10.0), steps=33, heads=(6, 2), size=6),
    Case(spec(0, slots=5, fading=1, lag=0), steps=9, before=(7, 2)),
    Case(spec(1, slots=1, chunked_fading=True), steps=9, lengths=(4, 9)),
    Case(spec(3, refresh=3, rope_theta=10.0, keep_duplicates=True), steps=7, before=(40, 2)),
    Case(spec(20, refresh=20, slots=3), steps=45, before=(19, 5), lengths=(45, 41)),
]
SINGLE = [dataclasses.replace(case, steps=1, lengths=None) for case in CASES] + [
    Case(spec(rope_theta=100.0), steps=1, before=(11, 7), lengths=(0, 1)),
    Case(spec(chunked_fading=True, refresh=8, fading=3), steps=1, before=(15, 31)),
]


@dataclasses.dataclass
class Call:
    """The tensors of one call; those that learn are in `leaves`."""

    case: Case
    q: Tensor
    kv: Tensor
    faded: Tensor | None
    eps: Tensor | None
    carry: Carry
    lengths: Tensor | None

    @property
    def leaves(self) -> list[Tensor]:
        """Everything that gets a gradient."""
        carry = self.carry
        parts = (self.q, self.kv, self.faded, carry.raw, carry.faded, carry.slots)
        return [part for part in parts if part is not None and part.numel()]

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> "Call":
        """A twin in another type: the same values as far as the type holds them."""

        def move(x: Tensor | None, wide: bool = False) -> Tensor | None:
            if x is None or not x.is_floating_point():
                return None if x is None else x.to(device=device)
            kind = torch.promote_types(dtype, torch.float32) if wide else dtype
            return x.detach().to(device, kind).requires_grad_(not wide)

        carry = Carry(*(move(x, n.endswith("eps")) for n, x in self.carry._asdict().items()))  # type: ignore[arg-type]
        q, kv, lengths = move(self.q), move(self.kv), move(self.lengths)
        assert q is not None and kv is not None
        return Call(self.case, q, kv, move(self.faded), move(self.eps, True), carry, lengths)

    def run(self, form: Callable[..., AttentionOutput]) -> AttentionOutput:
        """Call one form of the op."""
        fresh = self.case.before is None
        return form(
            self.q, self.kv, self.faded, self.eps, self.carry, self.case.spec, self.lengths, fresh
        )

    def real(self, out: Tensor) -> Tensor:
        """Outputs with those behind a row's end, which are undefined, set to 0."""
        if self.lengths is None:
            return out
        real = torch.arange(out.shape[1], device=out.device) < self.lengths[:, None]
        return torch.where(real[..., None, None], out, 0.0)


def draw(case: Case) -> Call:
    """Random float32 tensors; a past is made by reading `before` random tokens."""
    rows, (heads, groups), spec = 2, case.heads, case.spec

    def some(steps: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        kv = torch.randn(rows, steps, 2, groups, case.size)
        faded = torch.randn_like(kv) if spec.fading else None
        eps = torch.randint(0, 40, (rows, steps)).float() if spec.slots else None
        return torch.randn(rows, steps, heads, case.size), kv, faded, eps

    carry = empty_carry(spec, rows, groups, case.size, torch.zeros(1))
    if case.before is not None:
        read = torch.tensor(case.before)
        carry = blocks(*some(max(case.before)), carry, spec, read).carry
    lengths = None if case.lengths is None else torch.tensor(case.lengths)
    return Call(case, *some(case.steps), carry, lengths)
