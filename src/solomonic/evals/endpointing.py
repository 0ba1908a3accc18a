"""How good an end-pointer is: how late it is, what it cuts off, and what speculation saves.

Latency is the time from the true end of speech to the trigger, in ms of audio; never from the end
of the recording. It is given over all utterances, where an early cut has a negative latency and a
trigger that never came an infinite one, and over those that were not cut early, since leaving the
early ones out flatters nobody: both are named.

An observation sequence can be replayed under any settings, so that a curve of early cuts against
latency costs one decoding of the test set.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from solomonic.core import DataError
from solomonic.evals.report import markdown_table
from solomonic.speech.endpoint import EndpointConfig, Endpointer, Observation

PERCENTILES = (50, 90, 99)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointRecord:
    """What happened at the end of one utterance. Times are seconds of its audio.

    Attributes:
        utterance: its name.
        true_end: where speech truly ends.
        duration: of the audio.
        speculative_times: of every speculative end, in order.
        final_time: when the end-pointer fired; None: the audio was over before it did.
        commit: the last speculation stood unchanged at the final.
        reason: which end-pointer fired.
        words_cut: words of the reference that were not over at the final.
        text: the final result.
        text_without: the final result with speculation off; None: not measured.
    """

    utterance: str
    true_end: float
    duration: float
    speculative_times: tuple[float, ...] = ()
    final_time: float | None = None
    commit: bool = False
    reason: str = ""
    words_cut: int = 0
    text: str = ""
    text_without: str | None = None

    @property
    def latency(self) -> float:
        """ms from the true end to the final trigger; infinite when it never came."""
        return math.inf if self.final_time is None else _ms(self.final_time - self.true_end)

    @property
    def early(self) -> bool:
        """The trigger came before the true end."""
        return self.latency < 0

    @property
    def hit(self) -> bool:
        """The final committed a speculation."""
        return self.commit and self.final_time is not None and bool(self.speculative_times)

    @property
    def saved(self) -> float:
        """ms between the speculation that was committed and the final; 0 without a hit."""
        return _ms((self.final_time or 0.0) - self.speculative_times[-1]) if self.hit else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measure and its 95% bootstrap interval; `value` is None where there is nothing to measure.

    An infinite latency (the trigger never came) stays infinite here and is null in JSON.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Plain JSON: what is not finite becomes null."""
        fields = dataclasses.asdict(self)
        return {k: v if v is not None and math.isfinite(v) else None for k, v in fields.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointReport:
    """All measures of one end-pointer on one test set.

    Attributes:
        utterances: how many.
        latency_all: 'EP50', 'EP90', 'EP99' (ms) over all utterances.
        latency_not_early: the same over those not cut early.
        early_time: share with the trigger before the true end of speech.
        early_words: share with at least one word cut off.
        no_trigger: share without a trigger before the end of the audio.
        speculated: share with a speculation.
        hits: share of those whose last speculation was committed.
        hits_all: share of all utterances with a committed speculation.
        wasted_runs: speculations that were not committed, per utterance.
        speculative_latency: 'EP50', 'EP90' (ms) of the first speculation after which nothing
            changed, over hits.
        saved_hits: 'P50', 'P90' of the ms from committed speculation to final, over hits.
        saved_all: the same over all utterances, 0 where there was no hit.
        same_result: share with the same result with speculation off; None: not measured.
        reasons: how often which end-pointer fired.
    """

    utterances: int
    latency_all: Mapping[str, Estimate]
    latency_not_early: Mapping[str, Estimate]
    early_time: Estimate
    early_words: Estimate
    no_trigger: Estimate
    speculated: Estimate
    hits: Estimate
    hits_all: Estimate
    wasted_runs: Estimate
    speculative_latency: Mapping[str, Estimate]
    saved_hits: Mapping[str, Estimate]
    saved_all: Mapping[str, Estimate]
    same_result: float | None
    reasons: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for `save_report`."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def table(self) -> str:
        """The measures as a Markdown table with their intervals."""
        rows = [
            *_rows("latency, all utterances", self.latency_all, "ms"),
            *_rows("latency, not cut early", self.latency_not_early, "ms"),
            ("cut before the end of speech", *_cells(self.early_time, "%")),
            ("with a word cut off", *_cells(self.early_words, "%")),
            ("no trigger", *_cells(self.no_trigger, "%")),
            ("speculated", *_cells(self.speculated, "%")),
            ("speculative hits, of those", *_cells(self.hits, "%")),
            ("speculative hits, of all", *_cells(self.hits_all, "%")),
            ("wasted runs per utterance", *_cells(self.wasted_runs, "")),
            *_rows("speculative latency, hits", self.speculative_latency, "ms"),
            *_rows("time saved, hits", self.saved_hits, "ms"),
            *_rows("time saved, all", self.saved_all, "ms"),
        ]
        if self.same_result is not None:
            rows.append(("same result without speculation", f"{100 * self.same_result:.1f} %", ""))
        rows += [(f"fired: {reason}", str(n), "") for reason, n in self.reasons.items()]
        return markdown_table(
            (f"measure ({self.utterances} utterances)", "value", "95% interval"), rows
        )


def percentile(values: Sequence[float] | np.ndarray, q: float) -> float:
    """As `numpy.percentile` (linear), but right where some values are infinite.

    Raises:
        DataError: there are no values.
    """
    if not len(values):
        raise DataError("there are no values to take a percentile of.")
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    place = (len(ordered) - 1) * q / 100
    low, share = int(place), place - int(place)
    if share == 0:
        return float(ordered[low])
    above = float(ordered[low + 1])
    return above if math.isinf(above) else float(ordered[low] * (1 - share) + above * share)


def measure(
    records: Sequence[EndpointRecord], resamples: int = 1000, seed: int = 0
) -> EndpointReport:
    """All measures with 95% bootstrap intervals over utterances.

    Raises:
        DataError: there are no records.
    """
    if not records:
        raise DataError("there are no utterances to measure end-pointing on; decode some first.")
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(records), size=len(records)) for _ in range(resamples)]
    latency = np.array([record.latency for record in records])
    early = latency < 0
    speculated = np.array([bool(record.speculative_times) for record in records])
    hit = np.array([record.hit for record in records])
    saved = np.array([record.saved for record in records])
    runs = np.array([len(record.speculative_times) for record in records])
    prediction = np.array(
        [_ms(r.speculative_times[-1] - r.true_end) if r.hit else 0.0 for r in records]
    )
    compared = [r for r in records if r.text_without is not None]
    reasons = Counter(r.reason or "unnamed" for r in records if r.final_time is not None)

    def share(values: np.ndarray, of: np.ndarray | None = None) -> Estimate:
        return _estimate(lambda v: float(v.mean()), values.astype(np.float64), of, draws)

    def points(
        name: str, qs: Sequence[int], values: np.ndarray, of: np.ndarray | None = None
    ) -> dict[str, Estimate]:
        return {
            f"{name}{q}": _estimate(lambda v, q=q: percentile(v, q), values, of, draws) for q in qs
        }

    return EndpointReport(
        utterances=len(records),
        latency_all=points("EP", PERCENTILES, latency),
        latency_not_early=points("EP", PERCENTILES, latency, ~early),
        early_time=share(early),
        early_words=share(np.array([record.words_cut > 0 for record in records])),
        no_trigger=share(np.isinf(latency)),
        speculated=share(speculated),
        hits=share(hit, speculated),
        hits_all=share(hit),
        wasted_runs=share(runs - hit),
        speculative_latency=points("EP", (50, 90), prediction, hit),
        saved_hits=points("P", (50, 90), saved, hit),
        saved_all=points("P", (50, 90), saved),
        same_result=(
            sum(r.text == r.text_without for r in compared) / len(compared) if compared else None
        ),
        reasons=dict(reasons.most_common()),
    )


