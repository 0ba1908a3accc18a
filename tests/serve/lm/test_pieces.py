"""Text is shown as soon as it may be, never half a character, never part of a stop string."""

import random

import pytest

from solomonic.serve.lm.answers import completion_logprobs, token_text
from solomonic.serve.lm.chat import Answer, render
from solomonic.serve.lm.pieces import Shown, Token
from solomonic.text import ByteTokenizer

BYTES = ByteTokenizer()


def shown(text: str, stop: list[str]) -> tuple[list[str], list[int], str | None]:
    """Pieces, tokens and the stop string met, of a text whose bytes come one by one."""
    writer, pieces, tokens = Shown(BYTES, stop), [], []
    for token in BYTES.encode(text):
        piece, some = writer.push(Token(token))
        pieces.append(piece)
        tokens += [entry.token for entry in some]
        if writer.stopped is not None:
            return pieces, tokens, writer.stopped
    piece, some = writer.flush()
    return [*pieces, piece], tokens + [entry.token for entry in some], None


def law(text: str, stop: list[str]) -> str:
    """By hand: the shortest beginning of the text that holds a stop string, cut at that."""
    for end in range(len(text) + 1):
        found = [text[:end].find(one) for one in stop if one in text[:end]]
        if found:
            return text[: min(found)]
    return text


@pytest.mark.parametrize("case", range(200))
def test_it_ends_where_it_must(case: int) -> None:
    draw = random.Random(case)
    text = "".join(draw.choice("abé") for _ in range(draw.randint(0, 25)))
    stop = ["".join(draw.choice("abé") for _ in range(draw.randint(1, 5))) for _ in range(3)]
    pieces, tokens, met = shown(text, stop)
    assert "".join(pieces) == law(text, stop)
    assert (met is None) == (law(text, stop) == text)
    assert BYTES.decode(tokens).startswith("".join(pieces))
    assert len(BYTES.decode(tokens)) <= len("".join(pieces)) + 1


def test_only_what_may_begin_a_stop_string_waits() -> None:
    pieces, _, met = shown("one two\n\nthree", ["\n\n"])
    assert pieces == ["o", "n", "e", " ", "t", "w", "o", "", ""] and met == "\n\n"
    assert shown("a\nb", ["\n\n"])[0] == ["a", "", "\nb", ""]
    assert shown("aé", [])[0] == ["a", "", "é", ""]
    broken = Shown(BYTES)
    assert [broken.push(Token(0xC3))[0], broken.flush()[0]] == ["", "\ufffd"]


def test_tokens_as_they_are_shown() -> None:
    assert token_text(BYTES, 97) == "a" and token_text(BYTES, 0xC3) == "bytes:\\xc3"
    assert token_text(BYTES, 256) == "<|endoftext|>"
    tokens = [Token(token, -0.5, ((97, -0.1),)) for token in BYTES.encode("aéb")]
    scores = completion_logprobs(BYTES, tokens, 10)
    assert scores["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9", "b"]
    assert scores["text_offset"] == [10, 11, 11, 12]
    assert scores["top_logprobs"] == [{"a": -0.1}] * 4


def test_a_message_cannot_speak_for_another() -> None:
    talk = [("system", "Be\nBRIEF"), ("user", "Hi\n< no\n> yes"), ("assistant", " ok "),
            ("user", "")]  # fmt: skip
    assert render(talk) == "be brief\n> hi < no > yes\n< ok\n>\n<"
    answer = Answer()
    assert [answer.push(piece) for piece in (" ", " o", " k")] == ["", "o", " k"]
