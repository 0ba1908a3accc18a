"""Text as it is spoken: the one normaliser for training texts, bias phrases and scoring.

    "Set a timer for 20 minutes, please!"   set a timer for twenty minutes please
    "It’s 7:30 — don’t wait"                it's seven thirty don't wait
    "Café Zoë, the 3rd, at 7pm"             cafe zoe the third at seven pm

The rules, in order:

1.  Compatibility forms are folded (NFKC), case is dropped, accents are taken off letters.
2.  Curly apostrophes become '. It stays inside a word (don't) and before the few words that begin
    with it ('em, 'til); elsewhere it is a quotation mark and goes.
3.  Numbers become words where there is one common way to say them: 0 to 99, round hundreds and
    thousands, 1st to 99th, decimals (2.5), clock times (7:30, not 7:00), a percent or dollar sign
    with such a number. Anything else (1984, 911, 204, 007, 7:00) is LEFT AS DIGITS, because people
    say it in several ways: `is_spoken` is then false, and whoever needs words decides.
4.  "&", "+", "@" and "°" between words become and, plus, at, degrees. All other punctuation
    separates words when it is a dash, slash or underscore and disappears when it is not.

Normalising twice changes nothing.
"""

import re
import unicodedata

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
_LEADING = "em|til|tis|twas|cause|bout|round|cos"  # words that begin with an apostrophe
_SIGNS = {"&": " and ", "+": " plus ", "@": " at ", "°": " degrees "}
_SPOKEN = re.compile(r"[a-z' ]*")

_ALONE = r"(?<![\w.,:$/-]){}(?![\w:%/]|[.,]\d|-\d)"
_DASHES = r"[-‐‑‒–—―/\\_|~=<>]"
_PERCENT = re.compile(r"(?<=\d)\s*%")
_DOLLARS = re.compile(r"\$\s?(\d+)(?![\d.,]*\d)")


def normalise(text: str) -> str:
    """The spoken form of `text`: words of a-z and apostrophes, one space apart.

    Letters of other alphabets and numbers with several readings stay; see `is_spoken`.
    """
    while (again := _pass(text)) != text:  # a sign taken away can leave a number alone
        text = again
    return text


def is_spoken(text: str) -> bool:
    """Whether `text` consists of a-z, apostrophes and spaces only."""
    return _SPOKEN.fullmatch(text) is not None


def number_words(number: int) -> str:
    """The common cardinal of 0 to 999,999, without "and": 215 is "two hundred fifteen".

    Raises:
        ValueError: the number is outside.
    """
    if not 0 <= number < 1_000_000:
        raise ValueError(f"{number} is not between 0 and 999,999.")
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _join(_TENS[number // 10 - 2], number % 10)
    if number < 1000:
        return _join(f"{_ONES[number // 100]} hundred", number % 100)
    return _join(f"{number_words(number // 1000)} thousand", number % 1000)


def ordinal_words(number: int) -> str:
    """The ordinal of 1 to 99: 21 is "twenty first"."""
    head, _, last = number_words(number).rpartition(" ")
    last = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return f"{head} {last}".strip()


def _join(head: str, rest: int) -> str:
    return f"{head} {number_words(rest)}" if rest else head


def _pass(text: str) -> str:
    text = _fold(text)
    text = _DOLLARS.sub(lambda m: f"{m[1]} {'dollar' if m[1] == '1' else 'dollars'}", text)
    text = _PERCENT.sub(" percent ", text)
    text = re.sub(r"(?<=\d)(?=[ap]\.?m\b)", " ", text)
    for pattern, say in _NUMBERS:
        text = pattern.sub(lambda m, say=say: f" {words} " if (words := say(m)) else m[0], text)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    text = re.sub(rf"(?<!\d){_DASHES}|{_DASHES}(?!\d)", " ", text)
    # What stands inside a number that stays digits stays, or it would read as another number.
    text = re.sub(r"[^\w\s'.,:$/-]|(?<!\d)[.,:/-]|[.,:/-](?!\d)|\$(?!\d)", "", text)
    return " ".join(text.split())


def _fold(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).lower()
    text = unicodedata.normalize("NFD", text)
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = text.replace("ß", "ss").replace("æ", "ae").replace("œ", "oe").replace("ø", "o")
    text = re.sub("[’‘`´ʼ′]", "'", text).replace("⁄", "/")  # ½ is 1⁄2
    text = re.sub(rf"(?<!\w)'(?!(?:{_LEADING})\b)", " ", text)
    return re.sub(r"'(?!\w)", " ", text)


def _say(digits: str) -> str | None:
    """Words of a number that has one common reading, None of any other."""
    if len(digits) > 6 or (len(digits) > 1 and digits.startswith("0")):
        return None
    number = int(digits)
    # Not 1100 and 1500, which are also eleven hundred and a year; nor 2000.
    round_one = number % 100 == 0 if number < 1000 else number % 1000 == 0 and number != 2000
    return number_words(number) if number < 100 or round_one else None


def _say_integer(match: re.Match[str]) -> str | None:
    return _say(match[1].replace(",", ""))


def _say_time(match: re.Match[str]) -> str | None:
    hour, minute = int(match[1]), int(match[2])
    if hour > 23 or minute == 0:  # "seven", "seven o'clock" and "seven hundred" are all said
        return None
    minutes = number_words(minute) if minute > 9 else f"oh {number_words(minute)}"
    return f"{number_words(hour)} {minutes}"


def _say_ordinal(match: re.Match[str]) -> str | None:
    number = int(match[1])
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    if number in (11, 12, 13):
        suffix = "th"
    return ordinal_words(number) if suffix == match[2] else None


def _say_decimal(match: re.Match[str]) -> str | None:
    whole = _say(match[1])
    digits = " ".join(_ONES[int(d)] for d in match[2])
    return f"{whole} point {digits}" if whole else None


_NUMBERS = (
    (re.compile(_ALONE.format(r"(\d{1,2}):([0-5]\d)")), _say_time),
    (re.compile(_ALONE.format(r"([1-9]\d?)(st|nd|rd|th)")), _say_ordinal),
    (re.compile(_ALONE.format(r"(\d+)\.(\d+)")), _say_decimal),
    (re.compile(_ALONE.format(r"(\d+|[1-9]\d{0,2}(?:,\d{3})+)")), _say_integer),
)
