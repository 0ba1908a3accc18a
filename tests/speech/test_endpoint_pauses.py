"""Sentences with pauses inside: their true end, their pauses, their background."""

import numpy as np
import pytest

from solomonic.core import DataError
from solomonic.speech.endpoint.pauses import make_paused, speech_bounds, split

RATE = 16_000


def word(seconds: float, hertz: float = 200.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A tone with 100 ms of background on either side."""
    t = np.arange(int(seconds * RATE)) / RATE
    gap = np.zeros(RATE // 10)
    audio = np.concatenate([gap, 0.3 * np.sin(2 * np.pi * hertz * t), gap])
    rng = np.random.default_rng(seed)
    return (audio + noise * rng.normal(size=len(audio))).astype(np.float32)


def test_pauses_and_end_are_where_they_are_said_to_be() -> None:
    rng = np.random.default_rng(0)
    made = make_paused([word(0.3), word(0.4), word(0.2)], rng)
    assert len(made.pauses) == 2 and made.audio.dtype == np.float32
    for start, end in made.pauses:
        assert 0.1 <= end - start <= 0.9001
        assert np.abs(made.audio[round(start * RATE) : round(end * RATE)]).max() == 0
    speech = made.speech_end - made.speech_start - sum(b - a for a, b in made.pauses)
    assert speech == pytest.approx(0.9, abs=0.05)
    loud = np.flatnonzero(np.abs(made.audio) > 0.1) / RATE
    assert loud[0] == pytest.approx(made.speech_start, abs=0.02)
    assert loud[-1] == pytest.approx(made.speech_end, abs=0.02)
    assert len(made.audio) / RATE - made.speech_end == pytest.approx(1.5, abs=1e-3)


def test_pauses_sound_like_the_background_of_the_speech() -> None:
    rng = np.random.default_rng(0)
    made = make_paused([word(0.3, noise=0.003), word(0.3, noise=0.003, seed=1)], rng)
    (start, end) = made.pauses[0]
    inside = made.audio[round(start * RATE) : round(end * RATE)]
    assert np.sqrt((inside**2).mean()) == pytest.approx(0.003, rel=0.25)
    tail = made.audio[-RATE:]
    assert np.sqrt((tail**2).mean()) == pytest.approx(0.003, rel=0.25)


def test_soft_speech_does_not_go_on_in_the_pauses() -> None:
    close = [word(0.3)[RATE // 10 : -RATE // 10]] * 2
    made = make_paused(close, np.random.default_rng(0))
    (start, end) = made.pauses[0]
    inside = made.audio[round(start * RATE) : round(end * RATE)]
    assert np.sqrt((inside**2).mean()) < 0.012 * np.sqrt((close[0] ** 2).mean())
    noise = np.random.default_rng(1).normal(size=RATE) * 0.02
    made = make_paused(close, np.random.default_rng(0), background=noise)
    inside = made.audio[round(start * RATE) : round(end * RATE)]
    assert np.sqrt((inside**2).mean()) == pytest.approx(0.02, rel=0.25), "given, so believed"


def test_lengths_of_pauses_spread_over_their_range() -> None:
    rng = np.random.default_rng(0)
    pieces = [word(0.1)] * 2
    lengths = [b - a for _ in range(60) for a, b in make_paused(pieces, rng).pauses]
    assert min(lengths) < 0.2 and max(lengths) > 0.8


def test_the_same_seed_gives_the_same_audio() -> None:
    one, two = (make_paused([word(0.1)] * 2, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one.audio, two.audio) and one.pauses == two.pauses


def test_split_cuts_at_the_quietest_point() -> None:
    audio = np.concatenate([word(0.3, 300), word(0.3, 500)])
    first, second = split(audio, [0.53])
    assert len(first) + len(second) == len(audio)
    assert 0.4 <= len(first) / RATE <= 0.6
    made = make_paused([first, second], np.random.default_rng(0))
    assert len(made.pauses) == 1


def test_one_piece_has_no_pause() -> None:
    made = make_paused([word(0.3)], np.random.default_rng(0), lead_ms=0, tail_ms=0)
    assert made.pauses == () and made.speech_start == 0
    assert made.speech_end == pytest.approx(len(made.audio) / RATE)


def test_bad_pieces_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="at least one piece"):
        make_paused([], rng)
    with pytest.raises(DataError, match="no sound in this piece"):
        make_paused([np.zeros(1000, dtype=np.float32)], rng)
    with pytest.raises(DataError, match="no sound in this piece"):
        speech_bounds(np.zeros(0, dtype=np.float32))
    with pytest.raises(DataError, match=r"boundary at 9\.0 s is outside the 0\.50 s"):
        split(word(0.3), [9.0])
    with pytest.raises(DataError, match="is not after the one before"):
        split(word(0.3), [0.3, 0.1])
