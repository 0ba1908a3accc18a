"""A model that learns while it predicts, and a mixer that listens to it; laws are in contracts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from needs import needs_core
from solomonic.core import ConfigError
from solomonic.induction import Frequencies, Hinted, Mixer, bits
from solomonic.lm.online import OnlineConfig, OnlineLm

SMALL = OnlineConfig(
    hidden_size=32, window_size=8, eidetic_slots=4, every=8, rows=4, length=32, lr=1e-2
)


def test_it_learns_from_what_it_reads() -> None:
    model, text = OnlineLm(SMALL), b"abcd" * 100
    assert model.predict().max() < 0.02  # at first it knows nothing
    first, _, last = (bits(model, part) for part in (text[:80], text[80:-80], text[-80:]))
    assert first > 300
    assert last < 0.3 * first


def test_no_byte_is_seen_before_it_is_predicted() -> None:
    """What was predicted so far does not change with what comes."""
    one, other = OnlineLm(SMALL), OnlineLm(SMALL)
    for byte in b"the same beginning":
        assert np.array_equal(one.predict(), other.predict())
        one.update(byte)
        other.update(byte)
    assert np.array_equal(one.predict(), other.predict())


def test_an_update_lowers_the_loss_of_its_windows() -> None:
    model = OnlineLm(SMALL, packed=False)
    for byte in b"a text of some length to learn from":
        model.update(byte)
    windows = model._windows()
    assert bytes(windows[0].tolist()) == bytes(model._seen)[-33:]

    def loss() -> float:
        with torch.no_grad():
            logits = model.model(windows[:, :-1])[0]
        chosen = logits.log_softmax(-1).gather(-1, windows[:, 1:, None])
        return -float(chosen.mean())

    before = loss()
    for _ in range(5):
        model._descend(windows)
    assert loss() < before


def test_threads_and_generators_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    bits(OnlineLm(SMALL), b"twenty bytes or more")
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


@needs_core
def test_the_native_core_predicts_the_same() -> None:
    one, other = OnlineLm(SMALL, packed=True), OnlineLm(SMALL, packed=False)
    for byte in b"read by both, in two ways":
        np.testing.assert_allclose(one.predict(), other.predict(), rtol=2e-3, atol=1e-6)
        one.update(byte)
        other.update(byte)


@needs_core
def test_a_mixer_that_listens_pays_less() -> None:
    """The outside predictor knows what the mixer cannot: the text repeats at a distance."""

    class Oracle(Frequencies):
        at = 0

        def predict(self) -> np.ndarray:
            found = np.full(256, 0.1 / 255)
            found[text[self.at]] = 0.9
            return found

        def update(self, symbol: int) -> float:
            paid = super().update(symbol)
            self.at = min(self.at + 1, len(text) - 1)
            return paid

    text = np.random.default_rng(0).integers(0, 256, 400).astype(np.uint8).tobytes()
    told, alone = bits(Hinted(Oracle(256), Mixer(12)), text), bits(Mixer(12), text)
    assert told < 0.6 * alone


def test_only_bytes_are_mixed() -> None:
    with pytest.raises(ConfigError, match="reads bytes"):
        Hinted(Frequencies(4), Mixer(10))
    with pytest.raises(ConfigError, match="every = 0"):
        OnlineConfig(every=0)


@needs_core
def test_zip_with_both_and_back(cli_main: Callable[..., int], tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_bytes(b"a small file, a small file, and little else " * 4)
    assert cli_main("zip", source, "--predictor", "bmojo+mix") == 0
    archive = tmp_path / "text.txt.slz"
    back = tmp_path / "back.txt"
    assert cli_main("unzip", archive, "--out", back) == 0
    assert back.read_bytes() == source.read_bytes()


@pytest.fixture
def cli_main() -> Callable[..., int]:
    from solomonic.cli.main import main

    return lambda *arguments: main([str(argument) for argument in arguments])
