"""Training that compresses: exact zeros, weights on their levels, and a result that still works."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from solomonic.compress.calibrate import choose_masks, compress_weights, watch
from solomonic.compress.compressor import mean_bits
from solomonic.compress.config import CompressConfig
from solomonic.compress.files import read_matrices
from solomonic.compress.masks import random_mask
from solomonic.compress.matrix import fits
from solomonic.compress.periodic import periodic
from solomonic.compress.quantise import Scheme, fit_grid
from solomonic.compress.task import MATRICES, CompressedTask
from solomonic.core import ConfigError, Task
from solomonic.train import TrainConfig
from solomonic.train import train as run_training

from .support import Imitation, train

STEPS = 300


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small are slower with two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(mean: bool = False, seed: int = 0, **settings: Any) -> CompressedTask:
    """A trained student about to be compressed."""
    task = Imitation(mean, seed)
    task.model.load_state_dict(trained(seed), strict=False)
    for name in ("first", "second") if mean else ():
        task.model.get_buffer(f"mean_{name}").copy_(getattr(task.model, name).weight.detach())
    defaults = {"steps": STEPS, "activations": False, "update_every": 20, "sensitive": ()}
    return CompressedTask(task, CompressConfig(**{**defaults, **settings}))


def trained(seed: int = 0) -> dict[str, torch.Tensor]:
    if seed not in _TRAINED:
        task = Imitation(seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            train(task, 600)
        _TRAINED[seed] = task.model.state_dict()
    return _TRAINED[seed]


_TRAINED: dict[int, dict[str, torch.Tensor]] = {}


def at_once(seed: int = 0, masks: Any = None, **settings: Any) -> float:
    """The loss of the trained student compressed without training."""
    task = Imitation(seed=seed)
    task.model.load_state_dict(trained(seed))
    config = CompressConfig(sensitive=(), **settings)
    found = compress_weights(task.model, config, masks=masks)
    with torch.no_grad():
        for name, matrix in found.items():
            task.model.get_parameter(name).copy_(torch.from_numpy(matrix.dequantised()))
    return task.evaluate()["loss"]


def from_level(task: CompressedTask, name: str) -> np.ndarray:
    """Every weight's distance to its level, in steps."""
    weight, grid = task.task.model.get_parameter(name).detach(), task.compressor.grid(name)
    return ((weight - grid.nearest(weight)).abs() / grid.steps(weight.shape[1])).numpy()


def test_it_is_a_task_around_a_task() -> None:
    task = made()
    assert isinstance(task, Task)
    names = dict(task.model.named_parameters())
    assert sorted(task.parameter_groups()["attention"]) == sorted(names)


def test_the_regulariser_is_zero_on_levels_and_its_slope_knows_no_bits() -> None:
    weight = torch.randn(8, 40, generator=torch.Generator().manual_seed(0))
    for scheme in (Scheme(bits=4), Scheme(bits=8), Scheme(bits=5, codebook=True)):
        grid = fit_grid(weight, scheme)
        assert float(periodic(grid.nearest(weight), grid)) < 1e-3  # zero is a level, as sin(0) is
        assert float(periodic(torch.zeros_like(weight), grid)) == 0.0
        probe = (grid.nearest(weight) + 1e-3 * grid.steps(40)).requires_grad_()
        periodic(probe, grid).backward()
        assert probe.grad is not None
        # Away from the level it came from, with the same pull whatever the bits.
        assert float(probe.grad.abs().max()) == pytest.approx(1.0, abs=0.02)
        between = grid.nearest(weight) + 0.5 * grid.steps(40)
        assert float(periodic(between, grid)) > 0.1 * float(grid.scales.sum())


def test_the_pull_closes_the_gap_between_trained_and_rounded() -> None:
    task = made(method="periodic", strength=1e-3, quantise=(0.1, 0.6))
    train(task, STEPS, lr=3e-3)
    for name in task.compressor.names:
        assert (from_level(task, name) < 0.1).mean() >= 0.99, name
    plain, rounded = task.task.evaluate()["loss"], task.evaluate()["loss"]
    assert abs(rounded - plain) < 0.1 * plain  # rounding no longer changes anything
    assert rounded < 0.8 * at_once(bits=4)
    free = made(method="none")
    train(free, STEPS, lr=3e-3)
    assert (from_level(free, "first.weight") < 0.1).mean() < 0.5


