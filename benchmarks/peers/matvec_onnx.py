"""Worker of `matvec`: ONNX Runtime on one thread, with the layers that it has for small weights.

Models are written here node by node, as its quantisation tools write them; the rest is left to its
graph optimiser, which joins quantisation, product and scaling into one operator.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from peers.matvec_worker import LSTM_LAYERS, SIZE, serve

FLOAT = TensorProto.FLOAT


class Graph:
    """Nodes and weights as they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.random = np.random.default_rng(0)

    def weight(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], **settings: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, **settings))

    def session(self, inputs: list[Any], outputs: list[Any]) -> onnxruntime.InferenceSession:
        graph = helper.make_graph(self.nodes, "chain", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def add_blocks(graph: Graph, i: int, bits: int, group: int) -> None:
    """MatMulNBits with the activations in 8 bits (accuracy level 4)."""
    shape = (SIZE, SIZE // group, group * bits // 8)
    levels = graph.random.integers(0, 256, shape, dtype=np.uint8)
    size = SIZE**-0.5 / (4.6 if bits == 4 else 74)
    scales = np.full(SIZE * SIZE // group, size, np.float32)
    names = [f"x{i}", graph.weight(f"w{i}", levels), graph.weight(f"s{i}", scales)]
    graph.node(
        "MatMulNBits", names, [f"x{i + 1}"], domain="com.microsoft",
        K=SIZE, N=SIZE, bits=bits, block_size=group, accuracy_level=4,
    )  # fmt: skip


def add_dynamic(graph: Graph, i: int) -> None:
    """What `quantize_dynamic` makes of a MatMul."""
    levels = graph.random.integers(-127, 128, (SIZE, SIZE), dtype=np.int8)
    weight = graph.weight(f"w{i}", levels)
    zero = graph.weight(f"z{i}", np.zeros(SIZE, np.int8))
    scale = graph.weight(f"s{i}", np.full(SIZE, SIZE**-0.5 / 74, np.float32))
    graph.node("DynamicQuantizeLinear", [f"x{i}"], [f"q{i}", f"qs{i}", f"qz{i}"])
    graph.node("MatMulInteger", [f"q{i}", weight, f"qz{i}", zero], [f"m{i}"])
    graph.node("Cast", [f"m{i}"], [f"c{i}"], to=FLOAT)
    graph.node("Mul", [f"qs{i}", scale], [f"b{i}"])
    graph.node("Mul", [f"c{i}", f"b{i}"], [f"x{i + 1}"])


def add_static(graph: Graph, i: int, layers: int) -> None:
    """QLinearMatMul: 8 bits between the layers too, with scales known beforehand."""
    levels = graph.random.integers(-127, 128, (SIZE, SIZE), dtype=np.int8)
    if i == 0:
        graph.weight("step", np.float32(1 / 32))
        graph.weight("zero", np.uint8(128))
        graph.node("QuantizeLinear", ["x0", "step", "zero"], ["q0"])
    weight = graph.weight(f"w{i}", levels)
    scale = graph.weight(f"s{i}", np.full(SIZE, SIZE**-0.5 / 74, np.float32))
    zero = graph.weight(f"z{i}", np.zeros(SIZE, np.int8))
    names = [f"q{i}", "step", "zero", weight, scale, zero, "step", "zero"]
    graph.node("QLinearMatMul", names, [f"q{i + 1}"])
    if i == layers - 1:
        graph.node("DequantizeLinear", [f"q{layers}", "step", "zero"], [f"x{layers}"])


def lstm() -> Callable[[int], None]:
    """What `quantize_dynamic` makes of LSTM layers: 8-bit weights, a scale an output."""
    graph = Graph()
    inputs = [helper.make_tensor_value_info("x0", FLOAT, [1, 1, SIZE])]
    outputs: list[Any] = []
    feeds = {"x0": graph.random.normal(size=(1, 1, SIZE)).astype(np.float32)}
    for i in range(LSTM_LAYERS):
        parts: dict[str, str] = {}
        for name in "wr":
            levels = graph.random.integers(-127, 128, (1, SIZE, 4 * SIZE), dtype=np.int8)
            scales = np.full((1, 4 * SIZE), SIZE**-0.5 / 74, np.float32)
            parts[name] = graph.weight(f"{name}{i}", levels)
            parts[f"{name}s"] = graph.weight(f"{name}s{i}", scales)
            parts[f"{name}z"] = graph.weight(f"{name}z{i}", np.zeros((1, 4 * SIZE), np.int8))
        bias = graph.weight(f"bias{i}", np.zeros((1, 8 * SIZE), np.float32))
        before, after = [f"h{i}", f"c{i}"], [f"h{i} new", f"c{i} new"]
        for name in before:
            inputs.append(helper.make_tensor_value_info(name, FLOAT, [1, 1, SIZE]))
            feeds[name] = np.zeros((1, 1, SIZE), np.float32)
        outputs += [helper.make_tensor_value_info(name, FLOAT, [1, 1, SIZE]) for name in after]
        names = [f"x{i}", parts["w"], parts["r"], bias, "", *before, ""]
        names += [parts["ws"], parts["wz"], parts["rs"], parts["rz"]]
        graph.node(
            "DynamicQuantizeLSTM", names, [f"y{i}", *after], domain="com.microsoft",
            hidden_size=SIZE, direction="forward",
        )  # fmt: skip
        axes = graph.weight(f"axes{i}", np.array([1], np.int64))
        graph.node("Squeeze", [f"y{i}", axes], [f"x{i + 1}"])
    outputs.append(helper.make_tensor_value_info(f"x{LSTM_LAYERS}", FLOAT, [1, 1, SIZE]))
    session = graph.session(inputs, outputs)

    def run(times: int) -> None:
        for _ in range(times):
            session.run(None, feeds)

    return run


def load(folder: Path, kind: str, layers: int) -> Callable[[int], object]:
    """A chain of layers in one graph, so that a call costs little for each."""
    if kind == "LSTM 8 bit":
        return lstm()
    graph = Graph()
    for i in range(layers):
        if kind == "8 bit dynamic":
            add_dynamic(graph, i)
        elif kind == "8 bit static":
            add_static(graph, i, layers)
        else:  # "4 bit, groups of 32"
            words = kind.replace(",", "").split()
            add_blocks(graph, i, int(words[0]), int(words[-1]))
    session = graph.session(
        [helper.make_tensor_value_info("x0", FLOAT, [1, SIZE])],
        [helper.make_tensor_value_info(f"x{layers}", FLOAT, [1, SIZE])],
    )
    feeds = {"x0": graph.random.normal(size=(1, SIZE)).astype(np.float32)}

    def run(times: int) -> None:
        for _ in range(times):
            session.run(None, feeds)

    return run


if __name__ == "__main__":
    serve(load)
