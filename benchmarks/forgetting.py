"""Forgetting in step with change, against fixed decays and ADWIN, on streams that switch.

    make bench ARGS="forgetting [--only switching|languages|losses|speed] [--seeds 20]"

switching  4-ary Markov chains whose rows are Dirichlet draws: three regimes that recur, regimes
           that are always new, one for ever; segments are 300 symbols on average (geometric)
languages  letters of spoken commands in five languages, switching every 600 letters on average
           (needs ../shared/data)
losses     what a context mixer pays, byte by byte, for pieces of five kinds of text (the same)
speed      observations a second, on one core

Every method predicts the next symbol by Dirichlet counts of the same order and prior; they differ
in what they forget. Excess is bits a symbol over an oracle that knows regimes and changes
(switching), or was told the changes and keeps its counts of every language (languages). "Best fixed
decay" is chosen for each sequence, in hindsight.
"""

import argparse
import gzip
import itertools
import json
import math
import os
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.evals.report import markdown_table, save_report
from solomonic.memory.forgetting import (
    ChangePoints,
    ChangePointsConfig,
    SymbolChangePoints,
    SymbolChangePointsConfig,
)

RESULTS = Path(__file__).parent / "results"
DECAYS = (0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999, 0.9995, 1.0)
KINDS = ("recurring", "always new", "stationary")
ALPHA = 0.5
Sequence_ = tuple[np.ndarray, np.ndarray, float]
"""Symbols, the regime of each, bits of the oracle (nan: none)."""


def chains(kind: str, seed: int, length: int, concentration: float, alphabet: int = 4) -> Sequence_:
    """A Markov chain whose rows change; the oracle knows them."""
    chance = np.random.default_rng([seed, KINDS.index(kind)])

    def regime() -> np.ndarray:
        rows = np.maximum(chance.dirichlet(np.full(alphabet, concentration), alphabet), 1e-4)
        return rows / rows.sum(axis=1, keepdims=True)

    known, current = [regime() for _ in range(3)], 0
    rows, symbols, regimes, context, best = known[0], [], [], 0, 0.0
    for t in range(length):
        if t and kind != "stationary" and chance.random() < 1 / 300:
            if kind == "recurring":
                current = (current + int(chance.integers(1, 3))) % 3
                rows = known[current]
            else:
                current, rows = current + 1, regime()
        symbol = int(chance.choice(alphabet, p=rows[context]))
        best -= math.log2(rows[context, symbol])
        symbols.append(symbol)
        regimes.append(current)
        context = symbol
    return np.array(symbols), np.array(regimes), best


class Counts:
    """Dirichlet counts of a Markov chain, `columns` of them side by side, decayed by `rates`.

    With `pooled` the prior is the average of everything so far, worth that many symbols.
    """

    def __init__(self, alphabet: int, rates: Sequence[float] = (1.0,), pooled: float = 0.0) -> None:
        self.counts = np.zeros((alphabet, alphabet, len(rates)))
        self.rates, self.pooled = np.array(rates), pooled
        self.decays = bool((self.rates < 1).any())

    def pay(self, context: int, symbol: int, pool: np.ndarray) -> np.ndarray:
        """Bits of a symbol, (columns,)."""
        prior = np.full(len(pool), ALPHA)
        if self.pooled:
            prior = self.pooled * (pool[context] + ALPHA) / (pool[context] + ALPHA).sum()
        total = self.counts[context].sum(axis=0) + prior.sum()
        return -np.log2((self.counts[context, symbol] + prior[symbol]) / total)

    def learn(self, context: int, symbol: int) -> None:
        """Read it."""
        if self.decays:
            self.counts *= self.rates
        self.counts[context, symbol] += 1


def decays(symbols: np.ndarray, alphabet: int, pooled: float) -> np.ndarray:
    """Bits of each of `DECAYS`; the last is no decay."""
    counts, pool = Counts(alphabet, DECAYS, pooled), np.zeros((alphabet, alphabet))
    paid, context = np.zeros(len(DECAYS)), 0
    for symbol in symbols.tolist():
        paid += counts.pay(context, symbol, pool)
        counts.learn(context, symbol)
        pool[context, symbol] += 1
        context = symbol
    return paid


def adwin(symbols: np.ndarray, alphabet: int, pooled: float) -> float:
    """Bits where ADWIN (river, delta 0.002) watches the cost and cuts the counts to its window."""
    from river.drift import ADWIN

    detector, counts = ADWIN(), Counts(alphabet, pooled=pooled)
    pool, total, context = np.zeros((alphabet, alphabet)), 0.0, 0
    past = [0, *symbols.tolist()]
    for t, symbol in enumerate(symbols.tolist(), start=1):
        paid = float(counts.pay(context, symbol, pool)[0])
        total += paid
        counts.learn(context, symbol)
        pool[context, symbol] += 1
        detector.update(paid)
        if detector.drift_detected:
            begin = max(t - int(detector.width), 0)
            counts.counts[:] = 0
            np.add.at(counts.counts[:, :, 0], (past[begin:t], past[begin + 1 : t + 1]), 1)
        context = symbol
    return total


