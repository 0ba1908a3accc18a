"""The end head's recipe: commands with pauses whose end is known, and a head that learns."""

import shutil

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError
from solomonic.recipes.endpoint import PausedCommand, end_sequences, paused_commands, train_end
from solomonic.speech.endpoint.pauses import make_paused
from solomonic.speech.endpoint.training import EndTraining
from speech_tiny import speech, tiny_model

pytest.importorskip("kaldi_native_fbank")


def commands(count: int) -> list[PausedCommand]:
    """Buzzes in one or two pieces."""
    rng = np.random.default_rng(3)
    made = []
    for seed in range(count):
        pieces = [speech(0.5, seed=2 * seed + part) for part in range(1 + seed % 2)]
        made.append(PausedCommand("stop", make_paused(pieces, rng, pause_ms=(300, 600))))
    return made


def test_sequences_are_as_long_as_the_recordings_and_know_the_end() -> None:
    model, spoken = tiny_model(), commands(3)
    seconds = model.transducer.config.frame_seconds
    for command, made in zip(spoken, end_sequences(model, spoken), strict=True):
        frames = len(command.speech.audio) / 16000 / seconds
        assert abs(len(made.hidden) - frames) <= 1
        assert len(made.label) == len(made.pauses) == len(made.hidden)
        assert abs(made.end * seconds - command.speech.speech_end) <= seconds
        assert len(made.gaps) == len(command.speech.pauses)
        silence = made.pauses[:, 3]
        assert silence[made.end + 10] > 0 == silence[made.end - 2]


def test_sequences_do_not_depend_on_who_is_read_beside() -> None:
    model, spoken = tiny_model(), commands(3)
    alone, together = end_sequences(model, spoken[1:2])[0], end_sequences(model, spoken)[1]
    assert np.allclose(alone.hidden, together.hidden, atol=1e-5)
    assert np.allclose(alone.pauses, together.pauses, atol=1e-5)


def test_the_model_gets_a_head_and_the_generators_are_left_alone() -> None:
    model = tiny_model()
    before = torch.get_rng_state()
    losses = train_end(model, end_sequences(model, commands(6)), EndTraining(epochs=8, batch=3))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.end is not None and not model.end.training
    assert losses[-1] < losses[0]


def test_a_share_that_is_none() -> None:
    with pytest.raises(ConfigError, match="paused = 2"):
        list(paused_commands(["stop"], (), paused=2))


def test_synthetic_commands_pause_inside_and_end_where_they_say() -> None:
    if not (shutil.which("espeak-ng") and shutil.which("flite")):
        pytest.skip("needs espeak-ng and flite")
    from solomonic.speech.data.synthesis import TRAIN_VOICES

    text = "set a timer for ten minutes please"
    spoken = list(paused_commands([text] * 4, TRAIN_VOICES, seed=1, paused=1.0))
    again = list(paused_commands([text] * 4, TRAIN_VOICES, seed=1, paused=1.0))
    assert all(np.array_equal(a.speech.audio, b.speech.audio)
               for a, b in zip(spoken, again, strict=True))  # fmt: skip
    for command in spoken:
        audio, end = command.speech.audio, int(16000 * command.speech.speech_end)
        assert command.speech.pauses
        assert np.abs(audio).max() <= 1.0
        loud = np.abs(audio[:end]).max()
        assert np.abs(audio[end + 400 :]).max() < 0.7 * loud
