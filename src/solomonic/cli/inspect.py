"""`solomonic inspect DIR`: what a trained model is made of, what it remembers, what will run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Json
from solomonic.core import CheckpointError

if TYPE_CHECKING:
    from solomonic.layers import ModelConfig
    from solomonic.lm.model import LanguageModel, ModelState

# What the tensors of a layer's state are for, by the first part of their name.
_MEMORIES = {
    "raw": "window",
    "raw_eps": "window",
    "kv": "full attention",
    "kv_time": "full attention",
    "slots": "eidetic",
    "slot_eps": "eidetic",
    "slot_time": "eidetic",
    "faded": "fading",
    "ssm": "fading",
    "h": "fading",
    "past": "fading",
}


_SHOWN = ("hidden_size", "num_attention_heads", "intermediate_size", "window_size",
          "refresh_period", "eidetic_slots", "fading_slots", "fading_lag", "ssm_state_size",
          "transition", "position", "vocab_size")  # fmt: skip


def inspect(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="Folder of a language model, a device file, or a file of states.",
            show_default=False,
        ),
    ],
    json: Json = False,
) -> None:
    """Show a model's parameters by part, its state, its layers, and which kernels run.

    Of a device file (model.solo): its bytes by matrix. Of a state file or a delta: what it says.
    """
    from solomonic.cli.inspect_device import RECOGNISER, inspect_device, model_type
    from solomonic.cli.inspect_state import inspect_checked
    from solomonic.lm.pretrained import load_pretrained

    if directory.is_file():
        return None if inspect_checked(directory, json) else inspect_device(directory, json)
    if not directory.exists():
        raise CheckpointError(
            f"there is nothing at {directory}; give a model's folder, a device file (.solo) or a "
            "file of states."
        )
    if model_type(directory) == RECOGNISER:
        file = shlex.quote(f"{directory.name}.solo")
        raise CheckpointError(
            f"{directory} is a recogniser's folder; make its device file and inspect that: "
            f"solomonic compress {shlex.quote(str(directory))} --bits 8 -o {file}"
        )
    model, tokenizer = load_pretrained(directory)
    record = describe(model, directory) | {
        "tokenizer": {"kind": type(tokenizer).__name__, "vocab_size": tokenizer.vocab_size}
    }
    if json:
        console.emit(record)
        return
    _show(record)


def describe(model: LanguageModel, directory: Path) -> dict[str, Any]:
    """The model as a record: parameters, state bytes of one stream, layers, kernels, settings."""
    from solomonic.layers import LAYER_KINDS
    from solomonic.lm.paths import paths
    from solomonic.state import nbytes

    state = model.init_state(1)
    layers = [
        {
            "layer": index,
            "letter": letter,
            "kind": LAYER_KINDS[letter],
            "parameters": sum(p.numel() for p in block.parameters()),
            "state_bytes": nbytes(part),
        }
        for index, (letter, block, part) in enumerate(
            zip(model.config.layers, model.blocks, state.stack.layers, strict=True)
        )
    ]
    return {
        "directory": str(directory),
        "pattern": model.config.layers,
        "dtype": str(model.embed.weight.dtype).removeprefix("torch."),
        "parameters": {"all": sum(p.numel() for p in model.parameters()), **_by_part(model)},
        "state_bytes": nbytes(state),
        "memories": _memories(state),
        "state_grows": "T" in model.config.layers,
        "layers": layers,
        "kernels": paths(model)["prefill"],
        "config": model.config.to_json() | _derived(model.config),
    }


def _derived(config: ModelConfig) -> dict[str, Any]:
    """What the settings that may be left open come to."""
    return {
        "num_hidden_layers": len(config.layers),
        "num_key_value_heads": config.key_value_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.mlp_size,
        "refresh_period": config.refresh,
        "fading_lag": config.lag,
    }


def _by_part(model: LanguageModel) -> dict[str, int]:
    """Parameters by what they do; tied ones once, under 'embedding'."""
    counts = {"embedding": 0, "mixers": 0, "fading memories": 0, "MLPs": 0, "norms": 0, "head": 0}
    for name, parameter in model.named_parameters():
        counts[_part(name, model.config.layers)] += parameter.numel()
    return {part: count for part, count in counts.items() if count}


def _part(name: str, layers: str) -> str:
    if name.startswith(("embed.", "head.")):
        return "embedding" if name.startswith("embed.") else "head"
    if ".mlp." in name:
        return "MLPs"
    if ".mixer." not in name:
        return "norms"
    alone = layers[int(name.split(".")[1])] in "MD"  # such a layer is nothing but fading memory
    return "fading memories" if alone or ".ssm." in name else "mixers"


def _memories(state: ModelState) -> dict[str, int]:
    """Bytes of one stream's state by kind of memory."""
    counts: dict[str, int] = {}
    for layer in state.stack.layers:
        for name, tensor in layer.leaves():
            kind = _MEMORIES.get(name.partition(".")[0], "other")
            counts[kind] = counts.get(kind, 0) + tensor.numel() * tensor.element_size()
    return counts


def _show(record: Mapping[str, Any]) -> None:
    grows = " at the start; full attention adds to it with every token" * record["state_grows"]
    screen = console.screen()
    screen.print(f"[bold]{record['directory']}[/bold]  {record['pattern']}  {record['dtype']}")
    memories = ", ".join(f"{k} {console.show_bytes(n)}" for k, n in record["memories"].items())
    size = console.show_bytes(record["state_bytes"])
    screen.print(f"state of one stream: {size}{grows} ({memories})\n")
    console.table("Parameters", ("part", "number"), record["parameters"].items())
    rows = [
        (f"{row['layer']} {row['letter']}  {row['kind']}", row["parameters"],
         console.show_bytes(row["state_bytes"]))
        for row in record["layers"]
    ]  # fmt: skip
    console.table("Layers", ("layer", "parameters", "state"), rows)
    settings = [(name, record["config"][name]) for name in _SHOWN]
    console.table("Settings", ("name", "value"), settings)
    screen.print("[bold]Kernels[/bold]")
    for line in record["kernels"]:
        screen.print(f"  {line}", markup=False)
