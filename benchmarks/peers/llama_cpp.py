"""llama.cpp as a contender: its low-level C interface through llama-cpp-python.

Runs in the environment of `environment.py`. Its own best settings: compiled for this machine,
repacked weights, flash attention, and weights in memory of their own instead of a mapped file
(LOAD_MODE). Streams are put at a position by writing a saved state of a short text with its rows
repeated: what a decoded token costs depends on the number of rows, not on what is in them, and
reading 64 k tokens with a growing cache would take minutes.
"""

import ctypes
import os
import struct
from typing import Any

import llama_cpp as lib
import numpy as np

from peers.gguf_files import model_file
from peers.protocol import ROOT, NotHere, serve

FILES = ROOT / "build" / "bench" / "gguf"
LOAD_MODE = int(os.environ.get("SOLOMONIC_LLAMA_LOAD_MODE", lib.LLAMA_LOAD_MODE_NONE))
FLASH = int(os.environ.get("SOLOMONIC_LLAMA_FLASH", lib.LLAMA_FLASH_ATTN_TYPE_ENABLED))
READ = 512  # tokens read before a state is repeated
HEADROOM = 2_048  # tokens that may be decoded after a stream was seated


@lib.llama_log_callback
def _quiet(level: int, text: bytes, user: Any) -> None:
    if level == 4:  # errors only
        os.write(2, text)


