"""Result file, tables and figures of the speed benchmark, from its finished cells.

The section of docs/benchmarks.md between the two markers is written from here, never by hand.
"""

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import plot_speed
import speed_targets
from solomonic.evals.report import hardware, markdown_table, save_report
from solomonic.train.atomic import write_files
from speed_plan import full_plan

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
KINDS = {
    "decode": "Decoding, tokens a second",
    "flat": "Decoding at 512 and at 1 M positions in one run, tokens a second",
    "prefill": "Reading a text, tokens a second",
    "train": "Training step (forward, backward, AdamW), tokens a second",
    "streams": "One stream and 64 together, tokens a second in all",
    "memory": "Reading a text in a fresh process, tokens a second and peak memory",
}


def lines(record: Mapping[str, Any]) -> list[str]:
    """A printed line a contender, fastest first, refusals last."""
    rows = sorted(record["rows"].items(), key=lambda item: -_median(item[1]))
    shown = []
    for label, row in rows:
        if row.get("rates"):
            middle, low, high = speed_targets.spread(row["rates"])
            extra = _memory(row)
            shown.append(f"  {label:36} {middle:12,.1f}  ({low:,.1f} to {high:,.1f}){extra}")
        else:
            shown.append(f"  {label:36} {'-':>12}  {row.get('error', 'not measured')}")
    return shown


def _median(row: Mapping[str, Any]) -> float:
    return statistics.median(row["rates"]) if row.get("rates") else 0.0


def _memory(row: Mapping[str, Any]) -> str:
    size = row.get("peak") or row.get("bytes")
    return f"  {size / 2**20:,.0f} MiB" if size else ""


def cell_table(record: Mapping[str, Any], found: Mapping[str, float]) -> str:
    """One cell as a Markdown table with shares of the machine's limits."""
    kind, size, threads, _ = record["cell"].split("/")
    rows = []
    for label, row in sorted(record["rows"].items(), key=lambda item: -_median(item[1])):
        if not row.get("rates"):
            rows.append((label, "-", row.get("error", "not measured").replace("\n", " "), "", ""))
            continue
        middle, low, high = speed_targets.spread(row["rates"])
        share = None
        if kind in ("decode", "flat", "streams"):
            share = speed_targets.memory_share(row, int(threads), found)
        elif kind in ("prefill", "memory"):
            share = speed_targets.matrix_share(row, label, size, int(threads), found)
        part = f"{100 * statistics.median(share):.0f}%" if share else ""
        spread = f"{low:,.0f} to {high:,.0f}"
        rows.append((label, f"{middle:,.0f}", spread, part, _memory(row).strip()))
    share = "of bandwidth" if kind in ("decode", "flat", "streams") else "of matrix rate"
    header = ("contender", "median", "quartiles", share, "peak memory")
    used = [column for column in range(len(header)) if any(row[column] for row in rows)]
    return markdown_table(
        [header[column] for column in used], [[row[column] for column in used] for row in rows]
    )


def target_table(table: Iterable[Mapping[str, Any]]) -> str:
    """The targets with ratios and verdicts."""
    rows = []
    for row in table:
        wanted = "" if row["wanted"] is None else f"{row['wanted']:g}"
        ratio, spread = "", ""
        if "median" in row:
            ratio = f"{row['median']:.2f}"
            spread = f"{row['low']:.2f} to {row['high']:.2f}"
        rows.append((row["target"], wanted, ratio, spread, row["verdict"]))
    return markdown_table(("target", "at least", "measured", "quartiles", "verdict"), rows)


def limit_table(found: Mapping[str, float]) -> str:
    """The machine's limits."""
    units = {"matrix": "GFLOP/s"}
    rows = [
        (name, f"{rate / 1e9:,.1f}", units.get(name.split("/")[0], "GB/s"))
        for name, rate in sorted(found.items())
    ]
    return markdown_table(("limit / threads", "measured", "unit"), rows)


def title(record: Mapping[str, Any]) -> str:
    """What a cell is, in words."""
    kind, size, threads, point = record["cell"].split("/")
    where = {"decode": "at position", "flat": "at position", "streams": "at position"}
    many = "s" * (int(threads) > 1)
    return (
        f"{KINDS[kind]}: {size[:-1]} M parameters, {threads} thread{many}, "
        f"{where.get(kind, 'length')} {int(point):,} ({record['clock']})"
    )


def section(
    records: Mapping[str, Any], found: Mapping[str, float], table: list[dict], figures: list[Path]
) -> str:
    """The generated part of docs/benchmarks.md."""
    dates = sorted(record["date"][:10] for record in records.values())
    parts = [BEGIN, f"Measured on {hardware()}, {dates[0]} to {dates[-1]}.\n"]
    parts.append("**Targets** (ratios are taken round by round; quartiles over the rounds):\n")
    parts.append(target_table(table))
    for figure in figures:
        parts.append(f"![{plot_speed.WORDS[figure.stem]}](images/{figure.name})\n")
    parts += [
        "**Limits of the machine** (best of several rounds, wall time):\n",
        limit_table(found),
    ]
    order = {cell.name: place for place, cell in enumerate(full_plan())}
    for record in sorted(records.values(), key=lambda r: order.get(r["cell"], len(order))):
        parts += [f"**{title(record)}:**\n", cell_table(record, found)]
    return "\n".join([*parts, END])


def write_docs(text: str) -> Path:
    """Replace what stands between the markers in docs/benchmarks.md."""
    page = DOCS / "benchmarks.md"
    whole = page.read_text("utf-8")
    if BEGIN not in whole or END not in whole:
        raise SystemExit(f"{page} has no lines '{BEGIN}' and '{END}'; put them where it belongs.")
    before, after = whole.split(BEGIN)[0], whole.split(END)[1]
    new = before + text + after
    write_files(DOCS, lambda folder: _write(folder / page.name, new))
    return page


def _write(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")


def report(
    records: Mapping[str, Any],
    found: Mapping[str, float],
    sizes: Mapping[str, Any],
    quick: bool,
    docs: bool,
) -> None:
    """Print the targets; unless `quick`, write the result file and, if asked, docs and figures."""
    table = speed_targets.judge(speed_targets.ALL, records, found)
    measured = [row for row in table if "median" in row]
    print(target_table(measured))
    met = sum(row["verdict"] == "met" for row in table)
    left = sum(row["verdict"] == "open" for row in table)
    print(f"{met} of {len(table)} targets met, {len(table) - met - left} missed, {left} open")
    if quick or not records:
        return
    whole = {"sizes": sizes, "limits": found, "targets": table, "cells": dict(records)}
    print(save_report(RESULTS, "speed", whole))
    if docs:
        figures = plot_speed.plot_all(records, table, hardware(), DOCS / "images")
        print(write_docs(section(records, found, table, figures)))