def test_too_strong_a_pull_freezes_the_weights_where_they_are() -> None:
    losses = {}
    for strength in (1e-3, 3.0):
        task = made(method="periodic", strength=strength, quantise=(0.0, 0.05))
        train(task, STEPS, lr=3e-3)
        losses[strength] = task.evaluate()["loss"]
    assert losses[1e-3] < 0.8 * losses[3.0]


@pytest.mark.parametrize("method", ["periodic", "straight-through"])
def test_centroids_are_learned_too(method: str) -> None:
    task = made(
        method=method, bits=5, codebook=True, strength=3e-3, quantise=(0.1, 0.5), compress_every=50
    )
    train(task, STEPS, lr=3e-3)
    assert task.evaluate()["loss"] < at_once(bits=5, codebook=True)
    matrix = task.export()["first.weight"]
    assert matrix.codebook is not None and len(matrix.codebook) == 32


def test_straight_through_trains_the_rounded_model() -> None:
    settings: dict[str, Any] = {"sparsity": 0.5, "pattern": "unstructured"}
    task = made(method="straight-through", **settings)
    train(task, STEPS, lr=3e-3)
    assert task.evaluate()["loss"] < 0.7 * at_once(bits=4, **settings)


@pytest.mark.parametrize(
    ("way", "pattern"),
    [
        ("gradual", "unstructured"), ("gradual", "2:4"), ("gradual", "vec16"),
        ("alternating", "unstructured"), ("alternating", "vec16"),
    ],
)  # fmt: skip
def test_zeros_are_exact_and_training_makes_up_for_them(pattern: str, way: str) -> None:
    task = made(sparsity=0.5, pattern=pattern, way=way, cycles=3)
    train(task, STEPS, lr=3e-3)
    for name, matrix in task.export().items():
        assert matrix.pattern == pattern
        assert fits(matrix.values != 0, pattern)
        kept = task.compressor.mask(name)
        assert kept is not None
        assert float((~kept).float().mean()) == pytest.approx(0.5, abs=1e-3)
        assert not matrix.values[~kept.numpy()].any()
        task.compressor.advance()  # the last update may have revived some; the next batch clears it
        assert not task.task.model.get_parameter(name).detach()[~kept].any()
    found, once = task.evaluate()["loss"], at_once(bits=4, sparsity=0.5, pattern=pattern)
    assert found < 0.7 * once
    generator = torch.Generator().manual_seed(0)
    model = task.task.model
    masks = {
        n: random_mask(tuple(model.get_parameter(n).shape), 0.5, pattern, generator)  # type: ignore[arg-type]
        for n in task.compressor.names
    }
    assert at_once(bits=4, sparsity=0.5, pattern=pattern, masks=masks) > 2 * once > 2 * found


def test_updates_of_the_mask_make_no_jump() -> None:
    task = made(sparsity=0.5, pattern="unstructured", method="none", update_every=10)
    task.compressor.config = task.compressor.config.replace(steps=500)
    with torch.no_grad():  # a large loss whose jumps can be told from noise
        task.task.teacher.bias.fill_(1.0)  # type: ignore[attr-defined]
        task.task.model.bias.requires_grad_(False)
    batch = next(task.batches(None))[0]
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3, weight_decay=0.0)
    before = None
    for _ in range(210):
        task.compressor.advance()
        loss, _ = task.loss(batch)
        if before is not None:
            assert float(loss.detach()) < 1.05 * before
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        before = float(loss.detach())
    assert bool(task.compressor.masked)


