"""`solomonic memory add|search|check|forget|stats|verify STORE`: a long-term memory's life."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console, memory_add
from solomonic.cli.memory_options import LM, Store, moment, opened, read_embedder
from solomonic.cli.options import Json
from solomonic.cli.quotes import quote_record, show_span
from solomonic.core import ConfigError, DataError

if TYPE_CHECKING:
    from solomonic.memory import Hit, Memory

app = typer.Typer(
    help="A long-term memory: documents added, searched, quoted from, forgotten.",
    no_args_is_help=True,
)
_SNIPPET = 240  # characters of a passage that a search shows
app.command()(memory_add.add)


@app.command()
def search(
    store: Store,
    query: Annotated[str, typer.Argument(help="Words; '-' reads standard input.")],
    count: Annotated[int, typer.Option("--count", "-k", help="Most answers.")] = 5,
    kind: Annotated[str | None, typer.Option(help="Only items of this kind.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only what is valid then (ISO, UTC).")
    ] = None,
    lm: LM = None,
    both: Annotated[
        bool, typer.Option("--both", help="With --lm: by words as well, the two rankings fused.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Show passages whole.")] = False,
    json: Json = False,
) -> None:
    """Find passages by words, or with --lm by the vectors of a language model."""
    if both and lm is None:
        raise ConfigError("--both fuses words with vectors; name the model with --lm.")
    text = sys.stdin.read() if query == "-" else query
    if not text.strip():
        raise ConfigError("there is nothing to search for; give words.")
    then = moment(at, "--at")
    with opened(store, read_only=True) as memory:
        if lm is None:
            hits = memory.search(text, k=count, at=then, kind=kind)
        else:
            vector = _vector(memory, lm, text)
            words = text if both else None
            hits = memory.search(text=words, vector=vector, k=count, at=then, kind=kind)
    if json:
        console.emit({"query": text, "hits": [_hit_record(hit) for hit in hits]})
        return
    for number, hit in enumerate(hits, 1):
        print(f"{number}. [{hit.item.id}] {_place_of(hit)}  ({hit.score:.2f})")
        shown = hit.item.text if full else _snippet(hit.item.text, text)
        print("\n".join("   " + line for line in shown.strip("\n").split("\n")))
    if not hits:
        console.say("nothing found.")


@app.command()
def check(
    store: Store,
    file: Annotated[str, typer.Argument(help="Text with quotations; '-' is standard input.")],
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Print the text with wrong quotations mended or unmarked."),
    ] = False,
    fold: Annotated[
        bool,
        typer.Option("--fold-whitespace", help="Line ends and runs of spaces count as one space."),
    ] = False,
    most: Annotated[
        float, typer.Option(help="With --repair: share of characters that may differ.")
    ] = 0.25,
    at: Annotated[
        str | None, typer.Option(metavar="DATE", help="Against what is valid then (ISO, UTC).")
    ] = None,
    json: Json = False,
) -> None:
    """Check that every quotation of a text is verbatim in the memory, and show where.

    Ends with status 2 if one is not (with --repair: never for that). It says that a quotation
    stands in the store, never that it is true.
    """
    from solomonic.memory.documents import open_document, read_document
    from solomonic.memory.quotes import QuoteConfig, QuoteIndex

    text = read_document(open_document(sys.stdin.buffer.read() if file == "-" else file))
    with opened(store, read_only=True) as memory:
        config = QuoteConfig(fold_whitespace=fold)
        index = QuoteIndex.of_memory(memory, config, moment(at, "--at"))
    verdicts = index.check(text)
    wrong = sum(not verdict.ok for verdict in verdicts)
    repaired = index.repair(text, most) if repair else None
    if json:
        record: dict[str, Any] = {"quotations": [quote_record(one) for one in verdicts]}
        if repaired:
            record["repaired"] = repaired.text
        console.emit(record | {"wrong": wrong})
    elif repaired:
        print(repaired.text, end="")
        for change in repaired.changes:
            after = f'"{_flat(change.after)}"'
            where = f"now {after}, {show_span(change.span)}" if change.span else "marks taken away"
            console.say(f'"{_flat(change.before)}": {where}')
    else:
        for verdict in verdicts:
            quoted = verdict.quotation
            state = "ok   " if verdict.ok else "WRONG"
            where = "; ".join(show_span(span) for span in verdict.spans[:3])
            if not quoted.closed:
                where = "no closing mark" + (f"; as far as it goes: {where}" if where else "")
            print(f'{state} "{_flat(quoted.text)}"  {where or "nowhere in the store"}')
    if wrong and not repaired:
        raise DataError(
            f"{wrong} of {len(verdicts)} quotations are not verbatim in {store}; --repair mends "
            "them."
        )


@app.command()
def forget(
    store: Store,
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers, as search shows them.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Everything from this source instead.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forget items or all of a source: they never answer again, and cannot be brought back."""
    from solomonic.memory.documents.keeping import forget_document

    if bool(ids) == (source is not None):
        raise ConfigError("say what to forget: numbers of items, or --source NAME.")
    with opened(store, must_exist=True) as memory:
        for one in ids or []:
            memory.get(one)  # what is not there is told before anything is asked
        what = f"all that is from {source}" if source else f"{len(ids or [])} items"
        if not yes:
            typer.confirm(f"Forget {what}?", abort=True, err=True)
        if source is not None:
            count = forget_document(memory, source)
        else:
            count = len(set(ids or []))
            memory.forget(ids or [])
    if json:
        console.emit({"forgotten": count})
    else:
        console.say(f"forgotten: {count} items.")


