"""`lm.native`: the native core computes what the torch model computes, however the text is cut.

The C++ tests (native/tests) compare the core with itself; here it meets the law, the float64 model.
"""

from typing import Any

import pytest
import torch

from needs import needs_core
from solomonic import kernels
from solomonic.core import ConfigError, ShapeError
from solomonic.layers import ModelConfig
from solomonic.lm.generate import GenerateConfig, Generation, generate
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.lm.native import WEIGHTS, NativeModel, require_core
from solomonic.lm.score import score_text
from solomonic.text import ByteTokenizer

pytestmark = needs_core

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "vocab_size": 100,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "window_size": 8,
    "eidetic_slots": 6,
    "ssm_head_dim": 16,
    "ssm_state_size": 8,
    "initializer_range": 0.2,
}
CASES: list[dict[str, Any]] = [
    *({"pattern": letter} for letter in "MDTWFBL"),
    *({"pattern": letter, "position": "rope"} for letter in "TWB"),
    {"pattern": "B", "transition": "delta"},
    {"pattern": "B", "fading_mode": "chunk", "fading_slots": 5},
    {"pattern": "F", "fading_slots": 8, "fading_lag": 3},
    {"pattern": "B", "refresh_period": 3, "keep_duplicates": True},
    {"pattern": "B", "window_size": 0, "fading_lag": 0},
    {"pattern": "B", "window_size": 70, "eidetic_slots": 40},
    {"pattern": "BT", "short_conv_layers": "BT", "short_conv_size": 3},
    {"pattern": "MBTWDFL", "fading_skip": True, "tie_word_embeddings": False},
    {"pattern": "B", "hidden_size": 72, "num_attention_heads": 3, "num_key_value_heads": 1,
     "ssm_head_dim": 24, "ssm_state_size": 5, "intermediate_size": 0},
]  # fmt: skip
CUTS = ([150], [1] * 150, [1, 3, 64, 2, 10, 70], [149, 1])


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in case.values())


def model_of(**changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(**SMALL | changes)).eval()


def text(rows: int = 2, steps: int = 150) -> torch.Tensor:
    return torch.randint(0, 100, (rows, steps), generator=torch.Generator().manual_seed(1))


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want).abs().max() / want.abs().max())


@torch.no_grad()
def law(model: LanguageModel, tokens: torch.Tensor) -> tuple[torch.Tensor, float, ModelState]:
    """Float64 logits, what plain torch loses in float32, and the float32 state."""
    with kernels.use("torch"):
        plain, state = model(tokens)
        want, _ = model.double()(tokens)
        model.float()
    return want, relative(plain, want), state


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_cut_gives_the_law(case: dict[str, Any], threads: int) -> None:
    model, tokens = model_of(**case), text()
    want, loss, _ = law(model, tokens)
    packed = NativeModel(model, threads=threads)
    for cuts in CUTS:
        streams = packed.streams(2)
        parts = [packed.read(part, streams, every=True) for part in tokens.split(cuts, dim=1)]
        # Plain torch loses about 1e-6 of the scale; the floor is for the cases where it is lucky.
        assert relative(torch.cat(parts, dim=1), want) <= max(2 * loss, 8e-6), cuts
        assert streams.time.tolist() == [150, 150]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_text_goes_on_in_the_other_engine(case: dict[str, Any]) -> None:
    """Half a text in one engine, half in the other, both ways; and the states are the same."""
    model, tokens = model_of(**case), text()
    want, _, _ = law(model, tokens)
    packed, head, tail = NativeModel(model), tokens[:, :83], tokens[:, 83:]
    with torch.no_grad(), kernels.use("torch"):
        _, state = model(head)
        streams = packed.streams(2)
        streams.load_state(state)
        assert relative(packed.read(tail, streams, every=True), want[:, 83:]) < 2e-5
        streams = packed.streams(2)
        packed.read(head, streams)
        exported = streams.to_state(state)
        for (name, mine), (theirs, tensor) in zip(exported.leaves(), state.leaves(), strict=True):
            assert name == theirs
            torch.testing.assert_close(mine, tensor, rtol=1e-3, atol=1e-4, msg=name)
        logits, _ = model(tail, exported)
        assert relative(logits, want[:, 83:]) < 2e-5


