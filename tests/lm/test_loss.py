"""The sliced loss is the plain one: value, gradients, types, and no logits of the whole batch."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from solomonic.layers import ModelConfig
from solomonic.lm import loss as losses
from solomonic.lm.loss import next_token_loss
from solomonic.lm.model import LanguageModel


def model_of(tied: bool) -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(pattern="B", hidden_size=32, vocab_size=50, window_size=4,
                         num_attention_heads=2, tie_word_embeddings=tied)  # fmt: skip
    return LanguageModel(config)


def plain(model: LanguageModel, tokens: torch.Tensor) -> torch.Tensor:
    logits, _ = model(tokens[:, :-1])
    return cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_value_and_gradients(tied: bool, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SLICE", size)
    model = model_of(tied).double()
    tokens = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(1))
    results = []
    for function in (plain, next_token_loss):
        model.zero_grad()
        value = function(model, tokens)
        (3 * value).backward()  # the upstream slope must reach every gradient
        grads = {name: p.grad.clone() for name, p in model.named_parameters()}
        results.append((value.detach(), grads))
    (want, want_grads), (got, got_grads) = results
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    for name, grad in want_grads.items():
        torch.testing.assert_close(got_grads[name], grad, rtol=1e-10, atol=1e-12, msg=name)
    with torch.no_grad():
        torch.testing.assert_close(next_token_loss(model, tokens), want, rtol=1e-12, atol=1e-12)


def test_autocast_and_frozen_parts() -> None:
    model = model_of(True)
    tokens = torch.randint(0, 50, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        value = next_token_loss(model, tokens)
        want = plain(model, tokens)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, want.float(), rtol=2e-2, atol=2e-2)
    value.backward()
    assert model.embed.weight.grad is not None and model.embed.weight.grad.dtype == torch.float32
    model.zero_grad()
    model.embed.weight.requires_grad_(False)
    next_token_loss(model, tokens).backward()
    assert model.embed.weight.grad is None
    assert model.blocks[0].mixer.query.weight.grad is not None


def test_no_slice_is_larger_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SLICE", 8)
    seen: list[int] = []
    inner = losses._summed
    monkeypatch.setattr(losses, "_summed", lambda h, *rest: seen.append(len(h)) or inner(h, *rest))
    tokens = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(1))
    next_token_loss(model_of(True), tokens).backward()
    assert seen == [8, 8, 6]
