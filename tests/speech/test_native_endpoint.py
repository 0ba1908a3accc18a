"""Voice detector, end-pointers, end head, protocol and JSON in C++ against the Python classes."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError
from solomonic.kernels import native
from solomonic.speech.endpoint import EndpointConfig, Endpointer, Observation, Utterances
from solomonic.speech.endpoint.features import EndFeatures, pause_vector
from solomonic.speech.endpoint.head import EndHead, EndHeadConfig
from solomonic.speech.endpoint.voice import VoiceConfig, VoiceDetector
from solomonic.speech.events import Partial, StableWords
from solomonic.speech.result import Alternative, Result
from solomonic.speech.words import Word
from speech.test_endpoint_machine import FRAME, observations, random_config

CORE = native.load()
PARTS = getattr(CORE, "speech_stream", None)
pytestmark = pytest.mark.skipif(PARTS is None, reason="the native core is not built with speech")


def frames_of(seed: int, count: int = 900) -> np.ndarray:
    """(count, 80) log-mel: noise that changes, silence, bursts like speech, and broken numbers."""
    rng = np.random.default_rng(seed)
    rows = []
    while sum(map(len, rows)) < count:
        length = int(rng.integers(1, 120))
        level = rng.uniform(-16, 2)
        shape = rng.normal(scale=2.5, size=80) if rng.random() < 0.5 else np.zeros(80)
        rows.append(level + shape + rng.normal(scale=rng.uniform(0, 1.5), size=(length, 80)))
    frames = np.concatenate(rows)[:count].astype(np.float32)
    if seed % 5 == 0:
        frames[rng.integers(count, size=4), rng.integers(80, size=4)] = (
            np.nan,
            np.inf,
            -np.inf,
            30.0,
        )
    return frames


def native_voice(config: VoiceConfig, frames: np.ndarray) -> np.ndarray:
    voice = PARTS.Voice(config.to_json(), frames.shape[1])
    out = np.empty(len(frames), np.float32)
    voice.run(frames.ctypes.data, *frames.shape, out.ctypes.data)
    return out


@pytest.mark.parametrize("seed", range(40))
def test_voice_detector_gives_the_same_bits(seed):
    frames = frames_of(seed)
    rng = np.random.default_rng(seed + 99)
    config = VoiceConfig()
    if seed >= 20:
        bands = int(rng.choice([1, 4, 8, 16, 80]))
        config = VoiceConfig(
            bands=bands,
            highest=int(rng.integers(1, bands + 1)),
            smoothing=float(rng.choice([0.0, 0.7, 0.9])),
            floor_frames=int(rng.integers(10, 300)),
            hangover_frames=int(rng.integers(0, 9)),
            opening_frames=int(rng.integers(0, 90)),
            announced_frames=int(rng.integers(1, 20)),
        )
    expected = VoiceDetector(config).step(frames)[0]
    assert (expected > 0.5).any()
    np.testing.assert_array_equal(native_voice(config, frames), expected)


def test_wide_bands_are_summed_in_the_same_order():
    rng = np.random.default_rng(0)
    frames = rng.normal(-5, 4, size=(300, 400)).astype(np.float32)  # 200 numbers a band: two halves
    config = VoiceConfig(bands=2, highest=1)
    np.testing.assert_array_equal(
        native_voice(config, frames), VoiceDetector(config).step(frames)[0]
    )


def test_voice_settings_are_checked():
    with pytest.raises(ValueError, match="highest"):
        PARTS.Voice({"highest": 9}, 80)
    with pytest.raises(ValueError, match="bins"):
        PARTS.Voice({}, 81)


def decisions(config: EndpointConfig, seen: list[Observation]) -> list[tuple]:
    """(decision, reason, began) of the Python end-pointer at each frame."""
    pointer = Endpointer(config, FRAME)
    made = [(pointer.step(one) or "", pointer.reason, pointer.began) for one in seen]
    return [*made, (pointer.finish() or "", pointer.reason, pointer.began)]


def native_decisions(config: EndpointConfig, seen: list[Observation]) -> list[tuple]:
    pointer = PARTS.Endpointer(config.to_json(), FRAME)
    made = [
        (
            pointer.step(
                one.time,
                one.speech_probability,
                one.pause_frames,
                one.n_tokens,
                one.end_probability,
                None if one.hypothesis is None else list(one.hypothesis),
            ),
            pointer.reason,
            pointer.began,
        )
        for one in seen
    ]
    return [*made, (pointer.finish(), pointer.reason, pointer.began)]


@pytest.mark.parametrize("seed", range(300))
def test_end_pointers_decide_the_same(seed):
    seen = observations(seed, 300)
    if seed % 7 == 0:
        seen = [dataclasses.replace(one, hypothesis=None) for one in seen]
    config = EndpointConfig() if seed % 3 == 0 else random_config(seed)
    expected = decisions(config, seen)
    assert native_decisions(config, seen) == expected


def test_all_decisions_are_met():
    kinds = set()
    for seed in range(12):
        kinds |= {kind for kind, _, _ in decisions(random_config(seed), observations(seed, 300))}
    assert kinds == {"", "start", "speculative", "reset", "final"}


@pytest.mark.parametrize(
    "settings",
    [
        {"silence_ms": 0},
        {"start_ms": -1},
        {"speech_threshold": 0},
        {"final_threshold": 0.2},
        {"final_ms": 100},
        {"silence_ms": 3000},
        {"speculations_limit": -1},
    ],
)
def test_end_pointer_settings_are_refused_in_the_same_words(settings):
    with pytest.raises(ConfigError) as error:
        EndpointConfig(**settings)
    with pytest.raises(ValueError, match="must") as native_error:
        PARTS.Endpointer(settings, FRAME)
    numbers = str(error.value).replace(".0", "").replace("None", "-1")
    assert str(native_error.value) == numbers


def test_numbers_are_rounded_as_python_rounds():
    rng = np.random.default_rng(1)
    values = [*rng.normal(scale=1000, size=2000), *(n / 2000 for n in range(-3000, 3000)), 0.0]
    for value in values:
        for digits in (3, 4, 6):
            assert PARTS.rounded(float(value), digits) == round(float(value), digits)


def parameters(head: EndHead) -> list[list[float]]:
    rnn = head.recurrence
    modules = [(m.weight, m.bias) for m in (head.hidden, head.label, head.pauses)]
    modules += [(rnn.weight_ih_l0, rnn.bias_ih_l0), (rnn.weight_hh_l0, rnn.bias_hh_l0)]
    modules += [(head.out.weight, head.out.bias)]
    return [p.detach().flatten().tolist() for pair in modules for p in pair]


def test_end_head_agrees():
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    head = EndHead(EndHeadConfig(hidden_size=37, label_size=24, width=16, memory=11))
    own = PARTS.EndHead(37, 24, 16, 11, parameters(head))
    state, seen = head.init_state(1), []
    for _ in range(60):
        hidden = torch.from_numpy(rng.normal(2, 3, (1, 1, 37)).astype(np.float32))
        label = torch.from_numpy(rng.normal(size=(1, 1, 24)).astype(np.float32))
        given = [rng.uniform(-1, 70), rng.uniform(0, 70), rng.uniform(-0.1, 1.1)]
        given += [float(rng.integers(70)), int(rng.integers(3)), FRAME]
        pauses = pause_vector(*given)
        np.testing.assert_array_equal(np.array(PARTS.pause_vector(*given), np.float32), pauses)
        features = EndFeatures(hidden, label, torch.from_numpy(pauses)[None, None])
        expected, state = head.stream(features, state)
        found = own.step(hidden.data_ptr(), label.data_ptr(), pauses.ctypes.data)
        assert found == pytest.approx(float(expected), abs=2e-6)
        seen.append(found)
    assert max(seen) - min(seen) > 0.02


TEXTS = (
    "",
    "play jazz",
    'a "quote" \\ back',
    "naïve café",
    "日本 \U0001f600",
    "tab\tnew\n\x01\x7f",
)


def random_result(rng: np.random.Generator) -> Result:
    text = str(rng.choice(TEXTS))
    nbest = tuple(
        Alternative(
            text=str(rng.choice(TEXTS)),
            acoustic=float(rng.normal(scale=30)),
            bias=float(rng.choice([0.0, 1.5, 2.25])),
        )
        for _ in range(int(rng.integers(0, 4)))
    )
    return Result(
        text=text,
        words=random_words(rng),
        nbest=nbest,
        start=round(float(rng.uniform(0, 90)), 6),
        end=float(rng.choice([1e-5, 1e16, 3.6, 123456.789, 0.0])),
        reason="rule: 1.2 s of silence after speech",
    )


def random_words(rng: np.random.Generator) -> tuple[Word, ...]:
    return tuple(
        Word(str(rng.choice(TEXTS[1:])), float(rng.random()), 7.0, math.exp(-rng.exponential()))
        for _ in range(int(rng.integers(0, 4)))
    )


def given(result: Result) -> tuple:
    words = [dataclasses.astuple(word) for word in result.words]
    nbest = [dataclasses.astuple(other) for other in result.nbest]
    return result.text, words, nbest, result.start, result.end, result.reason


@pytest.mark.parametrize("seed", range(60))
def test_protocol_and_json_are_the_same(seed):
    rng = np.random.default_rng(seed)
    ours, own, expected, is_open = Utterances(), PARTS.Utterances(), [], False
    for time in itertools.accumulate(rng.choice([0.06, 0.12, 0.3], size=40)):
        time, choice = round(float(time), 6), rng.random()
        if choice < 0.2:
            began = None if rng.random() < 0.3 else float(rng.random())
            expected.append(ours.start(time, began))
            own.start(time, began)
        elif choice < 0.4:
            words = random_words(rng)
            plain = [dataclasses.astuple(word) for word in words]
            number, text = ours.utterance, str(rng.choice(TEXTS))
            expected.append(
                Partial(time=time, utterance=number, text=text, words=words, stable=len(words))
            )
            own.partial(time, text, plain, len(words))
            expected.append(StableWords(time=time, utterance=number, words=words))
            own.stable_words(time, plain)
        elif choice < 0.7 and not is_open:
            result = random_result(rng)
            expected.append(ours.speculative(time, result, result.reason))
            own.speculative(time, *given(result))
            is_open = True
        elif choice < 0.8 and is_open:
            expected.append(ours.reset(time))
            own.reset(time)
            is_open = False
        elif choice > 0.85:
            result = random_result(rng)
            expected += ours.final(time, result, result.reason)
            own.final(time, *given(result))
            is_open = False
        if rng.random() < 0.2:  # taken in pieces of any size
            assert own.events() == [json.dumps(event.to_json()) for event in expected]
            expected = []
    assert own.events() == [json.dumps(event.to_json()) for event in expected]


def test_budget_narrows_before_falling_behind_and_widens_again():
    """A beam of 8 costs twice the share for ten seconds, then the machine is free again."""
    budget, block = PARTS.Budget(0.5, 8, 0.06), 0.06
    debt, worst, widths = 0.0, 0.0, []
    for number in range(1000):
        slow = 2.0 if number < 170 else 0.5
        cost = slow * block * 0.5 * (0.2 + 0.8 * budget.beam / 8)
        debt = max(debt + cost - block, 0.0)
        worst = max(worst, debt)
        budget.spent(cost, 0)
        widths.append(budget.beam)
    assert worst == 0.0  # never behind the audio
    assert min(widths[:170]) < 8
    assert widths[-1] == 8
    assert 1 <= budget.lowered <= 12
    assert budget.raised == budget.lowered


def test_a_budget_that_fits_changes_nothing():
    for share in (0.0, 0.5):
        budget = PARTS.Budget(share, 8, 0.06)
        for _ in range(500):
            budget.spent(0.02 if share else 1.0, 50)
        assert (budget.beam, budget.lowered) == (8, 0)
    with pytest.raises(ValueError, match="share of one core"):
        PARTS.Budget(1.5, 8, 0.06)
