"""Memory attention on one trained B'MOJO model: what recalled slots are worth, at once and trained.

make bench ARGS='memory_attention MODEL SHARED [--only tune|bits] [--of NAME] [--limit BYTES]'

tune: two short fine-tunings of the model from the same rows, with slots and without (the control);
they stay in --work as models. bits: bits per byte of WikiText's development part alone and with
memory (its own past; a shelf with the articles of the training part; both), for the model as it is
and both tuned ones, then the test part with what was best on the development part. The needle sets
are `solomonic eval needles`.
"""

import argparse
import datetime
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from solomonic.evals.needle_sets import needle_facts, story_facts
from solomonic.lm.attending import AttentionConfig, MemoryAttention
from solomonic.lm.attending_tune import TuneConfig, fine_tune, lesson, rows
from solomonic.lm.pretrained import load_pretrained, save_pretrained
from solomonic.lm.score import token_log_probs

RESULT = Path(__file__).parent / "results" / "memory_attention.json"
OWN = AttentionConfig()
TUNED = AttentionConfig(top=2, follow=0)
SETTINGS: dict[str, AttentionConfig] = {
    "own past, words": OWN,
    "own past, hidden states": OWN.replace(search="hidden"),
    "own past, mean keys": OWN.replace(search="layer"),
    "shelf, words": OWN.replace(own=False),
    "own past and shelf, words": OWN,
    "own past and shelf, 8 chunks": OWN.replace(top=8, follow=0),
}
TRIED_TUNED = ("own past, words", "own past and shelf, words")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="memory_attention", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--only", choices=("tune", "bits"))
    parser.add_argument("--work", type=Path, default=Path("build/memory_attention"))
    parser.add_argument("--steps", type=int, default=TuneConfig().steps)
    parser.add_argument("--limit", type=int, default=30_000, help="bytes of a part that are read")
    parser.add_argument("--shelf", type=int, default=300_000, help="bytes of articles on the shelf")
    parser.add_argument("--of", help="'as trained', 'tuned, control' or 'tuned, with slots' alone")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.only in (None, "tune"):
        tune(given)
    if given.only in (None, "bits"):
        bits(given)


def tune(given: argparse.Namespace) -> None:
    """Fine-tune with slots, and the control."""
    config = TuneConfig(steps=given.steps)
    tokens = np.fromfile(given.model / "data" / "train.bin", dtype=np.uint16)
    record: dict[str, Any] = {"config": config.to_json(), "reader": TUNED.to_json(), "loss": {}}
    for name in ("with slots", "control"):
        model, tokenizer = load_pretrained(given.model)
        facts = needle_facts(given.shared / "text_needles/needles.jsonl", ["train"], 8, 0)
        facts += story_facts(given.shared / "text_babi/stories.jsonl.gz", ["train"], 8, 0)
        lessons = [lesson(tokenizer, f.text, f.prompt, f.answer) for f in facts]
        reader = MemoryAttention(model, tokenizer, TUNED) if name == "with slots" else model
        losses: list[float] = []

        def tell(step: int, loss: float, losses: list[float] = losses, name: str = name) -> None:
            losses.append(loss)
            if step % 10 == 0:
                print(f"{name}, step {step}: {np.mean(losses[-10:]):.3f} nats", flush=True)

        began = time.perf_counter()
        fine_tune(reader, rows(tokens, lessons, config, TUNED.period), config, tell)
        target = given.work / name.replace(" ", "-")
        target.mkdir(parents=True, exist_ok=True)
        save_pretrained(target, model, tokenizer)
        record["loss"][name] = losses
        record["seconds " + name] = round(time.perf_counter() - began, 1)
    write({"tune": record})


def bits(given: argparse.Namespace) -> None:
    """Bits per byte, on the development part for every setting, on the test part for the best."""
    folders = {"as trained": given.model}
    for name in ("control", "with slots"):
        folder = given.work / name.replace(" ", "-")
        if folder.exists():
            folders["tuned, " + name] = folder
    texts = {part: read(given, part) for part in ("dev", "test")}
    for name, folder in folders.items():
        if given.of is not None and name != given.of:
            continue
        model, tokenizer = load_pretrained(folder)
        shelf = shelved(model, tokenizer, given)
        mine: dict[str, Any] = {"bytes": given.limit, "bytes on the shelf": given.shelf}
        tried = list(SETTINGS) if name == "as trained" else list(TRIED_TUNED)
        mine["dev"] = score((model, tokenizer, shelf), texts["dev"], ["alone", *tried])
        best = min(tried, key=lambda label: mine["dev"][label]["bits"])
        mine["test"] = score((model, tokenizer, shelf), texts["test"], ["alone", best])
        known = json.loads(RESULT.read_text()).get("bits", {}) if RESULT.exists() else {}
        write({"bits": known | {name: mine}})


def score(kit: tuple[Any, Any, Any], text: bytes, labels: list[str]) -> dict[str, dict]:
    """A part of WikiText in every way that is named."""
    model, tokenizer, shelf = kit
    found = {}
    for label in labels:
        reader = model
        if label != "alone":
            books = shelf if "shelf" in label else None
            reader = MemoryAttention(model, tokenizer, SETTINGS[label], books)
        found[label] = measure(reader, tokenizer, text)
        print(f"{label}: {found[label]}", flush=True)
    return found


def read(given: argparse.Namespace, part: str) -> bytes:
    """The beginning of a part of WikiText."""
    return (given.shared / f"text_wikitext2/{part}.txt").read_bytes()[: given.limit]


def shelved(model: Any, tokenizer: Any, given: argparse.Namespace) -> Any:
    """The training part's articles as chunks."""
    reader = MemoryAttention(model, tokenizer, OWN)
    text = (given.shared / "text_wikitext2/train.txt").read_bytes()
    text = text[: given.shelf]
    began = time.perf_counter()
    reader.learn(text, "text_wikitext2/train.txt")
    seconds = time.perf_counter() - began
    print(f"{len(reader.shelf)} chunks, {reader.shelf.nbytes >> 20} MiB, {seconds:.0f} s")
    return reader.shelf


def measure(model: Any, tokenizer: Any, text: bytes) -> dict[str, float]:
    """Bits per byte and milliseconds a token."""
    tokens = np.concatenate([[tokenizer.eos_id], tokenizer.encode_array(text)]).astype(np.int64)
    size = int(tokenizer.byte_lengths()[tokens[1:]].sum())
    began = time.perf_counter()
    scores, _ = token_log_probs(model, torch.from_numpy(tokens)[None])
    seconds = time.perf_counter() - began
    return {
        "bits": round(-float(scores.double().sum()) / math.log(2) / size, 5),
        "ms a token": round(1000 * seconds / len(tokens), 3),
    }


def write(parts: dict[str, Any]) -> None:
    """Add parts to the result file."""
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    record |= parts
    record["date"] = datetime.date.today().isoformat()
    record["hardware"] = f"{platform.machine()}, {os.cpu_count()} cores"
    record["load"] = f"{os.getloadavg()[0]:.1f}: times are of a loaded machine where this is > 2"
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
