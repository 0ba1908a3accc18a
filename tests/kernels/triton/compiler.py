"""Compile what a call would launch, for an H100, on a machine without any GPU.

Triton needs a device only to launch. With a driver that merely names one, every launch of a call
on CPU tensors becomes a compilation, down to machine code by Triton's own ptxas; nothing runs, so
what the call returns is meaningless.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from solomonic.kernels import triton as device

CAPABILITY = 90
SHARED_BYTES = 227 * 1024  # a multiprocessor's, as much as one program may take


class _Driver:
    """Names a device; everything that would touch it is absent."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", CAPABILITY, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def map_python_to_cpp_type(self, kind: str) -> str:
        return kind


def leaves(value: Any) -> Iterator[torch.Tensor]:
    """The tensors among nested tuples of arguments."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from leaves(part)


@contextmanager
def compiling() -> Iterator[list[tuple[str, Any]]]:
    """Inside, Triton launches compile only. Yields the list of (kernel name, compiled kernel)."""
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    launch: Callable = JITFunction.run
    found: list[tuple[str, Any]] = []

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        for x in leaves(args):
            if not x.is_floating_point():
                x.zero_()  # an index that no kernel has written must still be one
        kernel = launch(self, *args, grid=grid, warmup=True, **options)
        found.append((self.__name__, kernel))
        return kernel

    why_not, processors = device.why_not, device.processors
    driver.set_active(_Driver())  # type: ignore[arg-type]
    JITFunction.run = compile_only  # type: ignore[method-assign]
    device.why_not = lambda _: None
    device.processors = lambda _: 132  # type: ignore[assignment]
    try:
        yield found
    finally:
        JITFunction.run = launch  # type: ignore[method-assign]
        device.why_not, device.processors = why_not, processors
        driver._active = None
