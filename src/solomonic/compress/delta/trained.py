"""Updates that are trained to be small: the task's loss, minimised under a number of bytes.

The old model's levels, scales and zeros are frozen; what is learnt is a move of each matrix
(moves.py) that a device can apply. The budget is what the finished update file takes, measured by
making it. After the idea of "Neural diff" model updates (arXiv 2108.01561), whose text was not at
hand: the methods here are ours.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from solomonic.compress.delta.moves import HashMove, LowRankMove, MaskMove, Move, RuleMove
from solomonic.compress.delta.rules import Rule
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.core import Config, ConfigError, Task, require

KINDS = ("mask", "hash", "low-rank")
_HEAD_BYTES, _WORD_BYTES = 200, 25  # header and tables; words of each matrix; about
_NUMBER_BITS = 6.5  # of a number of a rule, about
_TRIES = 12
_MEASURED = 5  # times that an update's size is measured while it settles
_MARGIN = 0.97  # of the budget is aimed at: moves that grow take more bytes

Matrices = Mapping[str, QuantisedMatrix]
Rules = Mapping[str, Rule]
Measure = Callable[[Matrices, Rules], int]
"""Bytes of the update file that makes these matrices."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateConfig(Config):
    """How an update is trained.

    Raises:
        ConfigError: a value out of range.
    """

    kind: str = "mask"
    """"mask": few levels change; "hash": few numbers that all levels share; "low-rank"."""
    steps: int = 400
    free: float = 0.2
    """Share of the steps in which all levels of a "mask" move; then the most moved are chosen, ever
    fewer of them."""
    settle: float = 0.4
    """Share of the steps at the end in which the choice stays and moves are whole levels."""
    rechoose: int = 5
    """Steps between two choices."""
    lr: float = 0.003
    """Of Adam, in shares of the largest level; it falls to nothing, faster at first."""
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.kind in KINDS, f"kind = '{self.kind}' is unknown; use {', '.join(KINDS)}.")
        require(self.steps >= 1, f"steps = {self.steps} must be at least 1.")
        require(self.rechoose >= 1, f"rechoose = {self.rechoose} must be at least 1.")
        require(self.lr > 0, f"lr = {self.lr} must be above 0.")
        require(
            self.free > 0 and self.settle >= 0 and self.free + self.settle < 1,
            "free must be above 0, settle not negative, and both together below 1.",
        )


@dataclasses.dataclass(frozen=True)
class TrainedUpdate:
    """What training gave.

    matrices: all of them, changed or not, with the old scales and zeros. rules: for `diff`.
    bytes: of the update. losses: of every step, in nats.
    """

    matrices: dict[str, QuantisedMatrix]
    rules: dict[str, Rule]
    bytes: int
    losses: list[float]


def train_update(
    task: Task,
    base: Matrices,
    budget: int,
    measure: Measure,
    config: UpdateConfig | None = None,
    distil: Callable[[Any], Tensor] | None = None,
    progress: Callable[[int, float], None] | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> TrainedUpdate:
    """Train an update of at most `budget` bytes; `task.model` ends with the new weights.

    Args:
        base: the old matrices, by the names of the model's parameters. Nothing else is changed.
        distil: a second loss of a batch, of the distance to a model that was trained freely.
        progress: is told the step and its loss.
        start: weights of a model that was trained freely, by name: what a "mask" begins with, so
            that the choice among the moves is better from the first on.

    Raises:
        ConfigError: a matrix that the model has not, or a budget that nothing fits.
    """
    config = config or UpdateConfig()
    parameters = _frozen(task.model, base)
    moves = _moves(base, budget, config)
    if start is not None:
        _begin(moves, start)
    chooser = _Chooser(moves, budget, measure) if config.kind == "mask" else None
    optimizer = _optimizer(moves, config)
    rates = [group["lr"] for group in optimizer.param_groups]
    batches, losses = task.batches(None), []
    first, last = int(config.free * config.steps), int((1 - config.settle) * config.steps)
    pause = max((config.steps - last) // _MEASURED, config.rechoose)
    task.model.train()
    for step in range(config.steps):
        if chooser and step >= last and (step - last) % pause == 0:
            chooser.settle()
        elif chooser and first <= step < last and (step - first) % config.rechoose == 0:
            chooser.narrow((step - first + 1) / (last - first))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - step / config.steps) ** 2
        weights = _place(moves, parameters)
        batch = next(batches)[0]
        loss, _ = task.loss(batch)
        total = loss if distil is None else loss + distil(batch)
        total.backward()
        _backward(weights, parameters)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if progress:
            progress(step + 1, losses[-1])
    matrices, rules, size = _finish(moves, base, budget, measure, chooser)
    with torch.no_grad():
        for name, matrix in matrices.items():
            parameters[name].copy_(torch.from_numpy(matrix.dequantised()))
    task.model.eval()
    return TrainedUpdate(matrices, rules, size, losses)


def _optimizer(moves: Mapping[str, Move], config: UpdateConfig) -> torch.optim.Optimizer:
    """A group for each matrix: its rate is in steps of its own levels."""
    groups = [
        {"params": list(move.parameters()), "lr": config.lr * move.matrix.largest, "name": name}
        for name, move in moves.items()
    ]
    return torch.optim.Adam(groups, betas=(0.9, 0.98))


def _begin(moves: Mapping[str, Move], start: Mapping[str, Tensor]) -> None:
    """Move everything to where free training went."""
    for name, move in moves.items():
        require(
            isinstance(move, MaskMove) and name in start,
            f"start has no '{name}', or the kind is not 'mask'; leave start out.",
        )
        assert isinstance(move, MaskMove)
        move.begin(start[name])


class _Chooser:
    """Keeps as many of the largest moves as fit the budget."""

    def __init__(self, moves: Mapping[str, Move], budget: int, measure: Measure) -> None:
        self._moves = {n: m for n, m in moves.items() if isinstance(m, MaskMove)}
        self._budget, self._measure = budget, measure
        self._weights = sum(int(move.free.sum()) for move in self._moves.values())
        self.count = self._weights
        room, bits = 8.0 * max(_room(budget, len(moves)), 1), 8.0
        for _ in range(20):  # bits of one change: where it is, and which way it goes
            self.count = max(min(int(room / bits), self._weights), 1)
            bits = math.log2(self._weights / self.count) + 2.5

    def narrow(self, done: float) -> None:
        """Choose more than fit, of all at first; nearly as many as fit when `done` nears 1."""
        self._apply(self.count + int((self._weights - self.count) * (1 - done) ** 3))

    def settle(self) -> None:
        """Moves are whole levels from now on, and as many are chosen as fit by measure."""
        for move in self._moves.values():
            move.whole = True
        for _ in range(2):
            self._apply(self.count, least=0.5)
            kept = sum(int(move.kept.sum()) for move in self._moves.values())
            size = self._measure(*_state(self._moves))
            self.count = max(int(kept * _MARGIN * self._budget / size), 1)
        self._apply(self.count, least=0.5)

    def shrink(self, size: int) -> bool:
        """Choose fewer because `size` bytes were too many; False: there is nothing left."""
        if self.count <= 1:
            return False
        self.count = max(int(self.count * min(_MARGIN * self._budget / size, 0.99)), 1)
        self._apply(self.count, least=0.5)
        return True

    def _apply(self, count: int, least: float = 0.0) -> None:
        """Keep the `count` largest moves, of those above `least` levels: below half a level is
        none, and what is chosen at that border would only swing to and fro."""
        scores = torch.cat([move.score().flatten() for move in self._moves.values()])
        place = max(len(scores) - count, 1)
        threshold = float(scores.kthvalue(place).values)
        for move in self._moves.values():
            move.choose(max(threshold, least))


def _frozen(model: nn.Module, base: Matrices) -> dict[str, nn.Parameter]:
    """The parameters that are trained; gradients of all others are switched off."""
    parameters = dict(model.named_parameters())
    for name, matrix in base.items():
        shape = tuple(parameters[name].shape) if name in parameters else "no parameter"
        require(
            matrix.levels.shape == shape,
            f"the matrix '{name}' of shape {matrix.levels.shape} is {shape} in the model; give the "
            "model that the device file was made from.",
        )
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in base)
        parameter.grad = None
    return {name: parameters[name] for name in base}


