"""Where the Triton tests run: on the GPU when there is one, else under Triton's interpreter.

Triton decides when it is first imported whether it interprets, so a test session that another test
may already have made import Triton cannot switch. Without a GPU the files here are therefore not
collected; `test_interpreter.py` runs each in a process of its own, with TRITON_INTERPRET=1.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels.triton.support import APART

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HERE = Path(__file__).parent

collect_ignore = []
if INTERPRETED:
    collect_ignore += APART
elif not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
    collect_ignore += {path.name for path in HERE.glob("test_*.py")} - APART


@pytest.fixture
def device() -> torch.device:
    """Where the tensors live."""
    return torch.device("cpu" if INTERPRETED else "cuda")


def patch_once_a_launch() -> None:
    """Half the interpreter's time goes into patching `triton.language` at every call of a device
    function, although the launch has patched it already: here each module is patched once."""
    from triton.runtime import interpreter

    done: set[str] = set()
    launch: Any = interpreter.GridExecutor.__call__

    def begin(self: Any, *args: Any, **options: Any) -> Any:
        done.clear()
        return launch(self, *args, **options)

    def call(self: Any, *args: Any, **options: Any) -> Any:
        module = self.fn.__module__
        if module not in done:
            interpreter._patch_lang(self.fn)
            done.add(module)
        return self.rewrite()(*args, **options)

    interpreter.GridExecutor.__call__ = begin
    interpreter.InterpretedFunction.__call__ = call


if INTERPRETED:
    patch_once_a_launch()
