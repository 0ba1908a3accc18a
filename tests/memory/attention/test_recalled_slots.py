"""Slots of a long-term memory in the softmax of a layer: the definition, and the layer's contract.

Every layer setting that touches a memory is drawn at random; the law is `reference.attention`.
"""

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from needs import needs_core
from solomonic import kernels
from solomonic.core import ConfigError
from solomonic.kernels import Recalled
from solomonic.layers import BMojo, LayerRecall, ModelConfig, Stack
from solomonic.state import detach
from tiny import tiny_config, tiny_model
from tiny import tokens as draw_tokens

TOLERANCE = 1e-12
STEPS = 29


def settings(seed: int) -> ModelConfig:
    """A random layer of width 16; periods, windows and lags that do not divide one another."""
    chance = random.Random(seed)
    window = chance.choice((1, 3, 5))
    return tiny_config(
        "B",
        window_size=window,
        refresh_period=chance.choice((1, window)),
        eidetic_slots=chance.choice((0, 4)),
        fading_slots=chance.choice((1, 3)),
        fading_lag=chance.choice((0, 2)),
        fading_mode=chance.choice(("band", "chunk")),
        keep_duplicates=chance.random() < 0.3,
        position=chance.choice(("none", "rope")),
        num_key_value_heads=chance.choice((1, 2, 4)),
    )


def layer_of(config: ModelConfig, kind: str = "B") -> BMojo:
    torch.manual_seed(3)
    return BMojo(config, kind).double().eval()


