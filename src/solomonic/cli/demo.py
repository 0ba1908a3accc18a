"""`solomonic demo`: train, complete, show what B'MOJO remembers, and hear spoken commands."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Json, Seed
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from solomonic.cli.demo_recall import Contest

_MARK = "demo.json"  # what says that a folder is a demonstration's, and may be made anew
_PARTS = ("lm", "recall")


def demo(
    minutes: Annotated[
        float, typer.Option(help="How long the model of Python trains.", min=0.01)
    ] = 1.5,
    out: Annotated[Path, typer.Option(help="Folder for models, logs and pictures.")] = Path(
        "demo-out"
    ),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Train a small B'MOJO model of Python, let it write, let it compete in remembering, and let
    the shipped recogniser hear spoken commands.

    Takes three minutes or so on two cores. The exit status is 0 only if B'MOJO answered what a
    window-only model of the same size could not.
    """
    from solomonic.cli import demo_language, demo_recall, demo_show, demo_speech

    started = time.perf_counter()
    _use_idle_cores()
    story = console.notes() if json else console.screen()
    _prepare(out)
    story.rule("1  A language model", align="left")
    language = demo_language.train_on_library(out, minutes, seed, story)
    language["completion"] = demo_language.complete(out, seed, story, live=not json)
    story.rule("2  What it remembers", align="left")
    contest = demo_recall.hold_contest(out, seed, story)
    demo_show.show_story(contest, story)
    demo_show.show_table(contest, story)
    pictures = [*demo_show.save_figures(contest, out), out / "lm" / "loss.png"]
    story.rule("3  What it hears", align="left")
    speech = demo_speech.hear(out, story)
    pictures += [speech["picture"]] if speech.get("picture") else []
    record = {
        "language": language,
        "recall": contest.record(),
        "speech": speech,
        "pictures": pictures,
        "seconds": round(time.perf_counter() - started, 1),
    }
    _conclude(record, contest, out, story)
    if json:
        console.emit(record)
    if not contest.convincing:
        raise typer.Exit(1)


def _use_idle_cores() -> None:
    """Compute with as many threads as there are idle cores, four at most.

    The models are tiny: more threads only wait for one another, and on a core that another program
    holds they wait so long that training takes ten times the time.
    """
    import torch

    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    torch.set_num_threads(max(1, min(4, round(torch.get_num_threads() - busy))))


def _prepare(out: Path) -> None:
    """An empty place for the results; only what an earlier demonstration made is removed.

    Raises:
        ConfigError: the folder holds something else under the names needed.
    """
    from solomonic.train import write_files

    if not (out / _MARK).is_file():
        taken = [name for name in _PARTS if (out / name).exists()]
        if taken:
            raise ConfigError(
                f"{out / taken[0]} is not from a demonstration; choose another folder with --out."
            )
    for name in _PARTS:
        shutil.rmtree(out / name, ignore_errors=True)
    console.make_folder(out)
    write_files(out, lambda folder: _write(folder / _MARK, "{}\n"))


def _conclude(record: dict[str, Any], contest: Contest, out: Path, story: Console) -> None:
    """The verdict in one sentence, where everything lies, and the record on disk."""
    import json

    from solomonic.train import write_files

    plain = json.dumps(console.plain(record), indent=2) + "\n"
    write_files(out, lambda folder: _write(folder / _MARK, plain))
    figures = contest.figures
    far = {name: f"{figures[name]['far']:.1%}" for name in figures}
    if contest.convincing:
        story.print(
            f"\n[bold]B'MOJO answers {far['bmojo']} of what was told outside every window, the "
            f"window-only model of the same size {far['window']}.[/bold]"
        )
    else:
        story.print(
            f"\n[bold red]Not convincing this time:[/bold red] B'MOJO answered {far['bmojo']} of "
            f"what was told outside every window after {figures['bmojo']['steps']} training steps, "
            f"the window-only model {far['window']}; on a slow or busy machine the clock may have "
            "ended training too early, so try again when it is idle."
        )
    story.print(f"\nAll of it took {record['seconds']:.0f} s and lies in {out}/:", soft_wrap=True)
    for path in record["pictures"]:
        story.print(f"  {path}", markup=False, soft_wrap=True)
    model = shlex.quote(str(out / "lm"))
    story.print(f"  {out / 'lm'}  (try: solomonic generate {model} --prompt 'import ')",
                markup=False, soft_wrap=True)  # fmt: skip


def _write(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
