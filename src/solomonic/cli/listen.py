"""`solomonic listen`: a microphone or raw audio on stdin, written down while somebody speaks."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from solomonic.cli import console, speech
from solomonic.cli.options import Device
from solomonic.core import ConfigError, DataError

if TYPE_CHECKING:
    from types import FrameType

    import numpy as np

    from solomonic.speech.events import Event
    from solomonic.speech.native_recognizer import NativeStream
    from solomonic.speech.stream import Stream

_CLEAR = "\r\x1b[K"  # back to the start of the line, and wipe it


def listen(
    microphone: Annotated[
        str | None, typer.Option(metavar="N", help="Number or name of the microphone.")
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Raw audio from standard input.")] = False,
    rate: Annotated[int, typer.Option(help="Samples a second.")] = 16000,
    encoding: speech.Encoding = "s16le",
    model: speech.AnyModel = None,
    bias: speech.BiasFile = None,
    classes: speech.Classes = None,
    carrier: speech.Carriers = None,
    no_attention: speech.NoAttention = False,
    greedy: speech.Greedy = False,
    beam: speech.Beam = None,
    device: Device = "auto",
    verbose: speech.Verbose = False,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON for every event.")] = False,
) -> None:
    """Write down what is said, while it is said.

    Finished utterances are lines on standard output. On a terminal the words so far stand in a line
    below that is rewritten. Ctrl-C ends it, after what was said last.
    """
    if stdin and microphone is not None:
        raise ConfigError("--stdin and --microphone exclude each other; give one of them.")
    recognizer = speech.open_any(model, device, greedy=greedy, beam=beam)
    words, engine = speech.prepared(recognizer, model, bias, classes, carrier, not no_attention)
    stream = recognizer.create_stream(words, attention=not no_attention)
    source = speech.raw_input(encoding) if stdin else _microphone(rate, microphone)
    if verbose:
        speech.tell(engine)
    writer = Writer(json)
    if json:
        console.emit_line({"event": "ready", "engine": engine})
    patient = Patient()
    try:
        with patient:
            for samples in source:
                with patient.at_work():
                    stream.accept_waveform(rate, samples)
                    writer.show(stream)
    except KeyboardInterrupt:
        if not patient.broken:
            _finish(stream, writer)
        raise typer.Exit(130) from None
    except DataError:
        _finish(stream, writer)  # what was said before the fault is not lost
        raise
    _finish(stream, writer)


class Patient:
    """While entered, Ctrl-C breaks off waiting for audio at once, and work when it is done: a
    stream that is left in the middle of a frame cannot be finished. A second Ctrl-C breaks off
    work too, and `broken` says so.

    Outside the main thread, where Python allows no signal handlers, it changes nothing.
    """

    def __init__(self) -> None:
        self._working = self._asked = self.broken = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """What is not to be broken off."""
        self._working = True
        try:
            yield
        finally:
            self._working = False
        if self._asked:
            raise KeyboardInterrupt

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._working and not self._asked:
            self._asked = True
        else:
            self.broken = self._working
            raise KeyboardInterrupt


class Writer:
    """Shows events: finals on standard output, the words so far on a terminal's last line."""

    def __init__(self, json: bool) -> None:
        self.json = json
        self.live = not json and sys.stderr.isatty()
        self._shown = False

    def show(self, stream: Stream | NativeStream) -> None:
        """What is new in the stream."""
        for event in stream.events():
            self.event(event)
        stream.results.clear()  # they have been shown; a day of listening takes no memory

    def event(self, event: Event) -> None:
        """One event."""
        from solomonic.speech.events import Final, Partial

        if self.json:
            console.emit_line(event.to_json())
        elif isinstance(event, Partial):
            self._rewrite(event.text)
        elif isinstance(event, Final):
            self._rewrite("")
            if event.result.text:
                print(event.result.text, flush=True)

    def close(self) -> None:
        """Leave the terminal tidy."""
        self._rewrite("")

    def _rewrite(self, text: str) -> None:
        if not self.live or not (text or self._shown):
            return
        room = max(shutil.get_terminal_size().columns - 2, 10)
        if len(text) > room:
            text = f"…{text[-room + 1 :]}"  # the newest words matter
        sys.stderr.write(_CLEAR + text)
        sys.stderr.flush()
        self._shown = bool(text)


def _microphone(rate: int, name: str | None) -> Iterator[np.ndarray]:
    from solomonic.speech.audio import microphone

    device = int(name) if name is not None and name.isdecimal() else name
    return microphone(rate, device=device)


def _finish(stream: Stream | NativeStream, writer: Writer) -> None:
    """The end of the input: the last word too."""
    stream.input_finished()
    writer.show(stream)
    writer.close()
