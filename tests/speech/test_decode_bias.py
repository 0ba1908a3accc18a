"""Personal words in the search: paid apart from the model's score, taken back, and never hidden."""

import pytest

from decode_toy import EXACT, Toy, decode, decoder, labels
from solomonic.speech.biasing.trie import PhraseGraph
from solomonic.speech.decode import DecodeConfig

SETTINGS = [DecodeConfig(), DecodeConfig(beam=3, label_context=2), DecodeConfig(method="greedy")]
IDS = ["beam", "narrow", "greedy"]


class Steps:
    """A bias with nothing but what the protocol asks for at least."""

    def __init__(self, graph: PhraseGraph) -> None:
        self.start, self.step, self.final = graph.start, graph.step, graph.final


def graph(toy: Toy, phrases: dict[tuple[int, ...], float]) -> PhraseGraph:
    starts = [False, *(i % 2 == 0 for i in range(toy.size - 1))]
    return PhraseGraph(list(phrases), list(phrases.values()), starts)


def paid(bias: PhraseGraph, tokens: tuple[int, ...]) -> float:
    state, total = bias.start, 0.0
    for token in tokens:
        state, score = bias.step(state, token)
        total += score
    return total + bias.final(state)


@pytest.mark.parametrize("config", SETTINGS, ids=IDS)
def test_an_empty_list_changes_nothing_bit_for_bit(config: DecodeConfig) -> None:
    for seed in range(6):
        toy = Toy(seed, size=6, sharp=2.0, blank=1.5)
        acoustic = toy.audio(20)
        made = decoder(toy, config)
        plain = made.finish(decode(made, acoustic))
        for bias in (graph(toy, {}), Steps(graph(toy, {}))):
            search = decode(made, acoustic, bias)
            assert made.finish(search) == plain


def test_scores_stay_apart_and_the_sum_is_exact() -> None:
    """Without limits: every hypothesis has the model's score and what its phrases are worth."""
    toy = Toy(3, size=4)
    acoustic = toy.audio(3)
    bias = graph(toy, {(1, 2): 3.0, (3,): 1.5, (1, 2, 2): 2.0})
    made = decoder(toy, EXACT.replace(max_symbols=2))
    plain = {tuple(h.prefix.tokens()): h.mass for h in decode(made, acoustic).hyps}
    search = decode(made, acoustic, bias)
    for hyp in search.hyps:
        tokens = tuple(hyp.prefix.tokens())
        assert hyp.mass == pytest.approx(plain[tokens], abs=1e-10)
        assert hyp.prefix.bias + search.final(hyp.prefix) == paid(bias, tokens)
    result = made.finish(search)
    best = max(plain, key=lambda tokens: plain[tokens] + paid(bias, tokens))
    assert result.best.tokens == best
    for hypothesis in result.nbest:
        assert hypothesis.bias == paid(bias, hypothesis.tokens)
        exact = toy.full_score(acoustic[0], hypothesis.tokens, 2)
        assert hypothesis.log_prob == pytest.approx(exact, abs=1e-9)
        assert hypothesis.acoustic == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("config", SETTINGS, ids=IDS)
def test_every_result_has_the_bias_of_its_own_words(config: DecodeConfig) -> None:
    for seed in range(8):
        toy = Toy(seed, size=6, sharp=1.5, blank=1.5)
        acoustic = toy.audio(20)
        bias = graph(toy, {(1, 2, 4): 4.0, (3, 2): 3.0, (5,): 1.0, (3, 3): 2.0})
        made = decoder(toy, config)
        result = made.finish(decode(made, acoustic, bias))
        for hypothesis in result.nbest:
            assert hypothesis.bias == paid(bias, hypothesis.tokens)
        assert result.lattice is not None
        lattice = result.lattice
        # A path's bias is what its own pieces are worth, as bias states are never merged.
        number = {piece: i for i, piece in enumerate(made.pieces.pieces)}
        out: list[list[int]] = [[] for _ in range(lattice.nodes)]
        for arc, source in enumerate(lattice.sources.tolist()):
            out[source].append(arc)
        stack: list[tuple[int, tuple[int, ...], float]] = [(0, (), 0.0)]
        seen = 0
        while stack and seen < 300:
            node, tokens, total = stack.pop()
            if node == lattice.nodes - 1:
                seen += 1
                assert total == pytest.approx(paid(bias, tokens), abs=1e-5)
            for arc in out[node]:
                piece = lattice.symbols[lattice.labels[arc]]
                more = (*tokens, number[piece]) if piece else tokens
                stack.append((int(lattice.targets[arc]), more, total + float(lattice.bias[arc])))
        assert seen


@pytest.mark.parametrize("config", SETTINGS, ids=IDS)
def test_a_phrase_comes_through_that_would_have_been_pruned(config: DecodeConfig) -> None:
    """Also greedily, and with a bias that offers steps alone."""
    helped = 0
    for seed in range(12):
        toy = Toy(seed, size=8, sharp=1.5, blank=3.0)
        acoustic = toy.audio(8)
        made = decoder(toy, config.replace(expand_beam=2.0, max_symbols=1))
        phrase = (3, 4)
        before = labels(decode(made, acoustic))
        bias = graph(toy, {phrase: 14.0})
        search = decode(made, acoustic, bias)
        assert labels(decode(made, acoustic, Steps(bias))) == labels(search)
        found = made.finish(search).best
        helped += "dc" not in str(before) and _holds(found.tokens, phrase)
    assert helped >= 6


def _holds(tokens: tuple[int, ...], phrase: tuple[int, ...]) -> bool:
    return any(tokens[i : i + len(phrase)] == phrase for i in range(len(tokens)))


def test_what_was_paid_ahead_is_taken_back_at_the_end() -> None:
    """A phrase of which only the beginning was said wins on the way, and loses at the end."""
    changed = 0
    for seed in range(40):
        toy = Toy(seed, size=4, sharp=1.5, blank=1.0)
        acoustic = toy.audio(4)
        made = decoder(toy, EXACT.replace(max_symbols=1))
        bias = graph(toy, {(1, 2, 2, 2, 2, 2): 24.0})  # longer than the audio
        plain = decode(made, acoustic)
        search = decode(made, acoustic, bias)
        result = made.finish(search)
        assert result.best.tokens == labels(plain)
        assert result.best.bias == 0.0
        changed += labels(search) != labels(plain)
    assert changed > 10


def test_biasing_a_word_does_not_make_it_less_certain() -> None:
    """(sherpa-onnx's #2937: boosted scores, made probabilities again, halved the confidence.)"""
    checked = 0
    for seed in range(60):
        toy = Toy(seed, size=6, sharp=2.0, blank=2.0)
        acoustic = toy.audio(12)
        made = decoder(toy, DecodeConfig())
        plain = made.finish(decode(made, acoustic)).best
        if not plain.tokens or not made._starts[plain.tokens[0]]:
            continue
        biased = made.finish(decode(made, acoustic, graph(toy, {plain.tokens[:2]: 3.0}))).best
        if biased.tokens != plain.tokens:
            continue
        checked += 1
        assert biased.acoustic == pytest.approx(plain.acoustic, abs=1.0)
        for word, other in zip(biased.words, plain.words, strict=True):
            assert word.confidence >= other.confidence - 0.05
    assert checked >= 5
