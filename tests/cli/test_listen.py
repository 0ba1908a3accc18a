"""`solomonic listen`: finals as lines, partials on a terminal, events as JSON, a clean end."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from solomonic.cli.listen import Patient
from solomonic.speech.recognizer import Recognizer
from speech_tiny import RATE, command, save_tiny, silence, speech

from .conftest import COMMAND, Done

Cli = Callable[..., Done]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("speech") / "model")


def pcm(samples: np.ndarray) -> bytes:
    return np.round(samples * 32767).astype("<i2").tobytes()


@pytest.fixture
def said() -> bytes:
    """Two commands; the second is not over when the input is."""
    return pcm(np.concatenate((command(seed=1), silence(0.3, 1e-3), speech(0.8, seed=2))))


@pytest.fixture
def finals(model: Path, said: bytes) -> list[str]:
    samples = np.frombuffer(said, "<i2").astype(np.float32) / 32768
    result = Recognizer.from_pretrained(model).transcribe(samples)
    return [part.text for part in result.utterances]


class Pipe(io.BytesIO):
    """Gives little at a time, as a microphone does, and may end in Ctrl-C."""

    def __init__(self, data: bytes, end: type[BaseException] | None = None) -> None:
        super().__init__(data)
        self.end = end

    def read1(self, size: int | None = -1, /) -> bytes:
        data = super().read(3001)  # cut inside samples
        if not data and self.end is not None:
            raise self.end
        return data


def feed(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=pipe))


def test_finals_are_lines(
    cli: Cli, model: Path, said: bytes, finals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(finals) == 2 and all(finals)
    feed(monkeypatch, Pipe(said))
    done = cli("listen", "--stdin", "--model", model)
    assert done == Done(0, "".join(f"{text}\n" for text in finals), "")


def test_ctrl_c_prints_what_was_said_last(
    cli: Cli, model: Path, said: bytes, finals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, Pipe(said, KeyboardInterrupt))
    done = cli("listen", "--stdin", "--model", model)
    assert done == Done(130, "".join(f"{text}\n" for text in finals), "")


def test_a_fault_in_the_audio_comes_after_what_was_said(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.append(command(seed=1, after=0.2), np.nan).astype("<f4")
    feed(monkeypatch, Pipe(samples.tobytes()))
    done = cli("listen", "--stdin", "--encoding", "f32le", "--model", model)
    assert done.status == 2
    assert done.out.strip()
    assert done.err.startswith("error: the audio holds samples that are not finite")


def test_events_as_json_lines(
    cli: Cli, model: Path, said: bytes, finals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, Pipe(said))
    done = cli("listen", "--stdin", "--json", "--model", model)
    assert done.err == ""
    ready, *events = [json.loads(line) for line in done.out.splitlines()]
    assert ready["event"] == "ready"
    assert ready["engine"]["model"] == str(model)
    kinds = [event["event"] for event in events]
    assert kinds[0] == "speech_start"
    assert {"partial", "speculative_end", "final"} <= set(kinds)
    assert [e["result"]["text"] for e in events if e["event"] == "final"] == finals
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)


def test_partials_are_rewritten_on_a_terminal(
    cli: Cli, model: Path, said: bytes, finals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line on standard error, wiped before each final; long ones show their end."""
    feed(monkeypatch, Pipe(said))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "12")
    done = cli("listen", "--stdin", "--model", model)
    assert done.out == "".join(f"{text}\n" for text in finals)
    assert "\n" not in done.err
    shown = done.err.split("\r\x1b[K")
    assert shown[0] == "" and shown[-1] == ""
    assert len(shown) > 5
    assert all(len(text) <= 10 for text in shown)


def test_a_stream_for_days_keeps_nothing(
    cli: Cli, model: Path, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = []
    create = Recognizer.create_stream

    def kept(self: Recognizer, *given: object, **more: object) -> object:
        streams.append(create(self, *given, **more))  # type: ignore[arg-type]
        return streams[-1]

    monkeypatch.setattr(Recognizer, "create_stream", kept)
    feed(monkeypatch, Pipe(said))
    assert cli("listen", "--stdin", "--model", model).status == 0
    (stream,) = streams
    assert stream.results == []


def test_the_microphone(
    cli: Cli, model: Path, said: bytes, finals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def microphone(rate: int, *, device: object) -> Iterator[np.ndarray]:
        asked.append((rate, device))
        yield np.frombuffer(said, "<i2").astype(np.float32) / 32768
        raise KeyboardInterrupt

    monkeypatch.setattr("solomonic.speech.audio.microphone", microphone)
    done = cli("listen", "--model", model, "--microphone", 3)
    assert done == Done(130, "".join(f"{text}\n" for text in finals), "")
    cli("listen", "--model", model, "--microphone", "usb", "--rate", RATE)
    assert asked == [(16000, 3), (16000, "usb")]


def test_no_sounddevice_is_one_sentence(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    done = cli("listen", "--model", model)
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "error: the microphone needs the extra solomonic[microphone] and PortAudio (Debian: "
        "libportaudio2); or pipe raw audio in: arecord -t raw -f S16_LE -r 16000 | "
        "solomonic listen --stdin.\n"
    )


def test_nothing_on_standard_input(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, Pipe(b""))
    done = cli("listen", "--stdin", "--model", model)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: standard input is empty")


def test_two_sources(cli: Cli) -> None:
    assert cli("listen", "--stdin", "--microphone", 1) == Done(
        2, "", "error: --stdin and --microphone exclude each other; give one of them.\n"
    )


def test_a_real_process_is_interrupted_cleanly(model: Path, said: bytes) -> None:
    """SIGINT while it waits for audio: the last words, status 130, no traceback."""
    process = subprocess.Popen(
        [*COMMAND, "listen", "--stdin", "--json", "--model", str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A suite that runs in the background inherits a SIGINT that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(said)
    process.stdin.flush()
    events = []
    while not events or events[-1]["event"] != "final":  # of the first command
        events.append(json.loads(process.stdout.readline()))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    events += [json.loads(line) for line in out.splitlines()]
    assert (process.returncode, err) == (130, b"")
    assert events[-1]["event"] == "final"


def test_work_is_finished_before_an_interrupt_counts() -> None:
    """An utterance used to be left half decoded when Ctrl-C came at the wrong moment."""
    patient, done = Patient(), []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), patient:
        with patient.at_work():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all of it")
        done.append("and no more")
    assert done == ["all of it"] and not patient.broken
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_breaks_off_work_and_one_while_waiting_counts_at_once() -> None:
    patient, done = Patient(), []
    with pytest.raises(KeyboardInterrupt), patient, patient.at_work():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        done.append("never")
    assert patient.broken and not done
    patient = Patient()
    with pytest.raises(KeyboardInterrupt), patient:
        os.kill(os.getpid(), signal.SIGINT)
        done.append("never")
    assert not patient.broken and not done
