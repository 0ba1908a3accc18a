"""The `solomonic` command: its parts, and the one place where an error becomes an exit status.

0    done
1    something unexpected (a fault of ours), a closed pipe, or a demo that did not convince
2    wrong usage, or a `SolomonicError`: one line on standard error says what and what to do
130  interrupted from the keyboard
"""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from solomonic import __version__
from solomonic.cli import (
    adapt,
    claims,
    compress,
    demo,
    evaluate,
    explain,
    gen,
    generate,
    inspect,
    listen,
    memory,
    merge,
    plot,
    probe,
    read,
    rerank,
    serve,
    solve,
    train,
    transcribe,
    truncate,
    update,
    zip,
)
from solomonic.core import SolomonicError

app = typer.Typer(
    name="solomonic",
    help="Sequence models that remember: B'MOJO language models, trained, measured and run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="eval")
app.add_typer(plot.app, name="plot")
app.add_typer(gen.app, name="gen")
app.add_typer(serve.app, name="serve")
app.add_typer(claims.app, name="claims")
app.add_typer(memory.app, name="memory")
app.command("generate")(generate.generate)
app.command("read")(read.read)
app.command("merge")(merge.merge)
app.command("adapt")(adapt.adapt)
app.command("transcribe")(transcribe.transcribe)
app.command("listen")(listen.listen)
app.command("rerank")(rerank.rerank)
app.command("tune-rerank")(rerank.tune_rerank)
app.command("compress")(compress.compress)
app.command("inspect")(inspect.inspect)
app.command("probe")(probe.probe)
app.command("truncate")(truncate.truncate)
app.command("diff")(update.diff)
app.command("patch")(update.patch)
app.command("zip")(zip.zip_file)
app.command("unzip")(zip.unzip_file)
app.command("solve")(solve.solve)
app.command("explain")(explain.explain)
app.command("demo")(demo.demo)


@dataclass
class Session:
    """What the options before the command say about the whole invocation."""

    debug: bool = False


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"solomonic {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="SOLOMONIC_DEBUG", help="Show tracebacks of errors."),
    ] = False,
) -> None:
    if isinstance(context.obj, Session):
        context.obj.debug = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: `sys.argv`) and return its exit status."""
    session = Session()
    command = typer.main.get_command(app)
    try:
        # In its standalone form Typer shows usage errors its own way and asks for an exit.
        command(arguments, prog_name="solomonic", obj=session)
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else int(request.code is not None)
    except SolomonicError as error:
        _complain(str(error), session)
        return error.exit_status
    except Exception as error:
        hint = "" if session.debug else " (run `solomonic --debug ...` to see where)"
        _complain(f"unexpected {type(error).__name__}: {error}{hint}", session)
        return 1
    return 0


def run() -> None:
    """The entry point of the installed command: `main`, and the end of the process."""
    # Text that the terminal cannot show must not end a generation half-way.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (`| head`); without this Python complains once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or 1
    sys.exit(status)


def _complain(message: str, session: Session) -> None:
    """One line on standard error, after the traceback where one was asked for."""
    if session.debug:
        traceback.print_exc()
    print("error: " + " ".join(message.splitlines()), file=sys.stderr)
