"""Bytes of updates between device files, against bsdiff and zstd's patch mode.

make bench ARGS="updates"             six changes of the shipped recogniser (half an hour)
make bench ARGS="updates OLD NEW"     the change between two folders of speech models

The changes are fine-tunes made by updates_tunes.py: new words, more steps, one layer, one person's
voice, new words at 4 bits; and scales of 0.93. New files keep the old scales but for the last.
Every update is applied and compared; bsdiff4 and zstd --patch-from see the same two device files.
"""

import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import updates_tunes as tunes
from solomonic.compress.delta import apply_update, diff
from solomonic.compress.masks import keep_mask
from solomonic.compress.matrix import LARGEST, QuantisedMatrix
from solomonic.compress.pack import Pack, build_pack, read_pack
from solomonic.compress.quantise import Scheme, fit_grid
from solomonic.evals.report import save_report
from solomonic.speech.device_file import write_device_model
from solomonic.speech.pretrained import load_speech_model

RESULTS = Path(__file__).parent / "results"
TARGETS = {"bsdiff": 1.3, "zstd": 2.0}
"""Times smaller than the peer."""
SMALLEST = 1024  # weights of a matrix that is quantised
Weights = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Grid:
    """How the old model was made, for the new one to keep: scales, and what may not be zero."""

    bits: int
    pattern: str
    scales: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]


def frame_of(folder: Path) -> Pack:
    """A model's device file with float32 matrices."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.solo"
        write_device_model(path, load_speech_model(folder), bits=32)
        return read_pack(path)


def matrices_of(frame: Pack) -> Weights:
    """The matrices that are quantised."""
    return {
        name: tensor
        for name, tensor in frame.tensors.items()
        if isinstance(tensor, np.ndarray) and tensor.ndim == 2 and tensor.size >= SMALLEST
    }


def masks_of(weights: Weights, pattern: str) -> dict[str, np.ndarray]:
    """The larger half of each matrix, in units of the pattern."""
    if pattern == "dense":
        return {name: np.ones(weight.shape, bool) for name, weight in weights.items()}
    return {
        name: keep_mask(torch.from_numpy(np.abs(weight)), 0.5, pattern).numpy()
        for name, weight in weights.items()
    }


def grid_of(weights: Weights, bits: int, pattern: str) -> Grid:
    """Scales with the least squared error of what is kept."""
    masks = masks_of(weights, pattern)
    scheme = Scheme(bits=bits)
    scales = {
        name: fit_grid(torch.from_numpy(weight * masks[name]), scheme).scales.numpy()
        for name, weight in weights.items()
    }
    return Grid(bits, pattern, scales, masks)


def file_of(frame: Pack, weights: Weights, grid: Grid, masks: dict[str, np.ndarray]) -> bytes:
    """The device file of weights on the grid."""
    tensors = dict(frame.tensors)
    most = LARGEST[grid.bits]
    for name, weight in weights.items():
        scales = grid.scales[name]
        levels = np.clip(np.rint(weight / scales[:, None]), -most, most) * masks[name]
        tensors[name] = QuantisedMatrix(levels.astype(np.int8), scales, grid.bits, grid.pattern)
    return build_pack(dataclasses.replace(frame, tensors=tensors))


def tuned_frame(frame: Pack, name: str) -> Pack:
    """The shipped model after a fine-tune of updates_tunes.py, in float32."""
    tensors = dict(frame.tensors)
    for key, weight in tunes.made(name).model.named_parameters():
        tensors[key] = weight.detach().numpy()
    return dataclasses.replace(frame, tensors=tensors)


def tuned_pairs() -> Iterator[tuple[str, bytes, bytes]]:
    """Five kinds of change at 8 bits, and new words at 4 bits; new files are on the old grid but
    for the one that is quantised anew."""
    frame = frame_of(tunes.SHIPPED)
    weights = matrices_of(frame)
    for bits, pattern, names in ((8, "dense", tunes.TUNES), (4, "vec16", ("new words",))):
        grid = grid_of(weights, bits, pattern)
        old = file_of(frame, weights, grid, grid.masks)
        for name in names:
            after = tuned_frame(frame, name)
            new = file_of(after, matrices_of(after), grid, grid.masks)
            yield f"{bits} bit {pattern}, {name}", old, new
        if bits == 8:
            scales = {key: (s * 0.93).astype(np.float32) for key, s in grid.scales.items()}
            finer = dataclasses.replace(grid, scales=scales)
            yield "8 bit dense, quantised anew", old, file_of(frame, weights, finer, grid.masks)


def model_pairs(old: Path, new: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Two models of one shape, the second on the first one's grid."""
    frames = frame_of(old), frame_of(new)
    weights = [matrices_of(frame) for frame in frames]
    for bits, pattern in ((8, "dense"), (4, "vec16")):
        grid = grid_of(weights[0], bits, pattern)
        files = [file_of(f, w, grid, grid.masks) for f, w in zip(frames, weights, strict=True)]
        yield f"{bits} bit {pattern}, {old.name} to {new.name}", files[0], files[1]


