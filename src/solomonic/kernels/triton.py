"""What every Triton kernel shares: whether it can run here, and which tile sizes it runs with.

Triton itself is never imported here: kernels live in files named `triton_kernels.py`, loaded at the
first launch, so that a machine without Triton (or without a GPU) pays nothing.

Tile sizes are measured once per device and kind of input, kept in a JSON file, and shown by
`choices`. Under Triton's interpreter (`TRITON_INTERPRET=1`) they are fixed and small.
"""

import functools
import importlib.metadata
import importlib.util
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Config = dict[str, int]
"""Tile sizes of one kernel and how it is launched (`num_warps`, `num_stages`)."""

NO_DEVICE = (
    "the tensors are not on a CUDA device (TRITON_INTERPRET=1 runs Triton kernels on the CPU, "
    "slowly, to check them)."
)
NO_TRITON = "triton is not installed; pip install 'solomonic[gpu]'."
WIDE = "it computes in float32, and these tensors are float64."

FUSED = {"enable_fp_fusion": True}
"""Launch option: multiply and add in one rounding, as Triton does unless told (it warns else)."""

_donated: ContextVar[bool] = ContextVar("solomonic_donated", default=False)
_chosen: dict[str, Config] = {}


@functools.cache
def installed() -> bool:
    """Whether `import triton` would work."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def interpreted() -> bool:
    """Whether Triton runs its interpreter. Triton decides when it is imported, so does this."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def why_not(x: Tensor) -> str | None:
    """None when Triton kernels can work on tensors like `x`, or one sentence why they cannot."""
    if not x.is_cuda and not interpreted():
        return NO_DEVICE
    if not installed():
        return NO_TRITON
    if x.dtype == torch.float64:
        return WIDE
    return None


def on_its_device(function: Callable) -> Callable:
    """Make the device of the first tensor current while `function` launches kernels on it."""

    @functools.wraps(function)
    def guarded(first: Any, *args: Any, **options: Any) -> Any:
        tensor = first[0] if isinstance(first, list) else first
        if not tensor.is_cuda:
            return function(first, *args, **options)
        with torch.cuda.device_of(tensor):
            return function(first, *args, **options)

    return guarded


def product_precision(x: Tensor) -> str:
    """How products of float32 are computed: three TF32 products, or one where torch allows it."""
    if x.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest":
        return "tf32x3"
    return "tf32"


@contextmanager
def donate() -> Iterator[None]:
    """Inside, decoding kernels may overwrite the state they are given and return it.

    For callers that own static state buffers (`lm.graphs`); everyone else keeps states as values.
    """
    token = _donated.set(True)
    try:
        yield
    finally:
        _donated.reset(token)


def donated() -> bool:
    """Whether the caller gave its state away (`donate`)."""
    return _donated.get()


def launching(config: Config) -> Config:
    """The launch options among the tile sizes of a kernel."""
    return {key: config[key] for key in ("num_warps", "num_stages") if key in config} | FUSED


@functools.cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a device; 4 under the interpreter, so that work is split there too."""
    if device.type != "cuda":
        return 4
    return torch.cuda.get_device_properties(device).multi_processor_count


def tune(name: str, key: Sequence, configs: Sequence[Config], launch: Callable) -> Config:
    """The fastest of `configs` for this kernel, device and key; measured once, then remembered.

    Args:
        name: the kernel.
        key: what the answer depends on: type, head sizes, the reach of the sets.
        configs: candidates, the first is used where nothing can be measured (the interpreter, or
            while a CUDA graph is captured, when `choices` will not list the kernel).
        launch: runs the kernel with one candidate, on buffers that may be overwritten.
    """
    if len(configs) == 1 or interpreted() or not torch.cuda.is_available():
        return configs[0]
    entry = f"{name} {' '.join(str(part).removeprefix('torch.') for part in key)}"
    if entry not in _chosen:
        _chosen.update({k: v for k, v in _read().items() if k not in _chosen})
    if entry not in _chosen:
        if torch.cuda.is_current_stream_capturing():
            return configs[0]
        _chosen[entry] = _fastest(configs, launch)
        _write()
    return _chosen[entry]


def choices() -> dict[str, Config]:
    """The tile sizes measured on this device so far, by kernel and key, those on disk included."""
    return dict(sorted((_read() | _chosen).items()))


def cache_file() -> Path:
    """Where the choices for this device and version of Triton are kept."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "interpreter"
    version = importlib.metadata.version("triton") if installed() else "none"
    plain = "".join(c if c.isalnum() else "-" for c in device.lower())
    return root / "solomonic" / f"triton-{version}-{plain}.json"


def _fastest(configs: Sequence[Config], launch: Callable) -> Config:
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    best, least = configs[0], float("inf")
    for config in configs:
        try:
            times = do_bench(lambda config=config: launch(config), warmup=5, rep=20)
        except OutOfResources:  # tiles too large for the shared memory of this device
            continue
        if (took := float(times)) < least:  # type: ignore[arg-type] (one number: the mean)
            best, least = config, took
    return best


def _read() -> dict[str, Config]:
    path = cache_file()
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        warnings.warn(f"{path} cannot be read ({error}); kernels are measured anew.", stacklevel=2)
        return {}


def _write() -> None:
    path = cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".json")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(choices(), file, indent=1)
    Path(temporary).replace(path)  # whole or not at all, whoever else writes
