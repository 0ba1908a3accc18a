"""Every Triton kernel against its definition, without a GPU: one process a file, interpreted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.triton.support import APART

pytest.importorskip("triton", reason="Triton is not installed (Linux only; extra 'gpu')")

HERE = Path(__file__).parent
FILES = sorted({path.name for path in HERE.glob("test_*.py")} - APART)


@pytest.mark.parametrize("name", FILES)
def test_interpreted(name: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(HERE / name)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
