"""Mean squared gradients of a model on text of its training, one number a parameter element.

    squares = collect(model, rows)                 # rows (n, T) of training text
    save(squares, model, "model/gradients.squares")

They tell dynamic evaluation how large a gradient usually is; a file of them belongs to one model.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from solomonic.core import CheckpointError, ShapeError
from solomonic.lm.model import LanguageModel
from solomonic.state import checked

KIND = checked.Kind(format="solomonic-gradients", version=1, title="gradient statistics")


def collect(model: LanguageModel, rows: Tensor, segment: int = 64) -> dict[str, Tensor]:
    """Mean over segments of the squared gradient of the segment's mean loss.

    Args:
        rows: (n, T) token ids, each row a stretch of training text; T - 1 is cut to whole segments.
        segment: tokens of one gradient, as many as dynamic evaluation will use: the square of a
            mean over more tokens is smaller.

    Raises:
        ShapeError: no row holds a segment.
    """
    count = (rows.shape[1] - 1) // segment if rows.dim() == 2 else 0
    if count == 0 or len(rows) == 0:
        raise ShapeError(
            f"rows of shape {tuple(rows.shape)} hold no segment of {segment} tokens; give "
            f"(n, length) with a length of at least {segment + 1}."
        )
    parameters = dict(model.named_parameters())
    flags = {name: p.requires_grad for name, p in parameters.items()}
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
    try:
        for p in parameters.values():
            p.requires_grad_(True)
        with torch.enable_grad():
            for row in rows:
                for begin in range(0, count * segment, segment):
                    part = row[begin : begin + segment + 1]
                    logits, _ = model(part[None, :-1])
                    loss = cross_entropy(logits[0].float(), part[1:])
                    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
                    for name, g in zip(parameters, found, strict=True):
                        if g is not None:
                            totals[name] += g.square()
    finally:
        for name, p in parameters.items():
            p.requires_grad_(flags[name])
    return {name: total / (count * len(rows)) for name, total in totals.items()}


def save(squares: Mapping[str, Tensor], model: LanguageModel, path: str | Path) -> None:
    """Write statistics for this model.

    Raises:
        StorageError: the disk is full or the place cannot be written.
    """
    checked.write(path, squares, {"fingerprint": model.fingerprint()}, KIND)


def load(path: str | Path, model: LanguageModel) -> dict[str, Tensor]:
    """Read what `save` wrote.

    Raises:
        CheckpointError: missing, damaged, newer, or of another model.
    """
    squares, header = checked.read(path, KIND)
    if header["fingerprint"] != model.fingerprint():
        raise CheckpointError(f"{KIND.title} {path} are of another model; collect them anew.")
    return squares
