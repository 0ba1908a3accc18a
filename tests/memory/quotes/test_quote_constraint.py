"""Quote mode byte by byte and token by token: it never ends, never errs, and misses nothing."""

import random

import pytest

from solomonic.core import DataError
from solomonic.memory.quotes import QuoteConfig, QuoteConstraint, QuoteIndex, SourceText
from solomonic.memory.quotes.automaton import START, QuoteAutomaton, QuoteState
from solomonic.memory.quotes.marks import quotations
from solomonic.memory.quotes.suffixes import SuffixArray, sort_suffixes, suffixes_by_definition

TEXTS = [
    SourceText("a", 'Über den Wolken — “so much” depends upon a "red" wheel barrow.\n'),
    SourceText("b", "Glazed with rain water… beside the white chickens, and so much more «café»."),
    SourceText("c", "日本語の「文」と絵文字 👩‍🚀 ende"),
]
WORDS = [b"so", b" much", b' "', b'"', b'",', b'" and "', b'""', "“".encode(), "”".encode(),
         "”,".encode(), b"\xe2\x80", b"\x9c", b"\x9d", b"\xe2", b" depends", b"red", b'"so',
         "«caf".encode(), "é»".encode(), b"\xc3", b"\xa9", "語の".encode(), b"xyz",
         b""]  # fmt: skip
VOCABULARY = [bytes([byte]) for byte in range(256)] + WORDS


def index(fold: bool = False) -> QuoteIndex:
    return QuoteIndex(TEXTS, QuoteConfig(fold_whitespace=fold))


@pytest.fixture(scope="module")
def constraint() -> QuoteConstraint:
    return index().constraint(VOCABULARY)


def test_suffixes_are_in_order() -> None:
    draw = random.Random(0)
    for _ in range(150):
        letters = draw.choice([1, 2, 4, 256])
        data = bytes(draw.randrange(letters) for _ in range(draw.randrange(120)))
        data *= draw.choice([1, 1, 3])
        assert sort_suffixes(data).tolist() == suffixes_by_definition(data)


def test_intervals_hold_exactly_the_places_of_a_pattern() -> None:
    draw = random.Random(1)
    data = bytes(draw.randrange(3) for _ in range(6000))  # intervals on both sides of the border
    suffixes = SuffixArray(data)
    for _ in range(300):
        pattern = bytes(draw.randrange(3) for _ in range(draw.randrange(1, 7)))
        low, high = suffixes.interval(pattern)
        found = sorted(suffixes.order[low:high].tolist())
        assert found == [at for at in range(len(data)) if data.startswith(pattern, at)]


def test_reading_finds_the_same_quotations_as_the_definition() -> None:
    """Any bytes, broken characters included: inside exactly where a quotation is still open, lost
    exactly where its text is not in the store."""
    draw, found = random.Random(2), index()
    automaton, data = (
        QuoteAutomaton(SuffixArray(found.corpus.data), found.config),
        found.corpus.data,
    )
    pieces = [piece for piece in WORDS if piece] + [b"\xff", b"\xed\xa0", b"Q"]
    seen = set()
    for _ in range(3000):
        read = b"".join(draw.choices(pieces, k=draw.randrange(1, 9)))
        state = automaton.read(START, read)
        text = read.decode(errors="replace" if not state.pending else "ignore")
        if state.pending:  # a character that is not whole yet belongs to nothing
            text = read[: -len(state.pending)].decode(errors="replace")
        last = list(quotations(text, found.config))[-1:]
        opened = bool(last) and not last[0].closed
        assert state.quoting == opened, read
        if opened:
            assert state.lost == (last[0].text.encode() not in data), read
        seen.add((state.quoting, state.lost, bool(state.pending)))
    assert len(seen) == 6


