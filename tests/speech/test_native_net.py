"""`speech.native`: the native networks compute what the torch modules compute.

The C++ tests (native/tests/speech_net_test.cpp) compare the core with itself; here it meets the
float64 modules, kaldi-native-fbank and soxr.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from needs import needs_core
from solomonic import kernels
from solomonic.core import ConfigError, ShapeError
from solomonic.speech.audio import read_audio
from solomonic.speech.config import TransducerConfig
from solomonic.speech.features import FeatureConfig, FeatureStream, features
from solomonic.speech.model import Transducer
from solomonic.speech.native import (
    WEIGHTS,
    NativeFeatures,
    NativeTransducer,
    native_model,
    require_core,
)
from solomonic.speech.places import DEVICE_FILE, SHIPPED
from solomonic.speech.pretrained import SpeechModel, load_speech_model
from solomonic.speech.recognizer import Recognizer
from solomonic.state import concatenate, gather
from speech_tiny import command, tiny_model

pytestmark = needs_core

SMALL: dict[str, Any] = {
    "vocab_size": 60, "bins": 20, "hidden_size": 32, "num_attention_heads": 2,
    "intermediate_size": 40, "window_size": 6, "refresh_period": 3, "eidetic_slots": 4,
    "ssm_state_size": 8, "ssm_head_dim": 8, "predictor_size": 24, "joint_size": 28,
}  # fmt: skip
CASES: list[dict[str, Any]] = [
    *({"front": "", "pattern": letter} for letter in "MDWFBL"),
    {"front": "L", "pattern": "MDWFBL"},
    {"front": "MW", "pattern": "BL", "position": "none", "stack": 2, "reduction": 3},
    {"front": "B", "pattern": "B", "reduction": 5, "stack": 1},
    {"front": "M", "pattern": "W", "intermediate_size": 0, "predictor_layers": 3},
    {"front": "M", "pattern": "W", "predictor": "stateless", "predictor_context": 3},
]


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in case.values())


def model_of(seed: int = 0, **changes: Any) -> Transducer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Transducer(TransducerConfig(**SMALL | changes)).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if "bias" in name or "norm" in name:  # what begins as zeros or ones must count
                parameter.add_(0.3 * torch.randn_like(parameter))
        model.encoder.mean.normal_(-6.0, 2.0)
        model.encoder.deviation.uniform_(1.0, 4.0)
    return model


def frames_of(config: TransducerConfig, rows: int = 2, steps: int = 40) -> torch.Tensor:
    shape = (rows, steps * config.frames_per_step, config.bins)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 - 6


def relative(got: Any, want: Any) -> float:
    got, want = torch.as_tensor(got).double(), torch.as_tensor(want).double()
    return float((got - want).abs().max() / want.abs().max())


def labels_after(net: Any, tokens: list[int]) -> torch.Tensor:
    """The label vectors (U + 1, J) along a path."""
    label, state = net.predictor.start(1)
    found = [label]
    for token in tokens:
        label, state = net.predictor.step(torch.tensor([token]), state)
        found.append(label)
    return torch.cat(found)


def log_probs(model: Transducer, frame: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return model.joint(frame.expand(len(labels), -1), labels).log_softmax(-1)


TOKENS = [int(t) for t in torch.randint(1, 60, (30,), generator=torch.Generator().manual_seed(2))]


@torch.no_grad()
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_float32_is_the_law(case: dict[str, Any]) -> None:
    """The error is that of float32 sums in another order: torch's own is measured beside it.

    1e-4 of the scale would be one thousandth of what changes a search's mind; what is asked for is
    three times torch's own loss, with a floor for cases in which it is lucky.
    """
    model = model_of(**case)
    net, frames = NativeTransducer(model), frames_of(model.config)
    with kernels.use("torch"):
        plain, _, _ = model.hidden(frames)
        want, _, _ = model.double().hidden(frames.double())
        want_acoustic, want_labels = model.acoustic(want), labels_after(model, TOKENS)
        want_rows = log_probs(model, want_acoustic[0, 7], want_labels)
        model.float()
    hidden, _, _ = net.hidden(frames)
    assert relative(hidden, want) <= max(3 * relative(plain, want), 2e-5)
    acoustic, labels = net.acoustic(hidden), labels_after(net, TOKENS)
    assert relative(acoustic, want_acoustic) < 1e-4
    assert relative(labels, want_labels) < 1e-5
    rows = net.joint.log_probs(acoustic[0, 7].numpy(), list(labels.numpy()))
    assert relative(rows, want_rows) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("case", CASES[-4:], ids=name_of)
def test_neither_cuts_nor_company_change_a_bit(case: dict[str, Any], weights: str) -> None:
    model = model_of(**case)
    net, frames = NativeTransducer(model, weights), frames_of(model.config, rows=3)
    step = model.config.frames_per_step
    lengths = torch.tensor([frames.shape[1], 11 * step - 1, 0])
    together, state, steps = net.hidden(frames, lengths=lengths)
    assert steps is not None and steps.tolist() == [40, 11, 0] and not together[2].any()
    assert not together[1, 11:].any()
    for row, count in enumerate(steps.tolist()[:2]):
        alone = net.init_state(1)
        for index in range(count):
            part = frames[row : row + 1, index * step : (index + 1) * step]
            one, alone, _ = net.hidden(part, alone)
            assert torch.equal(one[0, 0], together[row, index])
        assert torch.equal(alone.data, gather(state, torch.tensor([row])).data)
    more = frames[:, : 4 * step]
    joined = concatenate([gather(state, torch.tensor([i])) for i in (1, 0, 2)])
    assert torch.equal(
        net.hidden(more[[1, 0, 2]], joined)[0], net.hidden(more, state)[0][[1, 0, 2]]
    )

    path = labels_after(net, TOKENS[:20])
    _, before = net.predictor.start(20)
    labels, _ = net.predictor.step(torch.tensor(TOKENS[:20]), before)
    for row in range(20):
        one, _ = net.predictor.step(torch.tensor(TOKENS[row : row + 1]), net.predictor.start(1)[1])
        assert torch.equal(one[0], labels[row])
    frame = net.acoustic(together)[0, 3].numpy()
    rows = net.joint.log_probs(frame, list(path.numpy()))
    for row, label in zip(rows, path.numpy(), strict=True):
        assert np.array_equal(net.joint.log_probs(frame, [label])[0], row)
        assert abs(float(np.exp(row.astype(np.float64)).sum()) - 1) < 1e-5


def rounded(x: torch.Tensor) -> torch.Tensor:
    """int8 levels of each row of activations, as the kernels round them."""
    scale = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
    return (x / scale).round().clamp(-127, 127) * scale


@torch.no_grad()
@pytest.mark.parametrize("letter", list("MDWFL"))
def test_int8_is_the_model_with_rounded_weights_and_activations(
    letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activations on the border between two levels may go either way, so the bound is half of what
    one level makes; without the rounding the distance is that of the rounding itself."""
    model = model_of(front="", pattern=letter)
    net, frames = NativeTransducer(model, "int8"), frames_of(model.config, steps=12)
    with kernels.use("torch"):
        exact, _, _ = model.hidden(frames)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and not name.endswith("mix"):
                parameter.copy_(rounded(parameter))
        if letter != "L":  # its products are inside torch.lstm
            linear = torch.nn.functional.linear
            monkeypatch.setattr(
                torch.nn.functional, "linear", lambda x, *rest: linear(rounded(x), *rest)
            )
            monkeypatch.setattr(
                "solomonic.kernels.run",
                lambda op, *given, run=kernels.run: run(
                    op, *((rounded(given[0]), *given[1:]) if op == "linear" else given)
                ),
            )
        want, _, _ = model.hidden(frames)
    got, _, _ = net.hidden(frames)
    floor = 0.02 if letter == "L" else 0.01
    assert relative(got, want) < floor
    if letter != "L":
        assert float((got - want).square().mean()) < 0.3 * float((got - exact).square().mean())