def _estimate(
    of: Callable[[np.ndarray], float],
    values: np.ndarray,
    where: np.ndarray | None,
    draws: Sequence[np.ndarray],
) -> Estimate:
    """`of(values[where])` and its interval over the draws of utterances."""
    where = np.ones(len(values), dtype=bool) if where is None else where
    if not where.any():
        return Estimate(value=None)
    found = [of(values[draw][where[draw]]) for draw in draws if where[draw].any()]
    if not found:
        return Estimate(value=of(values[where]))
    return Estimate(
        value=of(values[where]), low=percentile(found, 2.5), high=percentile(found, 97.5)
    )


# Replaying observations: one decoding, any settings.


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """The observations of one test utterance, and the truth about it.

    Attributes:
        observations: of every encoder frame, taken with end-pointing off, so that they go on to
            the end of the audio.
        true_end: where speech truly ends (s).
        duration: of the audio (s).
        frame_seconds: of the encoder.
        word_ends: where each word of the reference truly ends (s), for counting cut words.
    """

    utterance: str
    observations: Sequence[Observation]
    true_end: float
    duration: float
    frame_seconds: float
    word_ends: Sequence[float] = ()


def replay(recording: Recording, config: EndpointConfig, use_head: bool = True) -> EndpointRecord:
    """The first utterance that these settings make of a recording.

    Args:
        use_head: False leaves the end to the rules alone.
    """
    final, speculative, commit, reason, text = _run(recording, config, use_head)
    without = text
    if config.speculate:
        *_, without = _run(recording, config.replace(speculate=False), use_head)
    cut = 0 if final is None else sum(end > final for end in recording.word_ends)
    return EndpointRecord(
        utterance=recording.utterance,
        true_end=recording.true_end,
        duration=recording.duration,
        speculative_times=tuple(speculative),
        final_time=final,
        commit=commit,
        reason=reason,
        words_cut=cut,
        text=text,
        text_without=without,
    )


