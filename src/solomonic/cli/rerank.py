"""`solomonic rerank` and `solomonic tune-rerank`: a language model picks from lattices."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Json, budget, has_run
from solomonic.core import ConfigError, SolomonicError

if TYPE_CHECKING:
    from solomonic.serve.lm.loaded import LoadedModel
    from solomonic.serve.rescore import Memory, Reranked, Reranker
    from solomonic.serve.rescore.errors import SetErrors
    from solomonic.serve.rescore.tune import Tuned
    from solomonic.serve.store import Store

_PAUSE = 10.0  # seconds between lines of progress

Lm = Annotated[
    Path | None,
    typer.Option(
        "--lm", metavar="DIR|FILE", help="Language model, folder or .solo (default: our own)."
    ),
]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights of `tune-rerank`, a JSON file.")
]
Asr = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR|FILE", help="The recogniser, for the weight internal_scale (default: our own)."
    ),
]

_Manifests = Annotated[
    list[Path],
    typer.Argument(metavar="MANIFEST...", help="JSONL of lattices and texts, or their folders."),
]
_Lattices = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Lattices of manifests that name recordings.")
]
_Tune = Annotated[
    str,
    typer.Option(
        help="Which weights, with commas: lm_scale, word_bonus, internal_scale, bias_scale, "
        "memory_scale."
    ),
]
_Balance = Annotated[
    bool, typer.Option("--balance/--no-balance", help="Small sets count for more.")
]
_Mwer = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Fine-tune the model for fewer word errors, into here."),
]


def rerank(
    lattices: Annotated[
        list[Path],
        typer.Argument(metavar="LATTICE...", help="Files: .slm, .slf, .lat.txt or .fst.txt."),
    ],
    lm: Lm = None,
    weights: Weights = None,
    asr: Asr = None,
    user: Annotated[
        str | None, typer.Option(help="Whose memory to use; what is picked joins it with --commit.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL", help="Where users are kept: an SQLite file, PostgreSQL."),
    ] = None,
    commit: Annotated[
        bool, typer.Option("--commit", help="Keep what is picked in the user's memory.")
    ] = False,
    number: Annotated[int, typer.Option("--nbest", "-n", help="Sentences to show.")] = 1,
    json: Json = False,
) -> None:
    """Let a language model pick the sentence from lattices, one after the other.

    A lattice that cannot be read does not stop the others: it gets a line on standard error, and
    the exit status is 2.
    """
    from solomonic.serve.rescore.data import read_words

    if (user is None) != (store is None):
        raise ConfigError("--user and --store belong together: whose memory, and where it is kept.")
    if commit and user is None:
        raise ConfigError("--commit keeps words in a user's memory; add --user and --store.")
    reranker = _reranker(lm, weights, asr)
    failed = False
    with _Desk(reranker.lm, store, user) as desk:
        for path in lattices:
            try:
                found = reranker.rerank(read_words(path), desk.memory, n=number)
                if commit:
                    desk.commit(found)
            except SolomonicError as error:
                if len(lattices) == 1:
                    raise
                console.say("error: " + " ".join(f"{path}: {error}".splitlines()))
                failed = True
                continue
            if json:
                console.emit_line({"lattice": path, **found.to_json()})
            else:
                _print(path, found, number, len(lattices) > 1)
    if failed:
        raise typer.Exit(2)


def tune_rerank(
    manifests: _Manifests,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of weights to write (.json).")],
    lm: Lm = None,
    lattices: _Lattices = None,
    split: Annotated[str, typer.Option(help="Which lines; 'all' takes every one.")] = "dev",
    weights: Weights = None,
    tune: _Tune = "lm_scale,word_bonus,internal_scale",
    asr: Asr = None,
    texts: Annotated[int, typer.Option(help="Sentences of a lattice that are compared.")] = 60,
    balance: _Balance = True,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal weights.")] = 0,
    mwer: _Mwer = None,
    steps: Annotated[int, typer.Option(help="Updates of --mwer.")] = 200,
    rate: Annotated[float, typer.Option("--lr", help="Learning rate of --mwer.")] = 1e-4,
    minutes: Annotated[float | None, typer.Option(help="Time for --mwer at most.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --mwer.")] = False,
    json: Json = False,
) -> None:
    """Find the weights of reranking with the fewest word errors on development lattices.

    Tune on other recordings than you test on: weights know their data.
    """
    from solomonic.serve.rescore import load_internal
    from solomonic.serve.rescore.data import read_examples
    from solomonic.serve.rescore.tune import TuneConfig
    from solomonic.serve.rescore.tune import tune as find

    if mwer is not None:
        has_run(mwer, resume)
    config = TuneConfig(
        weights=tuple(name.strip() for name in tune.split(",") if name.strip()),
        texts=texts,
        balance=balance,
        seed=seed,
    )
    examples = read_examples(list(manifests), None if split == "all" else split, lattices)
    reranker = _reranker(lm, weights, asr)
    if "internal_scale" in config.weights:
        reranker.internal = reranker.internal or load_internal(asr)
    found = find(reranker, examples, config, _Progress("lattices scored"))
    _write(out, found, reranker, manifests)
    record: dict[str, Any] = {"written": [out], "settings": found.config.to_json()}
    if mwer is not None:
        settings = {"steps": steps, "lr": rate, "seed": seed, **budget(minutes, steps, None)}
        record["mwer"] = _fine_tune(mwer, found, lm, settings)
    if json:
        console.emit(record | {"development": [_row(one) for one in _with_total(found.sets)]})
        return
    _show(found)
    for path in [out, *([mwer] if mwer else [])]:
        print(path)


class _Desk:
    """A user's memory, out of a store and back into it."""

    def __init__(self, lm: LoadedModel, url: str | None, user: str | None) -> None:
        self.memory: Memory | None = None
        self._lm, self._user = lm, user
        self._store: Store | None = None
        if url is None or user is None:
            return
        from solomonic.serve.rescore import Memory
        from solomonic.serve.store import open_store

        self._store = open_store(url)
        self.memory = Memory.from_record(lm, self._store.memory(user))

    def __enter__(self) -> _Desk:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()

    def commit(self, found: Reranked) -> None:
        """What was picked is what the user said."""
        from solomonic.serve.store import Utterance

        assert self.memory is not None and self._store is not None and self._user is not None
        if not found.text:
            return
        now = time.time()
        self.memory.read(found.text, now)
        said = Utterance(text=found.text, heard=found.one_best, time=now, source="rerank")
        state, fingerprint = self.memory.to_bytes(), self._lm.fingerprint
        self._store.commit(self._user, said, state=state, fingerprint=fingerprint)


