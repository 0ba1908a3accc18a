"""Phrase lists and carriers: what is read, what is refused, and that nothing is off in silence."""

import itertools
from pathlib import Path

import pytest

from solomonic.core import ConfigError, DataError
from solomonic.speech.biasing import Biasing, Catalogue, Phrase, read_carriers, read_phrases
from solomonic.speech.biasing.phrases import spell
from solomonic.text.pieces import WordPieces

TEXTS = [
    "call anna and ann at home",
    "turn on the kettle in the kitchen",
    "turn off the light please",
    "play a song by the band",
    "siobhan nguyen is not at the office today",
]


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    return WordPieces.train(TEXTS * 3, 60)


def paid(biasing: Biasing, pieces: WordPieces, text: str) -> float:
    graph = biasing.graph
    assert graph is not None
    state, score = graph.start, 0.0
    for token in pieces.encode(text):
        state, step = graph.step(state, token)
        score += step
    return score + graph.final(state)


def worth(pieces: WordPieces, text: str, boost: float = 1.5) -> float:
    return boost * len(pieces.encode(text))


def test_lines_are_read() -> None:
    lines = ["", "  # names", " ann ", "kettle :2.5", "zebra\t1", "#", "at 7 : 30 home", "x :y"]
    assert read_phrases(lines) == [
        Phrase("ann"),
        Phrase("kettle", 2.5),
        Phrase("zebra", 1.0),
        Phrase("at 7 : 30 home"),
        Phrase("x :y"),
    ]
    assert read_phrases([]) == read_phrases(["", "\n", "#"]) == []


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "phrases.txt"
    file.write_bytes("\ufeffZoë\r\n# x\r\n\r\nann :2\r\n".encode())
    assert read_phrases(file) == read_phrases(str(file)) == [Phrase("Zoë"), Phrase("ann", 2.0)]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"ann\n\n" + b"x" * 10_000, r"line 3 of .*p\.txt has 10,000 characters; give one phrase"),
        (b"ann\nbo\tmuch\n", r"line 2 of .*'much' after the tab is no number; write"),
        (b"ann :0\n", r"line 1 of .*boost 0 of 'ann' is not above 0"),
        (b"ann :-1\n", r"boost -1 of 'ann'"),
        (b"ann\tnan\n", r"line 1 of .*is no number"),
        (b"ann\t21\n", r"boost 21 .* at most 20; 1 to 3 nats"),
        (b"\xff\xfe\x00", r"p\.txt is no UTF-8 text; save"),
        (b"RIFF\0\0", r"is binary, not a list of phrases"),
        (b"name\n" * 5001, r"more than 5,000 phrases; give those that matter"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, match: str) -> None:
    file = tmp_path / "p.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_phrases(file)


def test_bad_entries_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the phrases .*absent.txt \(No such file"):
        read_phrases(tmp_path / "absent.txt")
    with pytest.raises(DataError, match=r"phrase 2 has 10,000 characters"):
        read_phrases(["ann", "x" * 10_000])
    with pytest.raises(DataError, match=r"phrase 1 is no text but int"):
        read_phrases([3])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"a phrase has 10,000 characters"):
        Phrase("x" * 10_000)


def test_phrases_are_favoured_in_every_segmentation(pieces: WordPieces) -> None:
    biasing = Biasing(["siobhan", "Kettle :2", "ann"], pieces=pieces)
    assert biasing.graph is not None and not biasing.dropped
    assert paid(biasing, pieces, "call siobhan now") == worth(pieces, "siobhan")
    assert paid(biasing, pieces, "kettle") == worth(pieces, "kettle", 2.0)
    assert paid(biasing, pieces, "anna") == 0.0
    assert paid(biasing, pieces, "ann anna ann") == 2 * worth(pieces, "ann")
    for way in pieces.encode_nbest("siobhan", 4):
        state, score = biasing.graph.start, 0.0
        for token in way:
            state, step = biasing.graph.step(state, token)
            score += step
        assert score + biasing.graph.final(state) == worth(pieces, "siobhan"), pieces.decode(way)


def test_nothing_to_favour_is_none(pieces: WordPieces) -> None:
    for biasing in (
        Biasing(pieces=pieces),
        Biasing(["", "# a comment"], pieces=pieces),
        Biasing([], {"contact": []}, ["call @contact"], pieces=pieces),
    ):
        assert biasing.graph is None and biasing.tokens == []


def test_text_is_written_as_it_is_spoken(pieces: WordPieces) -> None:
    biasing = Biasing(["Siobhán  NGUYEN", "Zoë-Ann", "7 bands"], pieces=pieces)
    assert [phrase.text for phrase in biasing.phrases] == [
        "siobhan nguyen",
        "zoe ann",
        "seven bands",
    ]


def test_what_cannot_be_used_is_listed(pieces: WordPieces) -> None:
    lines = ["ann", "李雷", "route 1984", "al", "a b c d e f g h i", "!!!"]
    with pytest.raises(DataError) as caught:
        Biasing(lines, pieces=pieces)
    message = str(caught.value)
    assert message.startswith("5 of 6 phrases cannot be used: '李雷' has '李', '雷', which the")
    assert "'route 1984' has '1', '4', '8', '9'" in message and "write numbers in words" in message
    assert "'al' has fewer than 3 letters" in message
    assert "has 9 words, more than 8" in message and "'!!!' has fewer" in message
    assert message.endswith("leaves them out and lists them in `dropped`.")
    biasing = Biasing(lines, pieces=pieces, strict=False)
    assert [dropped.text for dropped in biasing.dropped] == lines[1:]
    assert [phrase.text for phrase in biasing.phrases] == ["ann"]
    with pytest.raises(DataError, match=r"and 3 more\. Change"):
        Biasing(["x"] * 8, pieces=pieces)


