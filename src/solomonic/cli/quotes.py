"""What `memory check` and `generate --quote` share: a generation that cannot misquote, and its
quotations with their places as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solomonic.lm.generate import Reader
    from solomonic.lm.quoting import Quoting
    from solomonic.memory import Memory
    from solomonic.memory.quotes import QuoteVerdict, Span
    from solomonic.text import Tokenizer


def quoting(reader: Reader, memory: Memory, tokenizer: Tokenizer) -> Quoting:
    """`reader` so that what it writes in quotation marks is verbatim in `memory`.

    Raises:
        ConfigError: the memory holds more text than can be sorted.
    """
    from solomonic.lm.quoting import Quoting, token_pieces
    from solomonic.memory.quotes import QuoteIndex

    index = QuoteIndex.of_memory(memory)
    return Quoting(reader, index.constraint(token_pieces(tokenizer)), index)


def new_quotes(reader: Reader, prompt: str, text: str) -> list[QuoteVerdict]:
    """The quotations of a generation with their places: those that end in `text`, which follows
    `prompt`. Of a reader that may misquote none."""
    from solomonic.lm.quoting import Quoting

    if not isinstance(reader, Quoting) or reader.index is None:
        return []
    found = reader.index.check(prompt + text)
    return [verdict for verdict in found if verdict.quotation.end >= len(prompt)]


def show_quotes(found: list[QuoteVerdict]) -> str:
    """One line a quotation, for people."""
    if not found:
        return "Nothing of this is quoted."
    lines = []
    for verdict in found:
        quoted, places = " ".join(verdict.quotation.text.split()), verdict.spans[:3]
        unfinished = "" if verdict.quotation.closed else " (unfinished)"
        lines.append(f'"{quoted}"{unfinished} {"; ".join(map(show_span, places))}')
    return "\n".join(lines)


def quote_record(verdict: QuoteVerdict) -> dict[str, Any]:
    """One quotation for `--json`: characters of the text between which it stands, and places."""
    quotation = verdict.quotation
    return {
        "text": quotation.text,
        "start": quotation.start,
        "end": quotation.end,
        "closed": quotation.closed,
        "ok": verdict.ok,
        "places": [
            {name: value for name, value in vars(span).items() if value is not None}
            for span in verdict.spans
        ],
    }


def show_span(span: Span) -> str:
    """A place as people read it."""
    page = "" if span.page is None else f", page {span.page}"
    return f"{span.source}:{span.start}-{span.end}{page}"