class _Progress:
    """A line on standard error now and then."""

    def __init__(self, what: str) -> None:
        self._what, self._shown = what, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown >= _PAUSE:
            self._shown = now
            console.say(f"{done:,} of {total:,} {self._what}")


def _reranker(lm: Path | None, weights: Path | None, asr: Path | None) -> Reranker:
    """As the options say."""
    from solomonic.serve.lm.loaded import load_lm
    from solomonic.serve.rescore import load_reranker

    return load_reranker(load_lm(lm), weights, asr)


def _print(path: Path, found: Reranked, number: int, several: bool) -> None:
    name = f"{path}: " if several else ""
    if number == 1:
        print(f"{name}{found.text}")
        return
    for one in found.hypotheses:
        print(f"{name}{one.score:.2f} {one.text}")


def _write(out: Path, found: Tuned, reranker: Reranker, manifests: list[Path]) -> None:
    about = {
        "lm": reranker.lm.describe(),
        "manifests": [str(path) for path in manifests],
        "sets": [_row(one) for one in _with_total(found.sets)],
    }
    found.config.save(out, about)


def _with_total(sets: list[SetErrors]) -> list[SetErrors]:
    from solomonic.serve.rescore.errors import total

    return [*sets, total(sets)] if len(sets) > 1 else sets


def _row(one: SetErrors) -> dict[str, Any]:
    before, after, nearest = one.rates()
    return {
        "set": one.name,
        "utterances": one.utterances,
        "words": one.words,
        "one_best_wer": before,
        "reranked_wer": after,
        "oracle_wer": nearest,
        "relative_gain": one.gain,
        "gap_closed": one.closed,
    }


def _show(found: Tuned) -> None:
    columns = (
        "set",
        "lattices",
        "words",
        "one-best WER %",
        "reranked",
        "oracle",
        "gain %",
        "gap %",
    )
    rows = []
    for one in _with_total(found.sets):
        shares = (*one.rates(), one.gain, one.closed)
        rows.append((one.name, one.utterances, one.words, *(f"{100 * x:.1f}" for x in shares)))
    console.table("word errors on the development lattices", columns, rows)
    for name in ("lm_scale", "word_bonus", "bias_scale", "memory_scale", "internal_scale"):
        console.say(f"{name} = {getattr(found.config, name):g}")


def _fine_tune(out: Path, found: Tuned, lm: Path | None, settings: dict[str, Any]) -> dict:
    """MWER training of a copy of the model; every tenth lattice is held out."""
    from solomonic.lm.device_file import read_device_model
    from solomonic.lm.pretrained import load_pretrained
    from solomonic.lm.shipped import ASSISTANT
    from solomonic.serve.lm.loaded import ENDING
    from solomonic.serve.rescore.mwer import MwerConfig, MwerTask
    from solomonic.train import TrainConfig, train

    place = lm or ASSISTANT
    model, tokenizer = (read_device_model if place.suffix == ENDING else load_pretrained)(place)
    model.float().requires_grad_(True)
    kept = [sheet for number, sheet in enumerate(found.sheets) if number % 10 != 9]
    held_out = found.sheets[9::10]
    config = MwerConfig(seed=settings["seed"])
    task: Any = MwerTask(model, tokenizer, kept, found.config, config, held_out)
    run = TrainConfig(**{"eval_every": 25, "save_every": 50, **settings})
    result = train(task, run, out, progress=console.is_terminal())
    return {
        "out": out,
        "steps": result.step,
        "stopped": result.stopped,
        "best": result.best,
        "evaluation": result.evaluation,
    }
