"""The transducer loss: time and memory of its forms against the plain double loop.

One batch of training size (ragged rows, random inputs, as at the start of training, when paths are
spread widest). Forms take turns in alternating order, so that ratios survive a noisy machine; times
are of the processor. Peak memory is that of a fresh process a form, less what it held before.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cost import resident
from solomonic.evals.report import save_report
from solomonic.speech.loss import joint_transducer_loss, pruned_transducer_loss, transducer_loss

RESULTS = Path(__file__).parent / "results"
SIZES = {
    "rows": 16, "frames": (100, 250), "labels": (20, 80), "vocabulary": 256, "joint": 256
}  # fmt: skip
FORMS = ("double loop", "logits", "joint", "pruned")


def batch() -> tuple[list[Tensor], list[Tensor]]:
    """acoustic, label, weight, bias, simple_acoustic, simple_label; targets and both lengths."""
    torch.manual_seed(0)
    rows, outputs, width = SIZES["rows"], SIZES["vocabulary"], SIZES["joint"]
    low, high = SIZES["frames"]
    frames = torch.linspace(low, high, rows).round().long()
    labels = torch.linspace(*SIZES["labels"], rows).round().long()
    most = int(labels.max())
    shapes = [(rows, high, width), (rows, most + 1, width), (outputs, width), (outputs,)]
    shapes += [(rows, high, outputs), (rows, most + 1, outputs)]
    inputs = [torch.randn(shape) for shape in shapes]
    inputs[2] *= width**-0.5
    targets = torch.randint(1, outputs, (rows, most))
    return [x.requires_grad_() for x in inputs], [targets, frames, labels]


def double_loop(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """The definition as one writes it: log-softmax, two loops over cells, autograd."""
    logs = logits.log_softmax(-1)
    stay = logs[..., 0]
    index = targets[:, None, :, None].expand(-1, logs.shape[1], -1, 1)
    move = logs[:, :, :-1].gather(-1, index)[..., 0]
    cells: list[list[Tensor]] = []
    for t in range(logs.shape[1]):
        cells.append([])
        for u in range(logs.shape[2]):
            ways = [cells[t - 1][u] + stay[:, t - 1, u]] if t else []
            if u:
                ways.append(cells[t][u - 1] + move[:, t, u - 1])
            start = torch.zeros(len(logits))
            cells[t].append(
                ways[0] if len(ways) == 1 else torch.logaddexp(*ways) if ways else start
            )
    rows = range(len(logits))
    ends = [cells[int(frames[r]) - 1][int(labels[r])][r] for r in rows]
    lasts = [stay[r, int(frames[r]) - 1, int(labels[r])] for r in rows]
    return -(torch.stack(ends) + torch.stack(lasts)).mean()


def step(form: str, inputs: list[Tensor], rest: list[Tensor]) -> float:
    """Loss and gradients of the joiner's inputs; the loss."""
    acoustic, label, weight, bias, heard, known = inputs
    if form in ("double loop", "logits"):
        logits = torch.tanh(acoustic[:, :, None] + label[:, None]) @ weight.T + bias
        loss: Callable[..., Tensor] = double_loop if form == "double loop" else transducer_loss
        value = loss(logits, *rest)
        del logits
    elif form == "joint":
        value = joint_transducer_loss(acoustic, label, weight, bias, *rest)
    else:
        both = pruned_transducer_loss(acoustic, label, weight, bias, heard, known, *rest)
        value = 0.5 * both.simple + both.pruned
    torch.autograd.grad(value, inputs if form == "pruned" else inputs[:4])
    return value.item()


def timed(form: str, inputs: list[Tensor], rest: list[Tensor]) -> float:
    """Seconds of processor time."""
    started = time.process_time()
    step(form, inputs, rest)
    return time.process_time() - started


def peak(form: str) -> int:
    """Peak bytes of one step; run in a process of its own."""
    inputs, rest = batch()
    few = [x[:2, :12].detach().requires_grad_() for x in (inputs[0], inputs[1])]
    few += [inputs[2], inputs[3], *(x[:2, :12].detach().requires_grad_() for x in inputs[4:])]
    short = torch.tensor([12, 9]), torch.tensor([11, 5])
    step(form, few, [rest[0][:2, :11], *short])  # what the first step allocates once and for all
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    step(form, inputs, rest)
    return resident("VmHWM") - before


def measure(rounds: int) -> list[dict[str, Any]]:
    """One record a form."""
    inputs, rest = batch()
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for number in range(rounds):
        for form in FORMS if number % 2 else FORMS[::-1]:
            times[form].append(timed(form, inputs, rest))
    records = []
    for form in FORMS:
        command = [sys.executable, __file__, "peak", form]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        pairs = sorted(a / b for a, b in zip(times["double loop"], times[form], strict=True))
        seconds = sorted(times[form])
        records.append(
            {
                "form": form,
                "loss": step(form, inputs, rest),
                "seconds": seconds[rounds // 2],
                "seconds_range": [seconds[0], seconds[-1]],
                "times_faster": pairs[rounds // 2],
                "peak_bytes": json.loads(output),
            }
        )
    return records


def main(arguments: list[str]) -> None:
    """Measure and write one result file; the first argument is the number of rounds (5)."""
    torch.set_num_threads(1)
    load = os.getloadavg()
    records = measure(int(arguments[0]) if arguments else 5)
    for record in records:
        print(
            f"{record['form']:11}: {record['seconds']:.3f} s, {record['times_faster']:.1f} times "
            f"the double loop's speed, peak {record['peak_bytes'] / 2**20:.0f} MiB, "
            f"loss {record['loss']:.4f}",
            flush=True,
        )
    settings = {"sizes": SIZES, "load_before": load, "load_after": os.getloadavg()}
    print(save_report(RESULTS, "transducer", {"settings": settings, "results": records}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        torch.set_num_threads(1)
        print(json.dumps(peak(sys.argv[2])))
    else:
        main(sys.argv[1:])