def bsdiff(old: bytes, new: bytes) -> int:
    """Bytes of bsdiff4's patch."""
    import bsdiff4

    return len(bsdiff4.diff(old, new))


def zstd(old: bytes, new: bytes) -> int:
    """Bytes of `zstd -19 --long --patch-from`; of the library with a raw dictionary without it."""
    if shutil.which("zstd"):
        with tempfile.TemporaryDirectory() as place:
            paths = [Path(place) / name for name in ("old", "new", "patch")]
            paths[0].write_bytes(old)
            paths[1].write_bytes(new)
            options = ["-q", "-19", "--single-thread", "--long=27", f"--patch-from={paths[0]}"]
            subprocess.run(
                ["zstd", *options, str(paths[1]), "-o", str(paths[2])],
                check=True,
                stderr=subprocess.DEVNULL,
            )
            return paths[2].stat().st_size
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, window_log=27, enable_ldm=True, source_size=len(new)
    )
    base = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    packer = zstandard.ZstdCompressor(dict_data=base, compression_params=parameters)
    return len(packer.compress(new))


def measure(name: str, old: bytes, new: bytes) -> dict[str, Any]:
    """One pair: sizes, ratios, seconds of processor time."""
    found, seconds = timed(lambda: diff(old, new))
    result, back = timed(lambda: apply_update(old, found.data))
    assert result == new, name
    peers = {"bsdiff": bsdiff(old, new), "zstd": zstd(old, new)}
    ours = len(found.data)
    return {
        "pair": name,
        "model_bytes": len(new),
        "weights": sum(change.of for change in found.changes),
        "changed": sum(change.changed for change in found.changes),
        "bytes": ours,
        "share": ours / len(new),
        **{f"{peer}_bytes": size for peer, size in peers.items()},
        **{f"times_smaller_than_{peer}": size / ours for peer, size in peers.items()},
        "met": {peer: size / ours >= TARGETS[peer] for peer, size in peers.items()},
        "diff_seconds": seconds,
        "patch_seconds": back,
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the processor's seconds for it."""
    started = time.process_time()
    found = work()
    return found, time.process_time() - started


def main(arguments: list[str]) -> None:
    """Measure, print, and write one result file."""
    torch.set_num_threads(1)
    if len(arguments) not in (0, 2):
        sys.exit('say make bench ARGS="updates" or ARGS="updates OLD NEW" with two model folders')
    pairs = model_pairs(Path(arguments[0]), Path(arguments[1])) if arguments else tuned_pairs()
    records = []
    for name, old, new in pairs:
        records.append(measure(name, old, new))
        last = records[-1]
        print(
            f"{name}: {last['bytes']:,} bytes ({last['share']:.1%} of the model), "
            f"{last['times_smaller_than_bsdiff']:.2f} times smaller than bsdiff, "
            f"{last['times_smaller_than_zstd']:.2f} than zstd --patch-from; "
            f"{last['diff_seconds']:.1f} s, {last['patch_seconds']:.1f} s back",
            flush=True,
        )
    settings = {"targets": TARGETS, "shipped": tunes.SHIPPED.name, "arguments": arguments}
    print(save_report(RESULTS, "updates", {"settings": settings, "results": records}))


if __name__ == "__main__":
    main(sys.argv[1:])
