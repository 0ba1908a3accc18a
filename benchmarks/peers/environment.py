"""The virtual environment of llama.cpp: made once, apart from the library's own, under build/.

llama-cpp-python is published as source only. It is compiled for this machine (GGML_NATIVE: every
instruction set the processor has, AVX-512, VNNI and BF16 included), because a generic build would
be an unfair peer. That needs a C++ compiler and about five minutes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from peers.protocol import ROOT, NotHere

FOLDER = ROOT / "build" / "peers"
PACKAGES = ["llama-cpp-python==0.3.36", "gguf==0.19.0", "numpy==2.4.6"]
FLAGS = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"


def peer_python() -> Path:
    """The interpreter that has llama.cpp; makes it on first use and says so.

    Raises:
        NotHere: no compiler, or the build failed; the log is named.
    """
    python, done = FOLDER / "venv" / "bin" / "python", FOLDER / "installed"
    if done.exists() and done.read_text() == "\n".join(PACKAGES):
        return python
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise NotHere("llama.cpp is built from source and this machine has no C++ compiler.")
    print(f"Building llama.cpp for this machine in {FOLDER} (once; about five minutes)", flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    log = FOLDER / "install.log"
    environment = os.environ | {"CMAKE_ARGS": FLAGS, "CMAKE_BUILD_PARALLEL_LEVEL": "2"}
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(FOLDER / "venv")],
        [str(python), "-m", "pip", "install", "--verbose", *PACKAGES],
    ]
    with log.open("w") as output:
        for command in commands:
            ended = subprocess.run(command, stdout=output, stderr=output, env=environment)
            if ended.returncode:
                raise NotHere(f"llama.cpp could not be built; {log} says why.")
    done.write_text("\n".join(PACKAGES))
    return python