def _moves(base: Matrices, budget: int, config: UpdateConfig) -> dict[str, Move]:
    """A move for each matrix, or for those that a rule's budget reaches."""
    if config.kind == "mask":
        return {name: MaskMove(matrix) for name, matrix in base.items()}
    numbers = int(8 * _room(budget, len(base)) / _NUMBER_BITS)
    total = sum(matrix.levels.size for matrix in base.values())
    found: dict[str, Move] = {}
    if config.kind == "hash":
        for seed, (name, matrix) in enumerate(base.items()):
            size = numbers * matrix.levels.size // total
            if size:
                found[name] = HashMove(matrix, size, config.seed + seed)
    else:
        generator = torch.Generator().manual_seed(config.seed)
        cost = sum(sum(matrix.levels.shape) for matrix in base.values())
        rank = max(numbers // cost, 1)
        for name, matrix in sorted(base.items(), key=lambda item: -item[1].levels.size):
            needed = rank * sum(matrix.levels.shape)
            if needed <= numbers:
                found[name] = LowRankMove(matrix, rank, generator)
                numbers -= needed
    require(bool(found), f"a budget of {budget} bytes is too small for a {config.kind} update.")
    return found


def _room(budget: int, matrices: int) -> int:
    """Bytes of the budget that are left for numbers."""
    return max(budget - _HEAD_BYTES - _WORD_BYTES * matrices, 0)


def _place(moves: Mapping[str, Move], parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Put the moved weights into the model; they themselves, for the way back."""
    weights = {name: move.weight() for name, move in moves.items()}
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)
    return weights


def _backward(weights: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    """Pass the gradients of the model's parameters on to what they were made of."""
    reached = [name for name in weights if parameters[name].grad is not None]
    torch.autograd.backward(
        [weights[name] for name in reached], [parameters[name].grad for name in reached]
    )
    for name in parameters:
        parameters[name].grad = None


def _state(moves: Mapping[str, Move]) -> tuple[dict[str, QuantisedMatrix], dict[str, Rule]]:
    ended = {name: move.finish() for name, move in moves.items()}
    rules = {name: rule for name, (_, rule) in ended.items() if rule is not None}
    return {name: matrix for name, (matrix, _) in ended.items()}, rules


def _finish(
    moves: Mapping[str, Move],
    base: Matrices,
    budget: int,
    measure: Measure,
    chooser: _Chooser | None,
) -> tuple[dict[str, QuantisedMatrix], dict[str, Rule], int]:
    """Whole levels within the budget; fewer changes or coarser numbers until it is met."""
    size = 0
    for _ in range(_TRIES):
        matrices, rules = _state(moves)
        matrices = {**base, **matrices}
        size = measure(matrices, rules)
        if size <= budget:
            return matrices, rules, size
        if chooser is not None:
            if not chooser.shrink(size):
                break
        else:
            for move in moves.values():
                assert isinstance(move, RuleMove)
                move.coarser()
    raise ConfigError(
        f"the update takes {size} bytes and {budget} are allowed; allow more, or send the change "
        "as it is with `solomonic diff`."
    )
