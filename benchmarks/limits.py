"""What this machine can do at most: memory it can read and matrix products it can make, a second.

Beside every figure of the speed benchmark stands its share of these. Reading is timed in C
(limits.c), with small and with huge pages, far beyond the caches and inside the third level; matrix
products are PyTorch's. The best of several rounds counts: a limit is what the machine reaches when
nobody disturbs it. Wall time, because memory does not know who waits.

    python benchmarks/limits.py
"""

import ctypes
import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"
FAR = 512 << 20
NEAR = 12 << 20  # past the second level, inside the third
ROUNDS = 7


def reader() -> Any:
    """The C loop, compiled for this machine; None where there is no compiler."""
    compiler = shutil.which("g++") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    BUILD.mkdir(parents=True, exist_ok=True)
    library = BUILD / "limits.so"
    flags = ["-O3", "-march=native", "-shared", "-fPIC", "-x", "c", str(HERE / "limits.c")]
    subprocess.run([compiler, *flags, "-o", str(library)], check=True)
    code = ctypes.CDLL(str(library))
    code.limits_new.restype = ctypes.c_void_p
    code.limits_new.argtypes = [ctypes.c_size_t, ctypes.c_int]
    code.limits_free.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    code.limits_read.restype = ctypes.c_uint64
    code.limits_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return code


def bandwidth(code: Any, size: int, threads: int, huge: bool) -> float:
    """Bytes a second that `threads` threads read together, each its own `size` bytes."""
    memory = [code.limits_new(size, int(huge)) for _ in range(threads)]
    if not all(memory):
        raise MemoryError(f"{threads} times {size} bytes are not to be had")
    repeats = max(1, (256 << 20) // size)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            list(pool.map(lambda part: code.limits_read(part, size, repeats), memory))
            seconds = time.perf_counter() - started
            best = max(best, threads * size * repeats / seconds)
    for part in memory:
        code.limits_free(part, size)
    return best


def matrix_rate(kind: str, threads: int, size: int = 1_024) -> float:
    """Multiplications and additions a second of PyTorch's matrix product in float32 or bfloat16."""
    import torch

    torch.set_num_threads(threads)
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=random).to(getattr(torch, kind)) for _ in range(2))
    best = 0.0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(4):
            a @ b
        best = max(best, 4 * 2 * size**3 / (time.perf_counter() - started))
    return best


def measure(threads: tuple[int, ...] = (1, 2)) -> dict[str, float]:
    """Every limit, in units a second; bandwidths are left out where there is no compiler."""
    found: dict[str, float] = {}
    code = reader()
    available = len(os.sched_getaffinity(0))
    for count in (n for n in threads if n <= available):
        if code is not None:
            pages = {"huge pages": True, "small pages": False}
            rates = [bandwidth(code, FAR, count, huge) for huge in pages.values()]
            for name, rate in zip(pages, rates, strict=True):
                found[f"memory/{count}/{name}"] = rate
            found[f"memory/{count}"] = max(rates)
            found[f"cache/{count}"] = bandwidth(code, NEAR // count, count, huge=True)
        for kind in ("float32", "bfloat16"):
            found[f"matrix/{kind}/{count}"] = matrix_rate(kind, count)
    return found


def third_level() -> int:
    """Bytes of the third-level cache, 0 if Linux does not say."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (index / "level").read_text().strip() == "3":
            text = (index / "size").read_text().strip()
            return int(text.rstrip("KM")) * {"K": 1 << 10, "M": 1 << 20}[text[-1]]
    return 0


if __name__ == "__main__":
    print(json.dumps({name: round(rate / 1e9, 1) for name, rate in measure().items()}, indent=1))
