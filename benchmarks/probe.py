"""Instruments measured: slots that hold an answer, truncated states, a model that learns online.

    make bench ARGS='probe slots'                    trains a small model on recall first
    make bench ARGS='probe truncate --text FILE [--model DIR] [--states 24,16,8]'
    make bench ARGS='probe online --text FILE [--bytes 120000]'

Each prints JSON, and with --out writes it with the date. All are figures of accuracy, which do not
depend on how busy the machine is.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from solomonic.induction import Hinted, Mixer
from solomonic.lm.any_model import load_any
from solomonic.lm.interventions import replace_slot
from solomonic.lm.model import LanguageModel
from solomonic.lm.online import OnlineLm
from solomonic.lm.score import token_log_probs
from solomonic.lm.truncate import TruncateConfig, truncate
from solomonic.recipes.recall import base, changed, train_model


def slots(
    steps: int, examples: int, task: dict[str, Any] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Recall of a pair whose slot was emptied, and of one while another's was.

    Args:
        task: settings of the task that differ from the headline's (256 tokens, 8 pairs).
    """
    config = changed(base("mqar"), {"steps": steps, "seed": seed, **(task or {})})
    began = time.process_time()
    model = train_model(config)
    trained = time.process_time() - began
    chance = np.random.default_rng(seed + 1)
    drawn = config.generator.sample(examples, chance)
    inputs = torch.from_numpy(drawn.inputs)
    pairs = drawn.inputs.shape[0], int((drawn.labels[0] >= 0).sum())
    asked = np.stack([np.flatnonzero(row >= 0) for row in drawn.labels])  # (N, pairs)
    picked = chance.integers(0, pairs[1], pairs[0])
    rows = np.arange(pairs[0])
    query = asked[rows, picked]
    answer = drawn.labels[rows, query]
    held = query - drawn.distance[rows, query]  # where the value that answers stands
    others = asked[rows, (picked + 1) % pairs[1]]
    other = others - drawn.distance[rows, others]

    @torch.no_grad()
    def right(emptied: np.ndarray | None, width: int = 1) -> np.ndarray:
        with ExitStack() as stack:
            if emptied is not None:
                places = torch.from_numpy(emptied[:, None] + np.arange(width))
                for layer, kind in enumerate(model.config.layers):
                    if kind == "B":
                        stack.enter_context(replace_slot(model, layer, places))
            logits, _ = model(inputs)
        return logits[rows, query].argmax(-1).numpy() == answer

    # The short convolution writes a token into the slots of the next ones as well.
    taps = model.config.short_conv_size
    plain, without, beside = right(None), right(held, taps), right(other, taps)
    alone = right(held)
    known = plain.sum()
    return {
        "steps": steps,
        "examples": examples,
        "task": config.generator.to_json(),
        "training_seconds": round(trained, 1),
        "recall": float(plain.mean()),
        "slots_emptied": taps,
        "flipped_by_the_slots_its_value_is_in": float((plain & ~without).sum() / max(known, 1)),
        "flipped_by_another_pairs_slots": float((plain & ~beside).sum() / max(known, 1)),
        "flipped_by_the_slot_of_its_value_alone": float((plain & ~alone).sum() / max(known, 1)),
    }


def truncated(place: str, text: Path, states: list[int], tokens: int) -> dict[str, Any]:
    """Perplexity and losses by layer for several sizes of the state."""
    model, tokenizer, name = load_any(place)
    data = text.read_bytes()[: 64 * tokens]
    ids = torch.tensor([tokenizer.eos_id, *tokenizer.encode(data)][:tokens])
    found: list[dict[str, Any]] = []
    for count in states:
        small, cuts = truncate(model, ids, TruncateConfig(states=count))
        found.append(
            {
                "states": count,
                "state_bytes": small.init_state(1).nbytes,
                "perplexity": _perplexity(small, ids),
                "layers": [
                    {
                        "layer": cut.layer,
                        "error": round(cut.error / cut.output, 5),
                        "guaranteed": round(cut.guarantee / cut.output, 5),
                        "frozen_error": round(cut.frozen_error / cut.frozen_norm, 5),
                        "glover_bound": round(cut.bound / cut.frozen_norm, 5),
                        "within": cut.error <= cut.guarantee and cut.frozen_error <= cut.bound,
                    }
                    for cut in cuts
                ],
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return {
        "model": name,
        "tokens": len(ids),
        "before": {"perplexity": _perplexity(model, ids), "bytes": model.init_state(1).nbytes},
        "truncated": found,
    }


def _perplexity(model: LanguageModel, ids: torch.Tensor) -> float:
    scores, _ = token_log_probs(model, ids[None])
    return math.exp(-float(scores[0, len(ids) // 2 :].mean()))


def online(text: Path, size: int) -> dict[str, Any]:
    """Bits a byte of the mixer alone, the model alone, and both, from nothing, side by side."""
    data = text.read_bytes()[:size]
    alone, model = Mixer(), OnlineLm()
    heard: Any = _Heard(model)
    both = Hinted(heard, Mixer())
    paid, began, curve = np.zeros(3), time.process_time(), []
    for count, byte in enumerate(data, 1):
        paid[0] += alone.update(byte)
        paid[2] += both.update(byte)
        paid[1] = heard.paid
        if count % 10_000 == 0 or count == len(data):
            curve.append([count, *(paid / count).round(4).tolist()])
            print(json.dumps(curve[-1]), flush=True)
    return {
        "text": text.name,
        "bytes": len(data),
        "columns": ["bytes", "mixer", "model", "both"],
        "curve": curve,
        "seconds": round(time.process_time() - began, 1),
    }


class _Heard:
    """A predictor that adds up what it pays."""

    alphabet = 256

    def __init__(self, inner: OnlineLm) -> None:
        self.inner, self.paid = inner, 0.0

    def predict(self) -> np.ndarray:
        return self.inner.predict()

    def update(self, symbol: int) -> float:
        found = self.inner.update(symbol)
        self.paid += found
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("slots", "truncate", "online"))
    parser.add_argument("--text", type=Path)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--states", default="24,16,8,4")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--bytes", type=int, default=120_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--task", type=json.loads, help='settings, as in {"pairs": 4}')
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    if given.part == "slots":
        found = slots(given.steps, given.examples, given.task)
    elif given.text is None:
        parser.error("--text is needed")
    elif given.part == "truncate":
        sizes = [int(size) for size in given.states.split(",")]
        found = truncated(given.model, given.text, sizes, given.tokens)
    else:
        found = online(given.text, given.bytes)
    record = {"part": given.part, "date": time.strftime("%Y-%m-%d"), **found}
    print(json.dumps(record, indent=2))
    if given.out is not None:
        given.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
