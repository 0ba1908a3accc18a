"""Quotations found, checked and repaired: any changed character is caught, any place resolves."""

import random
import re
import string
from pathlib import Path

import pytest

from solomonic.core import ConfigError
from solomonic.memory import Memory
from solomonic.memory.quotes import QuoteConfig, QuoteIndex, SourceText, quotations
from solomonic.memory.quotes.nearest import nearest, nearest_by_definition

POEM = (
    "so much depends\nupon\n\na red wheel\nbarrow\n\nglazed with rain\nwater — beside the white\n"
)
REPORT = (
    "The committee met on 3 March 1911 in Zürich. Its report, “On the Storage of Grain”, found "
    'losses of 12.5 % a year; the chairman called this "an unbearable waste" of public money.'
)
SOURCES = {"poem.txt": POEM, "report.md": REPORT}


def index(fold: bool = False) -> QuoteIndex:
    texts = [SourceText(source, text) for source, text in SOURCES.items()]
    return QuoteIndex(texts, QuoteConfig(fold_whitespace=fold))


def folded(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("fold", [False, True])
def test_any_changed_character_is_caught(fold: bool) -> None:
    """Every character of a quotation, one after the other, made each of several others; only what
    is another verbatim stretch of the store passes, and then with that one's place."""
    found, everything = index(fold), POEM + "\0" + REPORT
    flat = folded(everything) if fold else everything
    caught = 0
    for quoted in ("depends\nupon\n\na red wheel", "met on 3 March 1911 in Zürich. Its report"):
        assert found.check(f"“{quoted}”")[0].ok
        for at, before in enumerate(quoted):
            for after in {*"aZ .\n9ü—", before.swapcase()} - {before}:
                changed = quoted[:at] + after + quoted[at + 1 :]
                (verdict,) = found.check(f"They wrote “{changed}”.")
                wanted = folded(changed) if fold else changed
                assert verdict.ok == (wanted in flat), changed
                caught += not verdict.ok
        for at in range(len(quoted)):  # left out, doubled, two exchanged
            for changed in (
                quoted[:at] + quoted[at + 1 :],
                quoted[:at] + quoted[at] + quoted[at:],
                quoted[:at] + quoted[at : at + 2][::-1] + quoted[at + 2 :],
            ):
                wanted = folded(changed) if fold else changed
                assert found.check(f"“{changed}”")[0].ok == (wanted in flat), changed
    assert caught > 400


@pytest.mark.parametrize("fold", [False, True])
def test_every_place_resolves(fold: bool) -> None:
    draw, found = random.Random(0), index(fold)
    for source, text in SOURCES.items():
        for _ in range(200):
            start = draw.randrange(len(text) - 1)
            quoted = text[start : start + draw.randrange(1, 30)]
            spans = found.find(quoted, limit=1000)
            for span in spans:
                there = SOURCES[span.source][span.start : span.end]
                if fold:
                    assert folded(there) == folded(quoted)
                else:
                    assert there == quoted
            assert any(span.source == source and span.start == start for span in spans) or fold


def test_what_a_quotation_is() -> None:
    config = QuoteConfig()
    text = 'He said "one", she „zwei“, they «trois» and “a “nested” one', "rest”; 'not' 5\" open"
    found = list(quotations(", ".join(text), config))
    assert [q.text for q in found] == ["one", "zwei", "trois", "a “nested", " open"]
    assert [q.closed for q in found] == [True] * 4 + [False]
    for quotation in found:
        assert ", ".join(text)[quotation.start : quotation.end] == quotation.text
    only = QuoteConfig(marks={"«": "»"})
    assert [q.text for q in quotations('"a" «b»', only)] == ["b"]
    for marks in ({}, {"<<": ">>"}, {"<": ""}):
        with pytest.raises(ConfigError, match="mark"):
            QuoteConfig(marks=marks)


def test_verdicts_on_odd_quotations() -> None:
    found = index()
    empty, unclosed, half = (
        found.check(a)[0] for a in ('""', '"so much depends', '"so \ud83d much"')
    )
    assert not empty.ok
    assert unclosed.spans
    assert not unclosed.ok
    assert not half.ok
    assert found.check("no quotation at all") == []
    assert not QuoteIndex([]).check('"a"')[0].ok


def test_no_match_reaches_from_one_source_into_the_next_but_over_passages() -> None:
    cut = [SourceText("p", POEM[at : at + 10], at) for at in range(0, len(POEM), 10)]
    gone = [part for part in cut if part.offset != 30]
    whole, holed = QuoteIndex(reversed(cut)), QuoteIndex(gone)
    (span,) = whole.find("upon\n\na red wheel")
    assert POEM[span.start : span.end] == "upon\n\na red wheel"
    assert holed.find("upon\n\na red wheel") == []
    (later,) = holed.find("glazed with rain")
    assert POEM[later.start : later.end] == "glazed with rain"
    assert index().find("white\nThe") == index().find("white\nThe committee") == []


def test_the_nearest_stretch_is_the_definition() -> None:
    draw, found = random.Random(5), index()
    for _ in range(60):
        text = draw.choice([POEM, REPORT])
        start = draw.randrange(len(text) - 40)
        quoted = list(text[start : start + draw.randrange(25, 40)])
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(quoted))
            quoted[at] = draw.choice(["", draw.choice(string.ascii_letters), quoted[at] + "x"])
        fast, slow = (f(found.corpus, "".join(quoted)) for f in (nearest, nearest_by_definition))
        assert slow is not None
        if slow.distance <= 3:
            assert fast is not None
            assert fast.distance == slow.distance
        span = found.corpus.span(slow.start, slow.end)
        assert SOURCES[span.source][span.start : span.end]