def test_momentum_revives_nothing() -> None:
    task = made(sparsity=0.5, pattern="vec16", sparsify=(0.0, 0.1), method="none")
    train(task, STEPS // 2)
    mask = task.compressor.mask("first.weight")
    assert mask is not None and bool(task.compressor.masked)
    first = mask.clone()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        task.compressor.advance()
        task.loss(torch.ones(4, 32))[0].backward()
        seen = task.task.model.get_parameter("first.weight").detach()
        assert not seen[~first].any()  # as the loss was computed
        optimizer.step()
    assert torch.equal(mask, first)


def test_figures_and_files_are_those_of_the_finished_model_at_any_time(tmp_path: Path) -> None:
    task = made(sparsity=0.5, pattern="vec16")
    train(task, 20)  # hardly pruned yet
    before = {k: v.clone() for k, v in task.model.state_dict().items()}
    assert task.evaluate()["loss"] > task.task.evaluate()["loss"]
    task.save(str(tmp_path))
    stored = read_matrices(tmp_path / MATRICES)
    saved = task.task.saved[-1]  # type: ignore[attr-defined]
    for name, matrix in stored.items():
        assert np.array_equal(saved[name].numpy(), matrix.dequantised())
        assert (matrix.values == 0).mean() >= 0.499
    for name, tensor in task.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name  # and training goes on with what it had


def test_a_running_mean_is_masked_and_on_the_grid_too() -> None:
    task = made(mean=True, sparsity=0.5, pattern="vec16", quantise=(0.4, 0.6))
    train(task, STEPS, lr=3e-3)
    mask, grid = task.compressor.mask("first.weight"), task.compressor.grid("first.weight")
    assert mask is not None
    with task.compressor.deployed():
        mean = task.task.model.get_buffer("mean_first").clone()
    assert not mean[~mask].any()
    assert torch.equal(grid.nearest(mean), mean)
    exported = task.export()["first.weight"].dequantised()
    assert np.array_equal(exported, mean.numpy())
    assert task.evaluate()["loss"] < at_once(bits=4, sparsity=0.5, pattern="vec16")


def test_a_killed_run_goes_on_where_it_was() -> None:
    def run(task: CompressedTask, optimizer: Any, begin: int, end: int) -> None:
        for _, (batch, _) in zip(range(begin, end), task.batches({"step": begin}), strict=False):
            loss, _ = task.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    settings: dict[str, Any] = {"sparsity": 0.5, "pattern": "vec16", "steps": 80, "update_every": 5}
    for way in ("gradual", "alternating"):
        for cut in (13, 60):
            whole, first, second = (made(way=way, **settings) for _ in range(3))
            sgd = [torch.optim.SGD(t.model.parameters(), lr=0.05) for t in (whole, first, second)]
            run(whole, sgd[0], 0, 80)
            run(first, sgd[1], 0, cut)
            second.model.load_state_dict(first.model.state_dict())
            run(second, sgd[2], cut, 80)
            after = second.model.state_dict()
            for name, tensor in whole.model.state_dict().items():
                if name != "compressor.seconds":
                    assert torch.equal(tensor, after[name]), (way, cut, name)


def test_tied_weights_are_one_matrix() -> None:
    task = Imitation()
    task.model.second.weight = torch.nn.Parameter(torch.randn(32, 64))
    task.model.third = task.model.second  # type: ignore[assignment]
    settings: dict[str, Any] = {"sensitive": (), "quantise": (0, 0), "method": "straight-through"}
    compressed = CompressedTask(task, CompressConfig(**settings))
    assert compressed.compressor.names == ["first.weight", "second.weight"]
    compressed.compressor.advance()
    with compressed.compressor.training_weights():
        assert task.model.third.weight is task.model.second.weight
        assert not isinstance(task.model.third.weight, torch.nn.Parameter)
    assert isinstance(task.model.third.weight, torch.nn.Parameter)


def test_sensitive_and_small_matrices() -> None:
    task = Imitation()
    config = CompressConfig(sparsity=0.5, pattern="vec16", sensitive=("first.*",))
    matrices = CompressedTask(task, config).export()
    assert (matrices["first.weight"].bits, matrices["first.weight"].pattern) == (8, "dense")
    assert (matrices["second.weight"].bits, matrices["second.weight"].pattern) == (4, "vec16")
    assert "bias" not in matrices
    assert mean_bits({"a": matrices["second.weight"]}) < mean_bits({"a": matrices["first.weight"]})
    with pytest.raises(ConfigError, match="no matrix to compress"):
        CompressedTask(task, CompressConfig(leave=("*",)))


def test_inputs_are_rounded_only_where_the_model_runs_compressed() -> None:
    task = made(activations=True, method="none", quantise=(0.0, 0.1), steps=10)
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    net = task.task.model
    task.compressor.advance()
    plain = net(x)
    with task.compressor.training_weights():
        rounded = net(x)
    assert not torch.equal(plain, rounded)
    assert torch.allclose(plain, rounded, atol=0.05 * float(plain.detach().abs().max()))
    assert torch.equal(net(x), plain)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "magic"}, "use one of periodic, straight-through, none"),
        ({"sparsity": 0.5}, "the pattern is 'dense'"),
        ({"quantise": (0.8, 0.2)}, "must be two shares of the run, in order"),
        ({"sparsity": 0.5, "pattern": "2:4", "quantise": (0.1, 0.9)}, "settled before the levels"),
        ({"sparsity": 0.5, "pattern": "vec16", "grouped": True}, "a scale a row"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompressConfig(**settings)


@pytest.mark.parametrize("mean", [False, True], ids=["plain", "mean"])
def test_a_compressed_model_is_trained_on(mean: bool) -> None:
    """Masks and scales stay as they were given, and what rounding and zeros cost is made up for."""
    task = made(mean, method="straight-through", sparsity=0.5, pattern="vec16")
    with watch(task.task.model) as moments:
        task.task.model(next(task.batches(None))[0])
    config, net = task.compressor.config, task.task.model
    masks = choose_masks(net, config, moments)
    matrices = compress_weights(net, config, moments, masks)
    task.compressor.begin_from(matrices, masks)
    for name, matrix in task.export().items():
        assert np.array_equal(matrix.dequantised(), matrices[name].dequantised())
    before = task.evaluate()["loss"]
    train(task, STEPS, lr=2e-3)
    assert task.evaluate()["loss"] < 0.7 * before
    came = 0
    for name, matrix in task.export().items():
        kept = masks[name].numpy()
        assert not matrix.values[~kept].any() and fits(matrix.values != 0, "vec16")
        assert np.array_equal(matrix.scales, matrices[name].scales)
        came += int(((matrix.values != 0) & (matrices[name].values == 0)).sum())
    assert came > 0  # a weight that was rounded to zero, and not cut, came back


def test_processes_see_the_same_masks_and_levels(tmp_path: Path) -> None:
    """Two processes that share the batches of an update train what one trains."""
    results = []
    for processes in (1, 2):
        task = made(method="straight-through", sparsity=0.5, pattern="vec16", steps=80)
        how = TrainConfig(
            steps=40, accumulate=2, processes=processes, lr=1e-2, warmup=1, eval_every=0
        )
        run_training(task, how, tmp_path / str(processes), progress=False)
        assert int(task.compressor.step) == 80 and bool(task.compressor.scaled)
        results.append(task.export())
    one, two = results
    for name, matrix in one.items():
        assert np.array_equal(matrix.values == 0, two[name].values == 0)
        assert np.allclose(matrix.dequantised(), two[name].dequantised(), atol=1e-6)


def test_what_does_not_fit_is_no_beginning() -> None:
    task = made(sparsity=0.5, pattern="vec16")
    net, config = task.task.model, task.compressor.config
    masks, matrices = choose_masks(net, config), compress_weights(net, config)
    with pytest.raises(ConfigError, match=r"no matrix or mask 'first\.weight'"):
        task.compressor.begin_from(matrices, {})
    other = compress_weights(net, config.replace(bits=8))
    with pytest.raises(ConfigError, match="has 8 bits and 64 scales, not 4 and 64"):
        task.compressor.begin_from(other, masks)
    assert set(masks) == set(matrices)
