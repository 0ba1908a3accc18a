"""The context mixer: the native one is the definition, bit by bit, and it beats bzip2 on text."""

import bz2

import numpy as np
import pytest

from needs import needs_core
from solomonic.core import ConfigError
from solomonic.induction import Mixer, coding

# Words, lines above each other, a long repeat, bytes that are no text.
SAMPLE = (
    b"the cat sat on the mat;\nthe dog sat on the log;\nthe Cat ran to the Dog.\n" * 2
    + bytes(range(0, 256, 5))
    + b'{"text": "0101", "n": 1}\n{"text": "0110", "n": 2}\n'
)


@needs_core
@pytest.mark.parametrize("bits", [10, 14])
def test_the_native_mixer_is_the_definition(bits: int) -> None:
    """With 2^10 slots contexts push each other out and the ring of the match goes round."""
    one, other = Mixer(bits, native=True), Mixer(bits, native=False)
    assert (one.costs(SAMPLE) == other.costs(SAMPLE)).all()
    assert (one.predict() == other.predict()).all()
    assert coding.encode(one, b"sat on") == coding.encode(other, b"sat on")


@needs_core
def test_hints_are_the_definitions() -> None:
    chance = np.random.default_rng(0)
    one, other = Mixer(10, native=True), Mixer(10, native=False)
    for byte in b"hints and tips":
        opinion = chance.dirichlet(np.full(256, 0.1))
        opinion[byte] += 1
        opinion /= opinion.sum()
        one.hint(opinion)
        other.hint(opinion)
        assert one.update(byte) == other.update(byte)


@needs_core
def test_a_good_hint_pays() -> None:
    data = np.random.default_rng(0).integers(0, 256, 3000).tolist()
    alone, told = Mixer(14), Mixer(14)
    paid = 0.0
    for byte in data:
        opinion = np.full(256, 0.1 / 255)
        opinion[byte] = 0.9
        told.hint(opinion)
        paid += told.update(byte)
    assert paid < 0.35 * alone.costs(bytes(data)).sum()


@needs_core
def test_asking_at_any_place_changes_nothing() -> None:
    asked, silent = Mixer(12), Mixer(12)
    for byte in SAMPLE:
        asked.predict()
        assert asked.update(byte) == silent.update(byte)
    assert asked.state() == silent.state()


@needs_core
def test_it_beats_bzip2_on_this_page() -> None:
    with open(__file__, "rb") as file:
        text = file.read()
    assert len(coding.encode(Mixer(18), text)) < 0.95 * len(bz2.compress(text, 9))


@needs_core
def test_a_fork_in_the_middle_of_a_byte() -> None:
    one = Mixer(12)
    one.costs(SAMPLE)
    for bit in (0, 1, 1, 0, 0):
        one.learn(bit)
    other, third = one.fork(), Mixer(12).load(one.state())
    for bit in (1, 0, 1):
        assert one.bit() == other.bit() == third.bit()
        for mixer in (one, other, third):
            mixer.learn(bit)
    assert (one.costs(b"the rest") == other.costs(b"the rest")).all()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="bits = 9"):
        Mixer(9)
