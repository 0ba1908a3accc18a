"""The laws of `solomonic.core.Predictor`, for every predictor there is."""

import io
import math
from collections.abc import Callable

import numpy as np
import pytest

from needs import needs_core
from solomonic.core import BitPredictor, CheckpointError, Predictor, VocabularyError
from solomonic.induction import ByteTree, ContextTree, Frequencies, Mixer, bits, coding, mix
from solomonic.induction.archive import ArchiveReader, ByteCodec, compress
from solomonic.induction.hinted import Hinted
from solomonic.induction.restricted import Restricted
from solomonic.induction.solomonoff import Solomonoff
from solomonic.induction.sources import SOURCES
from solomonic.lm.model import LanguageModel
from solomonic.lm.online import OnlineConfig, OnlineLm
from solomonic.lm.predictor import LmPredictor
from solomonic.memory.forgetting import SymbolChangePoints, SymbolChangePointsConfig
from solomonic.realization import AutomatonPredictor, hidden_markov

from .support import small

Make = Callable[[], Predictor]


def language_model(packed: bool, **changes: object) -> Make:
    def make() -> LmPredictor:
        model = LanguageModel(small(pattern="BW", **changes)).eval()
        for parameter in model.parameters():
            seeded = np.random.default_rng(parameter.numel())
            values = 0.3 * seeded.standard_normal(tuple(parameter.shape))
            parameter.data.copy_(parameter.new_tensor(values))
        return LmPredictor(model, 0, 20, packed=packed)

    return make


def online(packed: bool) -> OnlineLm:
    """Learns twice within the texts of these tests."""
    settings = {"hidden_size": 16, "every": 3, "rows": 2, "length": 4, "window_size": 3}
    return OnlineLm(OnlineConfig(eidetic_slots=2, **settings), packed)


def automaton() -> AutomatonPredictor:
    """Of a hidden Markov chain with three states and four symbols."""
    chance = np.random.default_rng(0)
    return hidden_markov(
        chance.dirichlet(np.ones(3), 3), chance.dirichlet(np.ones(4), 3)
    ).predictor()


PREDICTORS: dict[str, Make] = {
    "frequencies": lambda: Frequencies(5, 0.5),
    "context tree": lambda: ContextTree(3, 3, native=False),
    "byte tree": lambda: ByteTree(3, 12, native=False),
    "mixer": lambda: Mixer(10, native=False),
    "bayes": lambda: mix([Frequencies(4), ContextTree(4, 2, native=False)]),
    "fixed share": lambda: mix([Frequencies(4), ContextTree(4, 2, native=False)], "fixed_share"),
    "logistic": lambda: mix([Frequencies(4), ContextTree(4, 2, native=False)], "logistic"),
    "restricted": lambda: Restricted(ByteTree(2, 10, native=False), [48, 49, 50]),
    "solomonoff": lambda: Solomonoff(2, cells=6, opened=60, native=False),
    "change points": lambda: SymbolChangePoints(SymbolChangePointsConfig(alphabet=4, runs=8)),
    "language model": language_model(False),
    "language model, learning": lambda: online(False),
    "hinted mixer": lambda: Hinted(Frequencies(256), Mixer(10, native=False)),
    "automaton": automaton,
    **{f"oracle of {name}": make(3).oracle for name, make in SOURCES.items()},
}
COMPILED: dict[str, Make] = {
    "context tree, native": lambda: ContextTree(3, 3, native=True),
    "byte tree, native": lambda: ByteTree(3, 12, native=True),
    "mixer, native": lambda: Mixer(10, native=True),
    "solomonoff, native": lambda: Solomonoff(2, cells=6, opened=60, native=True),
    "language model, native": language_model(True),
    "language model, learning, native": lambda: online(True),
    "hinted mixer, native": lambda: Hinted(online(True), Mixer(10, native=True)),
}
ALL = [pytest.param(make, id=name) for name, make in PREDICTORS.items()] + [
    pytest.param(make, id=name, marks=needs_core) for name, make in COMPILED.items()
]
every = pytest.mark.parametrize("make", ALL)


def symbols(alphabet: int, count: int = 12, seed: int = 0) -> list[int]:
    """A sequence with something to learn: a few symbols, often the one before again."""
    chance = np.random.default_rng(seed)
    few = chance.integers(0, alphabet, 3)
    found = [int(few[0])]
    while len(found) < count:
        found.append(found[-1] if chance.random() < 0.5 else int(few[chance.integers(3)]))
    return found


