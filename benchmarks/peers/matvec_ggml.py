"""Worker of `matvec`: ggml's processor backend, as built for this machine by `environment.py`.

Its C interface is called by ctypes; a chain is one graph. Weights lie in the buffer that ggml
repacks for the instruction set, which is what llama.cpp uses.
"""

import ctypes
import importlib.util
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

from peers.matvec_worker import SIZE, serve

FLOAT = 0
TYPES = {"Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "IQ4_NL": 20}
PLAIN = {"Q8_0"}
"""Has no repacked form here; the plain buffer serves it."""


def library() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """libggml-base and libggml-cpu of llama-cpp-python."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec and spec.origin
    folder = Path(spec.origin).parent / "lib"
    base = ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
    return base, ctypes.CDLL(str(folder / "libggml-cpu.so"), ctypes.RTLD_GLOBAL)


class Settings(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


def declare(code: ctypes.CDLL, name: str, result: object, *arguments: object) -> Callable:
    function = getattr(code, name)
    function.restype, function.argtypes = result, arguments
    return function


BASE, CPU = library()
new_context = declare(BASE, "ggml_init", c_void_p, Settings)
new_vector = declare(BASE, "ggml_new_tensor_1d", c_void_p, c_void_p, c_int, c_int64)
new_matrix = declare(BASE, "ggml_new_tensor_2d", c_void_p, c_void_p, c_int, c_int64, c_int64)
product = declare(BASE, "ggml_mul_mat", c_void_p, c_void_p, c_void_p, c_void_p)
new_graph = declare(BASE, "ggml_new_graph_custom", c_void_p, c_void_p, c_size_t, c_bool)
expand = declare(BASE, "ggml_build_forward_expand", None, c_void_p, c_void_p)
place = declare(BASE, "ggml_backend_alloc_ctx_tensors_from_buft", c_void_p, c_void_p, c_void_p)
fill = declare(BASE, "ggml_backend_tensor_set", None, c_void_p, c_void_p, c_size_t, c_size_t)
quantise = declare(
    BASE, "ggml_quantize_chunk", c_size_t,
    c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p,
)  # fmt: skip
compute = declare(BASE, "ggml_backend_graph_compute", c_int, c_void_p, c_void_p)
plain_buffer = declare(BASE, "ggml_backend_cpu_buffer_type", c_void_p)
new_backend = declare(CPU, "ggml_backend_cpu_init", c_void_p)
set_threads = declare(CPU, "ggml_backend_cpu_set_n_threads", None, c_void_p, c_int)
registry = declare(CPU, "ggml_backend_cpu_reg", c_void_p)
address = declare(BASE, "ggml_backend_reg_get_proc_address", c_void_p, c_void_p, c_char_p)
device = declare(BASE, "ggml_backend_reg_dev_get", c_void_p, c_void_p, c_size_t)
buffer_name = declare(BASE, "ggml_backend_buft_name", c_char_p, c_void_p)


def repacked_buffer() -> int:
    """The kind of buffer that repacks what is put into it."""
    found = address(registry(), b"ggml_backend_dev_get_extra_bufts")
    kinds = ctypes.CFUNCTYPE(ctypes.POINTER(c_void_p), c_void_p)(found)(device(registry(), 0))
    for kind in kinds:
        if kind is None:
            break
        if b"REPACK" in buffer_name(kind):
            return kind
    raise RuntimeError("ggml has no repacked buffers here")


def load(folder: Path, kind: str, layers: int) -> Callable[[int], None]:
    """A chain of matrices; one matrix again and again for one layer (a graph of 16 products)."""
    number = TYPES[kind]
    weights = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32) * SIZE**-0.5
    data = ctypes.create_string_buffer(weights.nbytes)
    used = quantise(number, weights.ctypes.data, data, 0, SIZE, SIZE, None)
    room = 1 << 20
    holder = new_context(Settings(room, None, True))
    matrices = [new_matrix(holder, number, SIZE, SIZE) for _ in range(layers)]
    assert place(holder, plain_buffer() if kind in PLAIN else repacked_buffer())
    for matrix in matrices:
        fill(matrix, data, 0, used)
    context = new_context(Settings(4 * room, None, True))
    x = start = new_vector(context, FLOAT, SIZE)
    repeats = 16 if layers == 1 else 1
    for matrix in matrices * repeats:
        x = product(context, matrix, x)
    graph = new_graph(context, 1024, False)
    expand(graph, x)
    assert place(context, plain_buffer())
    values = np.random.default_rng(1).normal(size=SIZE).astype(np.float32)
    fill(start, values.ctypes.data, 0, values.nbytes)
    backend = new_backend()
    set_threads(backend, 1)

    def run(times: int) -> None:
        for _ in range(times):
            if compute(backend, graph):
                raise RuntimeError("ggml could not compute the graph")

    return run


if __name__ == "__main__":
    serve(load)
