"""Makes native/fuzz/corpus: small device files of every kind, for tests and as a fuzzer's start.

.venv/bin/python native/fuzz/make_corpus.py [FOLDER]

Every quantised matrix "x" stands beside its numbers as float32, "x.expected".
"""

import sys
from pathlib import Path

import numpy as np

from solomonic.compress.matrix import GROUP, LARGEST, VECTOR, QuantisedMatrix
from solomonic.compress.pack import Pack, Piece, Signature, Vocabulary, settings, write_pack

CORPUS = Path(__file__).resolve().parent / "corpus"
CONFIG = settings(
    "model",
    {
        "type": "test",
        "size": 256,
        "low": -3,
        "rate": 0.1,
        "most": float("inf"),
        "none": None,
        "on": True,
        "text": "Grüße = 1",
        "empty": "",
    },
)
PIECES = (Piece(b"<blank>", 0.0, 2), Piece("▁a".encode(), -1.5), Piece(b"'", -2.25, 4))


def matrix(
    seed: int, bits: int, pattern: str, shape: tuple[int, int], grouped: bool = False
) -> QuantisedMatrix:
    """Random levels with the pattern."""
    random = np.random.default_rng(seed)
    outputs, inputs = shape
    largest = LARGEST[bits]
    levels = random.integers(-largest, largest + 1, shape).astype(np.int8)
    if pattern == "2:4":
        levels[:, random.permutation(4)[0] :: 4] = 0
        levels[:, 1::4] = 0
        levels[:, 2::4] = 0
    elif pattern == "vec16":
        kept = random.random((-(-outputs // VECTOR), inputs)) < 0.5
        levels *= np.repeat(kept, VECTOR, axis=0)[:outputs].astype(np.int8)
    elif pattern == "unstructured":
        levels *= (random.random(shape) < 0.5).astype(np.int8)
    groups = -(-inputs // GROUP)
    scales = random.random((outputs, groups) if grouped else outputs).astype(np.float32)
    if grouped:  # exactly bfloat16
        scales = (scales.view(np.uint32) & 0xFFFF0000).view(np.float32)
    if bits != 5:
        return QuantisedMatrix(levels, scales, bits, pattern)
    book = (np.arange(32) * 7 - 105).astype(np.int8)
    indices = np.where(levels == 0, 15, levels + 16).astype(np.int8)
    return QuantisedMatrix(indices, scales, 5, pattern, book)


def packs() -> dict[str, Pack]:
    """The files by name."""
    floats = np.random.default_rng(1).standard_normal((3, 2, 4)).astype(np.float32)
    words = Vocabulary("pieces", PIECES, squeeze_spaces=False, rest=b"the rest")
    tokens = Vocabulary("tokens", (Piece(b"\0"), Piece(b"\xff\xfe", 0.0, 3)), rest=b"{}")
    matrices = {
        "q8": matrix(2, 8, "dense", (5, 7)),
        "q8_six": matrix(3, 6, "unstructured", (17, 4)),
        "q4": matrix(4, 4, "dense", (3, 70), grouped=True),
        "q4r": matrix(5, 4, "dense", (66, 9)),
        "s24_4": matrix(6, 4, "2:4", (4, 37)),
        "s24_8": matrix(7, 8, "2:4", (4, 37)),
        "v16_4": matrix(8, 4, "vec16", (35, 21)),
        "v16_8": matrix(9, 8, "vec16", (35, 21)),
        "q5": matrix(10, 5, "dense", (5, 7)),
        "q5_v16": matrix(11, 5, "vec16", (35, 21)),
    }
    single = {
        name: Pack({"a": "1"}, {name: found, f"{name}.expected": found.dequantised()})
        for name, found in matrices.items()
    }
    every = {name: tensor for pack in single.values() for name, tensor in pack.tensors.items()}
    return {
        "empty": Pack({}, {}),
        "tiny": Pack({"model.type": "tiny"}, {"b": np.array([1, -2], np.float32)}, words),
        "tokens": Pack(CONFIG, {"b": floats}, tokens),
        "signed": Pack(CONFIG, {"b": floats}, words, Signature(1, bytes(range(64)))),
        "all": Pack(CONFIG, {"b": floats, **every}, words),
        **single,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS
    for name, pack in packs().items():
        write_pack(folder / f"{name}.solo", pack)