def told(sequence: Sequence_, alphabet: int, pooled: float, keep: bool) -> float:
    """Bits when told every change at once: counts begin anew, or (`keep`) are those of the regime
    from before."""
    counts: dict[int, Counts] = {}
    pool, total, context, before = np.zeros((alphabet, alphabet)), 0.0, 0, -1
    for symbol, regime in zip(sequence[0].tolist(), sequence[1].tolist(), strict=True):
        if regime != before and not (keep and regime in counts):
            counts[regime] = Counts(alphabet, pooled=pooled)
        total += float(counts[regime].pay(context, symbol, pool)[0])
        counts[regime].learn(context, symbol)
        pool[context, symbol] += 1
        context, before = symbol, regime
    return total


def follow(symbols: np.ndarray, alphabet: int, **changes: Any) -> float:
    """Bits of change points."""
    config = SymbolChangePointsConfig(alphabet=alphabet, order=1, alpha=ALPHA, **changes)
    follower = SymbolChangePoints(config)
    return math.fsum(follower.update(symbol) for symbol in symbols.tolist())


def contest(sequence: Sequence_, alphabet: int, pooled: float = 0.0) -> dict[str, float]:
    """Bits a symbol of every method on one sequence."""
    symbols, _, oracle = sequence
    fixed = decays(symbols, alphabet, pooled)
    paid = {
        "oracle": oracle,
        "told, keeps regimes": told(sequence, alphabet, pooled, True),
        "told, begins anew": told(sequence, alphabet, pooled, False),
        "no decay": float(fixed[-1]),
        "best fixed decay": float(fixed.min()),
        "ADWIN": adwin(symbols, alphabet, pooled),
        "change points": follow(symbols, alphabet, pooled=pooled, regimes=0),
        "with revival": follow(symbols, alphabet, pooled=pooled),
    }
    return {name: bits / len(symbols) for name, bits in paid.items()}


def summary(rows: Sequence[dict[str, float]], zero: str) -> dict[str, Any]:
    """Means, excess over `zero`, and its share of the best fixed decay's, with standard errors."""
    names = [name for name, bits in rows[0].items() if not math.isnan(bits)]
    table = {name: np.array([row[name] for row in rows]) for name in names}
    over = {name: bits - table[zero] for name, bits in table.items()}
    excess = {name: float(one.mean()) for name, one in over.items()}
    ours = over["with revival"]
    ratios = ours / np.maximum(over["best fixed decay"], 1e-12)
    return {
        "sequences": len(rows),
        "bits_per_symbol": {name: round(float(bits.mean()), 5) for name, bits in table.items()},
        "excess": {name: round(value, 5) for name, value in excess.items()},
        "excess_error": {
            name: round(float(one.std(ddof=1) / math.sqrt(len(rows))), 5) if len(rows) > 1 else None
            for name, one in over.items()
        },
        "share_of_best_decay": {
            name: round(excess[name] / excess["best fixed decay"], 4)
            for name in ("change points", "with revival", "ADWIN")
        },
        "share_by_sequence": [round(float(one), 4) for one in ratios],
        "lost_to_no_decay": round(float((table["with revival"] - table["no decay"]).mean()), 5),
        "lost_to_no_decay_at_most": round(
            float((table["with revival"] - table["no decay"]).max()), 5
        ),
    }


def switching(seeds: int, length: int) -> dict[str, Any]:
    """Synthetic chains at three closenesses of regimes."""
    found: dict[str, Any] = {"length": length}
    for concentration in (0.2, 0.5, 1.0):
        for kind in KINDS:
            rows = [contest(chains(kind, seed, length, concentration), 4) for seed in range(seeds)]
            name = f"{kind}, rows Dirichlet({concentration})"
            found[name] = summary(rows, "oracle")
            show(name, found[name])
    return found


LETTERS = " abcdefghijklmnopqrstuvwxyz"
LANGUAGES = ("en", "de", "pl", "nl", "es")


def letters(text: str) -> list[int]:
    """Accents off, lower case; what is no letter becomes one space."""
    plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    words = "".join(one if one in LETTERS else " " for one in plain).split()
    return [LETTERS.index(one) for one in " ".join(words) + " "]


def commands(data: Path) -> dict[str, list[list[int]]]:
    """Letters of spoken commands to a house, by language, in the file's order."""
    found: dict[str, list[list[int]]] = {language: [] for language in LANGUAGES}
    with gzip.open(data / "text_nlu_commands" / "utterances.jsonl.gz", "rt", encoding="utf-8") as f:
        for line in f:
            record = json.loads(line)
            language = record.get("language", "en")
            if language in found and record["source"] == "home_assistant_intents":
                found[language].append(letters(record["text"]))
    return found


