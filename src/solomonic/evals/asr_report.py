"""What an evaluation of speech recognition found: figures a set, as tables, JSON or a page."""

import dataclasses
import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.evals import biasing, wer
from solomonic.evals.biasing import BiasScore, Rate
from solomonic.evals.endpointing import EndpointRecord, EndpointReport, measure, percentile
from solomonic.evals.output import write_one
from solomonic.evals.report import markdown_table
from solomonic.evals.wer import WerScore
from solomonic.text.spoken import normalise

ALL = "all"
"""Name of all sets together."""
_WORST = 20  # recordings that a page shows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded:
    """One recording: what was said, heard and measured.

    Attributes:
        duration: seconds of audio, with the silence put behind it.
        seconds: of the processor, for decoding.
        greedy: what greedy search heard, where that was asked for.
        phrases: what was listed as personal words; None: nothing.
        oracle_edits: errors of the lattice path nearest to the reference.
        arcs: arcs of the lattice that carry a word.
        message_bytes: of the messages in which the lattices would be sent.
        endpoint: what the end-pointers did, where the end of speech is known.
        first_word: s from the beginning of speech to the first partial text.
        last_word: s from the end of speech to the frame in which the last word was emitted.
    """

    audio: str
    source: str
    reference: str
    hypothesis: str
    duration: float
    seconds: float
    speaker: str | None = None
    confidence: float = 1.0
    greedy: str | None = None
    phrases: tuple[str, ...] | None = None
    oracle_edits: int | None = None
    arcs: int | None = None
    message_bytes: int | None = None
    endpoint: EndpointRecord | None = None
    first_word: float | None = None
    last_word: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatticeScore:
    """Attributes:
    oracle_wer: word error rate of the paths nearest to the references.
    density: arcs with a word per word of the reference.
    bytes_mean, bytes_max: of a recording's messages.
    bytes_per_second: of audio.
    """

    oracle_wer: float
    density: float
    bytes_mean: float
    bytes_max: int
    bytes_per_second: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetReport:
    """The figures of a set.

    Attributes:
        audio_seconds: length of its recordings.
        real_time_factor: seconds of one processor per second of audio.
        delays: ms of audio by name ("first word P50", ...), where speech's times are known.
        endpoints: the end-pointers' table, there too.
        biased: errors on listed and other words, where there were lists.
    """

    name: str
    wer: WerScore
    audio_seconds: float
    real_time_factor: float
    greedy: WerScore | None = None
    lattice: LatticeScore | None = None
    delays: dict[str, float] = dataclasses.field(default_factory=dict)
    endpoints: EndpointReport | None = None
    biased: BiasScore | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; rates are shares, what is not finite is null."""
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        record["endpoints"] = None if self.endpoints is None else self.endpoints.to_json()
        return {name: _plain(value) for name, value in record.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsrReport:
    """All sets, and all of them together where there are several.

    Attributes:
        sets: by name, in the order of the manifests; the last is "all" if there are several.
        decoded: every recording.
        failed: (recording, why) of those that could not be read; they are in no figure.
        interrupted: whether Ctrl-C ended it after `decoded` of `total` recordings.
    """

    sets: dict[str, SetReport]
    decoded: list[Decoded]
    failed: list[tuple[str, str]]
    interrupted: bool
    total: int

    def to_json(self, recordings: bool = True) -> dict[str, Any]:
        """Plain JSON; `recordings`: with the text of every recording."""
        record: dict[str, Any] = {
            "sets": {name: found.to_json() for name, found in self.sets.items()},
            "recordings": len(self.decoded),
            "total": self.total,
            "interrupted": self.interrupted,
            "failed": [{"audio": audio, "reason": reason} for audio, reason in self.failed],
        }
        if recordings:
            record["decoded"] = [_plain(found) for found in self.decoded]
        return record

    def tables(self) -> list[tuple[str, str]]:
        """(title, Markdown table) of everything that was measured."""
        sets = self.sets
        found = [("Word errors", wer.wer_table({n: s.wer for n, s in sets.items()}))]
        greedy = {name: s.greedy for name, s in sets.items() if s.greedy is not None}
        if greedy:
            found.append(("Greedy search", wer.wer_table(greedy)))
        if any(s.lattice for s in sets.values()):
            found.append(("Lattices", _lattice_table(sets)))
        found.append(("Speed and delay", _speed_table(sets)))
        biased = {name: s.biased for name, s in sets.items() if s.biased is not None}
        if biased:
            found.append(("Personal words", _bias_table(biased)))
        for name, item in sets.items():
            if item.endpoints is not None and (name != ALL or len(sets) == 1):
                found.append((f"End-pointing, {name}", item.endpoints.table()))
        return found


def summarise(
    decoded: Sequence[Decoded],
    *,
    failed: Sequence[tuple[str, str]] = (),
    interrupted: bool = False,
    samples: int = 1000,
    total: int | None = None,
) -> AsrReport:
    """Figures of the recordings by their sources; the arguments are `AsrReport`'s.

    Args:
        samples: of the bootstrap.
    """
    sources: dict[str, list[Decoded]] = {}
    for item in decoded:
        sources.setdefault(item.source, []).append(item)
    if len(sources) > 1:
        sources[ALL] = list(decoded)
    return AsrReport(
        sets={name: _measure(name, items, samples) for name, items in sources.items()},
        decoded=list(decoded),
        failed=list(failed),
        interrupted=interrupted,
        total=len(decoded) + len(failed) if total is None else total,
    )


def save_report(report: AsrReport, path: str | Path, about: dict[str, Any] | None = None) -> Path:
    """Write the report as a page (.html, .htm) or as JSON (any other ending), whole or not at all.

    Args:
        about: what was evaluated: model, device, settings.

    Raises:
        StorageError: the file cannot be written.
    """
    import json

    path = Path(path)
    if path.suffix.lower() in (".html", ".htm"):
        text = page(report, about or {})
    else:
        text = json.dumps({**(about or {}), **report.to_json()}, indent=1) + "\n"
    return write_one(path, lambda file: file.write_text(text, "utf-8"))


def page(report: AsrReport, about: dict[str, Any]) -> str:
    """An HTML page of the tables and the recordings with most errors; needs no other file."""
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<title>Speech recognition</title><style>body{font:15px system-ui,sans-serif;margin:2em "
        "auto;max-width:75em;padding:0 1em}table{border-collapse:collapse}th,td{padding:.2em .7em;"
        "text-align:right;border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:"
        "left}</style></head><body><h1>Speech recognition</h1>",
        "".join(f"<p>{_safe(name)}: {_safe(value)}</p>" for name, value in about.items()),
    ]
    if report.interrupted:
        parts.append(f"<p>Interrupted: {len(report.decoded)} of {report.total} recordings.</p>")
    for title, table in report.tables():
        parts.append(f"<h2>{_safe(title)}</h2>{_html_table(table)}")
    rows = [
        "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>"
        for row in _worst(report.decoded)
    ]
    if rows:
        head = "<tr><th>recording</th><th>errors</th><th>said</th><th>heard</th></tr>"
        parts.append(f"<h2>Most errors</h2><table>{head}{''.join(rows)}</table>")
    if report.failed:
        lines = "".join(f"<li>{_safe(a)}: {_safe(why)}</li>" for a, why in report.failed)
        parts.append(f"<h2>Not read</h2><ul>{lines}</ul>")
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _measure(name: str, items: Sequence[Decoded], samples: int) -> SetReport:
    references = [item.reference for item in items]
    speakers = [item.speaker for item in items]

    def scored(texts: Sequence[str]) -> WerScore:
        return wer.score(references, texts, speakers, samples=samples)

    audio = sum(item.duration for item in items)
    greedy = [item.greedy for item in items if item.greedy is not None]
    records = [item.endpoint for item in items if item.endpoint is not None]
    return SetReport(
        name=name,
        wer=scored([item.hypothesis for item in items]),
        audio_seconds=audio,
        real_time_factor=sum(item.seconds for item in items) / audio if audio else math.nan,
        greedy=scored(greedy) if len(greedy) == len(items) else None,
        lattice=_lattice(items, audio),
        delays=_delays(items),
        endpoints=measure(records, samples) if records else None,
        biased=_biased(items, samples),
    )


def _lattice(items: Sequence[Decoded], audio: float) -> LatticeScore | None:
    if any(item.oracle_edits is None for item in items):
        return None
    words = sum(len(normalise(item.reference).split()) for item in items)
    sizes = [item.message_bytes or 0 for item in items]
    return LatticeScore(
        oracle_wer=sum(item.oracle_edits or 0 for item in items) / words if words else math.nan,
        density=sum(item.arcs or 0 for item in items) / words if words else math.nan,
        bytes_mean=float(np.mean(sizes)),
        bytes_max=max(sizes),
        bytes_per_second=sum(sizes) / audio if audio else math.nan,
    )


def _delays(items: Sequence[Decoded]) -> dict[str, float]:
    found = {}
    for name, values in (
        ("first word", [i.first_word for i in items if i.first_word is not None]),
        ("last word", [i.last_word for i in items if i.last_word is not None]),
        ("end of speech to final", [i.endpoint.latency / 1000 for i in items if i.endpoint]),
    ):
        if values:
            found |= {f"{name} P{q}": 1000 * percentile(values, q) for q in (50, 90)}
    return found


def _biased(items: Sequence[Decoded], samples: int) -> BiasScore | None:
    listed = [item for item in items if item.phrases]
    if not listed:
        return None
    return biasing.score(
        [normalise(item.reference).split() for item in listed],
        [normalise(item.hypothesis).split() for item in listed],
        [item.phrases or () for item in listed],
        samples=samples,
    )


def _lattice_table(sets: dict[str, SetReport]) -> str:
    rows = []
    for name, item in sets.items():
        found = item.lattice
        if found is None:
            continue
        saved = 1 - found.oracle_wer / item.wer.wer.value if item.wer.wer.value else math.nan
        rows.append(
            (
                name,
                wer.percent(item.wer.wer),
                _percent(found.oracle_wer),
                _percent(saved),
                _number(found.density, ".1f"),
                f"{found.bytes_mean:.0f}",
                f"{found.bytes_max:,}",
                _number(found.bytes_per_second, ".0f"),
            )
        )
    header = (
        "set", "WER %", "oracle WER %", "below it by %", "arcs a word", "bytes, mean", "largest",
        "bytes/s",
    )  # fmt: skip
    return markdown_table(header, rows)


def _speed_table(sets: dict[str, SetReport]) -> str:
    names = list(dict.fromkeys(name for item in sets.values() for name in item.delays))
    rows = [
        (
            name,
            f"{item.audio_seconds / 60:.1f}",
            _number(item.real_time_factor, ".3f"),
            *(_delay(item.delays.get(delay)) for delay in names),
        )
        for name, item in sets.items()
    ]
    header = ("set", "minutes", "real-time factor", *(f"{name}, ms" for name in names))
    return markdown_table(header, rows)


def _bias_table(sets: dict[str, BiasScore]) -> str:
    def cell(rate: Rate) -> str:
        shown = wer.percent(rate)
        return shown if math.isnan(rate.low) else f"{shown} ({wer.interval(rate)})"

    rows = [
        (
            name,
            cell(s.b_wer),
            cell(s.u_wer),
            cell(s.wer),
            cell(s.entity_recall),
            cell(s.false_trigger_rate),
            f"{s.biased_words:,}",
            f"{s.utterances:,}",
        )
        for name, s in sets.items()
    ]
    header = (
        "set", "B-WER %", "U-WER %", "WER %", "recall %", "false triggers %", "listed words",
        "utterances",
    )  # fmt: skip
    return markdown_table(header, rows)


def _worst(decoded: Sequence[Decoded]) -> list[tuple[str, str, str, str]]:
    errors = wer.count_errors([d.reference for d in decoded], [d.hypothesis for d in decoded])
    ranked = sorted(zip(errors, decoded, strict=True), key=lambda pair: -pair[0].edits)
    return [
        (Path(d.audio).name, f"{e.edits}/{e.words}", normalise(d.reference), d.hypothesis)
        for e, d in ranked[:_WORST]
        if e.edits
    ]


def _html_table(table: str) -> str:
    """A Markdown table of ours as HTML."""
    lines = [line.strip("|").replace("\\|", "\0").split("|") for line in table.splitlines()]
    rows = [lines[0], *lines[2:]]
    found = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        cells = (f"<{tag}>{_safe(cell.strip().replace(chr(0), '|'))}</{tag}>" for cell in row)
        found.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(found)}</table>"


def _safe(value: Any) -> str:
    return html.escape(str(value))


def _delay(ms: float | None) -> str:
    if ms is None:
        return "-"
    return "never" if math.isinf(ms) else f"{ms:.0f}"


def _percent(share: float) -> str:
    return _number(100 * share, ".1f")


def _number(value: float, form: str) -> str:
    return "-" if not math.isfinite(value) else format(value, form)


def _plain(value: Any) -> Any:
    """As JSON can hold it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