@torch.no_grad()
def test_fewer_bits_stay_near() -> None:
    model = model_of(front="MW", pattern="MWMW", hidden_size=64)
    frames = frames_of(model.config)
    want, _, _ = model.hidden(frames)
    nets = [NativeTransducer(model, weights) for weights in WEIGHTS]
    losses = [
        float((net.hidden(frames)[0] - want).square().mean().sqrt() / want.square().mean().sqrt())
        for net in nets
    ]
    assert losses[0] < 1e-5 and losses[1] < 0.02 and losses[2] < 0.04 and losses[3] < 0.4
    assert losses == sorted(losses)
    sizes = [net.nbytes for net in nets]
    assert sizes == sorted(sizes, reverse=True)


def test_multiplications_are_counted() -> None:
    model = model_of(front="W", pattern="L", reduction=2, stack=3, intermediate_size=0)
    net = NativeTransducer(model)
    d = 32
    front = 4 * d * d  # query, key, value, output
    want = 2 * (3 * 20 * d + front) + 2 * d * d + 2 * 4 * d * d + 28 * d
    assert net.macs == (want, 2 * 4 * 24 * 24 + 28 * 24, 60 * 28)
    assert "float32 weights" in net.describe() and require_core().isa() in net.describe()


def test_bad_input_is_refused() -> None:
    model = model_of(front="", pattern="M")
    net = NativeTransducer(model)
    with pytest.raises(ShapeError, match=r"must be \(batch, time, 20\)"):
        net.hidden(torch.zeros(1, 7, 20))
    with pytest.raises(ConfigError, match="label 60 lies outside the vocabulary of 60"):
        net.predictor.step(torch.tensor([60]), net.predictor.start(1)[1])
    with pytest.raises(ConfigError, match="weights = 'int3' is unknown"):
        NativeTransducer(model, "int3")


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_a_recogniser_runs_on_it(weights: str) -> None:
    model = tiny_model()
    want = Recognizer(model).transcribe(command())
    got = Recognizer(native_model(model, weights)).transcribe(command())
    assert got.text and (weights == "int8" or got.text == want.text)
    assert [round(w.start, 3) for w in got.words] == sorted(round(w.start, 3) for w in got.words)


