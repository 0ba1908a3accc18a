"""The encoder as a stream: cuts, padding, resets and company in the batch change nothing."""

import random

import pytest
import torch
from torch import Tensor

from solomonic.core import ConfigError, ShapeError
from solomonic.speech.config import TransducerConfig
from solomonic.speech.encoder import Encoder, EncoderState
from solomonic.state import concatenate, gather, reset

PATTERNS = [("L", "L"), ("M", "W"), ("B", "B"), ("MW", "MW"), ("", "LL")]
BINS = 12


def made(front: str, pattern: str, **changes: object) -> Encoder:
    """A small encoder in float64 whose window and slots are full within a few frames."""
    settings = {
        "bins": BINS, "front": front, "pattern": pattern, "hidden_size": 16,
        "num_attention_heads": 2, "intermediate_size": 12, "window_size": 5, "refresh_period": 3,
        "eidetic_slots": 4, "ssm_state_size": 8, "ssm_head_dim": 8, "dropout": 0.5,
    }  # fmt: skip
    torch.manual_seed(3)
    encoder = Encoder(TransducerConfig.from_json({**settings, **changes})).double().eval()
    encoder.mean.fill_(-3.0)
    encoder.deviation.fill_(2.0)
    return encoder.requires_grad_(False)


def frames(rows: int, steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 4 * torch.randn(rows, steps * 6, BINS, generator=generator, dtype=torch.float64) - 3


def streamed(encoder: Encoder, x: Tensor, cuts: list[int], state: EncoderState | None = None):
    """Outputs of pieces of so many encoder frames each, and the last state."""
    parts, at = [], 0
    for cut in cuts:
        out, state, _ = encoder(x[:, at * 6 : (at + cut) * 6], state)
        parts.append(out)
        at += cut
    assert at * 6 == x.shape[1] and state is not None
    return torch.cat(parts, 1), state


@pytest.mark.parametrize(("front", "pattern"), PATTERNS)
def test_cutting_changes_nothing(front: str, pattern: str) -> None:
    encoder, x = made(front, pattern), frames(2, 24)
    whole, end, lengths = encoder(x)
    assert whole.shape == (2, 24, 16) and lengths is None
    draw = random.Random(0)
    for _ in range(4):
        cuts = []
        while sum(cuts) < 24:
            cuts.append(min(draw.choice([1, 1, 2, 5, 9]), 24 - sum(cuts)))
        parts, state = streamed(encoder, x, cuts, encoder.init_state(2))
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-11)
        for (name, a), (_, b) in zip(state.leaves(), end.leaves(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize(("front", "pattern"), PATTERNS)
def test_what_comes_later_is_not_seen(front: str, pattern: str) -> None:
    encoder, x = made(front, pattern), frames(1, 12)
    before = encoder(x)[0]
    x[:, 7 * 6 :] = 9.0
    after = encoder(x)[0]
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.isclose(before[:, 7:], after[:, 7:]).all()


@pytest.mark.parametrize(("front", "pattern"), PATTERNS)
def test_the_past_matters_to_the_end(front: str, pattern: str) -> None:
    """A guard on the tests above: an encoder without a memory would pass them."""
    encoder, x = made(front, pattern), frames(1, 6)
    before = encoder(x)[0]
    x[:, :6] += 1.0
    assert (encoder(x)[0][:, -1] - before[:, -1]).abs().max() > 1e-6


@pytest.mark.parametrize(("front", "pattern"), PATTERNS)
@pytest.mark.parametrize("lengths", [[61, 96, 7, 0], [96, 1, 54, 36]])
def test_padding_is_not_heard(front: str, pattern: str, lengths: list[int]) -> None:
    """Each row is what it would be alone with its last step filled up by zeros as `collate` does;
    states stop where rows end."""
    encoder, x = made(front, pattern), frames(4, 16)
    for row, length in enumerate(lengths):
        x[row, length:] = 0.0
    out, state, steps = encoder(x, None, torch.tensor(lengths))
    assert steps is not None and steps.tolist() == [-(-n // 6) for n in lengths]
    for row, count in enumerate(steps.tolist()):
        # Frames within a started step count where the first stack still hears their third.
        alone = x[row : row + 1, : count * 6]
        reals = torch.tensor([lengths[row]])
        if not count:
            continue
        expected, end, _ = encoder(alone, None, reals)
        torch.testing.assert_close(out[row : row + 1, :count], expected, rtol=0, atol=1e-11)
        for (name, a), (_, b) in zip(
            gather(state, torch.tensor([row])).leaves(), end.leaves(), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10, msg=name)
    # Full steps: as without any lengths.
    if 96 in lengths:
        row = lengths.index(96)
        torch.testing.assert_close(out[row], encoder(x[row : row + 1])[0][0], rtol=0, atol=1e-11)


@pytest.mark.parametrize(("front", "pattern"), PATTERNS)
def test_rows_can_be_reset_gathered_and_joined(front: str, pattern: str) -> None:
    encoder, x = made(front, pattern), frames(3, 20)
    _, state, _ = encoder(x[:, :60])
    rest = x[:, 60:]
    on = encoder(rest, state)[0]
    fresh = encoder(rest)[0]
    cleared = encoder(rest, reset(state, torch.tensor([False, True, False])))[0]
    expected = torch.stack([on[0], fresh[1], on[2]])
    torch.testing.assert_close(cleared, expected, rtol=0, atol=1e-11)
    index = torch.tensor([2, 0, 2])
    torch.testing.assert_close(
        encoder(rest[index], gather(state, index))[0], on[index], rtol=0, atol=1e-11
    )
    # Streams that began at different times are read together.
    late = encoder(x[:1, 24:60])[1]
    joined = concatenate([gather(state, torch.tensor([1])), late])
    both = encoder(rest[[1, 0]], joined)[0]
    torch.testing.assert_close(both[0], on[1], rtol=0, atol=1e-11)
    torch.testing.assert_close(both[1:], encoder(rest[:1], late)[0], rtol=0, atol=1e-11)


def test_joining_no_states_is_refused() -> None:
    with pytest.raises(ShapeError, match="no states to concatenate"):
        concatenate([])


def test_a_state_has_one_size_however_long_the_stream() -> None:
    encoder = made("MW", "BL")
    sizes = {encoder(frames(1, steps))[1].nbytes for steps in (2, 30)}
    assert sizes == {encoder.init_state(1).nbytes}


def test_statistics_are_taken_off() -> None:
    encoder, x = made("L", "L"), frames(1, 4)
    out = encoder(x)[0]
    encoder.mean.zero_()
    encoder.deviation.fill_(1.0)
    assert torch.equal(encoder((x + 3.0) / 2.0)[0], out)


def test_wrong_shapes_are_refused() -> None:
    encoder = made("L", "L")
    with pytest.raises(ShapeError, match=r"features must be \(batch, time, 12\), not \(1, 6, 13\)"):
        encoder(torch.zeros(1, 6, 13))
    with pytest.raises(ShapeError, match="7 feature frames are no multiple of 6"):
        encoder(torch.zeros(1, 7, 12))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": "MT"}, "full attention"),
        ({"front": "T"}, "full attention"),
        ({"pattern": ""}, "pattern is empty"),
        ({"stack": 0}, "stack = 0 must be at least 1"),
        ({"vocab_size": 1}, "vocab_size must be at least 2"),
        ({"dropout": 1.0}, "dropout = 1.0 must lie in"),
        ({"predictor": "gru"}, "predictor = 'gru' is unknown; use one of lstm, stateless"),
        ({"shift_ms": 0.0}, "shift_ms = 0.0 must be above 0"),
    ],
)
def test_impossible_configurations_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TransducerConfig(**changes)


def test_one_frame_stands_for_sixty_milliseconds() -> None:
    config = TransducerConfig()
    assert (config.frames_per_step, config.frame_seconds) == (6, pytest.approx(0.06))