def test_the_fast_masks_are_the_definition(constraint: QuoteConstraint) -> None:
    draw = random.Random(3)
    quoting = 0
    for _ in range(60):
        state = constraint.start
        for _ in range(draw.randrange(12)):
            allowed = constraint.allowed(state)
            assert (allowed == constraint.allowed_by_definition(state)).all()
            assert allowed.any()
            likely = [t for t in range(256, len(VOCABULARY)) if allowed[t]]
            choices = likely if likely and draw.random() < 0.7 else allowed.nonzero()[0].tolist()
            after = constraint.advance(state, draw.choice(choices))
            assert after is not None
            state = after
            quoting += state.quoting
    assert quoting > 100


def ending(automaton: QuoteAutomaton, state: QuoteState) -> bytes:
    """The fewest bytes that end the quotation, in whatever way."""
    reached = {state: b""}
    for _ in range(7):  # what is left of a character, one character, and a mark of three bytes
        for current, read in reached.items():
            if not current.quoting:
                return read
        reached = {
            after: read + bytes([byte])
            for current, read in reached.items()
            for byte in range(256)
            if (after := automaton.step(current, byte)) is not None
        }
    raise AssertionError(f"nothing ends the quotation from {state}")


@pytest.mark.parametrize("fold", [False, True])
def test_whatever_is_drawn_is_verbatim_and_can_be_ended(fold: bool) -> None:
    """Random tokens under the constraint, each quotation closed at the end by force: `check` finds
    nothing wrong, and never was there no token to draw."""
    draw, found = random.Random(4), index(fold)
    constraint, quoted = found.constraint(VOCABULARY), 0
    for _ in range(30):
        state, written = constraint.start, b""
        for _ in range(25):
            choices = sorted(constraint.allowed_next(state))
            token = draw.choice([t for t in choices if t >= 256 or draw.random() < 0.1] or choices)
            after = constraint.advance(state, token)
            assert after is not None
            state, written = after, written + VOCABULARY[token]
        written += ending(constraint.automaton, state)
        verdicts = found.check(written.decode(errors="replace"))
        assert all(verdict.ok for verdict in verdicts), written
        quoted += sum(len(verdict.quotation.text) > 3 for verdict in verdicts)
    assert quoted > 10


def test_control_tokens_wait_for_the_closing_mark(constraint: QuoteConstraint) -> None:
    end = VOCABULARY.index(b"")
    assert constraint.allowed(constraint.start)[end]
    inside = constraint.read(constraint.start, [ord('"'), ord("s")])
    assert not constraint.allowed(inside)[end]
    assert constraint.allowed(inside)[ord('"')]
    assert constraint.allowed(inside)[VOCABULARY.index(b'" and "')]
    reopened = constraint.allowed(inside)[VOCABULARY.index(b'""')]  # closes, and opens another
    assert reopened


def test_an_empty_quotation_and_an_empty_store_are_refused(constraint: QuoteConstraint) -> None:
    assert not constraint.allowed(constraint.start)[VOCABULARY.index(b'""')]
    assert constraint.allowed(constraint.start)[VOCABULARY.index(b'"so')]
    nothing = QuoteIndex([]).constraint(VOCABULARY)
    allowed = nothing.allowed(nothing.start)
    assert not allowed[ord('"')]
    assert allowed[ord("a")]
    only_marks = QuoteIndex([SourceText("s", '""“”')]).constraint(VOCABULARY)
    assert only_marks.allowed(only_marks.start)[ord('"')]  # “ may stand between straight marks
    assert not QuoteIndex([SourceText("s", '""')]).constraint(VOCABULARY).allowed(START)[ord('"')]


def test_a_prompt_that_misquotes_and_goes_on_is_refused(constraint: QuoteConstraint) -> None:
    read = [*b'He said "so many", and then "so mu']
    state = constraint.read(constraint.start, read)
    assert state.quoting
    assert {ord("c")} == {t for t in constraint.allowed_next(state) if t < 256} - {ord('"')}
    with pytest.raises(DataError, match="ends inside a quotation that the store does not hold"):
        constraint.read(constraint.start, [*b'He said "so many'])
