"""Adapting to a text and merging what was read: bits per byte, and what a token costs.

    make bench ARGS="adapt [--only PART] [--split dev] [--bytes N]"

The model is the one of the memory benchmark (benchmarks/wiki_small), the text WikiText-2's test
part (`--split dev`: the part that constants were chosen on). Every score is made before anything
is learned from what it scores.

stream      the text as one stream: the model alone, and dynamic evaluation
articles    the same, with state and weights reset at every article
parameters  which parameters learn, on the first `--bytes`
neighbours  test-time training on the nearest chunks of the training part, by words (BM25)
examples    chunks of the training part read before an article, chosen by its first 64 tokens
merge       two and four stretches of an article merged, against reading them one after the other
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solomonic.evals.report import markdown_table, save_report
from solomonic.lm.adapt import (
    AdaptConfig,
    NeighbourTraining,
    choose_examples,
    dynamic_log_probs,
    neighbour_log_probs,
)
from solomonic.lm.adapt.neighbours import examples_prompt
from solomonic.lm.decays import Decays
from solomonic.lm.merging import merge_states
from solomonic.lm.model import LanguageModel
from solomonic.lm.pretrained import load_pretrained
from solomonic.lm.score import token_log_probs
from solomonic.lm.state_files import ReadState, StateNotes

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
STRETCH = 512  # tokens of a document that is merged, and of what is scored after it
BEGINNING = 64  # tokens of an article that its examples are chosen by


class Bench:
    """The model, the text, and how results are told."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.model, self.tokenizer = load_pretrained(given.model)
        self.data, self.bytes = given.data / "text_wikitext2", given.bytes
        self.text = (self.data / f"{given.split}.txt").read_bytes()
        self.config = AdaptConfig()

    def tokens(self, text: bytes) -> Tensor:
        """A document: the end of the text before it, and its tokens."""
        return torch.tensor([self.tokenizer.eos_id, *self.tokenizer.encode(text)])

    def articles(self) -> list[bytes]:
        """The text's articles, each beginning with its title."""
        from wiki_small.train import articles

        return [article.encode() for article in articles(self.text.decode())]

    def memory(self) -> Any:
        """The training part as passages of a memory."""
        from solomonic.memory import Memory, NewItem
        from solomonic.memory.documents import PassageConfig, cut, open_document

        place = self.data / "train.txt"
        passages = cut(open_document(place).parts(), PassageConfig(size=800))
        store = Memory.open(":memory:")
        store.write_many(
            NewItem(text=p.text, source="train.txt", offset=p.offset) for p in passages
        )
        return store


def row(name: str, bits: float, size: int, count: int, seconds: float) -> dict[str, Any]:
    """One line of a table; seconds are of this process's processor time."""
    found = {
        "name": name,
        "bits_per_byte": bits / size,
        "cpu_us_per_token": 1e6 * seconds / count,
        "tokens": count,
        "bytes": size,
    }
    print(f"{name}: {bits / size:.4f} bits per byte, {1e6 * seconds / count:.0f} us a token",
          flush=True)  # fmt: skip
    return found


def measure(name: str, size: int, work: Callable[[], Iterable[Tensor]]) -> dict[str, Any]:
    """Run `work`, which yields nats of tokens."""
    started = time.process_time()
    nats, count = 0.0, 0
    for part in work():
        nats -= math.fsum(part.double().tolist())
        count += len(part)
    return row(name, nats / math.log(2), size, count, time.process_time() - started)


@torch.no_grad()
def alone(model: LanguageModel, tokens: Tensor) -> Tensor:
    """Nats of tokens[1:] by the model as it is."""
    return token_log_probs(model, tokens[None])[0][0]


def stream(bench: Bench) -> list[dict[str, Any]]:
    tokens, size, model = bench.tokens(bench.text), len(bench.text), bench.model
    return [
        measure("model alone", size, lambda: [alone(model, tokens)]),
        measure("dynamic evaluation", size, lambda: [dynamic_log_probs(model, tokens)]),
    ]


def articles(bench: Bench) -> list[dict[str, Any]]:
    size, model = len(bench.text), bench.model
    parts = [bench.tokens(article) for article in bench.articles()]
    return [
        measure("model alone, reset per article", size, lambda: (alone(model, p) for p in parts)),
        measure(
            "dynamic evaluation, reset per article",
            size,
            lambda: (dynamic_log_probs(model, p) for p in parts),
        ),
    ]


PARAMETERS = {
    "all": {},
    "last": {"rate": 6e-4},
    "low_rank": {"rate": 3e-3, "rank": 4},
    "norms": {"rate": 1e-2},
}
"""Rates chosen on the development part."""


def parameters(bench: Bench) -> list[dict[str, Any]]:
    from solomonic.lm.adapt import DynamicEvaluation

    text = bench.text[: bench.bytes]
    tokens, rows = bench.tokens(text), []
    rows.append(measure("model alone", len(text), lambda: [alone(bench.model, tokens)]))
    for name, settings in PARAMETERS.items():
        config = bench.config.replace(parameters=name, **settings)
        with DynamicEvaluation(bench.model, config) as reading:
            found = measure(
                f"{name}, rate {config.rate:g}",
                len(text),
                lambda reading=reading: (s.log_probs for s in reading.segments(tokens)),
            )
            rows.append(found | {"delta_bytes": reading.delta().nbytes})
    return rows


