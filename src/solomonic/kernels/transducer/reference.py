"""The ops of a transducer (RNN-T), the slow definitions: two nested loops for each row's lattice.

Sources: Graves, arXiv 1211.3711, section 2.4 (the recursion); Yu et al., arXiv 2010.11148
(FastEmit); Kang et al., arXiv 2211.00490 (the delay penalty).
"""

import torch
from torch import Tensor

from solomonic.kernels.segments import compute_dtype

MINUS_INFINITY = float("-inf")
NO_LABEL = -1
PADDING = -2


def transducer(
    blank: Tensor,
    label: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
    fastemit: float = 0.0,
    delay_penalty: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Negative log-likelihood of each row and how often its paths take each arc.

    At (t, u), t frames and u labels are behind. A blank leads to (t + 1, u), the next label to
    (t, u + 1); paths go from (0, 0) to (T, U), and their last arc is a blank. The sums run in
    float64. The delay penalty d gives each label arc d * ((T - 1) / 2 - t) more: paths that speak
    early weigh more. FastEmit f leaves the value as it is and defines its slope alone: that of
    nll - f * sum(occupancy of label arcs, held constant, times their log-probabilities).

    Args:
        blank: (B, T, U + 1) log-probability of a blank at (t, u); -inf: no such arc.
        label: (B, T, U) log-probability of label u + 1 at (t, u).
        frame_lengths: (B,) int64, real frames of each row, 1 to T.
        target_lengths: (B,) int64, real labels of each row, 0 to U.

    Returns:
        nll (B,) in the type of `blank`, inf where no path leads through, differentiable in both
        planes; occupancies of the blank arcs (B, T, U + 1) and of the label arcs (B, T, U),
        constants, 0 in the padding and where no path leads through.
    """
    rows = []
    occupancies = torch.zeros_like(blank), torch.zeros_like(label)
    for row, (frames, labels) in enumerate(
        zip(frame_lengths.tolist(), target_lengths.tolist(), strict=True)
    ):
        stay = blank[row, :frames, : labels + 1].double()
        early = (frames - 1) / 2 - torch.arange(frames, device=label.device).double()
        move = label[row, :frames, :labels].double() + delay_penalty * early[:, None]
        before = _before(stay, move)
        with torch.no_grad():
            after = _after(stay, move)
            total, shape = after[0][0], stay.shape
            if total > MINUS_INFINITY:
                grid = torch.stack([torch.stack(line) for line in after])
                reached = torch.stack([torch.stack(line) for line in before])[:frames]
                gone = (reached + stay + grid[1:] - total).exp()
                said = (reached[:, :-1] + move + grid[:frames, 1:] - total).exp()
                occupancies[0][row, :frames, : shape[1]] = gone
                occupancies[1][row, :frames, :labels] = said
        nll = -before[frames][labels]
        if fastemit and total > MINUS_INFINITY:
            real = move.masked_fill(said == 0, 0.0)
            extra = fastemit * (said * real).sum()
            nll = nll - (extra - extra.detach())
        rows.append(nll)
    return torch.stack(rows).to(blank.dtype), *occupancies


def _before(stay: Tensor, move: Tensor) -> list[list[Tensor]]:
    """Log-probability of coming to (t, u); the last line has frame T, reached by blanks alone."""
    frames, width = stay.shape
    lines: list[list[Tensor]] = []
    for t in range(frames + 1):
        lines.append([])
        for u in range(width):
            ways = [lines[t - 1][u] + stay[t - 1, u]] if t else []
            if u and t < frames:
                ways.append(lines[t][u - 1] + move[t, u - 1])
            lines[t].append(_add(ways) if t or u else stay.new_zeros(()))
    return lines


def _after(stay: Tensor, move: Tensor) -> list[list[Tensor]]:
    """Log-probability of coming from (t, u) to the end; the last line has frame T."""
    frames, width = stay.shape
    nothing = stay.new_full((), MINUS_INFINITY)
    lines = [[nothing] * width for _ in range(frames + 1)]
    lines[frames][width - 1] = stay.new_zeros(())
    for t in reversed(range(frames)):
        for u in reversed(range(width)):
            ways = [lines[t + 1][u] + stay[t, u]]
            if u + 1 < width:
                ways.append(lines[t][u + 1] + move[t, u])
            lines[t][u] = _add(ways)
    return lines


def _add(ways: list[Tensor]) -> Tensor:
    """log(sum(exp)) without the slope of nothing, which is not a number."""
    real = [way for way in ways if way > MINUS_INFINITY]
    return torch.stack(real).logsumexp(0) if real else ways[0].detach()


def hidden(acoustic: Tensor, label: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The joiner's hidden layer in chosen cells: tanh(acoustic[rows] + label[columns]).

    Args:
        acoustic: (M, J).
        label: (K, J).
        rows, columns: (N,) int64.

    Returns:
        (N, J).
    """
    result = acoustic.new_empty(len(rows), acoustic.shape[1])
    for n, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        result[n] = (acoustic[row] + label[column]).tanh()
    return result


def spread(
    units: Tensor,
    slope: Tensor,
    rows: Tensor,
    columns: Tensor,
    to_acoustic: Tensor,
    to_label: Tensor,
) -> None:
    """Add the slopes of `hidden` to those of its inputs.

    Args:
        units: (N, J) what `hidden` returned; its contents are lost.
        slope: (N, J) slope of the loss along them; its contents are lost.
        rows, columns: (N,) as `hidden` took them.
        to_acoustic, to_label: (M, J) and (K, J), added to.
    """
    for n, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        inner = slope[n] * (1 - units[n] ** 2)
        to_acoustic[row] += inner
        to_label[column] += inner


def scores(logits: Tensor, labels: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of blank and of each cell's label, and the log-sum over the vocabulary.

    Args:
        logits: (N, V).
        labels: (N,) int64, the label that may come next in each cell; NO_LABEL where there is
            none, PADDING for cells that do not count, whose logits may be anything.

    Returns:
        Blank (N,), label (N,), -inf where there is none, and total (N,), 0 in the padding: float32
        (float64 for float64).
    """
    result = logits.new_full((3, len(logits)), MINUS_INFINITY, dtype=compute_dtype(logits))
    result[2] = 0.0
    for n, label in enumerate(labels.tolist()):
        if label == PADDING:
            continue
        logs = logits[n].to(result.dtype).log_softmax(0)
        result[0, n] = logs[blank]
        result[1, n] = logs[label] if label != NO_LABEL else MINUS_INFINITY
        result[2, n] = logits[n].to(result.dtype).logsumexp(0)
    return result[0], result[1], result[2]


def slopes(
    logits: Tensor, labels: Tensor, blank: int, total: Tensor, gone: Tensor, said: Tensor
) -> Tensor:
    """Write the slope of the loss over the logits of each cell, and return them.

    z_k becomes (gone + said) softmax(z)_k - [k is blank] gone - [k is the label] said. Cells whose
    two occupancies are 0 become exactly 0, whatever their logits.

    Args:
        logits, labels, blank: as `scores` took them; the logits are overwritten.
        total: (N,) from `scores`.
        gone, said: (N,) occupancy of the blank and of the label arc, times what the loss is
            multiplied with.
    """
    for n, label in enumerate(labels.tolist()):
        if gone[n] == 0 and said[n] == 0:
            logits[n] = 0.0
            continue
        slope = (gone[n] + said[n]) * logits[n].to(total.dtype).softmax(0)
        slope[blank] -= gone[n]
        if label >= 0:
            slope[label] -= said[n]
        logits[n] = slope.to(logits.dtype)
    return logits
