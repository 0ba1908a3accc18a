"""Worker of `recogniser`: a recogniser's int8 matrices under ONNX Runtime, on one thread.

    build/peers/onnx/bin/python recogniser_onnx.py MATRICES.npz

The products alone, as `quantize_dynamic` writes them: the activations of every width are quantised
once and shared, and nothing stands between the products. So this is less than any runtime that is
built on these operators has to do for the same weights. Prints JSON: processor seconds a run.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def session_of(matrices: dict[str, tuple[np.ndarray, np.ndarray]], rows: int) -> Any:
    """One input (rows, K) for every width K, one output: all products side by side."""
    nodes, weights, widths, outputs = [], [], {}, []
    for i, (levels, scales) in enumerate(matrices.values()):
        k = levels.shape[1]
        if k not in widths:
            widths[k] = helper.make_tensor_value_info(f"x{k}", FLOAT, [rows, k])
            quantised = [f"q{k}", f"s{k}", f"z{k}"]
            nodes.append(helper.make_node("DynamicQuantizeLinear", [f"x{k}"], quantised))
        weights += [
            numpy_helper.from_array(np.ascontiguousarray(levels.T), f"w{i}"),
            numpy_helper.from_array(np.zeros(len(levels), np.int8), f"wz{i}"),
            numpy_helper.from_array(scales.astype(np.float32), f"ws{i}"),
        ]
        nodes += [
            helper.make_node("MatMulInteger", [f"q{k}", f"w{i}", f"z{k}", f"wz{i}"], [f"m{i}"]),
            helper.make_node("Cast", [f"m{i}"], [f"c{i}"], to=FLOAT),
            helper.make_node("Mul", [f"s{k}", f"ws{i}"], [f"b{i}"]),
            helper.make_node("Mul", [f"c{i}", f"b{i}"], [f"y{i}"]),
        ]
        outputs.append(f"y{i}")
    nodes.append(helper.make_node("Concat", outputs, ["out"], axis=1))
    out = helper.make_tensor_value_info("out", FLOAT, None)
    graph = helper.make_graph(nodes, "products", list(widths.values()), [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    return made, {f"x{k}": random.standard_normal((rows, k)).astype(np.float32) for k in widths}


def seconds(session: Any, inputs: dict[str, np.ndarray], runs: int = 200) -> float:
    """Processor time of a run: the best of five series."""
    found = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(runs // 5):
            session.run(None, inputs)
        found.append((time.process_time() - start) / (runs // 5))
    return min(found)


def main() -> None:
    """Time every part, and a session that does next to nothing: the cost of a call from Python."""
    data = np.load(sys.argv[1])
    parts: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for key in data.files:
        part, name, kind = key.split("|")
        if kind == "levels":
            parts.setdefault(part, {})[name] = (data[key], data[f"{part}|{name}|scales"])
    tiny = {"none": (np.ones((1, 1), np.int8), np.ones(1, np.float32))}
    record: dict[str, Any] = {"call": seconds(*session_of(tiny, 1), runs=1000)}
    for part, matrices in parts.items():
        rows = int(part.rpartition(":")[2])
        record[part] = seconds(*session_of(matrices, rows))
    record["version"] = onnxruntime.__version__
    print(json.dumps(record))


if __name__ == "__main__":
    main()