@pytest.mark.parametrize("weights", WEIGHTS)
def test_rows_and_cuts_do_not_matter_in_any_type_of_weights(weights: str) -> None:
    """Streams of different lengths read together give what each gives alone; so does any cut."""
    model = model_of(pattern="MBWD")
    packed, tokens = NativeModel(model, weights), text(3)
    lengths = torch.tensor([150, 0, 61])
    together = packed.streams(3)
    batch = packed.read(tokens, together, lengths, every=True)
    assert not batch[1].any() and not batch[2, 61:].any()
    last = packed.read(tokens, packed.streams(3), lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = packed.streams(1)
        if not length:
            assert not last[row].any()
            continue
        want = packed.read(tokens[row : row + 1, :length], alone, every=True)[0]
        torch.testing.assert_close(batch[row, :length], want, rtol=2e-4, atol=2e-4)
        torch.testing.assert_close(last[row], want[-1], rtol=2e-4, atol=2e-4)


def test_fewer_bits_stay_near_the_law() -> None:
    """Errors of the logits relative to their scale, in the order that the types promise."""
    model, tokens = model_of(pattern="M", initializer_range=0.1), text()
    want, _, _ = law(model, tokens)
    losses = []
    for weights in WEIGHTS:
        packed = NativeModel(model, weights)
        got = packed.read(tokens, packed.streams(2), every=True)
        losses.append(float((got - want).square().mean().sqrt() / want.square().mean().sqrt()))
    assert losses[0] < 1e-5 and losses[1] < 0.02 and losses[2] < 0.03 and losses[3] < 0.3
    assert losses == sorted(losses)
    sizes = [NativeModel(model, weights).nbytes for weights in WEIGHTS]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("pattern", ["M", "D", "B", "T"])
def test_every_instruction_set_agrees(pattern: str) -> None:
    core, model, tokens = require_core(), model_of(pattern=pattern), text(1)
    best = core.isa()
    outputs = {}
    try:
        for isa in core.isa_list().split():
            core.isa_use(isa)
            packed = NativeModel(model)
            assert isa in packed.describe()
            outputs[isa] = packed.read(tokens, packed.streams(1), every=True)
    finally:
        core.isa_use(best)
    for isa, got in outputs.items():
        assert relative(got, outputs["generic"].double()) < 2e-5, isa


def test_generation_is_that_of_torch_and_streams_move_on() -> None:
    model = model_of(pattern="BM")
    packed = NativeModel(model)
    config = GenerateConfig(max_new_tokens=30, temperature=0)
    with kernels.use("torch"):
        want = list(generate(model, [1, 2, 3], config))
    assert list(generate(packed, [1, 2, 3], config)) == want
    first = Generation(packed, [[1, 2, 3]], config.replace(max_new_tokens=10))
    begun = [int(token) for token in first]
    rest = Generation(packed, [begun[-1:]], config.replace(max_new_tokens=20), first.state)
    assert begun + [int(token) for token in rest] == want


def test_scores_are_those_of_torch() -> None:
    model = model_of(pattern="BM", vocab_size=257)
    with kernels.use("torch"):
        want = score_text(model, ByteTokenizer(), "the same text", context="before")
    got = score_text(NativeModel(model), ByteTokenizer(), "the same text", context="before")
    assert got.log_probs == pytest.approx(want.log_probs, rel=1e-4)


def test_branches_and_reset() -> None:
    packed, tokens = NativeModel(model_of(pattern="B")), text(2)
    streams = packed.streams(2)
    packed.read(tokens[:, :100], streams)
    branches = streams.gather([1, 0, 1])
    want = packed.read(tokens[:, 100:], streams)
    got = packed.read(tokens[[1, 0, 1], 100:], branches)
    torch.testing.assert_close(got, want[[1, 0, 1]], rtol=0, atol=0)
    streams.reset(torch.tensor([True, False]))
    assert streams.time.tolist() == [0, 150]
    fresh = packed.streams(1)
    torch.testing.assert_close(
        packed.read(tokens[:1], fresh), packed.read(tokens[:1], streams.gather([0]))
    )


def test_the_state_does_not_grow() -> None:
    """A million decoded tokens leave the bytes of the streams and of the process as they were."""

    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    model = model_of(pattern="B", hidden_size=16, num_attention_heads=1, num_key_value_heads=1,
                     vocab_size=8, intermediate_size=0, window_size=4, eidetic_slots=2)  # fmt: skip
    packed = NativeModel(model)
    streams, token = packed.streams(250), torch.ones(250, 1, dtype=torch.int64)
    for _ in range(200):
        packed.read(token, streams)
    held, before = streams.nbytes, resident()
    for _ in range(4_000):
        packed.read(token, streams)
    assert streams.nbytes == held
    assert resident() - before < 4 << 20
    assert streams.time.tolist() == [4_200] * 250


def test_bad_input_is_refused_and_nothing_moves() -> None:
    packed = NativeModel(model_of(pattern="B"))
    streams = packed.streams(2)
    with pytest.raises(ConfigError, match="token 100 lies outside the vocabulary of 100 tokens"):
        packed.read(torch.tensor([[5, 5], [5, 100]]), streams)
    with pytest.raises(ShapeError, match="tokens have 1 rows and there are 2 streams"):
        packed.read(torch.tensor([[5]]), streams)
    assert streams.time.tolist() == [0, 0]
    other = NativeModel(model_of(pattern="B"))
    with pytest.raises(ConfigError, match="a stream belongs to another model"):
        other.read(torch.tensor([[5], [5]]), streams)
    twice = streams.gather([0])
    twice.handles *= 2
    with pytest.raises(ConfigError, match="a stream is given twice"):
        packed.read(torch.tensor([[5], [5]]), twice)
    with pytest.raises(ConfigError, match="weights = 'int3' is unknown; use one of float32"):
        NativeModel(model_of(pattern="M"), "int3")
    with pytest.raises(ConfigError, match="threads = 0 must lie between 1 and 256"):
        NativeModel(model_of(pattern="M"), threads=0)


@torch.no_grad()
def test_hidden_vectors_are_those_of_the_model_and_give_the_logits() -> None:
    model = model_of(pattern="BM")
    native = NativeModel(model)
    read, lengths = text(2, 9), torch.tensor([9, 4])
    streams, again = native.streams(2), native.streams(2)
    logits, hidden = native.read_hidden(read, streams, lengths, every=True)
    wanted, _ = model.hidden(read, lengths=lengths)
    real = torch.arange(9) < lengths[:, None]
    torch.testing.assert_close(hidden[real], wanted[real].float(), rtol=1e-4, atol=1e-4)
    assert not hidden[~real].any()
    assert torch.equal(logits, native.read(read, again, lengths, every=True))
    last, key = native.read_hidden(read[:, :1], streams)
    torch.testing.assert_close(
        model.head(key.to(model.head.weight)).float(), last, rtol=1e-4, atol=1e-4
    )
