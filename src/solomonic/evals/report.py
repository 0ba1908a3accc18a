"""Tables and result files: seeds summed up, bytes of state beside every score."""

import dataclasses
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.train.atomic import write_files

if TYPE_CHECKING:
    from solomonic.evals.recall import RecallResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """The seeds of one point of a curve: accuracy as mean, worst and best, and what it cost."""

    label: str
    x: int
    seeds: int
    mean: float
    low: float
    high: float
    state_bytes: int
    parameters: int


def x_of(result: "RecallResult", by: str) -> int:
    """Where a result stands on the axis 'pairs' (of its task) or 'slots' (of the base model)."""
    if by == "slots":
        return result.config.slots or 0
    return int(getattr(result.config.generator, by, 0))


def summarise(results: Iterable["RecallResult"], by: str = "pairs") -> list[Summary]:
    """One summary a (label, x), labels in order of appearance, x growing."""
    groups: dict[tuple[str, int], list[RecallResult]] = {}
    labels: list[str] = []
    for result in results:
        label = result.config.label or result.config.model.layers
        if label not in labels:
            labels.append(label)
        groups.setdefault((label, x_of(result, by)), []).append(result)
    summaries = []
    for (label, x), group in sorted(groups.items(), key=lambda g: (labels.index(g[0][0]), g[0][1])):
        scores = [result.accuracy for result in group]
        summaries.append(
            Summary(
                label=label,
                x=x,
                seeds=len(group),
                mean=sum(scores) / len(scores),
                low=min(scores),
                high=max(scores),
                state_bytes=max(result.state_bytes for result in group),
                parameters=max(result.parameters for result in group),
            )
        )
    return summaries


def recall_table(summaries: Sequence[Summary], by: str = "pairs") -> str:
    """The summaries as a Markdown table, one row a point."""
    rows = [
        (
            item.label,
            str(item.x),
            f"{item.mean:.3f}",
            f"{item.low:.3f} to {item.high:.3f}",
            str(item.seeds),
            f"{item.state_bytes:,}",
            f"{item.parameters:,}",
        )
        for item in summaries
    ]
    header = ("model", by, "accuracy", "over seeds", "seeds", "state bytes", "parameters")
    return markdown_table(header, rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, figures right-aligned."""
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "---|" + "---:|" * (len(header) - 1))
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def hardware() -> str:
    """A short name of the machine for result files: its first GPU, else its processor."""
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        name = f"{_processor()}-{torch.get_num_threads()}threads"
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def _processor() -> str:
    """The processor's own name where Linux tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1) if match else platform.processor() or platform.machine()


def save_report(folder: str | Path, what: str, record: Mapping[str, Any]) -> Path:
    """Write `record` to `<folder>/<what>_<hardware>_<date>.json` with versions and machine.

    Raises:
        StorageError: the file cannot be written.
    """
    import torch

    now = datetime.now(UTC)
    name = f"{what}_{hardware()}_{now:%Y-%m-%d}.json"
    whole = {
        "what": what,
        "hardware": hardware(),
        "date": now.isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **record,
    }
    text = json.dumps(whole, indent=1) + "\n"
    write_files(Path(folder), lambda temporary: _write(temporary / name, text))
    return Path(folder) / name


def _write(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