def test_repair() -> None:
    found = index()
    answer = (
        'The poem says "so much depend\nupon" and the report speaks of "an unbeerable waste". '
        "Einstein said “God does not play dice”. It met “on 3 March 1911 in Zurich"
    )
    repaired = found.repair(answer)
    assert repaired.text == (
        'The poem says "so much depends\nupon" and the report speaks of "an unbearable waste". '
        "Einstein said God does not play dice. It met “on 3 March 1911 in Zürich”"
    )
    assert [change.span is None for change in repaired.changes] == [False, False, True, False]
    assert found.repair(repaired.text).changes == ()
    assert found.repair(answer, most=0.0).text.count("“") == 0
    with pytest.raises(ConfigError, match="most = 2"):
        found.repair(answer, most=2)


def test_after_repair_nothing_is_wrong() -> None:
    draw, found = random.Random(6), index()
    pieces = [
        '"',
        "“",
        "”",
        "«",
        "»",
        "„",
        "so much ",
        "depends",
        "\n",
        "The committee met",
        "Zü",
        "\ud83d",
    ]
    changed = 0
    for _ in range(300):
        answer = "".join(draw.choices(pieces, k=draw.randrange(1, 14)))
        repaired = found.repair(answer)
        assert all(verdict.ok for verdict in found.check(repaired.text)), answer
        changed += bool(repaired.changes)
    assert changed > 100


def test_places_on_pages() -> None:
    pages = ["One page ends. ", "Another begins and ", "a third."]
    starts = [0, 15, 34]
    parts = [
        SourceText("a.pdf", text, at, pages=((at, number),))
        for number, (text, at) in enumerate(zip(pages, starts, strict=True), 1)
    ]
    found = QuoteIndex(parts)
    for text, page in (("One", 1), ("ends. Another", 1), ("Another", 2), ("a third.", 3)):
        (span,) = found.find(text)
        assert (span.page, "".join(pages)[span.start : span.end]) == (page, text)
    assert index().find("wheel")[0].page is None


def test_a_memory_can_be_quoted_at_a_time(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "m.db") as memory:
        memory.write("the mill stands", source="a", valid=(None, 100.0))
        memory.write("the mill is a ruin", source="b", valid=(100.0, None))
        memory.write("by the river")
        now, then = QuoteIndex.of_memory(memory, at=150.0), QuoteIndex.of_memory(memory, at=50.0)
        assert [bool(now.find(t)) for t in ("stands", "ruin", "river")] == [False, True, True]
        assert [bool(then.find(t)) for t in ("stands", "ruin", "river")] == [True, False, True]
        assert QuoteIndex.of_memory(memory).find("river")[0].source == "item 3"