@every
def test_probabilities_are_positive_and_sum_to_one(make: Make) -> None:
    predictor = make()
    for symbol in symbols(predictor.alphabet, 5):
        found = predictor.predict()
        assert found.dtype == np.float64
        assert found.shape == (predictor.alphabet,)
        assert (found > 0).all()
        assert abs(found.sum() - 1) < 1e-12
        predictor.update(symbol)


@every
def test_asking_changes_nothing(make: Make) -> None:
    asked, silent = make(), make()
    for symbol in symbols(asked.alphabet, 6):
        first = asked.predict()
        first_again = asked.predict()
        assert (first == first_again).all()
        first_again[:] = 7  # the caller's own
        assert asked.update(symbol) == silent.update(symbol)


@every
def test_an_update_costs_what_was_predicted(make: Make) -> None:
    predictor = make()
    product, paid = 1.0, []
    for symbol in symbols(predictor.alphabet, 6):
        product *= predictor.predict()[symbol]
        paid.append(predictor.update(symbol))
    assert math.fsum(paid) == pytest.approx(-math.log2(product), abs=1e-9)
    assert bits(make(), symbols(predictor.alphabet, 6)) == math.fsum(paid)


@every
def test_a_fork_goes_its_own_way(make: Make) -> None:
    one, alone = make(), make()
    way = symbols(one.alphabet, 8)
    for symbol in way[:3]:
        assert one.update(symbol) == alone.update(symbol)
    fork = one.fork()
    assert type(fork) is type(one)
    for symbol in symbols(one.alphabet, 5, seed=1):
        fork.update(symbol)
    for symbol in way[3:]:
        assert one.update(symbol) == alone.update(symbol)


@every
def test_a_state_comes_back_to_the_last_bit(make: Make) -> None:
    one = make()
    way = symbols(one.alphabet, 9)
    for symbol in way[:5]:
        one.update(symbol)
    stored = one.state()
    other = make().load(stored)
    again = make().load(other.state())  # safetensors orders its header as it likes: no == of bytes
    assert (other.predict() == one.predict()).all()
    assert (again.predict() == one.predict()).all()
    for symbol in way[5:]:
        assert one.update(symbol) == other.update(symbol) == again.update(symbol)


@every
def test_a_cut_or_foreign_state_is_refused(make: Make) -> None:
    predictor = make()
    predictor.update(0)
    stored = predictor.state()
    for damaged in (stored[: len(stored) // 2], stored[:-1], b"", b"nonsense" * 9):
        with pytest.raises(CheckpointError, match="cut short|damaged|corrupted"):
            make().load(damaged)
    with pytest.raises(CheckpointError):
        make().load(Frequencies(77).state())


@every
def test_a_symbol_outside_the_alphabet_is_refused(make: Make) -> None:
    predictor = make()
    before = predictor.predict()
    for symbol in (-1, predictor.alphabet):
        with pytest.raises(VocabularyError, match=f"alphabet of {predictor.alphabet}"):
            predictor.update(symbol)
    assert (predictor.predict() == before).all()


@every
def test_the_coder_needs_what_the_predictor_says(make: Make) -> None:
    alphabet = make().alphabet
    way = symbols(alphabet, 14)
    coded = coding.encode(make(), way)
    assert list(coding.decode(make(), coded, len(way))) == way
    assert len(coded) <= bits(make(), way) / 8 * 1.001 + 4


@every
def test_bits_are_bytes_in_parts(make: Make) -> None:
    predictor = make()
    if not isinstance(predictor, BitPredictor):
        return
    other = make()
    assert isinstance(other, BitPredictor)
    for symbol in (65, 66, 65):
        found, chance = predictor.predict(), 1.0
        for k in range(7, -1, -1):
            bit, one = (symbol >> k) & 1, other.bit()
            assert 0 < one < 1
            chance *= one if bit else 1 - one
            other.learn(bit)
        assert found[symbol] == pytest.approx(chance, rel=1e-12)
        predictor.update(symbol)


@every
def test_archives_of_any_byte_predictor(make: Make) -> None:
    if make().alphabet != 256:
        return
    data = b"to be or not to be"
    archive = io.BytesIO()
    compress(ByteCodec("x", make(), "x"), io.BytesIO(data), archive, block=7)
    archive.seek(0)
    assert b"".join(ArchiveReader(archive).text(ByteCodec("x", make(), "x"))) == data


def test_a_bayes_mixture_is_near_its_best() -> None:
    for seed in range(20):
        way = symbols(4, 40, seed)
        members: list[Make] = [
            lambda: Frequencies(4),
            lambda: ContextTree(4, 3),
            lambda: Frequencies(4, 3),
        ]
        best = min(bits(make(), way) for make in members)
        assert bits(mix([make() for make in members]), way) <= best + math.log2(3)
