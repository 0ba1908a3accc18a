"""The search in C++ against the Python classes: the same log-probabilities must give the same bits.

Both sides ask one toy model, which draws scores from the frame and the last labels. Half of the
cases have scores that are multiples of a quarter nat, so that many are equal and ties count.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solomonic.kernels import native
from solomonic.speech.biasing import Biasing
from solomonic.speech.decode import DecodeConfig, Decoder, Search
from solomonic.speech.lattice import (
    Arc,
    Lattice,
    LatticeMessage,
    build_lattice,
    encode_message,
    word_lattice,
)
from solomonic.speech.pretrained import load_speech_model
from solomonic.text.pieces import WordPieces
from solomonic.text.spoken import normalise

CORE = native.load()
PARTS: Any = getattr(CORE, "speech_search", None)
pytestmark = pytest.mark.skipif(PARTS is None, reason="the native core is not built with speech")

MODELS = Path(__file__).parents[2] / "src/solomonic/speech/models"
TEXTS = [
    "please call anna and siobhan nguyen", "turn on the kettle in the kitchen",
    "play some music by the artist", "it's seven thirty don't wait for me", "what time is it now",
    "set a timer for twenty minutes", "the quick brown fox jumps over the lazy dog",
]  # fmt: skip
FRAME = 0.06


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    return WordPieces.train(TEXTS, 60)


def native_pieces(pieces: WordPieces) -> Any:
    processor = pieces._processor
    scores = [processor.get_score(token) for token in range(pieces.size)]
    return PARTS.WordPieces(list(pieces.pieces), scores)


class Pair:
    """The same search twice."""

    def __init__(
        self, toy: Any, pieces: WordPieces, config: DecodeConfig, bias: tuple | None, first: int
    ) -> None:
        self.toy = toy
        settings = config.to_json()
        self.python = Search(config, bias[0] if bias else None, self.starts(pieces), first)
        self.decoder = object.__new__(Decoder)  # without a model: the toy is asked here
        self.decoder.config, self.decoder.pieces, self.decoder.frame_seconds = config, pieces, FRAME
        self.kept = native_pieces(pieces)
        self.native = PARTS.ToySearch(toy, self.kept, settings, FRAME)
        self.native.start(bias[1] if bias else None, first)

    @staticmethod
    def starts(pieces: WordPieces) -> list[bool]:
        return [piece.startswith("\u2581") for piece in pieces.pieces]

    def advance(self, acoustic: np.ndarray) -> None:
        steps = self.python.steps()
        asked = next(steps)
        while True:
            answer = self.toy.log_probs(acoustic, [prefix.tokens() for prefix in asked])
            try:
                asked = steps.send(answer)
            except StopIteration:
                break
        self.native.advance(acoustic)

    def set_beam(self, beam: int) -> None:
        self.python.config = self.python.config.replace(beam=beam)
        self.native.set_beam(beam)

    def check_partial(self) -> None:
        ours, theirs = self.native.partial(), self.decoder.partial(self.python)
        for name in ("text", "stable_words", "log_prob", "pause_frames", "blank_frames"):
            assert ours[name] == getattr(theirs, name), name
        assert ours["blank_probability"] == theirs.blank_probability
        assert tuple(ours["tokens"].tolist()) == theirs.tokens
        assert tuple(ours["frames"].tolist()) == theirs.frames
        assert ours["words"] == plain_words(theirs.words)

    def check_result(self, limit: int | None = None) -> int:
        """Compare all; how many arcs the lattice of words has."""
        ours, theirs = self.native.finish(limit or 0), self.decoder.finish(self.python)
        assert ours["end_frame"] == theirs.end_frame
        assert ours["forgotten_before"] == -1 and not ours["narrowed"]
        assert [found["text"] for found in ours["nbest"]] == [h.text for h in theirs.nbest]
        for found, other in zip(ours["nbest"], theirs.nbest, strict=True):
            for name in ("tokens", "frames", "log_probs"):
                assert tuple(found[name].tolist()) == getattr(other, name)
            for name in ("acoustic", "bias", "log_prob"):
                assert found[name] == getattr(other, name), name
            assert found["words"] == plain_words(other.words)
        if theirs.lattice is None:
            assert "lattice" not in ours
            return 0
        words = word_lattice(theirs.lattice)
        check_lattice(ours["lattice"], theirs.lattice)
        check_lattice(ours["words"], words)
        message = LatticeMessage(
            lattice=words, utterance=3, revision=300, reason="silence", duration=2.3456,
            language="en",
        )  # fmt: skip
        assert ours["message"] == encode_message(message, limit)
        message = LatticeMessage(
            lattice=theirs.lattice, utterance=3, revision=300, reason="silence", duration=2.3456,
            language="en", speaker="ann", speaker_score=-1.25, whisper=0.25,
        )  # fmt: skip
        assert ours["piece_message"] == encode_message(message, None)
        return words.arcs


def plain_words(words: Any) -> list[tuple]:
    return [(word.text, word.start, word.end, word.confidence) for word in words]


def check_lattice(ours: dict, theirs: Any) -> None:
    assert ours["frames"].tolist() == theirs.frames.tolist()
    columns = [theirs.sources, theirs.targets, theirs.labels, *theirs.arc_spans().T]
    assert np.array_equal(ours["arcs"], np.stack(columns, axis=1))
    assert np.array_equal(ours["scores"], np.stack([theirs.acoustic, theirs.bias], axis=1))
    assert ours["symbols"] == list(theirs.symbols)
    assert ours["spans"] == (theirs.spans is not None)
    assert ours["frame_seconds"] == theirs.frame_seconds


def random_config(draw: random.Random) -> DecodeConfig:
    return DecodeConfig(
        method=draw.choice(["beam"] * 7 + ["greedy"]),
        beam=draw.choice([1, 2, 3, 4, 8, 16]),
        max_symbols=draw.choice([1, 2, 5]),
        expand_beam=draw.choice([2.0, 5.0, float("inf")]),
        label_bonus=draw.choice([0.0, 0.0, 0.3]),
        state_beam=draw.choice([1.0, 8.0, float("inf")]),
        label_context=draw.randrange(5),
        lattice=draw.random() < 0.9,
        lattice_beam=draw.choice([1.0, 8.0]),
        alternatives=draw.choice([1, 3, 8]),
        nbest=draw.choice([1, 3, 8]),
        confidence_scale=draw.choice([1.0, 0.5]),
        stable_beam=draw.choice([1.0, 4.0]),
        stable_frames=draw.choice([0, 1, 3, 5, 40]),
    )


def random_toy(draw: random.Random, size: int) -> Any:
    return PARTS.ToyModel(
        size, draw.randrange(1 << 30), draw.randrange(4), draw.choice([1.0, 2.0, 4.0]),
        draw.choice([1.0, 4.0, 8.0]), draw.choice([0, 4]),
    )  # fmt: skip


def random_bias(draw: random.Random, pieces: WordPieces) -> tuple | None:
    """Personal words for both sides; None: there are none."""
    kind = draw.randrange(4)
    if kind == 0:
        return None
    vocabulary = " ".join(TEXTS).split()
    phrases = [" ".join(draw.choices(vocabulary, k=draw.randint(1, 3))) for _ in range(40)]
    phrases = [p for p in phrases if len(p.replace(" ", "")) >= 3] if kind != 2 else []
    classes = {"contact": draw.sample(vocabulary, 12), "thing": ["kettle", "an", "lamp"]}
    classes = {name: [e for e in entries if len(e) > 1] for name, entries in classes.items()}
    carriers = ["call @contact", "turn (on|off) [the] @thing :1.5", "the @contact and @thing"]
    if kind == 1:
        classes, carriers = {}, []
    theirs = Biasing(phrases, classes, carriers, pieces=pieces, boost=2.0)
    kept = native_pieces(pieces)
    ours = PARTS.PersonalWords(kept, phrases, list(classes.items()), carriers, boost=2.0)
    assert theirs.graph is not None and not ours.empty
    return theirs.graph, ours


@pytest.mark.parametrize("block", range(10))
def test_the_same_results_bit_for_bit(pieces: WordPieces, block: int) -> None:
    arcs = 0
    for seed in range(30 * block, 30 * block + 30):
        draw = random.Random(seed)
        toy = random_toy(draw, pieces.size)
        pair = Pair(
            toy, pieces, random_config(draw), random_bias(draw, pieces), draw.choice([0, 7])
        )
        speech = 1.0
        for frame in range(draw.choice([3, 25, 70])):
            if draw.random() < 0.1:
                speech = draw.choice([0.5, 1.0, 2.0])  # runs of silence and of babble
            pair.advance(np.array([frame, speech], np.float32))
            if draw.random() < 0.3:
                pair.check_partial()
            if draw.random() < 0.04:
                pair.check_result()
            if draw.random() < 0.05:
                pair.set_beam(draw.randint(1, pair.decoder.config.beam))
        pair.check_partial()
        arcs += pair.check_result()
    assert arcs > 100, "the lattices had nothing in them"


def test_a_long_utterance_forgets_as_in_python(pieces: WordPieces) -> None:
    """Long enough that the record is cleared up several times."""
    for seed in range(2):
        toy = PARTS.ToyModel(pieces.size, seed, 2, 1.0, 0.0)
        pair = Pair(toy, pieces, DecodeConfig(stable_frames=seed * 5), None, 0)
        for frame in range(200):
            pair.advance(np.array([frame, 1.0], np.float32))
        assert pair.python._forget_at > 512, "it was never cleared up"
        pair.check_partial()
        pair.check_result()


def test_messages_within_a_limit_have_the_same_bytes(pieces: WordPieces) -> None:
    smaller = 0
    for seed in range(12):
        pair = Pair(PARTS.ToyModel(pieces.size, seed, 2, 2.0, 3.0), pieces, DecodeConfig(), None, 0)
        for frame in range(60):
            pair.advance(np.array([frame, 1.0], np.float32))
        whole = len(pair.native.finish(0)["message"])
        for share in (0.5, 0.7, 0.95):
            limit = int(whole * share)
            try:
                pair.check_result(limit)
                smaller += 1
            except Exception as error:  # both refuse a limit that the best path breaks
                assert "best path alone" in str(error)
                with pytest.raises(ValueError, match="best path alone"):
                    pair.native.finish(limit)
    assert smaller > 12


def test_a_full_record_forgets_the_oldest_alternatives_and_says_so(pieces: WordPieces) -> None:
    toy = PARTS.ToyModel(pieces.size, 5, 2, 3.0, 4.0)
    settings = {"beam": 4, "max_symbols": 2, "stable_frames": 0, "lattice_beam": 1000.0}
    large, small = (
        PARTS.ToySearch(toy, native_pieces(pieces), {**settings, "longest_seconds": s}, FRAME)
        for s in (600.0, 6.0)
    )
    for search in (large, small):
        search.start()
    refused = False
    for frame in range(6000):
        acoustic = np.array([frame, 1.0], np.float32)
        large.advance(acoustic)
        try:
            small.advance(acoustic)
        except ValueError as error:
            assert "longest_seconds" in str(error)
            refused = True
            break
        if frame % 100 == 0:
            ours, theirs = small.finish(), large.finish()
            if not ours["narrowed"]:
                assert ours["nbest"][0]["text"] == theirs["nbest"][0]["text"], frame
            if ours["forgotten_before"] >= 0:
                old = ours["lattice"]["frames"] < ours["forgotten_before"] - 1
                assert 0 < ours["forgotten_before"] <= frame + 1
                assert old.sum() < (theirs["lattice"]["frames"] < frame).sum()
    assert refused, "the record was never full of the best path alone"
    assert small.finish()["forgotten_before"] > 0
    small.start()  # and all is as at first
    assert small.partial()["text"] == "" and small.finish()["forgotten_before"] == -1


def test_frames_that_are_not_finite_change_nothing(pieces: WordPieces) -> None:
    pair = Pair(PARTS.ToyModel(pieces.size, 1, 2, 2.0, 3.0), pieces, DecodeConfig(), None, 0)
    pair.advance(np.array([1, 1.0], np.float32))
    with pytest.raises(ValueError, match="NaN or infinity"):
        pair.native.advance(np.array([np.nan, 1.0], np.float32))
    pair.check_result()


def test_settings_out_of_range_are_refused(pieces: WordPieces) -> None:
    toy, kept = PARTS.ToyModel(pieces.size, 1, 2, 2.0, 3.0), native_pieces(pieces)
    for name, value in (("beam", 0), ("state_beam", 0.0), ("alternatives", 65), ("nbest", 0)):
        with pytest.raises(ValueError, match=name):
            PARTS.ToySearch(toy, kept, {name: value}, FRAME)
    with pytest.raises(ValueError, match="word pieces it was trained with"):
        PARTS.ToySearch(PARTS.ToyModel(5, 1, 2, 2.0, 3.0), kept, {}, FRAME)
    with pytest.raises(ValueError, match="beam can be set to 1 up to 8, .* not to 9"):
        PARTS.ToySearch(toy, kept, {}, FRAME).set_beam(9)


def words_like(draw: random.Random, text: str) -> str:
    """A text of true words, of words made of their letters, and of odd spaces."""
    words = text.split()
    for index in range(len(words)):
        if draw.random() < 0.3:
            words[index] = "".join(
                draw.choices("abcdefghijklmnopqrstuvwxyz'", k=draw.randint(1, 9))
            )
    return draw.choice([" ", "  "]).join(draw.choices(words, k=draw.randint(1, 8)))


@pytest.mark.parametrize("shipped", [False, True])
def test_segmentations_are_those_of_sentencepiece(pieces: WordPieces, shipped: bool) -> None:
    if shipped:
        pieces = load_speech_model(MODELS / "english-small").pieces
    kept = native_pieces(pieces)
    segmenter, draw = PARTS.Segmenter(kept), random.Random(3)
    for _ in range(4000):
        text = words_like(draw, draw.choice(TEXTS))
        assert segmenter.encode(text) == pieces.encode(text), text
    for _ in range(1500):
        text, n = words_like(draw, draw.choice(TEXTS))[:30], draw.choice([1, 2, 4, 10])
        assert segmenter.encode_nbest(text, n) == pieces.encode_nbest(text, n), text
    assert segmenter.encode("") == segmenter.encode("  ") == []
    with pytest.raises(ValueError, match="no 'é'"):
        segmenter.encode("é")


def test_personal_words_are_paid_the_same_in_every_state(pieces: WordPieces) -> None:
    states = 0
    for seed in range(60):
        draw = random.Random(seed)
        bias = random_bias(draw, pieces)
        if bias is None:
            continue
        theirs, ours = bias
        tokens = [t for text in TEXTS for t in pieces.encode(text)]
        state, other = theirs.start, 0
        for _ in range(120):
            assert np.array_equal(theirs.scores(state), ours.scores(other, pieces.size))
            assert list(theirs.next_tokens(state)) == ours.next_tokens(other, pieces.size)
            assert theirs.final(state) == ours.final(other)
            if draw.random() < 0.5:  # a piece that goes on with a phrase, where there is one
                token = draw.choice([*theirs.next_tokens(state)] or tokens)
            else:
                token = draw.choice(tokens)
            (state, one), (other, two) = (
                theirs.step(state, int(token)),
                ours.step(other, int(token)),
            )
            assert one == two
            states += one != 0
    assert states > 1000


def test_phrases_are_read_as_in_python(pieces: WordPieces) -> None:
    lines = [
        "Anna", "  siobhan   nguyen :2.5", "# a remark", "", "kettle\t1.0", "Zoë", "7 minutes",
        "ab", "李雷", "the the the the the the the the the", "don't", "James", "anna :3", "x-ray",
        "AT&T", "room 12", "1984", "at 7:30", "naïve café",
    ]  # fmt: skip
    for possessives in (False, True):
        theirs = Biasing(lines, pieces=pieces, strict=False, possessives=possessives)
        kept = native_pieces(pieces)
        ours = PARTS.PersonalWords(kept, lines, strict=False, possessives=possessives)
        spelled = [
            (p.text, p.worth, [list(way) for way in p.segmentations]) for p in theirs.phrases
        ]
        # Clock times are said by Python's normaliser only; here they are refused.
        spelled = [entry for entry in spelled if not entry[0].startswith("at seven")]
        assert [(t, w, [list(s) for s in ways]) for t, w, ways in ours.phrases] == spelled
        dropped = {d.text: d.reason for d in theirs.dropped}
        assert dropped.items() <= dict(ours.dropped).items()
    for line in (
        "Zoë's café",
        "Ångström & Søn",
        "a – b",
        "twenty-one",
        "room 12",
        "“quoted” words",
    ):
        assert PARTS.spoken_text(line) == normalise(line), line


@pytest.mark.parametrize(
    ("phrases", "classes", "carriers", "message"),
    [
        (["ab"], [], [], "1 of 1 phrases cannot be used: 'ab' has fewer than 3 letters"),
        (["kettle :99"], [], [], "phrase 1: the boost 99 of 'kettle' is not above 0"),
        (["kettle\tx"], [], [], "after the tab is no number"),
        ([], [("contact", ["anna"])], [], "no carrier opens the class '@contact'"),
        ([], [], ["call @contact"], "'@contact', which is not among the classes"),
        ([], [("c", ["anna"])], ["call (@c"], r"has a '\(' without its pair"),
        ([], [("c", ["anna"])], ["call me"], "names no class"),
        ([], [("c", ["anna"])], ["call @c :0"], "has a factor that is not above 0"),
        ([], [("c", ["anna"])], ["7 @c"], "cannot spell these words of the carriers: 7"),
        (["anna"] * 5001, [], [], "more than 5,000 phrases"),
    ],
)
def test_personal_words_that_cannot_be_used_are_refused(
    pieces: WordPieces, phrases: list, classes: list, carriers: list, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PARTS.PersonalWords(native_pieces(pieces), phrases, classes, carriers)
    with pytest.raises(Exception, match=message):
        Biasing(phrases, dict(classes), carriers, pieces=pieces)


def words_within(pieces: Lattice, limit: int) -> dict:
    columns = [pieces.sources, pieces.targets, pieces.labels, *pieces.arc_spans().T]
    return PARTS.words_within(
        pieces.frames.tolist(),
        np.stack(columns, axis=1).tolist(),
        np.stack([pieces.acoustic, pieces.bias], axis=1).tolist(),
        list(pieces.symbols),
        pieces.spans is not None,
        limit,
    )


@pytest.mark.skipif(not hasattr(PARTS, "words_within"), reason="an older native core is installed")
@pytest.mark.parametrize("seed", range(8))
def test_words_within_a_limit_are_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, arcs = list(range(41)), []
    for node in range(40):  # 3 ** 40 texts, of which some are equally good
        for piece in rng.choice(["a", "é", "ab", "▁b", "▁", ""], 3, replace=False).tolist():
            score = -float(rng.exponential(2.0)) if seed % 2 else -float(rng.integers(0, 3))
            arcs.append(Arc(node, node + 1, piece, score, float(rng.random() < 0.1)))
    pieces = build_lattice(frames, arcs, 40, frame_seconds=FRAME)
    for limit in (1, 30, 300, 3000):
        check_lattice(words_within(pieces, limit), word_lattice(pieces, limit))