def recalled_for(layer: BMojo, rows: int, seed: int = 0, **changes: Any) -> Recalled:
    """Three chunks of 7 tokens that begin at another time in every row, some slots empty."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, 3, 6, 2, layer.groups, layer.size)
    bias = torch.randn(rows, 3, 6, generator=generator, dtype=torch.float64)
    bias[:, 1] = -torch.inf  # nothing at all for one chunk
    bias[:, 2, 3:] = -torch.inf
    found = Recalled(
        torch.randn(shape, generator=generator, dtype=torch.float64),
        bias,
        torch.arange(rows) * 2 + 1,
        7,
    )
    return found._replace(**changes)


def read(layer: BMojo, u: Tensor, recalled: Recalled | None, cuts: list[int]) -> Tensor:
    outs, state = [], None
    for part in u.split(cuts, dim=1):
        out, state = layer(part, state, None, None, LayerRecall(recalled))
        outs.append(out)
    return torch.cat(outs, dim=1)


def inputs(rows: int = 3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, STEPS, 16, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(8))
def test_every_form_and_every_cut_is_the_definition(seed: int) -> None:
    layer, u = layer_of(settings(seed)), inputs()
    recalled = recalled_for(layer, 3)
    with kernels.use("reference"):
        law = read(layer, u, recalled, [STEPS])
    plain = read(layer, u, None, [STEPS])
    assert (law - plain).abs().max() > 1e-3  # the slots matter at all
    chance = random.Random(seed)
    marks = sorted(chance.choices(range(STEPS + 1), k=3))
    random_cuts = [b - a for a, b in zip([0, *marks], [*marks, STEPS], strict=True)]
    for cuts in ([STEPS], [1] * STEPS, random_cuts):
        assert (read(layer, u, recalled, cuts) - law).abs().max() <= TOLERANCE, cuts


@needs_core
@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_the_native_core_agrees_in_float32(seed: int) -> None:
    layer, u = layer_of(settings(seed)).float(), inputs().float()
    recalled = recalled_for(layer, 3)
    recalled = recalled._replace(pairs=recalled.pairs.float(), bias=recalled.bias.float())
    with kernels.use("torch"):
        plain = read(layer, u, recalled, [STEPS])
    with kernels.watch() as seen:
        fast = read(layer, u, recalled, [11, 1, STEPS - 12])
    assert any(line.startswith("attention: native") for line in seen)
    assert (fast - plain).abs().max() <= 2e-5


@needs_core
def test_the_native_core_says_that_it_has_no_gradient_for_them() -> None:
    layer, u = layer_of(settings(0)).float(), inputs().float()
    recalled = recalled_for(layer, 3)
    recalled = recalled._replace(pairs=recalled.pairs.float(), bias=recalled.bias.float())
    with kernels.watch() as seen:
        out = read(layer, u, recalled, [STEPS])
    assert out.requires_grad
    assert any("not native: it has no gradient for recalled" in line for line in seen)


@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
def test_without_slots_nothing_changes_by_a_bit(backend: str) -> None:
    """No argument, an empty handle, and a handle that only takes: the same bits."""
    layer, u = layer_of(settings(1)), inputs()
    with kernels.use(backend):
        plain, _ = layer(u)
        taking = LayerRecall(take=True)
        for recall in (None, LayerRecall(), taking):
            assert torch.equal(layer(u, None, None, None, recall)[0], plain)
    assert taking.pairs is not None
    assert taking.pairs.shape == (3, STEPS, 2, layer.groups, layer.size)


def test_chunks_without_slots_are_as_if_there_were_none() -> None:
    layer, u = layer_of(settings(2)), inputs()
    recalled = recalled_for(layer, 3)
    hidden = recalled._replace(bias=torch.full_like(recalled.bias, -torch.inf))
    none = recalled._replace(pairs=recalled.pairs[:, :0], bias=recalled.bias[:, :0])
    plain = read(layer, u, None, [STEPS])
    for nothing in (hidden, none, recalled._replace(begin=torch.full((3,), 1000))):
        assert (read(layer, u, nothing, [STEPS]) - plain).abs().max() <= TOLERANCE


def test_slots_of_a_chunk_reach_no_token_before_it() -> None:
    """Chunk n begins at begin + 7 n: other slots there leave every earlier output bit-identical."""
    layer, u = layer_of(settings(4)), inputs()
    recalled = recalled_for(layer, 3)
    other = recalled.pairs.clone()
    other[:, 2] += 5
    one, two = (
        read(layer, u, recalled._replace(pairs=p), [STEPS]) for p in (recalled.pairs, other)
    )
    for row in range(3):
        first = int(recalled.begin[row]) + 14
        assert torch.equal(one[row, :first], two[row, :first])
        assert (one[row, first : first + 7] - two[row, first : first + 7]).abs().min(0)[0].max() > 0
        assert torch.equal(one[row, first + 7 :], two[row, first + 7 :])


def test_the_order_of_rows_and_of_slots_does_not_matter() -> None:
    layer, u = layer_of(settings(5)), inputs()
    recalled = recalled_for(layer, 3)
    whole = read(layer, u, recalled, [STEPS])
    rows, slots = torch.tensor([2, 0, 1]), torch.tensor([5, 3, 0, 1, 4, 2])
    moved = Recalled(
        recalled.pairs[rows][:, :, slots], recalled.bias[rows][:, :, slots],
        recalled.begin[rows], 7,
    )  # fmt: skip
    assert (read(layer, u[rows], moved, [STEPS]) - whole[rows]).abs().max() <= TOLERANCE


def test_a_padded_row_is_the_row_alone() -> None:
    layer, u = layer_of(settings(6)), inputs()
    recalled = recalled_for(layer, 3)
    lengths = torch.tensor([STEPS, 11, 1])
    padded, _ = layer(u, None, lengths, None, LayerRecall(recalled))
    for row, length in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        mine = Recalled(recalled.pairs[one], recalled.bias[one], recalled.begin[one], 7)
        alone = read(layer, u[row : row + 1, :length], mine, [length])
        assert (padded[row, :length] - alone[0]).abs().max() <= TOLERANCE


def test_gradients_are_those_of_the_definition() -> None:
    """Of inputs, parameters, slots and biases."""
    layer, u = layer_of(settings(7)), inputs().requires_grad_()
    recalled = recalled_for(layer, 3)
    pairs, bias = recalled.pairs.requires_grad_(), recalled.bias.requires_grad_()
    weigh = torch.randn(3, STEPS, 16, dtype=torch.float64)
    leaves = [u, pairs, bias, *layer.parameters()]

    def slopes(backend: str) -> list[Tensor]:
        with kernels.use(backend):
            out = read(layer, u, recalled, [10, STEPS - 10])
        found = torch.autograd.grad((out * weigh).sum(), leaves, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]

    for law, fast in zip(slopes("reference"), slopes("torch"), strict=True):
        assert (law - fast).abs().max() <= 1e-11 and bool(torch.isfinite(fast).all())
    assert slopes("torch")[1][:, 0].abs().max() > 0


def test_gradcheck() -> None:
    config = tiny_config(
        "B", hidden_size=4, num_attention_heads=2, num_key_value_heads=1, ssm_head_dim=2,
        ssm_state_size=2, window_size=3, refresh_period=2, eidetic_slots=2, fading_lag=1,
    )  # fmt: skip
    layer = layer_of(config)
    names = [key for key, _ in layer.named_parameters()]
    u = torch.randn(1, 11, 4, dtype=torch.float64)
    state = detach(layer(u[:, :5])[1])
    pairs = torch.randn(1, 2, 3, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([[[0.3, -1.0, 0.0], [0.5, 0.1, -0.2]]], dtype=torch.float64)

    def run(x: Tensor, pairs: Tensor, bias: Tensor, *parameters: Tensor) -> Tensor:
        weights = dict(zip(names, parameters, strict=True))
        recall = LayerRecall(Recalled(pairs, bias, torch.tensor([4]), 3))
        return functional_call(layer, weights, (x, state, None, None, recall))[0]

    leaves = (u[:, 5:].clone().requires_grad_(), pairs, bias.requires_grad_())
    assert gradcheck(run, (*leaves, *layer.parameters()), fast_mode=True)


def test_the_window_layer_and_the_fading_one_read_them_too() -> None:
    for kind in "WF":
        layer, u = layer_of(tiny_config("W" if kind == "W" else "F"), kind), inputs()
        recalled = recalled_for(layer, 3)
        with kernels.use("reference"):
            law = read(layer, u, recalled, [STEPS])
        assert (read(layer, u, recalled, [8, STEPS - 8]) - law).abs().max() <= TOLERANCE


def test_a_stack_gives_each_layer_its_own_and_refuses_those_that_cannot() -> None:
    model, ids = tiny_model("BM"), draw_tokens(2, 13)
    taking = {0: LayerRecall(take=True)}
    plain, _ = model.hidden(ids)
    assert torch.equal(model.hidden(ids, recall=taking)[0], plain)
    assert taking[0].pairs is not None and taking[0].pairs.shape[:2] == (2, 13)
    recalled = Recalled(taking[0].pairs[:, None], torch.zeros(2, 1, 13), torch.zeros(2).long(), 64)
    assert not torch.equal(model.hidden(ids, recall={0: LayerRecall(recalled)})[0], plain)
    with pytest.raises(ConfigError, match=r"layer 1 of pattern 'BM' reads no recalled slots"):
        model.hidden(ids, recall={1: LayerRecall(recalled)})
    with pytest.raises(ConfigError, match="layer 7"):
        model.hidden(ids, recall={7: LayerRecall(recalled)})


def test_checkpointed_training_reads_them() -> None:
    model, ids = tiny_model("BB").train(), draw_tokens(2, 13)
    assert isinstance(model.blocks, Stack)
    pairs = torch.randn(2, 1, 5, 2, 2, 4, dtype=torch.float64)
    recalled = Recalled(pairs, torch.zeros(2, 1, 5), torch.zeros(2).long(), 64)
    found = []
    for recompute in (False, True):
        model.gradient_checkpointing = recompute
        model.zero_grad()
        model.hidden(ids, recall={1: LayerRecall(recalled, take=True)})[0].square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