def neighbours(bench: Bench) -> list[dict[str, Any]]:
    text, store = bench.text[: bench.bytes // 4], bench.memory()
    tokens = bench.tokens(text)
    rows = [measure("model alone", len(text), lambda: [alone(bench.model, tokens)])]
    for count, rate in ((2, 3e-4), (4, 3e-4), (4, 1e-4), (10, 3e-4)):
        config = bench.config.replace(neighbours=count, neighbour_rate=rate)
        training = NeighbourTraining(bench.model, bench.tokenizer, store, config)
        rows.append(
            measure(
                f"{count} neighbours, rate {rate:g}",
                len(text),
                lambda t=training: (scores for scores, _ in neighbour_log_probs(t, tokens)),
            )
        )
    return rows


def examples(bench: Bench) -> list[dict[str, Any]]:
    """Articles from their 65th token to their 1,024th, with and without examples before them."""
    store, rows = bench.memory(), []
    parts = [p[:1024] for p in map(bench.tokens, bench.articles()) if len(p) > 256]
    size = sum(len(bench.tokenizer.decode_bytes(p[BEGINNING + 1 :].tolist())) for p in parts)
    for count in (0, 1, 2, 4):
        config = bench.config.replace(examples=count, example_tokens=1024)

        def read(config: AdaptConfig = config) -> Iterable[Tensor]:
            for part in parts:
                chosen = choose_examples(
                    store, bench.tokenizer, part[1 : BEGINNING + 1].tolist(), config
                )
                prompt = torch.tensor(examples_prompt(chosen, bench.tokenizer), dtype=torch.int64)
                yield alone(bench.model, torch.cat((prompt, part)))[len(prompt) + BEGINNING :]

        rows.append(measure(f"{count} examples", size, read))
    return rows


@torch.no_grad()
def read(model: LanguageModel, tokens: Tensor) -> ReadState:
    """What a model remembers of a document read alone."""
    with Decays(model) as decays:
        _, state = model.hidden(tokens[None])
    notes = StateNotes(fingerprint="", config=model.config)
    return ReadState(state=state, decays=decays.products, notes=notes)


@torch.no_grad()
def after(model: LanguageModel, state: Any, tokens: Tensor) -> Tensor:
    """Nats of tokens[1:] after `state`."""
    return token_log_probs(model, tokens[None], state)[0][0]


def merge(bench: Bench) -> list[dict[str, Any]]:
    """What follows n stretches of an article, after each way of remembering them."""
    rows, model = [], bench.model
    for count in (2, 4):
        need = (count + 1) * STRETCH + 1
        parts = [p[:need] for p in map(bench.tokens, bench.articles()) if len(p) >= need]
        texts = [bench.tokenizer.decode_bytes(p[count * STRETCH + 1 :].tolist()) for p in parts]
        size = sum(len(text) for text in texts)
        ways: dict[str, Callable[[list[Tensor]], Any]] = {
            "nothing read": lambda d: None,
            "the last stretch alone": lambda d: read(model, d[-1]).state,
            "the first stretch alone": lambda d: read(model, d[0]).state,
            "all, one after the other": lambda d: read(model, torch.cat(d)).state,
            "all, the other way round": lambda d: read(model, torch.cat(d[::-1])).state,
        }
        for method in ("mean", "rotations", "order"):
            ways[f"merged, {method}"] = lambda d, method=method: (
                merge_states([read(model, part) for part in d], method=method).state
            )
        for name, way in ways.items():
            scores = _following(model, parts, count, way)
            rows.append(measure(f"{count} stretches of {STRETCH}: {name}", size, scores))
    return rows


def _following(
    model: LanguageModel, parts: list[Tensor], count: int, way: Callable[[list[Tensor]], Any]
) -> Callable[[], Iterable[Tensor]]:
    def scores() -> Iterable[Tensor]:
        for part in parts:
            documents = list(part[: count * STRETCH].split(STRETCH))
            yield after(model, way(documents), part[count * STRETCH :])

    return scores


PARTS = {"stream": stream, "articles": articles, "parameters": parameters, "neighbours": neighbours,
         "examples": examples, "merge": merge}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=list(PARTS))
    parser.add_argument("--model", type=Path, default=ROOT / "build/bench/wiki/run")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--bytes", type=int, default=100_000, help="of the shorter parts")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    bench = Bench(given)
    for part in [given.only] if given.only else list(PARTS):
        begin, load = time.perf_counter(), os.getloadavg()[0]
        rows = PARTS[part](bench)
        columns = ("name", "bits_per_byte", "cpu_us_per_token")
        print(markdown_table(columns, [[_cell(r[c]) for c in columns] for r in rows]), flush=True)
        record = {"load": load, "seconds": time.perf_counter() - begin, "split": given.split,
                  "config": bench.config.to_json(), "results": rows}  # fmt: skip
        print(save_report(given.results, f"adapt_{part}", record), flush=True)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


if __name__ == "__main__":
    main()