class LlamaCpp:
    """One GGUF model and, at a time, one context."""

    def __init__(self, spec: dict[str, Any], weights: str, threads: int) -> None:
        path = model_file(FILES, spec, weights)
        settings = lib.llama_model_default_params()
        settings.load_mode = LOAD_MODE
        self.model = lib.llama_model_load_from_file(str(path).encode(), settings)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self.path, self.threads, self.recurrent = path, threads, spec["model"] == "mamba2"
        self.context: Any = None
        self.shape: tuple[int, int] | None = None
        self.rows, self.time = 0, 0

    def __del__(self) -> None:
        self._free()
        lib.llama_model_free(self.model)

    def _free(self) -> None:
        if self.context:
            lib.llama_free(self.context)
        self.context, self.shape = None, None

    def facts(self) -> dict[str, Any]:
        return {
            "parameters": lib.llama_model_n_params(self.model),
            "weight_bytes": lib.llama_model_size(self.model),
            "text": f"llama.cpp ({lib.llama_print_system_info().decode().strip()})",
        }

    def set_threads(self, threads: int) -> None:
        self.threads = threads
        if self.context:
            lib.llama_set_n_threads(self.context, threads, threads)

    def _open(self, tokens: int, rows: int) -> None:
        """An empty context for `rows` streams of `tokens` tokens each."""
        tokens = -(-tokens // 256) * 256
        if self.shape != (tokens, rows):
            self._free()
            settings = lib.llama_context_default_params()
            settings.n_ctx = tokens * rows
            settings.n_seq_max = rows
            settings.n_batch = 2_048
            settings.n_ubatch = 256  # its best here, of 32 to 2,048
            settings.n_threads = settings.n_threads_batch = self.threads
            settings.flash_attn_type = FLASH
            settings.no_perf = True
            self.context = lib.llama_init_from_model(self.model, settings)
            if not self.context:
                raise NotHere(f"llama.cpp cannot make a context of {tokens * rows} tokens.")
            self.shape = (tokens, rows)
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)

    def _read(self, tokens: int) -> None:
        """Read that many tokens on stream 0, in batches."""
        vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        ids = np.random.default_rng(1).integers(0, vocabulary, tokens, dtype=np.int32)
        for start in range(0, tokens, 2_048):
            part = np.ascontiguousarray(ids[start : start + 2_048])
            pointer = part.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
            self._run(lib.llama_batch_get_one(pointer, len(part)))

    def _run(self, batch: Any) -> None:
        status = lib.llama_decode(self.context, batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")

    def prefill(self, tokens: int) -> None:
        self._open(tokens, 1)
        self._read(tokens)
        lib.llama_get_logits_ith(self.context, -1)

    def seat(self, position: int, rows: int) -> int:
        room = HEADROOM if self.recurrent else position + HEADROOM
        self._open(room, rows)
        read = min(position, READ)
        self._read(read)
        size = lib.llama_state_seq_get_size(self.context, 0)
        state = np.zeros(size, np.uint8)
        bytes_at = ctypes.POINTER(ctypes.c_uint8)
        lib.llama_state_seq_get_data(self.context, state.ctypes.data_as(bytes_at), size, 0)
        data = moved(state.tobytes(), position) if self.recurrent else repeated(state, position)
        buffer = np.frombuffer(data, np.uint8)
        for row in range(rows):
            taken = lib.llama_state_seq_set_data(
                self.context, buffer.ctypes.data_as(bytes_at), len(buffer), row
            )
            if taken != len(buffer):
                raise RuntimeError("llama.cpp did not take the state")
        self.rows, self.time = rows, position
        return len(buffer) * rows

    def decode(self, tokens: int) -> None:
        batch = lib.llama_batch_init(self.rows, 0, 1)
        batch.n_tokens = self.rows
        for row in range(self.rows):
            batch.token[row] = row + 1
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = row
            batch.logits[row] = 1
        for _ in range(tokens):
            for row in range(self.rows):
                batch.pos[row] = self.time
            self._run(batch)
            lib.llama_get_logits_ith(self.context, self.rows - 1)
            self.time += 1
        lib.llama_batch_free(batch)

    def logits(self) -> np.ndarray:
        """Of the last token read; for checks."""
        vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        return np.ctypeslib.as_array(lib.llama_get_logits_ith(self.context, -1), (vocabulary,))

    def train(self, batch: int, length: int, bfloat16: bool) -> None:
        raise NotHere("llama.cpp does not train these models.")


def moved(state: bytes, position: int) -> bytes:
    """A recurrent state, as llama.cpp saves it, that has read `position` tokens.

    Layout: magic u32, stream i32, cells u32 (1), position of the last token i32, ...
    """
    magic, stream, cells = struct.unpack_from("<IiI", state)
    assert cells == 1, cells
    return struct.pack("<IiIi", magic, stream, cells, position - 1) + state[16:]


def repeated(state: np.ndarray, position: int) -> bytes:
    """A key/value cache, as llama.cpp saves it, its rows repeated to `position` tokens.

    Layout: magic u32, stream i32, sets u32 (1), cells u32; a cell each: position i32, streams
    u32 (1), stream i32; transposed u32 (0 with flash attention), layers u32; then all keys and
    all values, a layer each: type i32, bytes of a row u64, rows.
    """
    head = np.frombuffer(state[:16].tobytes(), np.int32).copy()
    cells = int(head[3])
    assert head[2] == 1, head
    place = 16 + 12 * cells
    transposed, layers = np.frombuffer(state[place : place + 8].tobytes(), np.uint32)
    if transposed:
        raise NotHere("llama.cpp keeps its cache transposed without flash attention.")
    head[3] = position
    meta = np.zeros((position, 3), np.int32)
    meta[:, 0], meta[:, 1] = np.arange(position), 1
    parts = [head.tobytes(), meta.tobytes(), state[place : place + 8].tobytes()]
    place += 8
    which = np.arange(position) % cells
    for _ in range(2 * int(layers)):
        label = state[place : place + 12].tobytes()
        row = struct.unpack_from("<iQ", label)[1]
        rows = state[place + 12 : place + 12 + cells * row].reshape(cells, row)
        parts += [label, rows[which].tobytes()]
        place += 12 + cells * row
    assert place == len(state), (place, len(state))
    return b"".join(parts)


if __name__ == "__main__":
    lib.llama_log_set(_quiet, ctypes.c_void_p(0))
    lib.llama_backend_init()
    serve(LlamaCpp)