def languages(data: Path, seeds: int, length: int) -> dict[str, Any]:
    """Five languages in turn by chance, utterance by utterance."""
    texts, drawn = commands(data), []
    for seed in range(seeds):
        chance = np.random.default_rng(seed)
        spoken = {one: chance.permutation(len(texts[one])).tolist() for one in LANGUAGES}
        symbols: list[int] = []
        regimes: list[int] = []
        current = 0
        while len(symbols) < length:
            if symbols and chance.random() < 0.05:
                current = (current + int(chance.integers(1, 5))) % 5
            name = LANGUAGES[current]
            one = texts[name][spoken[name].pop()]
            symbols += one
            regimes += [current] * len(one)
        drawn.append((np.array(symbols[:length]), np.array(regimes[:length]), math.nan))
    found: dict[str, Any] = {"length": length, "languages": LANGUAGES}
    for pooled in (0.0, 8.0):
        rows = [contest(one, len(LETTERS), pooled) for one in drawn]
        name = f"prior of segments: {'average so far' if pooled else 'uniform'}"
        found[name] = summary(rows, "told, keeps regimes")
        show(f"languages, {name}", found[name])
    return found


KINDS_OF_TEXT = ("wikipedia", "shakespeare", "stories", "dialogues", "novel")
BLOCK = 64
"""Bytes whose mean cost is one observation."""


def texts_of(data: Path) -> dict[str, bytes]:
    """Five kinds of text, 400 KB of each at most."""

    def lines(path: Path, words: Any) -> bytes:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return "\n".join(
                words(json.loads(line)) for line in itertools.islice(file, 2000)
            ).encode()

    found = {
        "wikipedia": (data / "text_wikitext2" / "dev.txt").read_bytes(),
        "shakespeare": (data / "text_tinyshakespeare" / "dev.txt").read_bytes(),
        "stories": lines(
            data / "text_babi" / "stories.jsonl.gz", lambda one: "\n".join(one["lines"])
        ),
        "dialogues": lines(
            data / "text_dialogue_sgd" / "dialogues.jsonl.gz",
            lambda one: "\n".join(turn["text"] for turn in one["turns"]),
        ),
        "novel": (data / "text_gutenberg" / "train" / "moby_dick_or_the_whale.txt").read_bytes(),
    }
    return {name: text[:400_000] for name, text in found.items()}


def joined(texts: dict[str, bytes], seed: int, size: int) -> tuple[bytes, list[int]]:
    """Pieces of 4 to 16 KB of texts in random order (never the same twice running), each text read
    on from where it was left; and where the joins are, in bytes."""
    chance, at = np.random.default_rng(seed), dict.fromkeys(texts, 0)
    out, joins, current = bytearray(), [], -1
    while len(out) < size:
        step = int(chance.integers(1, len(texts))) if current >= 0 else 0
        current = (current + step) % len(texts)
        name = KINDS_OF_TEXT[current]
        length = int(chance.integers(4_000, 16_000))
        if at[name] + length > len(texts[name]):
            at[name] = 0
        if out:
            joins.append(len(out))
        out += texts[name][at[name] : at[name] + length]
        at[name] += length
    return bytes(out[:size]), [join for join in joins if join < size]


def losses(data: Path, seeds: int, size: int) -> dict[str, Any]:
    """Joins found in the losses of a context mixer that learns all along, and how well weights say
    what is of the present piece."""
    from solomonic.induction import Mixer

    texts, rows = texts_of(data), []
    for seed in range(seeds):
        text, joins = joined(texts, seed, size)
        costs = Mixer(18).costs(text)
        means = costs[: len(costs) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=1)
        rows.append(detection(means, np.array(joins) / BLOCK))
    found = {
        name: {
            key: round(float(np.nanmean([row[name][key] for row in rows])), 4)
            for key in rows[0][name]
        }
        for name in rows[0]
    }
    columns = list(found["ADWIN"])
    listed = [
        (name, *(f"{row[one]:.3f}" if one in row else "" for one in columns))
        for name, row in found.items()
    ]
    print(markdown_table(["losses", *columns], listed), flush=True)
    return {"seeds": seeds, "bytes": size, "block": BLOCK, **found}


