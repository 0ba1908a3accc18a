"""Dynamic evaluation: scores come before steps, steps follow the rule, and weights come back."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from solomonic.core import CheckpointError, ConfigError, ShapeError
from solomonic.lm.adapt import AdaptConfig, DynamicEvaluation, dynamic_log_probs
from solomonic.lm.adapt import statistics as statistics_of
from solomonic.lm.adapt.config import PARAMETERS
from solomonic.lm.score import token_log_probs
from solomonic.state import detach
from tiny import tiny_model, tokens

CONFIG = AdaptConfig(segment=8, rate=0.01, decay=0.003)


def test_at_rate_zero_it_is_the_model_itself() -> None:
    model, text = tiny_model("MB"), tokens(60)
    plain, _ = token_log_probs(model, text[None])
    found = dynamic_log_probs(model, text, CONFIG.replace(rate=0.0))
    assert torch.allclose(found, plain[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("given", [False, True])
def test_every_score_and_step_is_that_of_the_written_rule(given: bool) -> None:
    """A loop as one would write it from the docstring, with plain tensors."""
    model, text = tiny_model("MB"), tokens(41)
    squares = statistics_of.collect(model, tokens(2, 33, seed=4), segment=8) if given else None
    found = dynamic_log_probs(model, text, CONFIG, squares)

    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    running = {n: torch.zeros_like(p) for n, p in start.items()}
    scores, state = [], None
    for number, begin in enumerate(range(0, 40, 8), start=1):
        logits, state = model(text[None, begin : begin + 8], state)
        state = detach(state)
        targets = text[begin + 1 : begin + 9]
        scores.append(logits[0].log_softmax(-1).gather(-1, targets[:, None])[:, 0].detach())
        grads = torch.autograd.grad(
            cross_entropy(logits[0].float(), targets), list(model.parameters())
        )
        for (name, _), g in zip(model.named_parameters(), grads, strict=True):
            running[name] = 0.99 * running[name] + 0.01 * g**2
        now = (
            {n: s / (1 - 0.99**number) for n, s in running.items()} if squares is None else squares
        )
        rms = {n: s.sqrt() for n, s in now.items()}
        total = sum(r.numel() for r in rms.values())
        mean = sum(float(r.sum()) for r in rms.values()) / total
        with torch.no_grad():
            for (name, p), g in zip(model.named_parameters(), grads, strict=True):
                pull = (
                    torch.tensor(CONFIG.decay)
                    if squares is None
                    else (CONFIG.decay * rms[name] / mean).clamp(max=1)
                )
                step = -CONFIG.rate * g / (rms[name] + CONFIG.floor * mean)
                p += step + pull * (start[name] - p)
    assert torch.allclose(found, torch.cat(scores), rtol=0, atol=1e-7)
    assert not torch.allclose(found[8:], token_log_probs_of(start, text)[8:], atol=1e-3)


def token_log_probs_of(start: dict[str, torch.Tensor], text: torch.Tensor) -> torch.Tensor:
    model = tiny_model("MB")
    return token_log_probs(model, text[None])[0][0]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_nothing_is_scored_by_weights_that_have_seen_it(parameters: str) -> None:
    """What comes later changes no score, and the first segment is the model's own."""
    model, text = tiny_model("MB"), tokens(60)
    config = CONFIG.replace(parameters=parameters)
    whole = dynamic_log_probs(model, text, config)
    other = text.clone()
    other[40:] = tokens(20, seed=8)
    assert torch.equal(dynamic_log_probs(model, other, config)[:39], whole[:39])
    assert torch.allclose(whole[:8], token_log_probs(model, text[None])[0][0][:8], atol=1e-9)


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_it_learns_what_repeats(parameters: str) -> None:
    model = tiny_model("MB")
    text = tokens(24).repeat(8)
    config = CONFIG.replace(parameters=parameters, rate=0.03, decay=0.0)
    gain = dynamic_log_probs(model, text, config) - token_log_probs(model, text[None])[0][0]
    assert gain[-24:].mean() > 0.1


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_weights_and_flags_come_back_bit_for_bit(parameters: str) -> None:
    model = tiny_model("MB").requires_grad_(False)
    mark = model.fingerprint()
    with (
        pytest.raises(KeyboardInterrupt),
        DynamicEvaluation(model, CONFIG.replace(parameters=parameters)) as reading,
    ):
        for segment in reading.segments(tokens(60)):
            if segment.first > 30:
                assert model.fingerprint() != mark
                raise KeyboardInterrupt
    assert model.fingerprint() == mark
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_only_what_should_learn_does() -> None:
    model = tiny_model("MB")
    for parameters, untouched in (("norms", "blocks.0.mixer.in_proj.weight"),
                                  ("last", "blocks.0.mixer.in_proj.weight"),
                                  ("low_rank", "norm.weight")):  # fmt: skip
        with DynamicEvaluation(model, CONFIG.replace(parameters=parameters)) as reading:
            list(reading.segments(tokens(60)))
            changes = reading.delta().changes
        assert untouched not in changes
        assert any(bool((part[0] != 0).any()) for part in changes.values())


