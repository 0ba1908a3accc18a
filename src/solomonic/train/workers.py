"""Gradients of several batches at once, each in a process of its own with one thread.

The layers of a small model are too small to be shared among threads: two processes read twice the
text where two threads read half as much again. Weights lie in memory that all processes see, so an
update by the optimizer reaches everybody; gradients come back the same way and are added in a fixed
order.
"""

import mmap
import multiprocessing
import pickle  # noqa: TID251  (between this process and its own children, never a file)
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from solomonic.core import ConfigError, SolomonicError, Task
from solomonic.train.precision import autocast


class WorkerError(SolomonicError):
    """A process that computed gradients failed or was killed."""


def refuse(processes: int, device: torch.device) -> str | None:
    """Why so many processes cannot train on `device`; None: they can."""
    if processes == 1:
        return None
    if device.type != "cpu":
        return (
            f"processes = {processes} is for the CPU, and the model is on {device}; "
            "use processes = 1."
        )
    if "fork" not in multiprocessing.get_all_start_methods():
        return (
            f"processes = {processes} needs fork, which this system does not have; "
            "use processes = 1."
        )
    return None


class Workers:
    """`count` forked processes that compute gradients of `task.loss`, beside this one.

    Sets torch to one thread here and there. Moves the parameters into shared memory; they stay
    valid after `close`.

    Args:
        precision: of the autocast around the loss ('float32' or 'bfloat16').
        seed: with step and place it seeds what a loss draws, so that runs repeat.
    """

    def __init__(self, task: Task, count: int, precision: str, seed: int) -> None:
        torch.set_num_threads(1)
        self._parameters = [p for p in task.model.parameters() if p.requires_grad]
        weights = _shared(self._parameters)
        for parameter, place in zip(self._parameters, weights, strict=True):
            place.copy_(parameter.detach())
            parameter.data = place
        self._seed = seed
        self._gradients = [_shared(self._parameters) for _ in range(count)]
        self._pipes: list[Connection] = []
        self._processes = []
        context = multiprocessing.get_context("fork")
        for place in range(count):
            ours, theirs = context.Pipe()
            arguments = (task, precision, self._gradients[place], theirs, [*self._pipes, ours])
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def send(self, batches: Sequence[Any], step: int, scale: float) -> None:
        """Give each process its batches; `collect` waits for what comes of them.

        Args:
            batches: dealt out in turn, so `count` of them or a multiple.
            scale: factor of each loss before its gradient is taken.
        """
        count = len(self._pipes)
        for place, pipe in enumerate(self._pipes):
            seed = hash((self._seed, step, place)) & 0x7FFF_FFFF_FFFF_FFFF
            order = pickle.dumps((list(batches[place::count]), scale, seed), protocol=5)
            try:
                pipe.send_bytes(order)
            except OSError as error:
                raise WorkerError(self._lost(place)) from error

    def collect(self) -> list[tuple[float, dict[str, float]]]:
        """Add the gradients to `parameter.grad`; (loss, figures) of each batch sent.

        Raises:
            WorkerError: a process ended without an answer.
            Exception: whatever the loss raised there.
        """
        results = []
        for place, pipe in enumerate(self._pipes):
            try:
                answer = pickle.loads(pipe.recv_bytes())
            except (EOFError, OSError) as error:
                raise WorkerError(self._lost(place)) from error
            if isinstance(answer, Exception):
                raise answer
            found, present = answer
            results.extend(found)
            gradients = self._gradients[place]
            for index in present:
                parameter, gradient = self._parameters[index], gradients[index]
                if parameter.grad is None:
                    parameter.grad = gradient.clone()
                else:
                    parameter.grad += gradient
        return results

    def close(self) -> None:
        """End the processes; one that does not end by itself is killed."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()

    def _lost(self, place: int) -> str:
        self._processes[place].join(timeout=1)
        code = self._processes[place].exitcode
        why = f"was killed by signal {-code}" if code is not None and code < 0 else "ended"
        return (
            f"training process {place + 2} {why} (out of memory?); resume with fewer processes "
            "or smaller batches: the last checkpoint is kept."
        )


def _shared(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Room shaped as the parameters in one piece of memory that forked processes share."""
    counts = [p.numel() * p.element_size() for p in parameters]
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + (count + 63) // 64 * 64)
    memory = mmap.mmap(-1, max(starts[-1], 1))
    return [
        torch.frombuffer(memory, dtype=p.dtype, count=p.numel(), offset=start).view(p.shape)
        for p, start in zip(parameters, starts, strict=False)
    ]


def _work(
    task: Task, precision: str, gradients: list[Tensor], pipe: Connection, others: list[Connection]
) -> None:
    """The life of a process: batches in, gradients out, until the pipe closes."""
    for other in others:  # held open here, the parent's death would go unnoticed
        other.close()
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides when a run ends
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    parameters = [p for p in task.model.parameters() if p.requires_grad]
    device = torch.device("cpu")
    while True:
        try:
            batches, scale, seed = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        torch.manual_seed(seed)
        found = []
        try:
            for batch in batches:
                with autocast(precision, device):
                    loss, figures = task.loss(batch)
                (loss * scale).backward()
                found.append((float(loss.detach()), figures))
        except Exception as error:
            answer: Any = error
        else:
            present = [i for i, p in enumerate(parameters) if p.grad is not None]
            for index in present:
                gradient = parameters[index].grad
                assert gradient is not None
                gradients[index].copy_(gradient)
            answer = (found, present)
        for parameter in parameters:
            parameter.grad = None
        try:
            pipe.send_bytes(_dumped(answer))
        except OSError:
            return


def _dumped(answer: Any) -> bytes:
    try:
        return pickle.dumps(answer)
    except Exception:  # an exception that cannot be sent as it is
        return pickle.dumps(ConfigError(f"{type(answer).__name__}: {answer}"))
