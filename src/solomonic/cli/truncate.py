"""`solomonic truncate DIR --text F --out OUT`: the same model with smaller states."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Device, Json
from solomonic.cli.probe import Model, Telling, Text, read_text
from solomonic.core import ConfigError, DataError, require

if TYPE_CHECKING:
    import torch

    from solomonic.lm.model import LanguageModel
    from solomonic.lm.truncate import LayerCut

LEAST = 64
"""Tokens, half of which choose and half of which measure."""


def truncate(
    directory: Model,
    text: Text,
    out: Annotated[Path, typer.Option(help="Folder for the smaller model.")],
    states: Annotated[
        int | None, typer.Option(help="Directions of the state to keep in each layer (half).")
    ] = None,
    tokens: Annotated[int, typer.Option(help="Read at most so many tokens.")] = 16384,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Balanced truncation: drop the directions of the states that carry least on a text.

    The first half of the text says what may go; losses and perplexity are measured on the second.
    """
    from solomonic.lm.any_model import load_any
    from solomonic.lm.pretrained import save_pretrained
    from solomonic.lm.truncate import TruncateConfig
    from solomonic.lm.truncate import truncate as cut

    config = TruncateConfig(states=states)
    require(tokens >= LEAST, f"--tokens {tokens} is too few to choose by; give {LEAST} or more.")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise ConfigError(f"{out} is there already; choose another --out.")
    data = read_text(text, 64 * tokens)
    model, tokenizer, name = load_any(directory, console.choose_device(device))
    import torch

    ids = torch.tensor([tokenizer.eos_id, *tokenizer.encode(data)][:tokens])
    if len(ids) < LEAST:
        raise DataError(f"{text} has {len(ids)} tokens; give at least {LEAST} to choose by.")
    tell = Telling()
    tell("choosing directions", 0.0)
    small, cuts = cut(model, ids, config)
    tell("measuring perplexity", 0.0)
    before, after = (_perplexity(one, ids) for one in (model, small))
    save_pretrained(out, small, tokenizer)
    sizes = [one.init_state(1).nbytes for one in (model, small)]
    record = {
        "model": name,
        "out": str(out),
        "perplexity_before": before,
        "perplexity_after": after,
        "state_bytes_before": sizes[0],
        "state_bytes_after": sizes[1],
        "layers": [one.to_json() for one in cuts],
    }
    if json:
        console.emit(record)
        return
    _show(record, cuts)


def _perplexity(model: LanguageModel, ids: torch.Tensor) -> float:
    """On the second half, with the first as context."""
    from solomonic.lm.score import token_log_probs

    scores, _ = token_log_probs(model, ids[None].to(model.device))
    return math.exp(-float(scores[0, len(ids) // 2 :].mean()))


def _show(record: dict[str, Any], cuts: list[LayerCut]) -> None:
    """The same for people."""
    rows = [
        (
            one.layer,
            f"{one.before} to {one.after}",
            one.frozen_error / one.frozen_norm,
            one.bound / one.frozen_norm,
            one.error / one.output,
            one.guarantee / one.output,
        )
        for one in cuts
    ]
    columns = (
        "layer", "states", "frozen: error", "Glover's bound", "on text: error", "guaranteed",
    )  # fmt: skip
    console.table(f"{record['model']}: losses as shares of a layer's output", columns, rows)
    console.say(
        f"perplexity {record['perplexity_before']:.3f} before, "
        f"{record['perplexity_after']:.3f} after; a stream's state "
        f"{console.show_bytes(record['state_bytes_before'])} before, "
        f"{console.show_bytes(record['state_bytes_after'])} after"
    )
    console.say(f"Try: solomonic generate {record['out']} --prompt '...'")
