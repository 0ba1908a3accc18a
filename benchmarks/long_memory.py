"""Long-term memory inside the autoregressive step: bits per byte, and facts a million tokens later.

    make bench ARGS="long_memory [MODEL] [--only match,cache] [--tokens 40000] [--part test]"

MODEL is the folder of the language model (benchmarks/wiki_small/train.py), asked as it is: its
weights move only in the parts named "dynamic", and are put back. Text is WikiText-2's test part
from ../shared/data; settings were chosen on its dev part. Every part predicts each token, charges
it and only then learns; every part also scores the model alone, on the same tokens. `facts_*` hide
1,000 facts in books and ask for them a million tokens later (long_memory_facts.py).
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import long_memory_facts
from solomonic.evals.report import markdown_table, save_report
from solomonic.lm.adapt import AdaptConfig, DynamicEvaluation
from solomonic.lm.adapt.learner import Learner
from solomonic.lm.attending import AttentionConfig, MemoryAttention
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import NativeModel
from solomonic.lm.pretrained import load_pretrained
from solomonic.memory.reader.gate import bound
from solomonic.memory.reader.match import MatchMemory
from solomonic.memory.reader.neighbours import Datastore
from solomonic.memory.reader.recall import Recall, RecallConfig, Shelf
from solomonic.text import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared/data/text_wikitext2"
RESULTS = Path(__file__).parent / "results"
CHUNK = 256


class Read(NamedTuple):
    """A stretch of the stream as a model saw it before it learned from it: (n, V), (n, d)."""

    targets: np.ndarray
    log_probs: np.ndarray
    hidden: np.ndarray


Source = Iterator[Read]


def frozen(model: LanguageModel, tokens: torch.Tensor) -> Source:
    """The fixed model, on the native core."""
    native = NativeModel(model)
    streams = native.streams(1)
    for begin in range(0, len(tokens) - 1, CHUNK):
        targets = tokens[begin + 1 : begin + 1 + CHUNK]
        part = tokens[begin : begin + len(targets)]
        logits, hidden = native.read_hidden(part[None], streams, every=True)
        yield _read(targets, logits[0], hidden[0])


def attending(reader: MemoryAttention, tokens: torch.Tensor) -> Source:
    """The fixed model with recalled chunks in its layers."""
    state = None
    for begin in range(0, len(tokens) - 1, CHUNK):
        targets = tokens[begin + 1 : begin + 1 + CHUNK]
        with torch.no_grad():
            hidden, state = reader.hidden(tokens[begin : begin + len(targets)][None], state)
            logits = reader.head(hidden)
        yield _read(targets, logits[0], hidden[0])


def dynamic(model: Any, tokens: torch.Tensor) -> Source:
    """The model, learning from each segment after it was charged; or a reader around it."""
    learner = Learner(getattr(model, "model", model), AdaptConfig())
    with DynamicEvaluation(model, AdaptConfig(), learner=learner) as reading:
        for segment in reading.segments(tokens):
            yield _read(segment.targets, segment.logits, segment.hidden)


def _read(targets: torch.Tensor, logits: torch.Tensor, hidden: torch.Tensor) -> Read:
    logs = logits.detach().double().log_softmax(dim=-1).numpy()
    return Read(targets.numpy(), logs, hidden.detach().float().numpy())


def training_set(model: LanguageModel, tokenizer: Tokenizer) -> Shelf:
    """States of the model over the articles it was trained on, and their tokens."""
    ids = [tokenizer.eos_id, *tokenizer.encode((DATA / "train.txt").read_text(encoding="utf-8"))]
    native = NativeModel(model)
    streams, found = native.streams(1), []
    for begin in range(0, len(ids) - 1, CHUNK):
        part = torch.tensor([ids[begin : begin + CHUNK]])
        _, hidden = native.read_hidden(part, streams, every=True)
        found.append(hidden[0].numpy().astype(np.float16))
    keys = np.concatenate(found)[: len(ids) - 1]
    match = MatchMemory()
    match.begin("text_wikitext2/train.txt")
    match.extend(ids[1:])
    # Position 0 of the history is the boundary before the text.
    return Shelf(match, Datastore(keys, np.array(ids[1:])), np.arange(1, len(ids)))


def measure(source: Source, recall: Recall | None, first: int, lengths: np.ndarray) -> dict:
    """Bits of the stream, alone and with memory, and milliseconds a token of each."""
    alone = charged = 0.0
    size = tokens = 0
    reading = remembering = 0.0
    if recall is not None:
        recall.update(first)
    started = time.perf_counter()
    for read in source:
        middle = time.perf_counter()
        reading += middle - started
        for target, logs, key in zip(
            read.targets.tolist(), read.log_probs, read.hidden, strict=True
        ):
            alone -= float(logs[target]) / math.log(2)
            size += int(lengths[target])
            tokens += 1
            if recall is not None:
                recall.predict(logs, key)
                charged += recall.update(target)
        started = time.perf_counter()
        remembering += started - middle
    with_memory = alone if recall is None else charged
    return {
        "tokens": tokens,
        "bytes": size,
        "source_bits_per_byte": alone / size,
        "bits_per_byte": with_memory / size,
        "ms_per_token_model": 1000 * reading / tokens,
        "ms_per_token_memory": 1000 * remembering / tokens,
        "bits_above_source": with_memory - alone,
        "bound": bound(tokens),
    }


class Setting:
    """The model, the tokens, and what parts share."""

    def __init__(self, folder: Path, part: str, limit: int) -> None:
        self.model, self.tokenizer = load_pretrained(folder)
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        text = (DATA / f"{part}.txt").read_text(encoding="utf-8")
        ids = [self.tokenizer.eos_id, *self.tokenizer.encode(text)]
        self.tokens = torch.tensor(ids[: limit + 1] if limit else ids)
        self.lengths = np.array(
            [len(self.tokenizer.token_bytes(t)) for t in range(self.tokenizer.vocab_size)]
        )
        self._shelf: Shelf | None = None

    @property
    def shelf(self) -> Shelf:
        """The training set, read once."""
        if self._shelf is None:
            self._shelf = training_set(self.model, self.tokenizer)
        return self._shelf

    def recall(self, cache: bool, match: bool, stored: bool) -> Recall:
        config = RecallConfig(cache=cache, own_match=match)
        size = self.model.config.vocab_size, self.model.config.hidden_size
        return Recall(*size, [self.shelf] if stored else [], config)

    def attention(self) -> MemoryAttention:
        return MemoryAttention(self.model, self.tokenizer, AttentionConfig())

    def run(self, source: Source, recall: Recall | None) -> dict:
        return measure(source, recall, int(self.tokens[0]), self.lengths)


PARTS: dict[str, tuple[str, Callable[[Setting], dict]]] = {
    "alone": ("the model alone", lambda s: s.run(frozen(s.model, s.tokens), None)),
    "match": (
        "+ verbatim matches",
        lambda s: s.run(frozen(s.model, s.tokens), s.recall(False, True, False)),
    ),
    "cache": (
        "+ continuous cache",
        lambda s: s.run(frozen(s.model, s.tokens), s.recall(True, False, False)),
    ),
    "neighbours": (
        "+ neighbours and matches in the training set",
        lambda s: s.run(frozen(s.model, s.tokens), s.recall(False, False, True)),
    ),
    "memories": (
        "+ all three memories",
        lambda s: s.run(frozen(s.model, s.tokens), s.recall(True, True, True)),
    ),
    "dynamic": ("+ dynamic evaluation", lambda s: s.run(dynamic(s.model, s.tokens), None)),
    "attention": ("+ memory attention", lambda s: s.run(attending(s.attention(), s.tokens), None)),
    "dynamic_memories": (
        "+ dynamic evaluation and the three memories",
        lambda s: s.run(dynamic(s.model, s.tokens), s.recall(True, True, True)),
    ),
    "everything": (
        "everything together",
        lambda s: s.run(dynamic(s.attention(), s.tokens), s.recall(True, True, True)),
    ),
}


FACTS = {
    "facts_store": long_memory_facts.measure_store,
    "facts_stream": long_memory_facts.measure_stream,
}


def earlier() -> dict[str, Any]:
    """Parts that the newest result file has, to which new ones are added."""
    files = sorted(RESULTS.glob("long_memory_*.json"))
    found = json.loads(files[-1].read_text()) if files else {}
    return {name: found[name] for name in ("bits", "facts") if name in found}


def main(arguments: list[str]) -> None:
    """Measure the parts asked for, print the table, add them to the result file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="run.py long_memory")
    parser.add_argument("model", type=Path, nargs="?", default=ROOT / "build/bench/wiki/run")
    parser.add_argument("--only", default=",".join([*PARTS, *FACTS]))
    parser.add_argument("--tokens", type=int, default=0, help="of the text; 0: all")
    parser.add_argument("--part", choices=["test", "dev"], default="test")
    parser.add_argument("--facts", type=int, default=1000)
    parser.add_argument("--paraphrased", type=int, default=200)
    parser.add_argument("--distance", type=int, default=1_000_000)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    setting = Setting(given.model, given.part, given.tokens)
    bits = earlier().get("bits", {})
    plan = long_memory_facts.Plan(given.facts, given.paraphrased, given.distance)
    for name in given.only.split(","):
        if name in FACTS:
            found = FACTS[name](setting.model, setting.tokenizer, plan)
            facts = earlier().get("facts", {}) | found
            print(save_report(RESULTS, "long_memory", {**earlier(), "facts": facts}))
            continue
        title, job = PARTS[name]
        found = job(setting) | {"title": title, "part": given.part}
        bits[name] = found
        print(f"{title:48} {found['bits_per_byte']:.4f} bits/byte (alone or learning "
              f"{found['source_bits_per_byte']:.4f}), {found['ms_per_token_model']:.2f} + "
              f"{found['ms_per_token_memory']:.2f} ms/token", flush=True)  # fmt: skip
        if given.part == "test":
            # Another part may have finished meanwhile.
            bits = earlier().get("bits", {}) | {name: found}
            save_report(RESULTS, "long_memory", {**earlier(), "bits": bits})
    _table(bits)


def _table(bits: dict[str, Any]) -> None:
    """What every part saves against the model alone."""
    alone = bits.get("alone")
    rows = []
    for name in PARTS:
        if name not in bits:
            continue
        one = bits[name]
        saved = ""
        if alone and alone["tokens"] == one["tokens"]:
            saved = f"{100 * (1 - one['bits_per_byte'] / alone['bits_per_byte']):.1f}"
        ms = one["ms_per_token_model"] + one["ms_per_token_memory"]
        rows.append([one["title"], f"{one['bits_per_byte']:.4f}", saved, f"{ms:.2f}"])
    print(markdown_table(["", "bits/byte", "% fewer", "ms/token"], rows))