def detection(means: np.ndarray, joins: np.ndarray) -> dict[str, dict[str, float]]:
    """What change points and ADWIN make of one stream of block means."""
    from river.drift import ADWIN

    ours, cut = ChangePoints(ChangePointsConfig()), ADWIN()
    seen: dict[str, list[tuple[int, int]]] = {"change points": [], "ADWIN": []}  # (when, where)
    scores: dict[str, list[float]] = {"change points": [], "ADWIN": [], "none": []}
    halves = 2.0 ** np.arange(3, 13)
    decays: list[np.ndarray] = []
    for t, value in enumerate(means.tolist(), start=1):
        before = len(ours.changes())
        ours.observe(value)
        cut.update(value)
        if len(ours.changes()) > before:
            seen["change points"].append((t, ours.changes()[-1]))
        if cut.drift_detected:
            seen["ADWIN"].append((t, t - int(cut.width)))
        if t % 16 == 0:
            written = np.arange(t)
            earlier = joins[joins <= t]
            truth = written >= (earlier[-1] if len(earlier) else 0)
            scores["change points"].append(surprise(ours.survival(written), truth))
            scores["ADWIN"].append(surprise((written >= t - cut.width).astype(float), truth))
            scores["none"].append(surprise(np.ones(t), truth))
            weights = np.exp2(-(t - written) / halves[:, None])
            decays.append(np.array([surprise(one, truth) for one in weights]))
    kept = {name: float(np.mean(score)) for name, score in scores.items()}
    found = {name: {**matched(one, joins), "log_loss": kept[name]} for name, one in seen.items()}
    best = float(np.mean(decays, axis=0).min())
    found["best fixed decay"] = {"log_loss": best}
    found["keeps all"] = {"log_loss": kept["none"]}
    return found


def surprise(weights: np.ndarray, truth: np.ndarray) -> float:
    """Mean bits of the truth under weights as probabilities, between 0.01 and 0.99."""
    chances = np.clip(weights, 0.01, 0.99)
    return float(-np.log2(np.where(truth, chances, 1 - chances)).mean())


def matched(
    seen: Sequence[tuple[int, int]], joins: np.ndarray, near: float = 24
) -> dict[str, float]:
    """Detections whose place is within `near` blocks of a join, each join once."""
    free, delays, off = set(range(len(joins))), [], []
    for when, where in seen:
        close = [k for k in free if abs(joins[k] - where) <= near]
        if close:
            k = min(close, key=lambda k: abs(joins[k] - where))
            free.discard(k)
            delays.append(when - joins[k])
            off.append(abs(joins[k] - where))
    return {
        "joins": float(len(joins)),
        "found": len(delays) / max(len(joins), 1),
        "false": float(len(seen) - len(delays)),
        "median_delay_blocks": float(np.median(delays)) if delays else math.nan,
        "median_error_blocks": float(np.median(off)) if off else math.nan,
    }


def speed(length: int) -> dict[str, float]:
    """Observations a second of processor time, one core; the best of three."""
    symbols = chains("recurring", 0, length, 0.2)[0].tolist()
    values = np.random.default_rng(0).normal(3, 1, length).tolist()
    makers = {
        "symbols, no archive": (
            lambda: SymbolChangePoints(SymbolChangePointsConfig(alphabet=4, regimes=0)), symbols),
        "symbols, with revival": (
            lambda: SymbolChangePoints(SymbolChangePointsConfig(alphabet=4)), symbols),
        "losses": (ChangePoints, values),
        "losses, every 32": (lambda: ChangePoints(ChangePointsConfig(every=32)), values),
    }  # fmt: skip
    found = {}
    for name, (make, stream) in makers.items():
        rates = []
        for _ in range(3):
            one, begin = make(), time.process_time()
            for value in stream:
                one.observe(value)
            rates.append(len(stream) / (time.process_time() - begin))
        found[name] = round(max(rates))
        print(f"{name:24} {found[name]:10,} a second", flush=True)
    return found


def show(title: str, found: dict[str, Any]) -> None:
    """One summary for the eyes."""
    rows = []
    for name, bits in found["bits_per_symbol"].items():
        share = found["share_of_best_decay"].get(name)
        excess = f"{found['excess'][name]:.4f}"
        rows.append((name, f"{bits:.4f}", excess, "" if share is None else f"{share:.0%}"))
    print(markdown_table([title, "bits", "excess", "of best decay's"], rows), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parts = ("switching", "languages", "losses", "speed")
    parser.add_argument("--only", choices=parts)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--length", type=int, default=6000, help="symbols of a switching source")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    makers = {
        "switching": lambda: switching(given.seeds, given.length),
        "languages": lambda: languages(given.data, given.seeds, 2 * given.length),
        "losses": lambda: losses(given.data, given.seeds, 200_000),
        "speed": lambda: speed(4 * given.length),
    }
    for part in parts if given.only is None else (given.only,):
        begin, load = time.perf_counter(), os.getloadavg()[0]
        found = makers[part]()
        record = {"load": load, "seconds": time.perf_counter() - begin, "results": found}
        print(save_report(given.results, f"forgetting_{part}", record), flush=True)


if __name__ == "__main__":
    main()
