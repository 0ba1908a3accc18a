"""Products of decays: a layer's state after two texts follows from the states after each."""

from typing import Any

import pytest
import torch

from solomonic.lm.decays import Decays, decays_after, matrix_product, recurrences, scalar_product
from solomonic.lm.model import LanguageModel
from tiny import tiny_model, tokens


def layer_of(transition: str) -> Any:
    model = tiny_model("B", transition=transition)
    return recurrences(model)["0"]


@pytest.mark.parametrize("transition", ["ssd", "delta"])
def test_the_state_after_two_texts_follows_from_each(transition: str) -> None:
    layer = layer_of(transition)
    generator = torch.Generator().manual_seed(2)
    u, v = torch.randn(2, 1, 9, 16, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        _, after_u = layer(u)
        # What the convolution carries over is not the recurrence's: v begins without it in both.
        begun = type(after_u)(after_u.h, torch.zeros_like(after_u.conv))
        _, both = layer(v, begun)
        _, after_v = layer(v)
        if transition == "ssd":
            kept = scalar_product(layer, v)[..., None, None] * after_u.h
        else:
            kept = matrix_product(layer, v, None) @ after_u.h
    assert (kept + after_v.h - both.h).abs().max() < 1e-12
    assert kept.abs().max() > 1e-6


@pytest.mark.parametrize("pattern", ["MB", "TD", "FW"])
@pytest.mark.parametrize("transition", ["ssd", "delta"])
def test_products_do_not_depend_on_how_a_text_is_cut(pattern: str, transition: str) -> None:
    model = tiny_model(pattern, transition=transition)
    text = tokens(2, 30)
    with torch.no_grad(), Decays(model) as whole:
        model(text)
    state = None
    with torch.no_grad(), Decays(model) as cut:
        for part in text.split([11, 1, 18], dim=1):
            _, state = model(part, state)
    assert set(whole.products) == set(recurrences(model)) == set(cut.products)
    for name, product in whole.products.items():
        assert product.dtype == torch.float64
        assert torch.allclose(product, cut.products[name], rtol=0, atol=1e-12)


def test_it_goes_on_from_products_and_leaves_no_hook(model: LanguageModel) -> None:
    text = tokens(1, 20)
    with torch.no_grad():
        _, state = model(text[:, :12])
    whole_once = decays_after(model, text[0].tolist(), None, {})
    with torch.no_grad(), Decays(model) as first:
        model(text[:, :12])
    rest = decays_after(model, text[0, 12:].tolist(), state, first.products)
    for name, product in whole_once.items():
        assert torch.allclose(rest[name], product, rtol=0, atol=1e-13)
    assert not any(layer._forward_pre_hooks for layer in recurrences(model).values())


@pytest.fixture
def model() -> LanguageModel:
    return tiny_model("MB")
