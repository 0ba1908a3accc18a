"""The spoken form of text: every rule of the normaliser, and that it settles at once."""

import random

import pytest

from solomonic.text.spoken import is_spoken, normalise, number_words, ordinal_words


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Set a timer for 20 minutes, please!", "set a timer for twenty minutes please"),
        ("It’s 7:30 — don’t wait", "it's seven thirty don't wait"),
        ("Café Zoë, the 3rd", "cafe zoe the third"),
        ("at 7pm or 7:05 p.m.", "at seven pm or seven oh five pm"),
        ("'Tis said: 'hello', to the dogs' 'em", "'tis said hello to the dogs 'em"),
        ("rock-n-roll/pop", "rock n roll pop"),
        ("10, 11 and 12.", "ten eleven and twelve"),
        ("2.5 litres at 20% & $5", "two point five litres at twenty percent and five dollars"),
        ("100 and 3,000 and 12th", "one hundred and three thousand and twelfth"),
        ("ﬁne ＡＢＣ ß", "fine abc ss"),
        ("21° outside", "twenty one degrees outside"),
        ("  \t\n ", ""),
        ("?!", ""),
    ],
)
def test_rules(written: str, spoken: str) -> None:
    assert normalise(written) == spoken
    assert is_spoken(spoken)


@pytest.mark.parametrize(
    "text", ["1984", "911", "204", "007", "7:00", "12-15", "1/2", "$5.50", "2,500", "3st", "25:30"]
)
def test_numbers_with_several_readings_stay_digits(text: str) -> None:
    assert normalise(f"It is {text}.") == f"it is {text}"
    assert not is_spoken(normalise(text))


def test_other_alphabets_stay() -> None:
    assert normalise("Привет, мир") == "привет мир" and not is_spoken("привет")


def test_normalising_twice_changes_nothing() -> None:
    draw = random.Random(0)
    for _ in range(3000):
        text = "".join(
            draw.choice("0123457 .,:-$%'/abpmst&é°_’½") for _ in range(draw.randint(1, 12))
        )
        assert normalise(normalise(text)) == normalise(text), text


def test_numbers_in_words() -> None:
    assert number_words(0) == "zero" and number_words(215) == "two hundred fifteen"
    assert number_words(999_999) == "nine hundred ninety nine thousand nine hundred ninety nine"
    assert len({number_words(n) for n in range(2000)}) == 2000
    assert [ordinal_words(n) for n in (1, 5, 12, 20, 21, 99)] == [
        "first", "fifth", "twelfth", "twentieth", "twenty first", "ninety ninth",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="not between"):
        number_words(1_000_000)
