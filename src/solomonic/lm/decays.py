"""How much of what a model held before a text is left after it: the product of its decays.

The recurrent layers compute a decay for every token and use it up at once. `Decays` listens to
them while a model reads and keeps the product, which is what merging states needs
(`solomonic.state.merge`): one number a head for state-space layers, exp(-A sum dt); a matrix a
head for the delta rule, the product of its transitions alpha (I - beta k k^T).
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import linear, silu, softplus

from solomonic import kernels
from solomonic.layers import SSM, BMojo, DeltaRule
from solomonic.layers.delta import unit
from solomonic.lm.model import LanguageModel

_CHUNK = 1024  # tokens a call

Products = dict[str, Tensor]
"""By layer ("3"): (B, H) for state-space layers, (B, H, N, N) for the delta rule; float64."""


class Decays:
    """Collects the products of what `model` reads inside the `with`.

    with Decays(model) as decays:
        logits, state = model(tokens)
    decays.products["0"]  # (B, H)

    Rows of a batch are apart. All rows must be real tokens (no `lengths`), and every call inside
    must read on in the same rows.

    Args:
        start: products of what was read before, to go on from.
    """

    def __init__(self, model: LanguageModel, start: Products | None = None) -> None:
        self.products: Products = {name: x.double() for name, x in (start or {}).items()}
        self._layers = recurrences(model)
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_pre_hook(self._listen(name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _listen(self, name: str) -> Any:
        def hook(layer: SSM | DeltaRule, inputs: tuple[Any, ...]) -> None:
            u, state = inputs[0], inputs[1] if len(inputs) > 1 else None
            if u.shape[1] == 0:
                return
            with torch.no_grad():
                if isinstance(layer, SSM):
                    new, join = scalar_product(layer, u), torch.mul
                else:
                    new, join = matrix_product(layer, u, state), torch.matmul
                old = self.products.get(name)
                self.products[name] = new if old is None else join(new, old)

        return hook


def recurrences(model: LanguageModel) -> dict[str, SSM | DeltaRule]:
    """The linear recurrences of a model by the number of their layer."""
    found: dict[str, SSM | DeltaRule] = {}
    for index, block in enumerate(model.blocks):
        mixer: Any = block.mixer
        if isinstance(mixer, BMojo):
            mixer = mixer.ssm
        if isinstance(mixer, (SSM, DeltaRule)):
            found[str(index)] = mixer
    return found


def scalar_product(layer: SSM, u: Tensor) -> Tensor:
    """(B, H) float64: the product of the decays of u (B, T, d)."""
    # Only the steps of the projection are needed: its last outputs, one a head.
    dt = linear(u, layer.in_proj.weight[-layer.heads :]).double()
    steps = softplus(dt + layer.dt_bias.double()).sum(dim=1)
    return torch.exp(-layer.A_log.double().exp() * steps)


def matrix_product(layer: DeltaRule, u: Tensor, state: Any) -> Tensor:
    """(B, H, N, N) float64: the product of the transitions of u (B, T, d), the last on the left.

    The recurrence itself computes it: it starts at the identity and is given nothing to store.
    """
    projected = layer.in_proj(u)
    state = state or layer.init_state(len(u), projected)
    _, mixed, beta, dt = projected.split(
        (layer.inner, 2 * layer.keys + layer.inner, layer.heads, layer.heads), dim=-1
    )
    mixed, _ = layer.conv(mixed, state.conv, None)
    _, k, _ = silu(mixed).split((layer.keys, layer.keys, layer.inner), dim=-1)
    k = unit(k.unflatten(-1, (layer.heads, -1)))
    kind = state.h.dtype
    log_decay = -layer.A_log.exp() * softplus(dt.to(kind) + layer.dt_bias)
    identity = torch.eye(layer.size, dtype=kind, device=u.device)
    start = identity.expand(len(u), layer.heads, -1, -1).contiguous()
    nothing = torch.zeros_like(k)
    _, product = kernels.run(
        "delta", k, k, nothing, log_decay, beta.to(kind).sigmoid(), start, layer.chunk
    )
    return product.double()


@torch.no_grad()
def decays_after(
    model: LanguageModel, tokens: Sequence[int], state: Any, start: Products
) -> Products:
    """The products after `tokens` are read from `state` (None: the start of a stream), of which
    the native core, which reads them faster, tells nothing."""
    with Decays(model, start) as decays:
        for begin in range(0, len(tokens), _CHUNK):
            row = torch.tensor([list(tokens[begin : begin + _CHUNK])], device=model.device)
            _, state = model.hidden(row, state)
    return decays.products
