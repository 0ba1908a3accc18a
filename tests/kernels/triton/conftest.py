"""Where the Triton tests run: on the GPU when there is one, else under Triton's interpreter.

Triton decides when it is first imported whether it interprets, so a test session that another test
may already have made import Triton cannot switch. Without a GPU the files here are therefore not
collected; `test_interpreter.py` runs each in a process of its own, with TRITON_INTERPRET=1.
"""

import importlib.util
import os
from pathlib import Path

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
