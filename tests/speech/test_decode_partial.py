"""Partial results: words with times, what is stable, and how long it has been silent."""

import math
import random

import numpy as np
import pytest

from decode_toy import Pieces, Toy, decode, decoder
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.decode.prefix import Prefix, PrefixTree
from solomonic.speech.decode.stability import Stability
from solomonic.speech.words import Word, words_of


@pytest.mark.parametrize("method", ["beam", "greedy"])
def test_stable_words_are_never_taken_back(method: str) -> None:
    said = early = 0
    for seed in range(25):
        draw = random.Random(seed)
        toy = Toy(seed, size=7, sharp=draw.choice([1.5, 3.0]), blank=draw.choice([1.0, 2.0]))
        acoustic = toy.audio(40)
        config = DecodeConfig(method=method, stable_beam=draw.choice([0.3, 3.0]), stable_frames=3)
        made = decoder(toy, config)
        search = made.start()
        promised: list[str] = []
        for frame in range(40):
            made.advance([search], acoustic[:, frame : frame + 1])
            partial = made.partial(search)
            texts = [word.text for word in partial.words]
            assert partial.stable_words >= len(promised)
            assert texts[: len(promised)] == promised
            if partial.stable_words > len(promised):
                promised = texts[: partial.stable_words]
                early += frame < 35
        final = [word.text for word in made.finish(search).best.words]
        assert final[: len(promised)] == promised
        said += len(promised)
    assert said > 25 and early > 25


def test_a_word_is_not_stable_while_it_may_go_on_or_be_disputed() -> None:
    for seed in range(10):
        toy = Toy(seed, size=7, sharp=2.0, blank=1.0)
        acoustic = toy.audio(30)
        made = decoder(toy, DecodeConfig(stable_beam=3.0, stable_frames=4))
        search = made.start()
        history: list[list[tuple[int, ...]]] = []
        known = 0
        for frame in range(30):
            made.advance([search], acoustic[:, frame : frame + 1])
            near = [h for h in search.hyps if h.total >= search.best.total - 3.0]
            history.append([tuple(h.prefix.tokens()) for h in near])
            stable = tuple(search.stability.prefix.tokens())
            if len(stable) == known:
                continue
            known = len(stable)
            for tokens in [tokens for frame in history[-4:] for tokens in frame]:
                assert tokens[:known] == stable
                assert (tokens[known:] and made._starts[tokens[known]]) or len(tokens) > known
    never = decoder(toy, DecodeConfig(stable_frames=0))
    assert never.partial(decode(never, acoustic)).stable_words == 0


def test_what_is_agreed_on_must_be_the_same_whole_words_in_all_frames() -> None:
    """First "b c ...", then "b cd ...": only "b" has been there all the time."""
    starts = [False, True, False]
    tree = PrefixTree(None, starts, 0)

    def prefix(*tokens: int) -> Prefix:
        made = tree.root
        for token in tokens:
            made = tree.child(made, token)
        return made

    stability = Stability(tree.root, starts, frames=2)
    assert not stability.observe([prefix(1, 1, 1), prefix(1, 1, 1, 2)])
    assert stability.observe([prefix(1, 1, 2, 1), prefix(1, 1, 2, 1, 2)])
    assert stability.prefix is prefix(1)
    assert stability.allows(prefix(1, 1)) and stability.allows(prefix(1, 1, 2))
    assert not stability.allows(prefix(1, 2)) and not stability.allows(prefix(1))
    assert stability.observe([prefix(1, 1, 2, 1)])
    assert stability.prefix is prefix(1, 1, 2)


def test_the_pause_is_the_expected_time_since_the_last_label() -> None:
    toy = Toy(2, size=6, sharp=2.0, blank=1.0)
    acoustic = toy.audio(15)
    made = decoder(toy, DecodeConfig())
    search = decode(made, acoustic)
    partial = made.partial(search)
    result = made.finish(search)
    weights, pauses = [], []
    for hyp in search.hyps:
        node, last = hyp.node, -1
        if node.token:
            last = node.frame
        weights.append(math.exp(hyp.total))
        pauses.append(15 - 1 - last)
    expected = float(np.average(pauses, weights=weights))
    assert partial.pause_frames == pytest.approx(expected, rel=1e-9)
    assert partial.blank_frames == 14 - result.best.frames[-1]
    table = toy.log_probs(acoustic[0], partial.tokens)
    assert partial.blank_probability == pytest.approx(math.exp(table[-1, -1, 0]))
    silent = Toy(2, size=6, blank=50.0)
    quiet = decode(decoder(silent, DecodeConfig()), silent.audio(7))
    assert decoder(silent, DecodeConfig()).partial(quiet).pause_frames == pytest.approx(7.0)


def test_a_partial_is_the_best_hypothesis() -> None:
    toy = Toy(5, size=6, sharp=2.0, blank=1.0)
    made = decoder(toy, DecodeConfig())
    search = decode(made, toy.audio(20))
    partial, best = made.partial(search), made.finish(search).best
    assert (partial.text, partial.tokens, partial.frames) == (best.text, best.tokens, best.frames)
    assert partial.log_prob == pytest.approx(best.log_prob)
    assert [(w.text, w.start, w.end) for w in partial.words] == [
        (w.text, w.start, w.end) for w in best.words
    ]
    assert made.partial(search) == partial


class Vocabulary:
    pieces = ("<blank>", "▁turn", "▁o", "n", "f", "▁", "'s")


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((), []),
        ((1, 2, 3), ["turn", "on"]),
        ((2, 4, 4, 1), ["off", "turn"]),
        ((3, 1), ["n", "turn"]),  # a first piece begins a word, whatever it is
        ((5, 4, 3), ["fn"]),
        ((1, 5, 5, 2), ["turn", "o"]),
        ((5,), []),
        ((1, 6), ["turn's"]),
    ],
)
def test_pieces_make_words(tokens: tuple[int, ...], expected: list[str]) -> None:
    frames = tuple(range(10, 10 + len(tokens)))
    words = words_of(tokens, frames, [-0.1] * len(tokens), Vocabulary, 0.06)
    assert [word.text for word in words] == expected


def test_times_and_confidence_of_words() -> None:
    words = words_of((1, 2, 4, 4), (3, 10, 10, 12), (-0.5, -0.1, -2.0, 1e-12), Vocabulary, 0.06)
    assert words == [
        Word("turn", pytest.approx(0.18), pytest.approx(0.24), pytest.approx(math.exp(-0.5))),
        Word("off", pytest.approx(0.6), pytest.approx(0.78), pytest.approx(math.exp(-2.0))),
    ]
    assert words_of((1,), (0,), (1e-9,), Vocabulary, 0.06)[0].confidence == 1.0
    assert len(Pieces(5).pieces) == 5
