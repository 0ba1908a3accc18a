"""The transducer's ops in the native core: two loops a row, and one pass a cell over its numbers.

Results do not depend on the number of threads.
"""

import torch
from torch import Tensor

from solomonic.kernels import native
from solomonic.kernels.native_ops import array, call, settled, why_not
from solomonic.kernels.transducer.slope import differentiable


def refuses_lattice(blank: Tensor, label: Tensor, *_rest: object) -> str | None:
    """None, or why the native core cannot take these."""
    return _why_not(blank, label)


@differentiable
def transducer(
    blank: Tensor, label: Tensor, frame_lengths: Tensor, target_lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Same function as `reference.transducer`."""
    rows, frames, width = blank.shape
    blank, label = settled(blank.detach(), 1), settled(label.detach(), 1)
    lengths = _whole(frame_lengths), _whole(target_lengths)
    nll, gone = blank.new_empty(rows), blank.new_empty(blank.shape)
    said = blank.new_empty(rows, frames, width - 1)
    fields = {
        "rows": rows, "frames": frames, "labels": width - 1, "blank": array(blank, 1),
        "label": array(label, 1) if width > 1 else None, "frame_lengths": lengths[0].data_ptr(),
        "target_lengths": lengths[1].data_ptr(), "nll": nll.data_ptr(), "gone": gone.data_ptr(),
        "said": said.data_ptr(),
    }  # fmt: skip
    call("transducer_lattice", fields)
    return nll, gone, said


def refuses_hidden(acoustic: Tensor, label: Tensor, *_rest: object) -> str | None:
    """None, or why the native core cannot take these."""
    return _why_not(acoustic, label)


def hidden(acoustic: Tensor, label: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Same function as `reference.hidden`, without a gradient of its own."""
    acoustic, label = acoustic.detach().contiguous(), label.detach().contiguous()
    rows, columns = _whole(rows), _whole(columns)
    units = acoustic.new_empty(len(rows), acoustic.shape[1])
    _run(
        "hidden", len(rows), width=units.shape[1], acoustic=acoustic, label=label, units=units,
        rows=rows, columns=columns,
    )  # fmt: skip
    return units


def refuses_spread(
    units: Tensor, slope: Tensor, rows: Tensor, columns: Tensor, *to: Tensor
) -> str | None:
    """None, or why the native core cannot take these."""
    return _why_not(units, slope, *to) or _gaps(*to)


def spread(
    units: Tensor,
    slope: Tensor,
    rows: Tensor,
    columns: Tensor,
    to_acoustic: Tensor,
    to_label: Tensor,
) -> None:
    """Same function as `reference.spread`."""
    units, slope = units.contiguous(), slope.contiguous()
    rows, columns = _whole(rows), _whole(columns)
    _run(
        "spread", len(rows), width=units.shape[1], units=units, slope=slope, rows=rows,
        columns=columns, to_acoustic=to_acoustic, to_label=to_label,
    )  # fmt: skip


def refuses_scores(logits: Tensor, *_rest: object) -> str | None:
    """None, or why the native core cannot take these."""
    return _why_not(logits)


def scores(logits: Tensor, labels: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Same function as `reference.scores`, without a gradient of its own."""
    logits, labels = logits.detach().contiguous(), _whole(labels)
    stay, move, total = logits.new_empty(3, len(logits))
    _run(
        "scores", len(logits), outputs=logits.shape[1], blank=blank, logits=logits, labels=labels,
        stay=stay, move=move, total=total,
    )  # fmt: skip
    return stay, move, total


def refuses_slopes(
    logits: Tensor, labels: Tensor, blank: int, total: Tensor, gone: Tensor, said: Tensor
) -> str | None:
    """None, or why the native core cannot take these."""
    return _why_not(logits, total, gone, said) or _gaps(logits)


def slopes(
    logits: Tensor, labels: Tensor, blank: int, total: Tensor, gone: Tensor, said: Tensor
) -> Tensor:
    """Same function as `reference.slopes`."""
    _run(
        "slopes", len(logits), outputs=logits.shape[1], blank=blank, logits=logits,
        labels=_whole(labels), total=total.contiguous(), stay=gone.contiguous(),
        move=said.contiguous(),
    )  # fmt: skip
    return logits


def _run(name: str, count: int, **given: Tensor | int) -> None:
    fields = {k: v.data_ptr() if isinstance(v, Tensor) else v for k, v in given.items()}
    if count:
        call(f"transducer_{name}", {"count": count, **fields})


def _whole(x: Tensor) -> Tensor:
    return x.to(torch.int64).contiguous()


def _why_not(*tensors: Tensor) -> str | None:
    reason = why_not(*tensors)
    if reason is not None:
        return reason
    for tensor in tensors:
        if tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            return f"it takes float32, and these tensors are {kind}."
    if not hasattr(native.load(), "transducer_lattice"):
        return "the native core is older than this op; install solomonic again."
    return None


def _gaps(*tensors: Tensor) -> str | None:
    """A reason when what is written to does not lie without gaps."""
    if all(x.is_contiguous() for x in tensors):
        return None
    return "it writes to tensors that lie without gaps, and these have gaps."
