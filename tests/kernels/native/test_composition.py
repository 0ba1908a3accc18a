"""Native forms in company: the registry, operator checks, compilation, autocast, checkpointing."""

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from kernels.native.cases import CASES, inputs, outputs
from kernels.triton.support import close, slopes
from solomonic import kernels
from solomonic.core import ConfigError
from solomonic.kernels.attention import native as attention_native
from solomonic.kernels.conv import native as conv_native
from solomonic.kernels.delta import native as delta_native
from solomonic.kernels.linear import native as linear_native
from solomonic.kernels.ssd import native as ssd_native
from solomonic.layers import ModelConfig
from solomonic.lm.model import LanguageModel

ONE = (
    "ssd-2x37x3",
    "delta-2x37x3",
    "conv-37x20x4",
    "conv-37x20x4-padded",
    "linear-130x65",
    "attention-1-fresh",
    "attention-1-padded",
)
CHOSEN = [case for case in CASES if case.name in ONE]
each = pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)


@each
def test_the_registry_says_what_runs(case) -> None:
    narrow, wide = case.arguments(torch.float32), case.arguments(torch.float64)
    assert kernels.explain(case.op, *narrow).startswith(f"{case.op}: native (solomonic.kernels.")
    sentence = kernels.explain(case.op, *wide)
    assert sentence.startswith(f"{case.op}: torch (") and "these tensors are float64" in sentence
    refused = pytest.raises(ConfigError, match="backend 'native'.*tensors are float64")
    with kernels.use("native"), refused:
        kernels.run(case.op, *wide)


def test_linear_leaves_to_pytorch_what_it_does_better() -> None:
    x, weight = torch.randn(64, 8), torch.randn(5, 8)
    assert "fewer than 32 tokens" in kernels.explain("linear", x[:31], weight)
    assert "bfloat16" in kernels.explain("linear", x.bfloat16(), weight.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in kernels.explain("linear", x, weight)
        assert kernels.run("linear", x, weight).dtype == torch.bfloat16


@each
def test_operators_are_registered_soundly(case) -> None:
    """Schema, autograd registration, fake tensors and tracing: torch.library.opcheck."""
    calls = []
    module = {
        "ssd": ssd_native, "delta": delta_native, "conv": conv_native, "linear": linear_native,
        "attention": attention_native,
    }[case.op]  # fmt: skip
    name = "_attend" if case.op == "attention" else f"_{case.op}"
    operator = getattr(module, name)

    def recorded(*args):
        calls.append(args)
        return operator(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, recorded)
        kernels.TABLE[case.op]["native"].function(*case.arguments(torch.float32))
    (args,) = calls
    torch.library.opcheck(operator, args)


@each
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # where dynamo splits a graph
def test_compiled_and_checkpointed_calls_give_the_same(case) -> None:
    form = kernels.TABLE[case.op]["native"].function

    def flat(*arguments):
        return tuple(outputs(form(*arguments), list(arguments)))

    def run(function):
        given = case.arguments(torch.float32)
        outs = function(*given)
        return [x.detach() for x in (*outs, *slopes(outs, inputs(given)))]

    plain = run(flat)
    kept = run(lambda *given: checkpoint(flat, *given, use_reentrant=False))
    compiled = run(torch.compile(flat, backend="aot_eager"))
    for ours in (kept, compiled):
        assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


@pytest.mark.parametrize("bfloat16", [False, True], ids=["f32", "autocast"])
@pytest.mark.parametrize("pattern", ["M", "D", "B", "F", "W", "MB"])
def test_a_model_learns_the_same_as_on_pytorch(pattern: str, bfloat16: bool) -> None:
    """Loss and gradients of a whole model, native against torch; the native forms really ran."""
    torch.manual_seed(3)
    config = ModelConfig(
        vocab_size=50, hidden_size=32, pattern=pattern, window_size=8, eidetic_slots=4,
        ssm_head_dim=8, ssm_state_size=8, fading_lag=4,
    )  # fmt: skip
    model = LanguageModel(config)
    tokens = torch.randint(0, 50, (2, 40))
    found = {}
    for backend in ("exact", "torch", "native"):
        ours = copy.deepcopy(model).double() if backend == "exact" else model
        ours.zero_grad()
        lowered = bfloat16 and backend != "exact"
        with kernels.use("torch" if backend == "torch" else "auto"), kernels.watch() as seen:
            with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
                logits = ours(tokens)[0]
            (logits.to(ours.embed.weight.dtype).square().mean() * 1000).backward()
        found[backend] = [p.grad.clone() for p in ours.parameters() if p.grad is not None]
        ops = {sentence.split(" (")[0] for sentence in seen}
        wanted = "native" if backend == "native" else "torch"
        op = {"M": "ssd", "D": "delta"}.get(pattern, "attention")
        assert f"{op}: {wanted}" in ops
    close(found["native"], found["torch"], found["exact"])
