"""Whole models on Triton kernels: training, prefill, decoding in place, no host synchronisation."""

import pytest
import torch
from torch import Tensor

from kernels.triton.support import NoWaiting, worst
from solomonic import kernels
from solomonic.kernels.triton import donate
from solomonic.lm.graphs import StaticDecoder
from solomonic.lm.model import LanguageModel
from tiny import tiny_model, tokens

TOLERANCE = 2e-5  # float32 through two layers of large weights


def pair(pattern: str, device: torch.device, **changes: object) -> tuple[LanguageModel, ...]:
    """A model in float32 on the device and its float64 twin on the CPU."""
    model = tiny_model(pattern, initializer_range=0.2, **changes)
    return tiny_model(pattern, initializer_range=0.2, **changes).float().to(device), model


def loss(logits: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    return (logits * weight.to(logits)).sum()


@pytest.mark.parametrize("changes", [{}, {"position": "rope", "fading_mode": "chunk"}], ids=str)
def test_a_training_step(changes: dict, device) -> None:
    model, law = pair("BM", device, **changes)
    text = tokens(2, 19)
    with kernels.use("triton"), kernels.watch() as seen:
        loss(model(text.to(device))[0]).backward()
    assert any("attention: triton" in line for line in seen)
    assert any("ssd: triton" in line for line in seen)
    with kernels.use("torch"):
        loss(law(text)[0]).backward()
    for (name, mine), other in zip(model.named_parameters(), law.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None, name
        assert worst(mine.grad.cpu(), other.grad) < TOLERANCE, name


def test_padded_rows_then_decoding_in_place(device) -> None:
    model, law = pair("BM", device)
    text, lengths = tokens(2, 18), torch.tensor([11, 4])
    with torch.no_grad(), kernels.use("triton"):
        _, state = model(text[:, :11].to(device), None, lengths.to(device))
        with kernels.use("torch"):
            _, truth = law(text[:, :11], None, lengths)
        decoder = StaticDecoder(model, 2)
        decoder.load(state)
        for t in range(11, 18):
            with kernels.use("torch"):
                logits, truth = law(text[:, t : t + 1], truth)
            found = decoder.step(text[:, t].to(device))
            assert worst(found.cpu(), logits[:, 0]) < TOLERANCE
    assert torch.equal(decoder.state.time.cpu(), truth.time)


@pytest.mark.parametrize("steps", [1, 7])
def test_nothing_is_read_by_the_host(steps: int, device) -> None:
    """Rows of different phases, one of them padded; one token in place, seven with gradient."""
    model, _ = pair("BM", device)
    lengths = torch.tensor([9, 4], device=device)
    x = model.embed(tokens(2, 9).to(device)).detach()
    with kernels.use("triton"):
        _, state = model.blocks(x, None, lengths)
        with NoWaiting():
            if steps == 1:
                with torch.no_grad(), donate():
                    model.blocks(x[:, :1], state)
            else:
                model.blocks(x[:, :steps], state)[0].square().sum().backward()


def test_what_waits_is_seen() -> None:
    """The check above fails where a form does read values: plain PyTorch's commit of the slots."""
    model = tiny_model("B")
    x = model.embed(tokens(2, 9)).detach()
    with kernels.use("torch"), torch.no_grad():
        _, state = model.blocks(x)
        with pytest.raises(AssertionError, match="_local_scalar_dense waits"), NoWaiting():
            model.blocks(x[:, :1], state)
