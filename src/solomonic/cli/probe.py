"""`solomonic probe DIR --text F`: what a model's layers remember, and what is used of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from solomonic.cli import console
from solomonic.cli.options import Device, Json, Seed
from solomonic.core import DataError

Model = Annotated[
    str,
    typer.Argument(
        metavar="DIR",
        help="Folder of a trained model, a device file (.solo), or 'shipped'.",
        show_default=False,
    ),
]
Text = Annotated[Path, typer.Option(help="The text to read.")]


def probe(
    directory: Model,
    text: Text,
    out: Annotated[Path, typer.Option("--out", "-o", help="The report: one HTML file.")] = Path(
        "probe.html"
    ),
    tokens: Annotated[int, typer.Option(help="Read at most so many tokens.")] = 4096,
    longest: Annotated[int, typer.Option(help="Largest distance of the causal influence.")] = 512,
    places: Annotated[int, typer.Option(help="Tokens to replace for it (0: none).")] = 64,
    seconds: Annotated[float, typer.Option(help="Replace no more after so long.")] = 60.0,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure what each layer remembers while the model reads a text, and write a report.

    Half-lives, Hankel singular values, what is driven and looked at, whether errors are white, and
    what the prediction owes to tokens far back. One page that needs nothing else.
    """
    from solomonic.evals.probe import save_page
    from solomonic.lm.any_model import load_any
    from solomonic.lm.probe.measure import ProbeConfig
    from solomonic.lm.probe.measure import probe as measure

    config = ProbeConfig(tokens=tokens, longest=longest, places=places, seconds=seconds, seed=seed)
    data = read_text(text, 64 * tokens)
    model, tokenizer, name = load_any(directory, console.choose_device(device))
    found = measure(model, tokenizer, data, config, name=name, progress=Telling())
    save_page(found, out)
    if json:
        console.emit(found.to_json())
        return
    rows = [
        (
            f"{layer.layer} {layer.kind}",
            "never" if layer.deadbeat is None else layer.deadbeat,
            "" if layer.half_lives is None else float(layer.half_lives[:, 2].max()),
            "" if layer.effective_rank is None else float(layer.effective_rank.mean()),
            "" if layer.whiteness is None else layer.whiteness.p_value,
        )
        for layer in found.layers
    ]
    columns = ("layer", "verbatim for", "longest half-life", "effective rank", "white (p)")
    console.table(f"{name} on {text}, {found.tokens:,} tokens", columns, rows)
    console.say(f"{out}: {found.bits_per_byte:.3f} bits a byte, {found.seconds:.0f} s")


def read_text(path: Path, most: int) -> bytes:
    """The first `most` bytes of a file.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from None
    if not data:
        raise DataError(f"{path} is empty; give a text with at least a few words.")
    return data


class Telling:
    """Progress: a line on standard error at each new task and every few seconds."""

    def __init__(self, pause: float = 5.0) -> None:
        self.pause, self._what, self._shown = pause, "", 0.0

    def __call__(self, what: str, share: float) -> None:
        now = time.monotonic()
        if what != self._what or now - self._shown >= self.pause:
            self._what, self._shown = what, now
            console.say(f"{what}: {share:.0%}")
