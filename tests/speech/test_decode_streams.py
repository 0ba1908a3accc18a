"""Streams do not see each other or how they are cut; a result may be asked for at any time."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from decode_toy import Memory, Pieces, Recurrent, Toy, decode, decoder, labels
from solomonic.core import DataError, ShapeError, VocabularyError
from solomonic.speech.config import TransducerConfig
from solomonic.speech.decode import DecodeConfig, Decoder, DecodeResult, Search
from solomonic.speech.model import Transducer

SETTINGS = [DecodeConfig(), DecodeConfig(beam=3, label_context=2), DecodeConfig(method="greedy")]


@pytest.fixture(params=["lstm", "stateless"])
def network(request: pytest.FixtureRequest) -> Transducer:
    """A real transducer in float32, with a blank that is likely, so that it says a little."""
    torch.manual_seed(0)
    config = TransducerConfig(
        vocab_size=20, predictor=request.param, predictor_size=40, joint_size=48, front="",
        pattern="L", hidden_size=16, num_attention_heads=2, intermediate_size=16,
    )  # fmt: skip
    model = Transducer(config).eval().requires_grad_(False)
    model.joint.weight.mul_(3.0)
    model.joint.bias[0] = 2.0
    return model


def made(model: Transducer, config: DecodeConfig) -> Decoder:
    return Decoder(model, Pieces(20), config)  # type: ignore[arg-type]


def audio(streams: int, frames: int, size: int = 48) -> Tensor:
    return 1.5 * torch.randn(streams, frames, size, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("kind", ["lstm", "stateless"])
def test_asking_for_results_changes_none(kind: str) -> None:
    """Speculation: a result after every frame, or only at the end; lattices too."""
    for seed in range(6):
        torch.manual_seed(seed)
        config = TransducerConfig(
            vocab_size=20, predictor=kind, predictor_size=40, joint_size=48, front="",
            pattern="L", hidden_size=16, num_attention_heads=2, intermediate_size=0,
        )  # fmt: skip
        model = Transducer(config).eval().requires_grad_(False)
        model.joint.weight.mul_(4.0)
        model.joint.bias[0] = 2.0
        decoder, acoustic = made(model, SETTINGS[0]), audio(1, 40)
        quiet, asked = decoder.start(), decoder.start()
        decoder.advance([quiet], acoustic)
        for frame in range(40):
            decoder.advance([asked], acoustic[:, frame : frame + 1])
            decoder.finish(asked)
        assert same(decoder.finish(asked), decoder.finish(quiet)), seed


def same(first: DecodeResult, second: DecodeResult) -> bool:
    """Equal, bit for bit."""
    return first == second


@pytest.mark.parametrize("config", SETTINGS, ids=["beam", "narrow", "greedy"])
def test_cutting_changes_nothing(network: Transducer, config: DecodeConfig) -> None:
    decoder = made(network, config)
    acoustic = audio(1, 40)
    whole = decoder.start()
    decoder.advance([whole], acoustic)
    result = decoder.finish(whole)
    assert len(result.best.tokens) > 1
    draw = random.Random(0)
    for _ in range(4):
        search, at = decoder.start(), 0
        while at < 40:
            step = draw.choice([0, 1, 1, 2, 3, 9])
            decoder.advance([search], acoustic[:, at : at + step])
            decoder.partial(search)
            if draw.random() < 0.3:
                decoder.finish(search)  # speculation disturbs nothing
            at += step
        assert same(decoder.finish(search), result)
        assert decoder.partial(search) == decoder.partial(whole)


@pytest.mark.parametrize("config", SETTINGS, ids=["beam", "narrow", "greedy"])
def test_streams_that_join_and_leave_do_not_see_each_other(
    network: Transducer, config: DecodeConfig
) -> None:
    decoder = made(network, config)
    acoustic = audio(9, 30)
    alone = [decoder.start() for _ in range(9)]
    for i, search in enumerate(alone):
        decoder.advance([search], acoustic[i : i + 1])
    draw = random.Random(1)
    together: list[Search] = [decoder.start() for _ in range(9)]
    at = [0] * 9
    while min(at) < 30:
        here = [i for i in range(9) if at[i] < 30 and draw.random() < 0.6]
        counts = [draw.randint(0, min(5, 30 - at[i])) for i in here]
        # What lies behind a stream's frames must not be read.
        batch = torch.full((len(here), 5, 48), float("nan"))
        for row, (i, count) in enumerate(zip(here, counts, strict=True)):
            batch[row, :count] = acoustic[i, at[i] : at[i] + count]
            at[i] += count
        decoder.advance([together[i] for i in here], batch, torch.tensor(counts))
    for one, other in zip(alone, together, strict=True):
        first, second = decoder.finish(one), decoder.finish(other)
        assert first.best.tokens == second.best.tokens
        assert first.best.frames == second.best.frames
        assert [h.tokens for h in first.nbest] == [h.tokens for h in second.nbest]
        assert first.best.log_prob == pytest.approx(second.best.log_prob, abs=1e-4)
        # Not only close: blocks of fixed size keep the last bit too, on the machines we have.
        assert first.best.acoustic == second.best.acoustic


class Leaky(Recurrent):
    """Rows of a call influence one another in the last bits, but for those of the toy's own."""

    def step(self, tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        assert len(tokens) == len(state.hidden) == 8, "blocks have one size"
        return super().step(tokens, state)


def test_the_prediction_network_is_called_in_blocks_of_one_size_and_once_a_prefix() -> None:
    toy = Toy(2, size=6, sharp=3.0, blank=2.0, predictor=Leaky)
    made = decoder(toy, DecodeConfig())
    streams = [made.start() for _ in range(5)]
    made.advance(streams, toy.audio(10, 5))
    prefixes = {hyp.prefix for search in streams for hyp in search.hyps}
    assert all(prefix.label is not None for prefix in prefixes)
    done = toy.predictor.labels
    # In silence all is known already.
    quiet = torch.zeros(5, 1, 6, dtype=torch.float64)
    toy.joint.bias[0] = 30.0
    silent = decoder(toy, DecodeConfig())
    silent.advance(streams, quiet)
    assert toy.predictor.labels == done


def test_another_joint_network_is_called_as_it_is() -> None:
    toy = Toy(1, size=5, sharp=2.0)
    acoustic = toy.audio(8)
    expected = decode(decoder(toy, DecodeConfig()), acoustic)
    weight, bias = toy.joint.weight, toy.joint.bias
    toy.joint = lambda a, label: torch.tanh(a + label) @ weight.T + bias  # type: ignore[assignment]
    found = decode(decoder(toy, DecodeConfig()), acoustic)
    assert labels(found) == labels(expected)
    assert found.best.mass == pytest.approx(expected.best.mass, abs=1e-9)


def test_times_count_from_the_first_frame_given() -> None:
    toy = Toy(4, size=5, sharp=3.0)
    acoustic = toy.audio(12)
    made = decoder(toy, DecodeConfig())
    here = decode(made, acoustic)
    later = made.start(first_frame=100)
    made.advance([later], acoustic)
    one, other = made.finish(here), made.finish(later)
    assert one.best.tokens
    assert other.best.frames == tuple(frame + 100 for frame in one.best.frames)
    assert other.best.words[0].start == pytest.approx(one.best.words[0].start + 6.0)
    assert other.end_frame == 112
    assert made.partial(later).pause_frames == pytest.approx(made.partial(here).pause_frames)
    assert one.lattice is not None and other.lattice is not None
    assert np.array_equal(other.lattice.frames, one.lattice.frames + 100)


def test_memory_is_flat_in_silence() -> None:
    """Though rivals go on emitting the same labels for ever, in every frame."""
    toy = Toy(6, size=5, sharp=1.2, blank=3.0)
    made = decoder(toy, DecodeConfig(beam=6, label_context=1, state_beam=30.0, expand_beam=30.0))
    search = made.start()
    made.advance([search], toy.audio(12))
    silence = toy.audio(1).expand(1, 50, -1)

    def nodes() -> int:
        seen, stack = set(), [hyp.link() for hyp in search.hyps]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack += [way.source for way in node.ways]
        return len(seen)

    def prefixes() -> int:
        seen, stack = set(), [search.tree.root, *(hyp.prefix for hyp in search.hyps)]
        while stack:
            prefix = stack.pop()
            if prefix not in seen:
                seen.add(prefix)
                stack += [*prefix.children.values(), *([prefix.parent] if prefix.parent else [])]
        return len(seen)

    sizes = []
    for _ in range(40):
        made.advance([search], silence)
        sizes.append((nodes(), prefixes()))
    assert search.frame == 12 + 40 * 50
    early, late = np.array(sizes[5:20]), np.array(sizes[20:])
    assert (late.max(axis=0) <= 1.1 * early.max(axis=0)).all()
    assert late.max() < 2000


def test_what_the_model_said_of_old_prefixes_is_forgotten() -> None:
    toy = Toy(3, size=12, sharp=2.0, blank=1.0)
    made = decoder(toy, DecodeConfig())
    search = made.start()

    def remembered() -> int:
        seen, stack = set(), [search.tree.root, *(hyp.prefix for hyp in search.hyps)]
        while stack:
            prefix = stack.pop()
            if prefix not in seen:
                seen.add(prefix)
                stack += [*prefix.children.values(), *([prefix.parent] if prefix.parent else [])]
        return sum(prefix.label is not None for prefix in seen)

    made.advance([search], toy.audio(31))
    before = remembered()
    toy.joint.bias[0] = 30.0
    decoder(toy, DecodeConfig()).advance([search], toy.audio(70))
    assert before > 40
    assert remembered() <= len(search.hyps) + 1  # and the last that is stable


def test_what_does_not_fit_is_refused_and_nothing_is_changed() -> None:
    toy = Toy(0)
    made = decoder(toy)
    search, other = made.start(), made.start()
    good = toy.audio(2)
    with pytest.raises(ShapeError, match=r"shape \(streams, frames, 6\), not \(1, 2, 5\)"):
        made.advance([search], good[..., :5])
    with pytest.raises(ShapeError, match="2 searches got acoustic vectors of 1"):
        made.advance([search, other], good)
    with pytest.raises(ShapeError, match="in the call twice"):
        made.advance([search, search], toy.audio(2, 2))
    with pytest.raises(ShapeError, match=r"lengths \[3\] do not fit"):
        made.advance([search], good, [3])
    bad = toy.audio(2, 2)
    bad[1, 1, 0] = float("nan")
    with pytest.raises(DataError, match="NaN or infinity"):
        made.advance([other, search], bad)
    assert search.frame == other.frame == 0
    with pytest.raises(VocabularyError, match="has 7 pieces and the model 3"):
        Decoder(toy, Pieces(7))  # type: ignore[arg-type]


def test_nothing_heard_is_an_empty_result() -> None:
    made = decoder(Toy(0), DecodeConfig())
    result = made.finish(made.start())
    assert [hypothesis.text for hypothesis in result.nbest] == [""]
    assert result.best.words == () and result.best.log_prob == 0.0
    assert result.lattice is not None and result.lattice.arcs == 1
    partial = made.partial(made.start())
    assert (partial.text, partial.stable_words, partial.pause_frames) == ("", 0, 0.0)
    assert partial.blank_probability == 1.0
