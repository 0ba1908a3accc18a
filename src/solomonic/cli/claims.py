"""`solomonic claims ...`: claims in a store, verdicts on others, and what contradicts what."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solomonic.cli import console
from solomonic.cli.options import Json
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.memory.claims import Claim

app = typer.Typer(
    help="Claims with sources and times: what a store supports, contradicts, or does not know.",
    no_args_is_help=True,
)

Store = Annotated[str, typer.Argument(metavar="STORE", help="File of the memory.")]
Subject = Annotated[str, typer.Argument(metavar="SUBJECT")]
Predicate = Annotated[str, typer.Argument(metavar="PREDICATE")]
Object = Annotated[str, typer.Argument(metavar="OBJECT", help="Its value, as '8.85 km'.")]
Unit = Annotated[str, typer.Option(help="Unit of the value; 'year' or 'date' for dates.")]
From = Annotated[str, typer.Option("--from", metavar="DATE", help="Holds from this day.")]
To = Annotated[str, typer.Option("--to", metavar="DATE", help="Holds to before this day.")]


@app.command()
def add(
    store: Store,
    subject: Annotated[str, typer.Argument(metavar="[SUBJECT", show_default=False)] = "",
    predicate: Annotated[str, typer.Argument(metavar="PREDICATE", show_default=False)] = "",
    obj: Annotated[str, typer.Argument(metavar="OBJECT]", show_default=False)] = "",
    unit: Unit = "",
    source: Annotated[str, typer.Option(help="Where it was read.")] = "",
    valid_from: From = "",
    valid_to: To = "",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Claims as JSON lines, instead.")
    ] = None,
    json: Json = False,
) -> None:
    """Add one claim, or a file of them; all or none."""
    from solomonic.memory.claims import Claim, ClaimStore, read_claims

    if (file is None) == (not subject):
        raise ConfigError("give SUBJECT PREDICATE OBJECT, or --file CLAIMS.jsonl.")
    if file is not None:
        claims = read_claims(file)
    else:
        claims = [
            Claim(
                subject=subject,
                predicate=predicate,
                object=obj,
                unit=unit,
                source=source,
                valid_from=valid_from,
                valid_to=valid_to,
            )
        ]
    with ClaimStore(store) as opened:
        ids = opened.add(claims)
        if json:
            console.emit({"added": ids})
        else:
            shown = f"claim {ids[0]}" if len(ids) == 1 else f"claims {ids[0]} to {ids[-1]}"
            console.say(f"{shown} added; {store} holds {len(opened):,}")


@app.command()
def check(
    store: Store,
    subject: Subject,
    predicate: Predicate,
    obj: Object,
    unit: Unit = "",
    at: Annotated[str, typer.Option(metavar="DATE", help="Ask about this day (or month).")] = "",
    valid_from: From = "",
    valid_to: To = "",
    json: Json = False,
) -> None:
    """SUPPORTED, CONTRADICTED or UNKNOWN by the claims of the store, which are shown.

    Without a time the question is about every day. The verdict is about this store only.
    """
    from solomonic.memory.claims import Claim, ClaimStore

    if at:
        if valid_from or valid_to:
            raise ConfigError("--at stands alone; leave --from and --to out.")
        valid_from, valid_to = _span(at)
    claim = Claim(
        subject=subject,
        predicate=predicate,
        object=obj,
        unit=unit,
        valid_from=valid_from,
        valid_to=valid_to,
    )
    with ClaimStore(store, must_exist=True) as opened:
        found = opened.check(claim)
        supporting = [opened.get(one) for one in found.supporting]
        contradicting = [opened.get(one) for one in found.contradicting]
    if json:
        console.emit(
            {
                "verdict": found.verdict,
                "supporting": [one.to_record() for one in supporting],
                "contradicting": [one.to_record() for one in contradicting],
            }
        )
        return
    print(found.verdict)
    for sign, claims in (("+", supporting), ("-", contradicting)):
        for one in claims:
            print(f"  {sign} {_line(one)}")


@app.command("list")
def list_claims(
    store: Store,
    subject: Annotated[str | None, typer.Option(help="Only of this subject.")] = None,
    predicate: Annotated[str | None, typer.Option(help="Only with this predicate.")] = None,
    source: Annotated[str | None, typer.Option(help="Only from this source.")] = None,
    json: Json = False,
) -> None:
    """The claims of a store; with `--json` one a line, as `claims add --file` reads them."""
    from solomonic.memory.claims import ClaimStore

    with ClaimStore(store, must_exist=True) as opened:
        for claim in opened.claims(subject, predicate, source):
            if json:
                record = claim.to_record()
                del record["id"]
                console.emit_line(record)
            else:
                print(_line(claim))


@app.command()
def retract(
    store: Store,
    ids: Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers of claims.")],
) -> None:
    """Remove claims; all or none."""
    from solomonic.memory.claims import ClaimStore

    with ClaimStore(store, must_exist=True) as opened:
        count = opened.retract(ids)
        console.say(f"{count} removed; {store} holds {len(opened):,}")


@app.command()
def functional(
    store: Store,
    predicate: Predicate,
    tolerance: Annotated[float, typer.Option(help="Numbers this close, as a share, agree.")] = 0.0,
) -> None:
    """Say that a predicate has one value at a time, so that two values contradict."""
    from solomonic.memory.claims import ClaimStore

    with ClaimStore(store) as opened:
        opened.set_functional(predicate, tolerance=tolerance)
        console.say(f"one value at a time: {', '.join(sorted(opened.functional()))}")


@app.command()
def rule(
    store: Store,
    text: Annotated[str, typer.Argument(metavar="RULE", help="'?x parent_of ?x -> false'")],
) -> None:
    """Add a rule: what follows from claims, or what cannot hold together."""
    from solomonic.memory.claims import ClaimStore

    with ClaimStore(store) as opened:
        opened.add_rule(text)
        console.say(f"{len(opened.rules())} rules")


@app.command()
def conflicts(
    store: Store,
    most: Annotated[int, typer.Option(help="At most so many.")] = 1000,
    json: Json = False,
) -> None:
    """Minimal sets of claims that cannot all hold: leave any one out, and the rest can."""
    from solomonic.memory.claims import ClaimStore

    with ClaimStore(store, must_exist=True) as opened:
        found = opened.conflicts(most)
        if json:
            console.emit([{"ids": list(one.ids), "why": one.why} for one in found])
            return
        for one in found:
            print(f"{one.why}:")
            for claim_id in one.ids:
                print(f"  {_line(opened.get(claim_id))}")
        console.say(f"{len(found)} minimal conflicts among {len(opened):,} claims")


@app.command()
def stats(store: Store, json: Json = False) -> None:
    """What a store holds."""
    from solomonic.memory.claims import ClaimStore

    with ClaimStore(store, must_exist=True) as opened:
        summary = opened.summary()
    if json:
        console.emit(summary)
        return
    for name, value in summary.items():
        lines = value if isinstance(value, list) else [value]
        print(f"{name}: {'; '.join(map(str, lines))}")


def _span(at: str) -> tuple[str, str]:
    """The days of a date as [from, to)."""
    from solomonic.memory.claims.values import read_date

    day = read_date(at)
    if day is None:
        raise ConfigError(f"--at '{at}' is no date; write 1999, 1999-05 or 1999-05-03.")
    return day.first.isoformat(), (day.last + datetime.timedelta(days=1)).isoformat()


def _line(claim: Claim) -> str:
    source = f"  ({claim.source})" if claim.source else ""
    return f"{claim.id}: {claim}{source}"
