"""On a real GPU: the checks of the interpreted tests at real sizes, CUDA graphs, no waiting.

Without one every test here is skipped; the other files of this folder run on the GPU too.
"""

import dataclasses
from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (Linux only; extra 'gpu')")

from kernels.triton.cases import CASES, SINGLE, Case, draw, spec
from kernels.triton.support import close, slopes, worst
from solomonic import kernels
from solomonic.kernels import ssd
from solomonic.kernels import triton as device
from solomonic.kernels.attention import blocks, triton
from solomonic.layers import ModelConfig
from solomonic.lm.graphs import GraphDecoder
from solomonic.lm.model import LanguageModel

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")
SETS = spec(512, refresh=512, slots=64, fading=1)
TURNED = spec(512, refresh=128, slots=100, rope_theta=1e4)
CHUNKED = spec(64, refresh=64, slots=64, chunked_fading=True, fading=64)
REAL = [
    Case(SETS, steps=2048, heads=(16, 4), size=64),
    Case(TURNED, 1500, (700, 31), (1500, 997), (8, 8), 64),
    Case(CHUNKED, 777, (3, 64), None, (4, 1), 128),
    Case(spec(256, slots=32, keep_duplicates=True), 600, None, (600, 1), (6, 2), 80),
]  # fmt: skip


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Fails where the host waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", REAL, ids=lambda case: case.name)
def test_attention(case: Case, dtype: torch.dtype) -> None:
    call = draw(case).to(dtype, CUDA)
    results = []
    for twin, form in (
        (call, triton.attention), (call.to(dtype), blocks), (call.to(torch.float64), blocks)
    ):  # fmt: skip
        out, carry, _ = twin.run(form)
        found = [twin.real(out), carry.raw, carry.faded, carry.slots]
        results.append([x.detach() for x in [*found, *slopes(found, twin.leaves)]])
    close(*results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("steps", [1, 63, 1500])
def test_recurrence(steps: int, dtype: torch.dtype) -> None:
    heads, size, state = 8, 64, 128
    x = torch.randn(2, steps, heads, size, device=CUDA, dtype=dtype)
    dt, rate = torch.rand(2, steps, heads, device=CUDA) / 8, -torch.rand(heads, device=CUDA)
    b, c = torch.randn(2, 2, steps, state, device=CUDA, dtype=dtype)
    h = torch.randn(2, heads, size, state, device=CUDA)
    results = []
    for form, kind in (
        (ssd.triton.ssd, None), (ssd.chunked, dtype), (ssd.chunked, torch.float64)
    ):  # fmt: skip
        given = [part.detach().to(kind or part.dtype) for part in (x, dt, rate, b, c, h)]
        given = [part.requires_grad_() for part in given]
        found = form(*given)
        results.append([part.detach() for part in [*found, *slopes(found, given)]])
    close(*results)


def model(dtype: torch.dtype = torch.bfloat16, **changes: object) -> LanguageModel:
    settings = {
        "hidden_size": 256, "num_attention_heads": 4, "pattern": "BM", "window_size": 64,
        "eidetic_slots": 64, "vocab_size": 512, "ssm_state_size": 64, "ssm_head_dim": 64,
    }  # fmt: skip
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(**settings | changes)).to(CUDA, dtype).eval()


@pytest.mark.usefixtures("no_waiting")
def test_nothing_waits_for_the_device() -> None:
    """Training and decoding, after everything has been compiled and measured once."""
    net = model()
    text = torch.randint(0, 512, (2, 300), device=CUDA)
    lengths = torch.tensor([300, 211]).to(CUDA, non_blocking=True)
    torch.cuda.set_sync_debug_mode("default")  # the first round measures tile sizes
    for strict in (False, True):
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        logits, state = net(text, None, lengths)
        logits.float().square().mean().backward()
        with torch.no_grad():
            for t in range(3):
                _, state = net(text[:, t : t + 1], state)


@pytest.mark.parametrize("pattern", ["BM", "FW", "MMMB"])
def test_a_graph_decodes_what_the_model_does(pattern: str) -> None:
    """Over two refresh boundaries, from a padded prompt; twice, from a state taken out."""
    net = model(torch.float32, pattern=pattern)
    text = torch.randint(0, 512, (3, 200), device=CUDA)
    lengths = torch.tensor([50, 17, 33], device=CUDA)
    with torch.no_grad():
        _, start = net(text[:, :50], None, lengths)
        decoder = GraphDecoder(net, 3)
        for _ in range(2):
            decoder.load(start)
            state = start
            for t in range(50, 200):
                logits, state = net(text[:, t : t + 1], state)
                assert worst(decoder.step(text[:, t]), logits[:, 0]) < 1e-4
        assert torch.equal(decoder.state.time, state.time)


@pytest.mark.parametrize("case", SINGLE[:4], ids=lambda case: case.name)
def test_decoding_equals_the_parallel_form(case: Case) -> None:
    call = draw(dataclasses.replace(case, size=64)).to(torch.float32, CUDA)
    parallel = call.run(triton.attention)
    with torch.no_grad():
        single = call.run(triton.attention)
    assert worst(single.out, parallel.out.detach()) < 1e-5
    assert torch.equal(single.carry.slot_time, parallel.carry.slot_time)


def test_compiled_by_inductor_the_model_is_the_same() -> None:
    net = model(torch.float32)
    text = torch.randint(0, 512, (2, 130), device=CUDA)
    with torch.no_grad():
        assert worst(torch.compile(net)(text)[0], net(text)[0]) < 1e-4


def test_triton_is_what_runs_and_its_choices_are_shown() -> None:
    net = model()
    with kernels.watch() as seen, torch.no_grad():
        net(torch.randint(0, 512, (1, 130), device=CUDA))
    assert any(line.startswith("attention: triton") for line in seen)
    assert any(name.startswith("attention.forward") for name in device.choices())
    assert draw(CASES[0]).to(torch.float32, CUDA).q.is_cuda
