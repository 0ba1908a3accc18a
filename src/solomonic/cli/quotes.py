"""What `memory check` and `generate --quote` share: a generation that cannot misquote, and its
quotations with their places as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solomonic.lm.generate import Reader
    from solomonic.lm.quoting import Quoting
    from solomonic.memory import Memory
    from solomonic.memory.quotes import QuoteIndex, QuoteVerdict, Span
    from solomonic.text import Tokenizer


def quoting_reader(
    reader: Reader, memory: Memory, tokenizer: Tokenizer, fold: bool = False
) -> tuple[Quoting, QuoteIndex]:
    """`reader` so that what it writes in quotation marks is verbatim in `memory`.

    Raises:
        ConfigError: the memory holds more text than can be sorted.
    """
    from solomonic.lm.quoting import Quoting, token_pieces
    from solomonic.memory.quotes import QuoteConfig, QuoteIndex

    index = QuoteIndex.of_memory(memory, QuoteConfig(fold_whitespace=fold))
    return Quoting(reader, index.constraint(token_pieces(tokenizer))), index


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


def new_quotes(index: QuoteIndex, prompt: str, text: str) -> list[QuoteVerdict]:
    """The quotations of a generation with their places: those that end in `text`, which follows
    `prompt`."""
    found = index.check(prompt + text)
    return [verdict for verdict in found if verdict.quotation.end >= len(prompt)]
