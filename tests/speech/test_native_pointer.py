"""The joint network's attention to phrases in the native core: the same as in Python."""

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from needs import needs_recognizer
from solomonic.core import CheckpointError
from solomonic.kernels import native as native_core
from solomonic.speech.biasing import Biasing
from solomonic.speech.biasing.pointer import PointerBiasing, PointerConfig
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.device_file import read_device_model, write_device_model
from solomonic.speech.events import Final
from solomonic.speech.native import NativeTransducer
from solomonic.speech.native_recognizer import NativeRecognizer, PersonalWords
from solomonic.speech.recognizer import Recognizer
from solomonic.speech.result import Result
from speech_tiny import RATE, attentive, command, tiny_model

pytestmark = needs_recognizer
CORE = native_core.load()
WORDS = ["kitchen music", "volume", "brother", "weather today"]
BEAM = DecodeConfig(beam=3)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pointer") / "a.solo"
    write_device_model(found, attentive(), bits=32, decode=BEAM)
    return found


def heard(recognizer: Any, samples: np.ndarray, step: int = 1 << 20, **options: Any) -> Result:
    stream = recognizer.create_stream(**options)
    for start in range(0, len(samples), step):
        stream.accept_waveform(RATE, samples[start : start + step])
    stream.input_finished()
    return stream.result()


@pytest.mark.parametrize("bits", [8, 32])
def test_the_numbers_are_pythons(bits: int, tmp_path: Path) -> None:
    write_device_model(tmp_path / "a.solo", attentive(), bits=bits)
    model = read_device_model(tmp_path / "a.solo")
    pointer = model.transducer.pointer
    assert pointer is not None
    size = model.pieces.size
    draw = np.random.default_rng(0)
    phrases = [list(map(int, draw.integers(1, size, draw.integers(1, 9)))) for _ in range(60)]
    phrases += [[*phrases[0], *phrases[1]], phrases[2][:1], phrases[2]]
    listed = pointer.embed(phrases)
    assert listed is not None
    ours = CORE.speech_search.Listed(str(tmp_path / "a.solo"), size, 32, phrases)
    for phrase in phrases:
        mine = theirs = 0
        for token in [*phrase, *phrases[0][:2]]:
            mine, theirs = ours.step(mine, token), listed.step(theirs, token)
            assert mine == theirs
            acoustic, label = draw.normal(size=(2, 32)).astype(np.float32)
            row = torch.from_numpy(draw.normal(size=size)).float().log_softmax(-1).numpy()
            found = ours.add(acoustic, label, mine, row)
            wanted = listed.add(row[None], acoustic, [listed.query(label)], [theirs])[0]
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def test_streams_say_the_same(path: Path) -> None:
    ours = NativeRecognizer(path)
    model = read_device_model(path)
    net = NativeTransducer.open(path, model.transducer)
    theirs = Recognizer(dataclasses.replace(model, transducer=cast(Any, net)), BEAM)
    changed = 0
    for seed in range(6):
        sound = command(seed=seed, after=0.6)
        found, expected = heard(ours, sound, bias=WORDS), heard(theirs, sound, bias=WORDS)
        assert found.text == expected.text
        assert [(w.text, w.start, w.end) for w in found.words] == [
            (w.text, w.start, w.end) for w in expected.words
        ]
        assert found.confidence == pytest.approx(expected.confidence, abs=1e-3)
        scores = [[one.acoustic for one in result.nbest] for result in (found, expected)]
        np.testing.assert_allclose(*scores, atol=1e-3)
        changed += found.text != heard(ours, sound, bias=WORDS, attention=False).text
        assert heard(ours, sound, 777, bias=WORDS) == found, "however it is cut"
    assert changed, "or the attention is not worth testing"


def test_without_a_list_or_a_wish_for_it_nothing_is_different(path: Path, tmp_path: Path) -> None:
    write_device_model(tmp_path / "plain.solo", tiny_model(), bits=32, decode=BEAM)
    ours, plain = NativeRecognizer(path), NativeRecognizer(tmp_path / "plain.solo")
    assert ours.describe()["attention"] and not plain.describe()["attention"]
    sound = command(seed=1)
    assert heard(ours, sound) == heard(ours, sound, bias=[]) == heard(plain, sound)
    wanted = heard(plain, sound, bias=WORDS)
    assert heard(ours, sound, bias=WORDS) != wanted
    assert heard(ours, sound, bias=WORDS, attention=False) == wanted
    ours.set(attention=False)
    assert heard(ours, sound, bias=WORDS) == wanted


@pytest.mark.parametrize("method", ["beam", "greedy"])
def test_classes_are_heard_behind_their_carriers(method: str, path: Path) -> None:
    """What nobody trained says these words, whatever it hears: behind them the class is open."""
    decode = BEAM.replace(method=method)
    ours = NativeRecognizer(path, decode)
    model = read_device_model(path)
    net = NativeTransducer.open(path, model.transducer)
    theirs = Recognizer(dataclasses.replace(model, transducer=cast(Any, net)), decode)
    sound = command(seed=1, after=0.6)
    plain = heard(ours, sound).text
    for entry in ("weather", "minutes"):
        opened: Any = {"classes": {"thing": [entry]}, "carriers": ["(vv|m|mse) @thing"]}
        found = heard(ours, sound, bias=PersonalWords(**opened)).text
        assert found == heard(theirs, sound, bias=Biasing(**opened, pieces=model.pieces)).text
        assert found != plain
        closed: Any = {"classes": {"thing": [entry]}, "carriers": ["zebra @thing"]}
        assert heard(ours, sound, bias=PersonalWords(**closed)).text == plain


def test_streams_have_lists_of_their_own(path: Path) -> None:
    ours = NativeRecognizer(path)
    sounds = [command(seed=seed, before=0.2 * seed) for seed in (1, 2, 4)]
    classes = PersonalWords(classes={"thing": WORDS}, carriers=["zebra @thing"])
    lists: list[Any] = [classes, None, WORDS[:1]]
    alone = [heard(ours, sound, bias=words) for sound, words in zip(sounds, lists, strict=True)]
    assert alone[0] == heard(ours, sounds[0]), "no carrier opens the class"
    streams = [ours.create_stream(words) for words in lists]
    for stream, sound in zip(streams, sounds, strict=True):
        stream.accept_waveform(RATE, sound)
        stream.input_finished()
    ours.decode_streams(streams)
    assert [stream.result() for stream in streams] == alone
    assert any(isinstance(event, Final) for event in streams[0].events())


def test_an_attention_of_other_sizes_is_refused(tmp_path: Path) -> None:
    model = attentive()
    config = PointerConfig(vocab_size=model.pieces.size, joint_size=31, embedding_size=4, size=4)
    model.transducer.pointer = PointerBiasing(config)
    write_device_model(tmp_path / "a.solo", model)
    with pytest.raises(CheckpointError, match="attention to phrases of other sizes than its model"):
        NativeRecognizer(tmp_path / "a.solo")