def test_the_same_phrase_counts_once(pieces: WordPieces) -> None:
    biasing = Biasing(["ann", "Ann :3", " ann :2"], pieces=pieces)
    assert len(biasing.phrases) == len(biasing.tokens) == 1
    assert paid(biasing, pieces, "ann") == worth(pieces, "ann", 3.0)


def test_possessives(pieces: WordPieces) -> None:
    assert paid(Biasing(["ann"], pieces=pieces), pieces, "ann's song") == 0.0
    biasing = Biasing(["ann", "thomas"], pieces=pieces, possessives=True)
    assert paid(biasing, pieces, "ann's song") == worth(pieces, "ann's")
    assert [phrase.text for phrase in biasing.phrases][2:] == ["thomas", "thomas'"]


def test_classes_are_open_after_their_carrier_only(pieces: WordPieces) -> None:
    biasing = Biasing(
        classes={"contact": ["Ann", "al", "siobhan nguyen :2"], "device": ["kettle"]},
        carriers=["call @contact", "turn (on|off) [the] @device :2", "@device off"],
        pieces=pieces,
    )
    assert paid(biasing, pieces, "ann") == paid(biasing, pieces, "anna call") == 0.0
    assert paid(biasing, pieces, "please call ann now") == worth(pieces, "ann")
    assert paid(biasing, pieces, "call al") == worth(pieces, "al"), "two letters, but opened"
    assert paid(biasing, pieces, "call siobhan nguyen") == worth(pieces, "siobhan nguyen", 2.0)
    assert paid(biasing, pieces, "call siobhan") == 0.0
    for text in ("turn on kettle", "turn off the kettle"):
        assert paid(biasing, pieces, text) == 2 * worth(pieces, "kettle"), "the larger factor"
    assert paid(biasing, pieces, "turn kettle") == worth(pieces, "kettle"), "as in '@device off'"
    assert len(biasing.tokens) == 4


def test_a_catalogue_is_shared(pieces: WordPieces) -> None:
    contacts = Catalogue(["ann", "siobhan"], pieces)
    first = Biasing(classes={"c": contacts}, carriers=["call @c"], pieces=pieces)
    second = Biasing(["kettle"], {"c": contacts}, ["ring @c", "text @c"], pieces=pieces)
    assert paid(first, pieces, "call ann") == paid(second, pieces, "ring ann")
    assert paid(second, pieces, "ring ann kettle") == worth(pieces, "ann") + worth(pieces, "kettle")
    other = WordPieces.train(TEXTS, 50)
    with pytest.raises(ConfigError, match=r"catalogue of '@c' was made with another vocabulary"):
        Biasing(classes={"c": contacts}, carriers=["call @c"], pieces=other)
    with pytest.raises(DataError, match=r"1 of 2 entries of a class cannot be used: 'x'"):
        Catalogue(["ann", "x"], pieces)


@pytest.mark.parametrize(
    ("carriers", "match"),
    [
        (["call @friend"], r"name '@friend', which is not among the classes \(@contact\); give"),
        ([], r"no carrier opens the class '@contact', so it would never act"),
    ],
)
def test_classes_and_carriers_belong_together(
    pieces: WordPieces, carriers: list[str], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        Biasing(classes={"contact": ["ann"]}, carriers=carriers, pieces=pieces)


@pytest.mark.parametrize(
    ("carrier", "match"),
    [
        ("turn (on|off @d", r"carrier 'turn \(on\|off @d' has a '\(' without its pair; an example"),
        ("turn on) @d", r"has a '\)' without its pair"),
        ("turn (on] @d", r"has a '\(' without its pair"),
        ("a | b", r"names no class"),
        ("", r"names no class"),
        ("call @", r"has an '@' without a name"),
        ("call @d :0", r"has a factor that is not above 0"),
        ("call @d :99", r"at most 20"),
        (" ".join(["(a|b)"] * 12) + " @d", r"makes more than 1,000 sentences"),
        ("(" * 30 + "a" + ")" * 30 + " @d", r"more than 20 brackets"),
        ("x" * 10_000, r"has 10,000 characters"),
    ],
)
def test_bad_carriers_are_quoted(carrier: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_carriers([carrier])


def test_carriers_that_cannot_be_spelled(pieces: WordPieces) -> None:
    with pytest.raises(DataError, match=r"cannot spell these words of the carriers: 5, ü; write"):
        Biasing(classes={"c": ["ann"]}, carriers=["call 5 Ü @c"], pieces=pieces)


@pytest.mark.parametrize("setting", [{"boost": 0.0}, {"boost": 21.0}, {"segmentations": 0}])
def test_settings_out_of_range(pieces: WordPieces, setting: dict) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(setting))} must be"):
        Biasing(["ann"], pieces=pieces, **setting)


def test_five_thousand_phrases_are_taken(pieces: WordPieces) -> None:
    letters = ("abcde", "aeiou", "bcdfghklmn", "aeiouklmnprstvwxyzdh")
    names = ["".join(name) for name in itertools.product(*letters)]
    biasing = Biasing(names, pieces=pieces)
    assert len(biasing.phrases) == 5000
    for name in names[::501]:
        assert paid(biasing, pieces, name) == worth(pieces, name)
    spelled, _ = spell([Phrase("ann")], pieces, boost=1.0, segmentations=9, possessives=False)
    assert len(spelled[0].segmentations) > 1
