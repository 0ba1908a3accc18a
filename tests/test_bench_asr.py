"""The speech benchmarks' own arithmetic: sets apart, noise at its ratio, verdicts, clocks."""

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of benchmarks/, which is no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_sentences_outside_the_grammar_are_outside(bench) -> None:
    sets = bench("asr_peers_sets")
    assert len(set(sets.COMMANDS)) == 30
    outside = set(sets.NEAR) | set(sets.FAR)
    assert len(outside) == 50 and not outside & set(sets.COMMANDS)


@pytest.mark.parametrize("condition", ["white 20 dB", "recorded 10 dB"])
def test_noise_is_at_its_ratio(bench, condition: str) -> None:
    sets = bench("asr_peers_sets")
    rng = np.random.default_rng(0)
    speech = (0.15 * rng.standard_normal(16000)).astype(np.float32)
    noises = [rng.standard_normal(7000).astype(np.float32)]
    made = sets.in_condition(speech, condition, noises, rng).astype(np.float64) / 32768
    clean = sets.in_condition(speech, "clean", noises, rng).astype(np.float64) / 32768
    assert len(made) == len(clean) == 16000 + round(0.8 * 16000)
    noise = 10 * np.log10(np.mean(np.square(speech)) / np.mean(np.square(made - clean)))
    assert noise == pytest.approx(float(condition.split()[1]), abs=0.3)
    assert 0 < np.abs(clean[:4800]).max() < 10 * sets.DITHER  # dither, no exact zeros


def test_a_sentence_is_accepted_if_it_is_one_of_the_grammar(bench) -> None:
    peers, sets = bench("asr_peers"), bench("asr_peers_sets")
    clips = [sets.Clip(text, None, {}) for text in ("one", "two", "three", "four")]
    ask = sets.Ask("digits", sets.DIGITS, True, clips)
    heard = ["One", "three", "tree house", "four"]
    replies = [{"text": text, "cpu": 0.1, "seconds": 1.0} for text in heard]
    row = peers.judge(ask, replies)
    assert (row["accepted"], row["wrong"], row["refused"]) == (3, 1, 1)
    assert row["restricted"]["ser"]["value"] == 0.5
    assert row["restricted"]["wer"]["value"] == 0.5  # the refused one is a deletion
    assert row["open"]["wer"]["value"] == 0.75  # openly it has two words
    assert row["real_time_factor"] == pytest.approx(0.1)
    outside = sets.Ask("others", sets.DIGITS, False, clips)
    assert peers.judge(outside, replies)["accepted"] == 3


def test_thinning_is_even_and_keeps_the_ends(bench) -> None:
    thin = bench("asr_peers_sets").thin
    assert thin(list(range(100)), 3) == [0, 50, 99]
    assert thin([1, 2], 5) == thin([1, 2], None) == [1, 2]


def test_a_clock_counts_the_outer_call_and_leaves_no_trace(bench) -> None:
    clock = bench("asr").Clock()

    class Thing:
        def outer(self) -> int:
            return self.inner() + 1

        def inner(self) -> int:
            end = time.process_time() + 0.01
            while time.process_time() < end:
                pass
            return 1

    thing = Thing()
    before = Thing.inner
    clock.wrap(Thing, "outer", "search")
    clock.wrap(thing, "inner", "encoder")
    assert thing.outer() == 2
    assert clock.spent["search"] >= 0.01 and clock.spent["encoder"] == 0
    clock.unwrap()
    assert Thing.inner is before and vars(thing) == {} and Thing.outer.__name__ == "outer"


def test_time_by_set_is_weighted_by_audio(bench) -> None:
    rows = [
        {"set": "a", "search": 1.0, "audio": 1.0},
        {"set": "a", "search": 1.0, "audio": 3.0},
        {"set": "b", "search": 4.0, "audio": 2.0},
    ]
    assert bench("asr").by_set(rows) == {
        "a": {"search": 0.5}, "b": {"search": 2.0}, "all": {"search": 1.0},
    }  # fmt: skip
