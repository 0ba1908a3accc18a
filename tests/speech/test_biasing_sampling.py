"""Training lists: what is said and what is not, in the asked proportions."""

import numpy as np
import pytest

from solomonic.core import ConfigError
from solomonic.speech.biasing.sampling import (
    SamplingConfig,
    common_words,
    sample_contexts,
    word_spans,
)
from solomonic.text.pieces import WordPieces

TEXTS = [
    "call anna at home",
    "turn on the kettle please",
    "play the song by the band",
    "siobhan is not at home",
]


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    return WordPieces.train(TEXTS, 50)


def draw(pieces: WordPieces, **settings: float) -> list[list]:
    """For 100 batches: (text, phrases as text, spans as text) of each utterance."""
    generator, config = np.random.default_rng(0), SamplingConfig.from_json(settings)
    batch = [pieces.encode(text) for text in TEXTS]
    common = frozenset(tuple(pieces.encode(word)) for word in ("the", "at", "is", "on"))
    pool = [tuple(pieces.encode(word)) for word in ("zebra", "quartz vase", "home")]
    drawn = []
    for _ in range(100):
        sampled = sample_contexts(batch, pieces, generator, config, common=common, pool=pool)
        for text, tokens, one in zip(TEXTS, batch, sampled, strict=True):
            assert len(set(one.phrases)) == len(one.phrases) <= config.size
            for low, high, place in one.spans:
                assert tuple(tokens[low:high]) == one.phrases[place]
            own = {pieces.decode(one.phrases[place]) for *_, place in one.spans}
            drawn.append([text, {pieces.decode(p) for p in one.phrases}, own])
    return drawn


def test_words_are_found(pieces: WordPieces) -> None:
    tokens = pieces.encode("call anna at home")
    spans = word_spans(tokens, pieces)
    assert [pieces.decode(tokens[low:high]) for low, high in spans] == [
        "call",
        "anna",
        "at",
        "home",
    ]
    assert word_spans([], pieces) == []


def test_common_words(pieces: WordPieces) -> None:
    found = common_words([pieces.encode(text) for text in TEXTS], pieces, 1)
    assert {pieces.decode(word) for word in found} == {"the"}


def test_positives_and_distractors(pieces: WordPieces) -> None:
    drawn = draw(pieces, dropout=0.0, positive=0.7)
    share = np.mean([bool(own) for _, _, own in drawn])
    assert 0.6 < share < 0.8
    for text, phrases, own in drawn:
        assert len(own) <= 2
        for phrase in phrases:
            assert (f" {phrase} " in f" {text} ") == (phrase in own), "a distractor is not said"
            assert len(phrase.split()) <= 3
            assert phrase not in ("the", "at", "is", "on", "at the")
    assert {"zebra", "quartz vase"} < set().union(*(phrases for _, phrases, _ in drawn))
    assert any(len(phrase.split()) == 3 for _, _, own in drawn for phrase in own)


def test_lists_are_left_empty_and_small(pieces: WordPieces) -> None:
    drawn = draw(pieces, dropout=0.5, size=3)
    assert 0.4 < np.mean([not phrases for _, phrases, _ in drawn]) < 0.6
    assert {len(phrases) for _, phrases, _ in drawn} == {0, 1, 2, 3}


def test_never_its_own_words(pieces: WordPieces) -> None:
    assert not any(own for _, _, own in draw(pieces, positive=0.0))


def test_the_same_seed_draws_the_same(pieces: WordPieces) -> None:
    assert draw(pieces) == draw(pieces)


def test_nothing_rare_and_nothing_at_all(pieces: WordPieces) -> None:
    generator = np.random.default_rng(0)
    batch = [pieces.encode("the"), []]
    common = frozenset(map(tuple, batch))
    assert all(
        not one.phrases and not one.spans
        for one in sample_contexts(batch, pieces, generator, common=common)
    )
    assert sample_contexts([], pieces, generator) == []


@pytest.mark.parametrize("setting", [{"size": 0}, {"positive": 1.1}, {"dropout": -0.1}])
def test_settings_out_of_range(setting: dict) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(setting))} must be"):
        SamplingConfig(**setting)
