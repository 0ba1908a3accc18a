"""Worker of `recogniser_peers`: a transducer of LSTM layers in sherpa-onnx's files, and run by it.

    PYTHON recogniser_sherpa.py make WEIGHTS.npz FOLDER      ONNX files, float32 and int8
    PYTHON recogniser_sherpa.py run FOLDER KIND FRAMES METHOD AUDIO.npy

`make` writes encoder, decoder and joiner as k2-fsa/icefall exports its LSTM transducers (the names,
shapes and metadata that sherpa-onnx asks for), quantises them by ONNX Runtime's `quantize_dynamic`
and says how far the encoders' outputs lie from those of the model they were made from. `run` prints
JSON: processor seconds for the audio, and what it said. Needs onnx, onnxruntime, sherpa-onnx.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
EPSILON = 1e-5
CHUNKS = (6, 30)
"""Feature frames that one call of the encoder reads: 60 ms as the library does, and 300 ms."""


class Graph:
    """Nodes and constants under names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Any, name: str = "") -> str:
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, to: str = "", outputs: int = 1, **settings: Any) -> Any:
        names = [to or f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **settings))
        return names[0] if outputs == 1 else names

    def save(self, path: Path, inputs: dict, outputs: dict, metadata: dict) -> None:
        def value(name: str, kind: int, shape: list) -> Any:
            return helper.make_tensor_value_info(name, kind, shape)

        graph = helper.make_graph(
            self.nodes, path.stem,
            [value(name, *given) for name, given in inputs.items()],
            [value(name, *given) for name, given in outputs.items()],
            self.constants,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def encoder(weights: dict[str, np.ndarray], path: Path, chunk: int) -> None:
    """log-mel frames (N, chunk, bins), h, c -> (N, chunk / 6, joint), h, c."""
    layers = int(weights["layers"])
    bins, width = len(weights["mean"]), weights["join"].shape[0]
    g = Graph()
    x = g.add("Sub", "x", g.constant(weights["mean"]))
    x = g.add("Mul", x, g.constant((1 / weights["deviation"]).astype(np.float32)))
    stacked = weights["embed"].shape[1]
    x = g.add("Reshape", x, g.constant(np.array([0, -1, stacked])))
    x = g.add("MatMul", x, g.constant(weights["embed"].T))
    x = g.add("Reshape", x, g.constant(np.array([0, -1, weights["join"].shape[1]])))
    x = g.add("MatMul", x, g.constant(weights["join"].T))
    x = g.add("Transpose", x, perm=[1, 0, 2])
    hidden, cells = [], []
    for i in range(layers):
        pieces = [
            g.add("Slice", state, g.constant(np.array([i])), g.constant(np.array([i + 1])),
                  g.constant(np.array([0])))
            for state in ("h", "c")
        ]  # fmt: skip
        gates = {name: _gates(weights[f"{i}.{name}"]) for name in ("ih", "hh", "bih", "bhh")}
        y, h, c = g.add(
            "LSTM", norm(g, x, weights[f"{i}.norm"]), g.constant(gates["ih"][None]),
            g.constant(gates["hh"][None]), g.constant(np.r_[gates["bih"], gates["bhh"]][None]), "",
            *pieces, outputs=3, hidden_size=width,
        )  # fmt: skip
        x = g.add("Add", x, g.add("Squeeze", y, g.constant(np.array([1]))))
        hidden.append(h)
        cells.append(c)
    g.add("Concat", *hidden, to="next_h", axis=0)
    g.add("Concat", *cells, to="next_c", axis=0)
    x = g.add("Transpose", norm(g, x, weights["norm"]), perm=[1, 0, 2])
    x = g.add("MatMul", x, g.constant(weights["to_joint"].T))
    g.add("Add", x, g.constant(weights["to_joint_bias"]), to="encoder_out")
    state = (FLOAT, [layers, "N", width])
    g.save(
        path, {"x": (FLOAT, ["N", chunk, bins]), "h": state, "c": state},
        {
            "encoder_out": (FLOAT, ["N", "T", len(weights["to_joint_bias"])]),
            "next_h": state, "next_c": state,
        },
        {
            "model_type": "lstm", "model_author": "solomonic", "version": "1",
            "num_encoder_layers": layers, "T": chunk, "decode_chunk_len": chunk,
            "rnn_hidden_size": width, "d_model": width,
        },
    )  # fmt: skip


def norm(g: Graph, x: str, weight: np.ndarray) -> str:
    """x / rms(x) * weight."""
    mean = g.add("ReduceMean", g.add("Mul", x, x), axes=[-1], keepdims=1)
    root = g.add("Sqrt", g.add("Add", mean, g.constant(np.float32([EPSILON]))))
    return g.add("Mul", g.add("Div", x, root), g.constant(weight))


def _gates(rows: np.ndarray) -> np.ndarray:
    """PyTorch has input, forget, cell, output; ONNX input, output, forget, cell."""
    i, f, c, o = np.split(rows, 4)
    return np.concatenate((i, o, f, c))


def decoder(weights: dict[str, np.ndarray], path: Path) -> None:
    """The last labels (N, context) -> (N, joint)."""
    g = Graph()
    context = len(weights["mix"])
    x = g.add("Gather", g.constant(weights["labels"]), "y")
    x = g.add("Mul", x, g.constant(weights["mix"]))
    x = g.add("ReduceSum", x, g.constant(np.array([1])), keepdims=0)
    x = g.add("MatMul", g.add("Relu", x), g.constant(weights["label"].T))
    g.add("Add", x, g.constant(weights["label_bias"]), to="decoder_out")
    g.save(
        path, {"y": (INT, ["N", context])},
        {"decoder_out": (FLOAT, ["N", len(weights["label_bias"])])},
        {"context_size": context, "vocab_size": len(weights["labels"])},
    )  # fmt: skip


def joiner(weights: dict[str, np.ndarray], path: Path) -> None:
    """tanh of the sum, and the logits (N, V)."""
    g = Graph()
    size = weights["joint"].shape[1]
    x = g.add("Tanh", g.add("Add", "encoder_out", "decoder_out"))
    x = g.add("MatMul", x, g.constant(weights["joint"].T))
    g.add("Add", x, g.constant(weights["joint_bias"]), to="logit")
    both = (FLOAT, ["N", size])
    g.save(
        path, {"encoder_out": both, "decoder_out": both},
        {"logit": (FLOAT, ["N", len(weights["joint_bias"])])}, {"joiner_dim": size},
    )  # fmt: skip


def make(weights: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """All files; how far the encoder is from the one it was made from, and bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for chunk in CHUNKS:
        encoder(weights, folder / f"encoder{chunk}.float32.onnx", chunk)
    decoder(weights, folder / "decoder.float32.onnx")
    joiner(weights, folder / "joiner.float32.onnx")
    bytes_of: dict[str, int] = {"float32": 0, "int8": 0}
    for file in sorted(folder.glob("*.float32.onnx")):
        small = folder / file.name.replace("float32", "int8")
        quantize_dynamic(str(file), str(small), weight_type=QuantType.QInt8)
        if "encoder6" in file.name or "encoder" not in file.name:
            bytes_of["float32"] += file.stat().st_size
            bytes_of["int8"] += small.stat().st_size
    symbols = ["<blk>", *weights["pieces"].tolist()[1:]]
    lines = "".join(f"{symbol} {i}\n" for i, symbol in enumerate(symbols))
    (folder / "tokens.txt").write_text(lines, encoding="utf-8")
    operators = {node.op_type for node in onnx.load(str(folder / "encoder6.int8.onnx")).graph.node}
    return {
        "apart": {kind: apart(weights, folder, kind) for kind in ("float32", "int8")},
        "bytes": bytes_of,
        "quantised_lstm": "DynamicQuantizeLSTM" in operators,
    }


def apart(weights: dict[str, np.ndarray], folder: Path, kind: str) -> float:
    """Largest difference of the outputs, as a part of the largest output."""
    chunk = CHUNKS[0]
    session = onnxruntime.InferenceSession(
        str(folder / f"encoder{chunk}.{kind}.onnx"), providers=["CPUExecutionProvider"]
    )
    shape = (int(weights["layers"]), 1, weights["join"].shape[0])
    h, c = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    found = []
    for first in range(0, len(weights["frames"]), chunk):
        x = weights["frames"][None, first : first + chunk]
        out, h, c = session.run(None, {"x": x, "h": h, "c": c})
        found.append(np.asarray(out)[0])
    wanted = weights["acoustic"]
    return float(np.abs(np.concatenate(found) - wanted).max() / np.abs(wanted).max())


def run(folder: Path, kind: str, chunk: str, method: str, audio: Path) -> dict[str, Any]:
    """Processor time of one pass over the audio, handed over in blocks of 60 ms."""
    import sherpa_onnx

    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
        tokens=str(folder / "tokens.txt"), encoder=str(folder / f"encoder{chunk}.{kind}.onnx"),
        decoder=str(folder / f"decoder.{kind}.onnx"), joiner=str(folder / f"joiner.{kind}.onnx"),
        num_threads=1, decoding_method=method, max_active_paths=8, provider="cpu",
    )  # fmt: skip
    samples = np.load(audio)
    spent = []
    for part in (samples[: 16000 * 2], samples):  # what is done once is done in the first
        stream = recognizer.create_stream()
        start = time.process_time()
        for first in range(0, len(part), 960):
            stream.accept_waveform(16000, part[first : first + 960])
            while recognizer.is_ready(stream):
                recognizer.decode_stream(stream)
        stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        spent.append(time.process_time() - start)
    text = str(recognizer.get_result(stream)).strip()
    return {"seconds": spent[-1], "text": text, "version": sherpa_onnx.__version__}


def main() -> None:
    """As above."""
    what, *rest = sys.argv[1:]
    if what == "make":
        record = make(dict(np.load(rest[0])), Path(rest[1]))
        record["onnxruntime"] = onnxruntime.__version__
    else:
        record = run(Path(rest[0]), rest[1], rest[2], rest[3], Path(rest[4]))
    print(json.dumps(record))


if __name__ == "__main__":
    main()