def _run(
    recording: Recording, config: EndpointConfig, use_head: bool
) -> tuple[float | None, list[float], bool, str, str]:
    """Final time, speculative times, whether the last stood, reason, hypothesis at the end."""
    machine = Endpointer(config, recording.frame_seconds)
    speculative: list[float] = []
    speculated: Any = None
    for seen in recording.observations:
        item = seen if use_head else dataclasses.replace(seen, end_probability=None)
        said = item.hypothesis if item.hypothesis is not None else item.n_tokens
        decision = machine.step(item)
        if decision == "speculative":
            speculative.append(item.time)
            speculated = said
        elif decision == "reset":
            speculated = None
        elif decision == "final":
            return item.time, speculative, speculated == said, machine.reason, str(said)
    last = recording.observations[-1] if recording.observations else None
    return None, speculative, False, "", str(last.hypothesis if last else "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Early cuts and latency of one setting.

    Attributes:
        setting: in words.
        early: share cut before the end of speech.
        early_words: share with a word cut off.
        ep50, ep90: ms over all utterances; infinite where the trigger never came.
    """

    setting: str
    early: float
    early_words: float
    ep50: float
    ep90: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: what is not finite becomes null."""
        return _plain(dataclasses.asdict(self))


def sweep(
    recordings: Sequence[Recording],
    settings: Mapping[str, EndpointConfig],
    use_head: bool = True,
) -> list[CurvePoint]:
    """A point a setting, by growing share of early cuts; `frontier` makes a curve of them.

    Raises:
        DataError: there are no recordings.
    """
    if not recordings:
        raise DataError("there are no recordings to sweep over; decode some first.")
    points = []
    for name, config in settings.items():
        records = [replay(r, config.replace(speculate=False), use_head) for r in recordings]
        latency = [record.latency for record in records]
        points.append(
            CurvePoint(
                setting=name,
                early=sum(record.early for record in records) / len(records),
                early_words=sum(record.words_cut > 0 for record in records) / len(records),
                ep50=percentile(latency, 50),
                ep90=percentile(latency, 90),
            )
        )
    return sorted(points, key=lambda point: (point.early, point.ep90, point.ep50))


def frontier(points: Sequence[CurvePoint], by: str = "ep90") -> list[CurvePoint]:
    """The settings that no other beats: more early cuts only where latency falls. Monotone."""
    kept: list[CurvePoint] = []
    for point in sorted(points, key=lambda p: (p.early, getattr(p, by))):
        if not kept or getattr(point, by) < getattr(kept[-1], by):
            kept.append(point)
    return kept


def rule_settings(base: EndpointConfig | None = None) -> dict[str, EndpointConfig]:
    """Rules alone with trailing silence from 0.1 to 2.4 s."""
    base = EndpointConfig() if base is None else base
    return {
        f"{ms} ms of silence": base.replace(silence_ms=float(ms), label_silence_ms=max(2400.0, ms))
        for ms in (100, 150, 200, 300, 400, 500, 600, 800, 1000, 1200, 1600, 2000, 2400)
    }


def model_settings(base: EndpointConfig | None = None) -> dict[str, EndpointConfig]:
    """The model's end-pointer over its threshold and its shortest pause."""
    base = EndpointConfig() if base is None else base
    return {
        f"probability {threshold} after {pause} ms": base.replace(
            final_threshold=threshold,
            speculative_threshold=min(threshold, base.speculative_threshold),
            final_ms=float(pause),
            speculative_ms=min(float(pause), base.speculative_ms),
        )
        for pause in (60, 120, 240, 420, 600)
        for threshold in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
    }


def _rows(name: str, estimates: Mapping[str, Estimate], unit: str) -> list[tuple[str, str, str]]:
    return [(f"{name}, {key}", *_cells(value, unit)) for key, value in estimates.items()]


def _cells(estimate: Estimate, unit: str) -> tuple[str, str]:
    if estimate.value is None:
        return "none", ""
    low, high = _number(estimate.low, unit), _number(estimate.high, unit)
    return f"{_number(estimate.value, unit)} {unit}".strip(), f"{low} to {high}" if low else ""


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if math.isinf(value):
        return "never"
    return f"{100 * value:.1f}" if unit == "%" else f"{value:.0f}" if unit else f"{value:.2f}"


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _ms(seconds: float) -> float:
    """Rounded to a microsecond: 1.2 s after 0.8 s is 400 ms and not a bit less."""
    return round(seconds * 1000, 3)
