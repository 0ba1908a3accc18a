"""Measures of end-pointing on hand-made cases, replayed observations, and their pictures."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from solomonic.core import DataError
from solomonic.evals.endpointing import (
    CurvePoint,
    EndpointRecord,
    Recording,
    frontier,
    measure,
    model_settings,
    percentile,
    replay,
    rule_settings,
    sweep,
)
from solomonic.evals.endpointing_plots import Timeline, plot_curve, plot_timeline
from solomonic.speech.endpoint import EndpointConfig, Observation, Utterances

FRAME = 0.06


def record(latency_ms: float | None, **changes: Any) -> EndpointRecord:
    final = None if latency_ms is None else 2.0 + latency_ms / 1000
    settings = {"true_end": 2.0, "duration": 5.0, "final_time": final, "reason": "model"}
    return EndpointRecord(utterance="u", **{**settings, **changes})


def test_percentiles_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 10, 37):
        values = rng.normal(size=count)
        for q in (0, 12.5, 50, 90, 99, 100):
            assert percentile(values, q) == pytest.approx(np.percentile(values, q))
    assert percentile([1, math.inf, 2], 50) == 2 and percentile([1, 2, math.inf], 90) == math.inf
    with pytest.raises(DataError, match="no values to take a percentile of"):
        percentile([], 50)


def test_latencies_over_all_and_over_those_not_early() -> None:
    latencies = [100, 200, 300, 400, -500, -50, 800, 1200, 90, 60]
    report = measure([record(value) for value in latencies], resamples=100)
    late = [value for value in latencies if value >= 0]
    for q in (50, 90, 99):
        assert report.latency_all[f"EP{q}"].value == pytest.approx(np.percentile(latencies, q))
        assert report.latency_not_early[f"EP{q}"].value == pytest.approx(np.percentile(late, q))
    assert report.early_time.value == 0.2 and report.no_trigger.value == 0
    low, high = report.early_time.low, report.early_time.high
    assert low is not None and high is not None and low < 0.2 < high


def test_a_trigger_that_never_came_is_not_left_out() -> None:
    report = measure([record(100)] * 8 + [record(None)] * 2, resamples=50)
    assert report.latency_all["EP50"].value == 100 and report.no_trigger.value == 0.2
    assert report.latency_all["EP90"].value == math.inf
    assert json.loads(json.dumps(report.to_json()))["latency_all"]["EP90"]["value"] is None
    assert "latency, all utterances, EP90 | never ms" in report.table()
    assert report.reasons == {"model": 8}


def test_speculation_is_counted() -> None:
    records = [
        record(500, speculative_times=(2.3,), commit=True, text="a", text_without="a"),
        record(500, speculative_times=(1.0, 2.2), commit=True, text="a", text_without="a"),
        record(400, speculative_times=(2.1,), text="b", text_without="a"),
        record(800, reason="20 s limit", words_cut=1),
    ]
    report = measure(records, resamples=100)
    assert report.speculated.value == 0.75
    assert report.hits.value == pytest.approx(2 / 3) and report.hits_all.value == 0.5
    assert report.wasted_runs.value == pytest.approx((0 + 1 + 1 + 0) / 4)
    assert report.saved_hits["P50"].value == 250 and report.saved_all["P50"].value == 100
    assert report.speculative_latency["EP50"].value == 250
    assert report.early_words.value == 0.25 and report.same_result == pytest.approx(2 / 3)
    assert report.reasons == {"model": 3, "20 s limit": 1}


def test_without_speculation_there_is_nothing_to_measure() -> None:
    report = measure([record(100), record(300)], resamples=10)
    assert report.hits.value is None and report.saved_hits["P50"].value is None
    assert report.same_result is None
    assert "| speculative hits, of those | none |  |" in report.table()
    with pytest.raises(DataError, match="no utterances to measure end-pointing on"):
        measure([])


def test_measuring_repeats_exactly() -> None:
    records = [record(value) for value in (1, 5, 900, 30, -4)]
    assert measure(records).to_json() == measure(records).to_json()


def recording(seed: int, tail: int = 60) -> Recording:
    """Speech with a pause in it; the head is right about the end, less so about the pause."""
    rng = np.random.default_rng(seed)
    first, gap, second = (int(n) for n in rng.integers((10, 2, 8), (20, 15, 16)))
    speech = np.r_[np.ones(first), np.zeros(gap), np.ones(second), np.zeros(tail)]
    end = first + gap + second
    seen, tokens, pause = [], 0, 0
    for t, voice in enumerate(speech):
        pause += 1
        if voice and (t % 4 == 3 or t in (first - 1, end - 1)):
            tokens, pause = tokens + 1, 0
        p = 0.1 if voice else rng.uniform(0.6, 1.0) if t >= end else rng.uniform(0.0, 0.9)
        seen.append(
            Observation(time=(t + 1) * FRAME, speech_probability=float(voice), n_tokens=tokens,
                        pause_frames=pause, end_probability=float(p), hypothesis=tokens)
        )  # fmt: skip
    return Recording(
        utterance=str(seed),
        observations=seen,
        true_end=end * FRAME,
        duration=len(speech) * FRAME,
        frame_seconds=FRAME,
        word_ends=(first * FRAME, end * FRAME),
    )


RECORDINGS = [recording(seed) for seed in range(30)]


def test_replay_tells_what_the_machine_does() -> None:
    one = replay(RECORDINGS[0], EndpointConfig(), use_head=False)
    assert one.latency == pytest.approx(1200) and one.saved == pytest.approx(180)
    assert one.reason == "rule: 1.2 s of silence after speech" and one.hit
    assert one.text == one.text_without and one.words_cut == 0
    short = replay(recording(0, tail=5), EndpointConfig(), use_head=False)
    assert short.final_time is None and short.latency == math.inf and not short.hit
    cut = [replay(r, EndpointConfig(silence_ms=120), use_head=False) for r in RECORDINGS]
    assert [c.words_cut > 0 for c in cut] == [c.early for c in cut] and any(c.early for c in cut)


def test_speculation_changes_no_final() -> None:
    for config in (*rule_settings().values(), *model_settings().values()):
        for item in RECORDINGS[:6]:
            on, off = replay(item, config), replay(item, config.replace(speculate=False))
            assert on.final_time == off.final_time and on.text == on.text_without == off.text
            assert all(t <= (on.final_time or math.inf) for t in on.speculative_times)


def test_sweeps_are_ordered_and_frontiers_monotone() -> None:
    rules = sweep(RECORDINGS, rule_settings(), use_head=False)
    model = sweep(RECORDINGS, model_settings())
    for points in (rules, model):
        assert [p.early for p in points] == sorted(p.early for p in points)
        for by in ("ep50", "ep90"):
            best = frontier(points, by)
            assert all(a.early < b.early for a, b in itertools.pairwise(best))
            assert all(getattr(a, by) > getattr(b, by) for a, b in itertools.pairwise(best))
            assert {p.setting for p in best} <= {p.setting for p in points}
    silence = {p.setting: p for p in rules}
    early = [silence[f"{ms} ms of silence"].early for ms in (100, 300, 600, 1000)]
    assert early == sorted(early, reverse=True) and early[0] > early[-1] == 0
    with pytest.raises(DataError, match="no recordings to sweep over"):
        sweep([], rule_settings())


def test_curves_are_drawn_and_repeat(tmp_path: Path) -> None:
    curves = {
        "rules alone": sweep(RECORDINGS, rule_settings(), use_head=False),
        "end head": sweep(RECORDINGS, model_settings()),
    }
    first = plot_curve(curves, tmp_path / "a.svg").read_text()
    assert first == plot_curve(curves, tmp_path / "b.svg").read_text()
    for text in ("rules alone", "end head", "EP50", "EP90", "cut before the end of speech"):
        assert f"<!-- {text}" in first or text in first
    never = CurvePoint(setting="x", early=0, early_words=0, ep50=math.inf, ep90=math.inf)
    assert never.to_json()["ep50"] is None
    with pytest.raises(DataError, match="no end-pointing curve to draw"):
        plot_curve({"x": [never]}, tmp_path / "c.svg")


def test_a_timeline_shows_words_and_marks(tmp_path: Path) -> None:
    words = (SimpleNamespace(text="play", start=0.3, end=0.7),
             SimpleNamespace(text="jazz", start=0.8, end=1.2))  # fmt: skip
    turn = Utterances()
    result = SimpleNamespace(text="play jazz", words=words)
    events = [turn.start(0.4, 0.3), turn.speculative(1.4, SimpleNamespace(text="play"), "model")]
    events += turn.final(1.7, result, "model")
    line = Timeline(
        audio=np.sin(np.arange(32_000) / 9) * 0.3,
        events=events,
        speech=np.ones(33),
        ends=np.linspace(0, 1, 33),
        true_end=1.2,
        pauses=((0.7, 0.8),),
        title="play jazz",
    )
    text = plot_timeline(line, tmp_path / "line.svg").read_text()
    for label in ("play", "jazz", "speculative", "reset", "final: model (new result)",
                  "speech ends", "pause", "start"):  # fmt: skip
        assert f"<!-- {label} -->" in text, label
    plain = Timeline(audio=np.zeros(10), events=())
    assert plot_timeline(plain, tmp_path / "plain.png").stat().st_size > 0
    with pytest.raises(DataError, match="no audio to draw a time line of"):
        plot_timeline(Timeline(audio=np.zeros(0), events=()), tmp_path / "x.png")