@pytest.fixture(scope="module")
def shipped() -> Iterator[SpeechModel]:
    if not (SHIPPED / DEVICE_FILE).is_file():
        pytest.skip("the shipped model is not here")
    yield load_speech_model(SHIPPED)


def real_audio(which: int = 0) -> np.ndarray:
    """A command that was really spoken."""
    found = sorted((SHIPPED / "samples").glob("*.opus"))
    if not found:
        pytest.skip("the shipped samples are not here")
    return read_audio(found[which])


@torch.no_grad()
def test_the_shipped_model_on_real_audio(shipped: SpeechModel) -> None:
    model, sound = shipped.transducer, real_audio()
    mels = features(sound)
    step = model.config.frames_per_step
    frames = torch.from_numpy(mels[: len(mels) // step * step])[None]
    want = model.acoustic(model.hidden(frames)[0])
    labels = labels_after(model, TOKENS)
    exact = torch.log_softmax(model.joint(want[0, :, None], labels[None]), -1)
    for weights, most in (("float32", 1e-3), ("int8", 1.5)):
        net = NativeTransducer(model, weights)
        acoustic = net.acoustic(net.hidden(frames)[0])
        mine = labels_after(net, TOKENS)
        rows = [net.joint.log_probs(frame, list(mine.numpy())) for frame in acoustic[0].numpy()]
        got = torch.from_numpy(np.stack(rows))
        # nats, where the symbol is at all likely
        off = (got - exact).abs()[exact > -6]
        assert float(off.max()) < most and float(off.mean()) < most / 20, weights


@pytest.mark.parametrize("which", [1, 4])  # others leave no doubt, and lattices of one path
def test_the_shipped_recogniser_hears_the_same(shipped: SpeechModel, which: int) -> None:
    """The same words, times and arcs; scores within the rounding of the two kinds of sums."""
    want, got = (
        Recognizer(model).transcribe(real_audio(which))
        for model in (shipped, native_model(shipped, "float32"))
    )
    assert got.text == want.text and len(got.text.split()) > 4
    assert [(w.text, w.start, w.end) for w in got.words] == [
        (w.text, w.start, w.end) for w in want.words
    ]
    ours, theirs = got.lattice, want.lattice
    assert ours is not None and theirs is not None and theirs.arcs > len(want.words)
    assert ours.symbols == theirs.symbols
    for name in ("frames", "sources", "targets", "labels"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert np.allclose(ours.acoustic, theirs.acoustic, atol=1e-2)


def same_features(got: np.ndarray, want: np.ndarray) -> bool:
    """Equal but for float32 rounding: both transforms round at the size of the frame's strongest
    component, which in a weak band is that much more; 5e-7 is some four roundings."""
    if got.shape != want.shape:
        return False
    above = np.exp((want.max(axis=1, keepdims=True) - want) / 2) if len(want) else want
    return bool((np.abs(got - want) <= 1e-4 + 5e-7 * above).all())


@pytest.mark.parametrize("count", [0, 1, 79, 80, 239, 240, 400, 4321, 33217])
def test_features_are_those_of_kaldi(count: int) -> None:
    pytest.importorskip("kaldi_native_fbank")
    rng = np.random.default_rng(count)
    samples = (rng.standard_normal(count) * 0.1).astype(np.float32)
    want = features(samples)
    for most in (1, 160, 5000):
        stream, parts, start = NativeFeatures(), [], 0
        while start < count:
            size = int(rng.integers(0, most + 1)) if count < 9000 else 5000
            parts.append(stream.accept(samples[start : start + size]))
            start += size
        got = np.concatenate([*parts, stream.finish()])
        assert same_features(got, want)


@pytest.mark.parametrize(
    "config",
    [
        FeatureConfig(),
        FeatureConfig(bins=40, low=50.0, high=7000.0),
        FeatureConfig(sample_rate=8000, bins=23, frame_ms=32.0, shift_ms=8.0),
        FeatureConfig(bins=128, high=0.0),
    ],
    ids=lambda c: f"{c.sample_rate}-{c.bins}",
)
def test_features_of_other_settings_and_sounds(config: FeatureConfig) -> None:
    pytest.importorskip("kaldi_native_fbank")
    rng, rate = np.random.default_rng(3), config.sample_rate
    time = np.arange(rate) / rate
    sweep = 0.5 * np.sin(2 * np.pi * (100 + 1500 * time) * time)
    quiet = rng.standard_normal(rate) * 1e-4
    for sound in (sweep + quiet, quiet, np.sign(quiet), np.zeros(rate)):
        samples = sound.astype(np.float32)
        reference, stream = FeatureStream(config), NativeFeatures(config)
        want = np.concatenate([reference.accept(samples), reference.finish()])
        got = np.concatenate([stream.accept(samples), stream.finish()])
        assert same_features(got, want)


def test_features_of_real_audio() -> None:
    pytest.importorskip("kaldi_native_fbank")
    sound, stream = real_audio(), NativeFeatures()
    got = np.concatenate([stream.accept(sound), stream.finish()])
    assert same_features(got, features(sound))


def resampled(samples: np.ndarray, source: float, rate: float, cut: int = 1 << 30) -> np.ndarray:
    core, parts = require_core().speech_net.resampler(source, rate), []
    for start in range(0, len(samples), cut):
        piece = np.ascontiguousarray(samples[start : start + cut], np.float32)
        parts.append(core.accept(piece.ctypes.data, len(piece)))
    parts.append(core.finish())
    return np.frombuffer(b"".join(parts), np.float32)


def tone(hertz: float, rate: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize("source", [8000, 11025, 22050, 32000, 44100, 48000, 44056, 15999.5])
def test_tones_pass_and_aliases_do_not(source: float) -> None:
    """Below 90% of the lower half rate a tone comes out within 0.01 dB and 90 dB clean; above it is
    gone. soxr's high quality is the yardstick."""
    soxr = pytest.importorskip("soxr")
    rate, band = 16000, min(source, 16000) / 2
    middle = slice(2000, 14000)
    for part in (0.01, 0.3, 0.7, 0.9):
        got = resampled(tone(part * band, source), source, rate)
        assert abs(len(got) - rate) <= 1
        want = tone(part * band, rate)[: len(got)]
        theirs = soxr.resample(tone(part * band, source), source, rate, quality="HQ")
        mine = float(np.abs(got[middle] - want[middle]).max())
        # 1e-3 is 0.009 dB; the rest is rounding of float32 and, at rates that are no ratio of small
        # numbers, interpolation.
        assert mine < max(3e-5, 3 * float(np.abs(theirs[middle] - want[middle]).max())), part
    for part in (1.01, 1.2, 1.6) if source > rate else ():
        got = resampled(tone(part * band, source), source, rate)
        assert float(np.abs(got[middle]).max()) < 3e-5, part


@pytest.mark.parametrize("source", [8000, 44100, 44056, 16000])
def test_any_cut_resamples_to_the_same_bits(source: int) -> None:
    samples = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    whole = resampled(samples, source, 16000)
    assert len(whole) == int(5000 * 16000 / source + 0.5)
    for cut in (1, 7, 441):
        assert np.array_equal(resampled(samples, source, 16000, cut), whole)