def test_full_decay_undoes_every_step() -> None:
    model, text = tiny_model("MB"), tokens(60)
    # The step itself is made before the pull, so at decay 1 what stays is the last step alone.
    with DynamicEvaluation(model, CONFIG.replace(decay=1.0)) as reading:
        start = {n: p.detach().clone() for n, p in model.named_parameters()}
        list(reading.segments(text))
        moved = [(p.detach() - start[n]).abs().max() for n, p in model.named_parameters()]
        largest = float(max(moved))
    assert 0 < largest <= CONFIG.rate / math.sqrt(0.01)


def test_segments_tell_all_that_a_mixture_needs() -> None:
    model, text = tiny_model("MB"), tokens(30)
    with DynamicEvaluation(model, CONFIG) as reading:
        parts = list(reading.segments(text))
    assert [p.first for p in parts] == [0, 8, 16, 24]
    assert torch.equal(torch.cat([p.targets for p in parts]), text[1:])
    for part in parts:
        picked = part.logits.log_softmax(-1).gather(-1, part.targets[:, None])[:, 0]
        assert torch.allclose(picked, part.log_probs)
        assert part.hidden.shape == (len(part.targets), 16)
    assert int(parts[-1].state.time) == 29


def test_statistics_are_those_of_one_model(tmp_path) -> None:
    model = tiny_model("MB")
    squares = statistics_of.collect(model, tokens(2, 33), segment=8)
    statistics_of.save(squares, model, tmp_path / "g")
    found = statistics_of.load(tmp_path / "g", model)
    assert all(torch.equal(found[name], value) for name, value in squares.items())
    with pytest.raises(CheckpointError, match="another model"):
        statistics_of.load(tmp_path / "g", tiny_model("MB", seed=1))
    with pytest.raises(CheckpointError, match="another model"):
        dynamic_log_probs(tiny_model("BB"), tokens(30), CONFIG, squares)
    with pytest.raises(ShapeError, match="segment"):
        statistics_of.collect(model, tokens(2, 8), segment=8)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"segment": 0}, {"rate": -1.0}, {"decay": 1.5}, {"parameters": "some"},
                  {"methods": ("magic",)}, {"stored": "int3"}):  # fmt: skip
        with pytest.raises(ConfigError):
            AdaptConfig(**wrong)  # type: ignore[arg-type]
    again = AdaptConfig(methods=("dynamic",), rate=0.5)
    assert AdaptConfig.from_json(again.to_json() | {"methods": ["dynamic"]}) == again
    with pytest.raises(ShapeError, match="nothing to score"):
        dynamic_log_probs(tiny_model("MB"), tokens(1))