@app.command()
def stats(store: Store, json: Json = False) -> None:
    """What a memory holds."""
    import json as coder

    with opened(store, read_only=True) as memory:
        found = memory.stats()
        written = memory.state("embedding")
    found["embedding"] = coder.loads(written)["name"] if written else None
    if json:
        console.emit(found)
        return
    rows = [[key, _shown(key, value)] for key, value in found.items()]
    console.table(f"Memory {store}", ["", ""], rows)


@app.command()
def verify(
    store: Store,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make derived indexes anew where they are wrong.")
    ] = False,
    json: Json = False,
) -> None:
    """Check that a memory is whole and its indexes say what its items say; status 2 if not."""
    import dataclasses

    with opened(store, must_exist=True) as memory:
        found = memory.verify(repair=repair)
    if json:
        console.emit(dataclasses.asdict(found) | {"ok": found.ok})
    else:
        for line in found.repaired:
            print(f"repaired: {line}")
        for line in found.problems:
            print(line)
        if found.ok:
            console.say(f"{store}: in order, {found.items:,} items in {found.seconds:.1f} s.")
    if not found.ok:
        raise DataError(f"the memory {store} is not in order ({len(found.problems)} problems).")


def _flat(text: str) -> str:
    """A quotation on one line."""
    return " ".join(text.split())


def _shown(key: str, value: Any) -> Any:
    """A figure of `stats` in a table's cell."""
    if value is None:
        return ""
    if key == "bytes":
        return console.show_bytes(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {console.show(entry)}" for name, entry in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _vector(memory: Memory, lm: str, text: str) -> Any:
    from solomonic.lm.embed import check_vectors

    embedder = read_embedder(lm)
    check_vectors(memory, embedder)
    return embedder([text])[0]


def _hit_record(hit: Hit) -> dict[str, Any]:
    item = hit.item
    return {
        "id": item.id,
        "score": hit.score,
        "similarity": hit.similarity,
        "weight": hit.weight,
        "kind": item.kind,
        "source": item.source,
        "offset": item.offset,
        "text": item.text,
        "meta": item.meta,
    }


def _place_of(hit: Hit) -> str:
    item = hit.item
    parts = [f"{item.source or item.kind}:{item.offset}"]
    if "page" in item.meta:
        parts.append(f"page {item.meta['page']}")
    if "section" in item.meta:
        parts.append(f'"{item.meta["section"]}"')
    return ", ".join(parts)


def _snippet(text: str, query: str) -> str:
    """The stretch of a passage that holds the first word of the query."""
    if len(text) <= _SNIPPET:
        return text
    places = [text.lower().find(word.lower()) for word in query.split()]
    start = max(min([at for at in places if at >= 0], default=0) - _SNIPPET // 4, 0)
    start = 0 if start == 0 else text.find(" ", start) + 1
    end = start + _SNIPPET
    return ("... " if start else "") + text[start:end] + (" ..." if end < len(text) else "")
