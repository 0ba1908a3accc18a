"""The page of a probe: what each layer can remember, what it holds, and what is used of it.

One file without anything from elsewhere; charts are inline SVG and every figure also stands in a
table.
"""

import html
import math
from collections.abc import Sequence
from pathlib import Path

from solomonic.evals.output import write_one
from solomonic.evals.probe import charts
from solomonic.lm.probe.record import LayerProbe, Probe

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #555; --paper: #fff; --rule: #d8d8d8;
        --one: #0072b2; --two: #c2500a; --three: #00795a; --bar: #8cc1e3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #b0b0b0; --paper: #16181c;
        --rule: #3a3d44; --one: #6cb8ec; --two: #f2955a; --three: #4fc9a0; --bar: #2f5f80; } }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem;
       color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
p { margin: .3rem 0 .8rem; max-width: 46rem; } .note { color: var(--soft); }
.grid-of { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; }
figure { margin: 0; flex: 1 1 300px; max-width: 100%; } figcaption { font-size: .85rem; }
figcaption b { font-weight: 600; } svg { width: 100%; height: auto; display: block; }
.scroll, .broad { overflow-x: auto; } .broad > svg { min-width: 640px; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; white-space: nowrap;
         border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
.tick, .name { font: 11px system-ui, sans-serif; fill: var(--soft); }
.axis { stroke: var(--soft); } .grid { stroke: var(--rule); stroke-width: .6; }
.one, .two, .three { fill: none; stroke-width: 2; } circle { stroke: none !important; }
.one { stroke: var(--one); } .two { stroke: var(--two); } .three { stroke: var(--three); }
.two, .key.two { stroke-dasharray: 6 3; } .three, .key.three { stroke-dasharray: 2 3; }
circle.one { fill: var(--one); } circle.two { fill: var(--two); }
circle.three { fill: var(--three); } circle.ink { fill: var(--ink); }
.thin { fill: none; stroke: var(--one); stroke-width: 1; opacity: .65; }
.wide { stroke: var(--bar); stroke-width: 9; } .whisker { stroke: var(--one); stroke-width: 1.5; }
.mark { stroke: var(--two); stroke-width: 1.3; stroke-dasharray: 4 3; }
.stem { stroke: var(--one); stroke-width: 4; }
.key { display: inline-block; vertical-align: middle; width: 26px; height: 8px; }
"""


def save_page(shown: Probe, path: str | Path) -> Path:
    """Write the report.

    Raises:
        StorageError: the file cannot be written.
    """
    return write_one(path, lambda file: file.write_text(page(shown), "utf-8"))


def page(shown: Probe) -> str:
    """The report as one page of HTML."""
    title = f"Probe of {shown.model}"
    parts = [
        _head(shown),
        _overview(shown),
        _half_lives(shown),
        _influence(shown),
        _hankel(shown),
        _along(shown),
        _whiteness(shown),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n{''.join(parts)}</main>\n</body></html>\n"
    )


def _head(shown: Probe) -> str:
    return (
        f'<p class="note">Layers {html.escape(shown.pattern)}, window {shown.window}, '
        f"{shown.slots} eidetic slots. It read {shown.tokens:,} tokens ({shown.bytes:,} bytes) at "
        f"{shown.bits_per_byte:.3f} bits a byte; measured in {shown.seconds:.0f} seconds.</p>\n"
    )


def _overview(shown: Probe) -> str:
    rows = [
        (
            f"{layer.layer} {layer.kind}",
            "never" if layer.deadbeat is None else str(layer.deadbeat),
            _longest(layer),
            "" if layer.effective_rank is None else _of(layer),
            "" if layer.hankel is None else str(_needed(layer)),
            "" if layer.whiteness is None else _p(layer.whiteness.p_value),
        )
        for layer in shown.layers
    ]
    columns = (
        "layer", "verbatim for", "longest median half-life", "effective rank of the state",
        "directions for 99% of what passes", "innovation white (p)",
    )  # fmt: skip
    return (
        "<h2>Layers</h2>\n<p>What a layer holds verbatim (window, convolutions) is gone for certain"
        " after so many tokens; what its state holds fades by half in a half-life. The effective "
        "rank says in how many directions the state really moved on this text.</p>\n"
        + table(columns, rows)
    )


def _half_lives(shown: Probe) -> str:
    chart = charts.half_lives(shown)
    if chart is None:
        return ""
    rows = [
        (f"{layer.layer} {layer.kind} head {head}", *(f"{v:.3g}" for v in values))
        for layer in shown.layers
        if layer.half_lives is not None
        for head, values in enumerate(layer.half_lives.tolist())
    ]
    return (
        "<h2>Half-lives</h2>\n<p>ln 2 / -ln a of every head over the text, as a depends on the "
        "input: median (dot), half of the tokens (broad bar), 5 to 95 per cent (line). The dashed "
        "line is the window.</p>\n"
        f'<figure class="broad">{chart}</figure>\n'
        + _details(table(("head", "5%", "25%", "median", "75%", "95%"), rows))
    )


def _influence(shown: Probe) -> str:
    found = shown.influence
    if found is None:
        return "<h2>Causal influence</h2>\n<p>Not measured: no time, or too short a text.</p>\n"
    rows = [
        (
            str(int(found.lags[i])),
            f"{found.effect[i]:.4g} ± {found.error[i]:.2g}",
            _mean(found.kept[i], int(found.kept_places[i])),
            _mean(found.left[i], int(found.left_places[i])),
            f"{100 * found.flips[i]:.0f}%",
        )
        for i in range(len(found.lags))
    ]
    columns = ("tokens back", "all, bits", "kept", "not kept", "likeliest token changed")
    return (
        "<h2>Causal influence</h2>\n<p>Token t - k was replaced by another of the text, at "
        f"{found.places} places, and the prediction after token t compared: the divergence in bits"
        " is what was used of that token, not what could have been. Tokens that an eidetic memory "
        "of the undisturbed run still held are shown apart; they are not a random choice.</p>\n"
        f'<figure class="broad">{charts.influence(shown, found)}<figcaption>'
        f"{_key('one')} all {_key('two')} kept by an eidetic memory {_key('three')} not kept"
        "</figcaption></figure>\n" + _details(table(columns, rows))
    )


def _hankel(shown: Probe) -> str:
    figures = _each(shown, charts.hankel)
    return (
        "<h2>Hankel singular values</h2>\n<p>What each direction of a head's state carries from "
        "inputs to readings, on this text, as a share of the layer's largest; a head a line. They "
        "are the square roots of the eigenvalues of the product of both Gramians' means. Directions"
        " with small values are what <code>solomonic truncate</code> drops.</p>\n"
        f'<div class="grid-of">{figures}</div>\n'
    )


def _along(shown: Probe) -> str:
    figures = _each(shown, charts.along)
    return (
        "<h2>Controllability and observability along the text</h2>\n<p>In how many directions the "
        "tokens read so far have driven the state (its Gramian's effective rank, mean over heads), "
        "and in how many the tokens still to come will look at it.</p>\n"
        f'<p class="note">{_key("one")} driven {_key("two")} looked at</p>'
        f'<div class="grid-of">{figures}</div>\n'
    )


def _whiteness(shown: Probe) -> str:
    surprise = shown.surprise
    lines = []
    if surprise is not None:
        chart = charts.correlations("the cost of the tokens", surprise)
        lines.append(
            f"<figure>{chart}<figcaption><b>Cost of the tokens</b>, p {_p(surprise.p_value)}"
            "</figcaption></figure>"
        )
    for layer in shown.layers:
        if layer.whiteness is not None:
            name = f"layer {layer.layer} {layer.kind}"
            chart = charts.correlations(f"the innovation of {name}", layer.whiteness)
            lines.append(
                f"<figure>{chart}<figcaption><b>{name[0].upper() + name[1:]}</b>, "
                f"p {_p(layer.whiteness.p_value)}</figcaption></figure>"
            )
    return (
        "<h2>Whiteness of the innovations</h2>\n<p>Of an optimal state the errors are "
        "unpredictable: no correlation leaves the dashed band more than once in twenty lags. "
        "Of the layers the error is B'MOJO's own, the output less what the last outputs foretell "
        "by fixed weights; it is not meant to be optimal, and rarely is.</p>\n"
        f'<div class="grid-of">{"".join(lines)}</div>\n'
    )


def _each(shown: Probe, draw) -> str:
    """A figure for every layer that `draw` has something to show of."""
    found = []
    for layer in shown.layers:
        chart = draw(layer)
        if chart is not None:
            found.append(
                f"<figure>{chart}<figcaption><b>Layer {layer.layer} {layer.kind}</b></figcaption>"
                "</figure>"
            )
    return "".join(found)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column names the row."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def _details(inside: str) -> str:
    return f"<details><summary>The figures</summary>{inside}</details>\n"


def _key(kind: str) -> str:
    return (
        f'<svg class="key" viewBox="0 0 26 8" style="width:26px" aria-hidden="true">'
        f'<line class="{kind}" x1="0" y1="4" x2="26" y2="4"/></svg>'
    )


def _longest(layer: LayerProbe) -> str:
    return "" if layer.half_lives is None else f"{layer.half_lives[:, 2].max():.3g} tokens"


def _of(layer: LayerProbe) -> str:
    assert layer.effective_rank is not None and layer.hankel is not None
    return f"{layer.effective_rank.mean():.1f} of {layer.hankel.shape[1]}"


def _needed(layer: LayerProbe) -> int:
    """Directions that hold 99 per cent of the sum of Hankel singular values, at most of a head."""
    assert layer.hankel is not None
    shares = layer.hankel.cumsum(1) / layer.hankel.sum(1, keepdims=True).clip(min=1e-300)
    return int((shares < 0.99).sum(1).max()) + 1


def _mean(value: float, places: int) -> str:
    return "" if not math.isfinite(value) else f"{value:.4g} ({places})"


def _p(value: float) -> str:
    return "below 0.0001" if value < 1e-4 else f"{value:.3f}"
