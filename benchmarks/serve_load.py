"""Many people speaking to one server at once: latency, losses, memory; slow clients; a peer.

    make bench ARGS=serve_load                                  about five minutes
    make bench ARGS='serve_load --streams 20 --seconds 20'      a short form
    make bench ARGS='serve_load --seconds 1800 --no-peer'       memory over half an hour

A server process of its own on the shipped model; recordings of people, sent as fast as people speak
in pieces of 100 ms over `/v1/stream`, each stream beginning at a random moment of the first second.
The latency of an event is the time from sending the last sample that it needed to its arrival. What
arrives is compared with what the recogniser says alone about the same audio, event by event: any
that is missing, doubled or out of order counts. Then the same with slow and broken clients besides.

The peer is sherpa-onnx behind an asyncio server built as its own example is
(peers/serve_sherpa.py), with the network of `recogniser_peers`: LSTM layers, as many parameters as
the shipped model, random weights; ours runs the same weights. Both are measured by Vosk's protocol,
one reply for each 100 ms of audio. They take turns; both are in the same run.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from peers.protocol import ROOT
from recogniser import memory_of, recordings
from solomonic.evals.report import markdown_table, save_report
from solomonic.speech.audio import RATE
from solomonic.speech.native_recognizer import NativeRecognizer
from solomonic.speech.places import DEVICE_FILE, SHIPPED

WORK = ROOT / "build" / "bench" / "serve_load"
NETWORK = ROOT / "build" / "bench" / "recogniser_peers"
RESULTS = Path(__file__).parent / "results"
PEER = ROOT / "build" / "peers" / "sherpa" / "bin" / "python"
PIECE = RATE // 10
RULES = ("never_speaks", "never_reads", "half_a_frame", "nonsense", "vanishes", "no_handshake")
"""What a slow or broken client does."""


def main(arguments: list[str]) -> None:
    """Measure; a table on the screen, all figures in a result file."""
    if arguments[:1] == ["--server"]:
        serve(Path(arguments[1]))
        return
    if arguments[:1] == ["--broken"]:
        asyncio.run(misbehave(int(arguments[1]), int(arguments[2]), float(arguments[3])))
        return
    parser = argparse.ArgumentParser(description=__doc__, prog="run.py serve_load")
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0, help="audio of a stream")
    parser.add_argument("--broken", type=int, default=200, help="slow or broken clients")
    parser.add_argument("--peer", type=Path, default=PEER, help="interpreter with sherpa-onnx")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    given = parser.parse_args(arguments)
    WORK.mkdir(parents=True, exist_ok=True)
    model = SHIPPED / DEVICE_FILE
    audios = clips(given.streams, given.seconds)
    record: dict[str, Any] = {
        "streams": given.streams, "seconds": given.seconds, "broken": given.broken,
        "cores": os.cpu_count(), "load": os.getloadavg(),
        "kernels": NativeRecognizer(model).describe()["kernels"],
    }  # fmt: skip
    expected = [alone(model, audio) for audio in audios]
    with ours(model) as (port, process):
        record["stream"] = asyncio.run(measure(port, process, audios, expected))
    with ours(model) as (port, process), broken(port, given.broken, given.seconds):
        record["stream_with_broken_clients"] = asyncio.run(measure(port, process, audios, expected))
    if not given.no_peer:
        record["peers"] = against(given.peer, audios)
    record["load_after"] = os.getloadavg()
    show(record)
    if not given.no_save:
        print(save_report(RESULTS, "serve_load", record))


def clips(streams: int, seconds: float) -> list[np.ndarray]:
    """(n,) int16 for each stream: read sentences, each stream beginning with another one."""
    spoken = recordings(40)
    pause = np.zeros(RATE, np.float32)
    found = []
    for stream in range(streams):
        order = [spoken[(stream + i) % len(spoken)] for i in range(len(spoken))]
        sound = np.concatenate([part for clip in order for part in (clip, pause)])
        sound = np.resize(sound, int(seconds * RATE) // PIECE * PIECE)
        found.append(np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16))
    return found


def alone(model: Path, audio: np.ndarray) -> list[dict[str, Any]]:
    """The events of one stream by itself, as clients get them."""
    stream = NativeRecognizer(model).create_stream()
    stream.accept_waveform(RATE, audio)
    stream.input_finished()
    found = []
    for event in stream.events():
        plain = json.loads(json.dumps(event.to_json()))
        found.append({"type": plain.pop("event"), **plain})
    return found


# Servers


def serve(model: Path) -> None:
    """The process that is measured."""
    from solomonic.serve.app import create_app
    from solomonic.serve.config import ServeConfig
    from solomonic.serve.server import make_server
    from solomonic.serve.store import open_store

    config = ServeConfig(
        port=0, max_streams=1000, max_streams_per_client=1000, max_connections=4000,
        requests_per_minute=0, log_level="error",
    )  # fmt: skip
    app = create_app(config, asr=NativeRecognizer(model), store=open_store(None))
    server = make_server(app, config)

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print("listening", server.servers[0].sockets[0].getsockname()[1], flush=True)
        await serving

    asyncio.run(run())


@contextlib.contextmanager
def ours(model: Path) -> Iterator[tuple[int, int]]:
    """Our server's port and process."""
    command = [sys.executable, str(Path(__file__).parent / "run.py"), "serve_load", "--server"]
    with running([*command, str(model)]) as (line, process):
        yield int(line.split()[1]), process


@contextlib.contextmanager
def theirs(python: Path, kind: str, chunk: int) -> Iterator[tuple[int, int]]:
    """The peer's."""
    port = random.SystemRandom().randint(20_000, 30_000)
    worker = Path(__file__).parent / "peers" / "serve_sherpa.py"
    command = [str(python), str(worker), str(NETWORK / "onnx"), kind, str(chunk), str(port)]
    with running(command) as (_, process):
        yield port, process


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[tuple[str, int]]:
    """A server that has said that it listens, until the block ends."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening"):
            raise SystemExit(f"{' '.join(command)} did not start.")
        yield line, process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


# Clients


async def measure(
    port: int, process: int, audios: list[np.ndarray], expected: list[list[dict[str, Any]]]
) -> dict[str, Any]:
    """All streams over /v1/stream."""
    watching = asyncio.create_task(watch(process))
    chance = random.Random(0)
    speaking = [speak(port, audio, chance.random()) for audio in audios]
    answers = await asyncio.gather(*speaking, return_exceptions=True)
    watching.cancel()
    partial, other, lost, failed = [], [], 0, 0
    for answer, right in zip(answers, expected, strict=True):
        if isinstance(answer, BaseException):
            failed += 1
            continue
        events, latencies = answer
        lost += sum(one != two for one, two in zip(events, right, strict=False))
        lost += abs(len(events) - len(right))
        for event, latency in zip(events, latencies, strict=True):
            (partial if event["type"] == "partial" else other).append(latency)
    return {
        "partial": quantiles(partial), "other": quantiles(other),
        "events": len(partial) + len(other), "lost_or_reordered": lost, "failed": failed,
        **memory(await watching_result(watching)),
    }  # fmt: skip


async def speak(
    port: int, audio: np.ndarray, delay: float
) -> tuple[list[dict[str, Any]], list[float]]:
    """One stream in real time: its events and how late each was (s)."""
    async with connect(f"ws://127.0.0.1:{port}/v1/stream", open_timeout=60) as socket:
        await socket.send('{"type": "start"}')
        await socket.recv()
        sent: list[float] = []
        events: list[dict[str, Any]] = []
        latencies: list[float] = []

        async def listen() -> None:
            async for message in socket:
                event = json.loads(message)
                if event["type"] == "done":
                    return
                needed = min(int(np.ceil(event["time"] * RATE / PIECE - 1e-6)) - 1, len(sent) - 1)
                latencies.append(time.monotonic() - sent[max(needed, 0)])
                events.append(event)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(delay)
        async for piece in in_real_time(audio):
            sent.append(time.monotonic())
            await socket.send(piece)
        await socket.send('{"type": "finish"}')
        await asyncio.wait_for(listening, 60)
        return events, latencies


async def speak_vosk(port: int, audio: np.ndarray, delay: float) -> list[float]:
    """The same by Vosk's protocol: how late each reply was (s)."""
    async with connect(f"ws://127.0.0.1:{port}/", open_timeout=60) as socket:
        await socket.send('{"config": {"sample_rate": 16000, "words": false}}')
        await asyncio.sleep(delay)
        sent: list[float] = []
        latencies: list[float] = []

        async def listen() -> None:
            for _ in range(len(audio) // PIECE):
                await socket.recv()
                latencies.append(time.monotonic() - sent[len(latencies)])

        listening = asyncio.create_task(listen())
        async for piece in in_real_time(audio):
            sent.append(time.monotonic())
            await socket.send(piece)
        await asyncio.wait_for(listening, 120)
        await socket.send('{"eof" : 1}')
        await asyncio.wait_for(socket.recv(), 60)
        return latencies


async def in_real_time(audio: np.ndarray) -> AsyncIterator[bytes]:
    """Pieces of 100 ms when they would have been recorded."""
    start = time.monotonic()
    for number, first in enumerate(range(0, len(audio), PIECE)):
        await asyncio.sleep(max(start + (number + 1) * PIECE / RATE - time.monotonic(), 0))
        yield audio[first : first + PIECE].tobytes()


async def watch(process: int) -> list[int]:
    """Resident bytes of a process, twice a second, until cancelled."""
    found: list[int] = []
    try:
        while True:
            found.append(memory_of(process, 0)[0])
            await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        return found


async def watching_result(watching: "asyncio.Task[list[int]]") -> list[int]:
    return await watching


def memory(resident: list[int]) -> dict[str, Any]:
    """Megabytes at the beginning, when all streams have been there for a quarter, at the end."""
    quarter = resident[len(resident) // 4] if resident else 0
    return {
        "resident_after_a_quarter": quarter,
        "resident_at_the_end": resident[-1] if resident else 0,
        "resident_most": max(resident, default=0),
    }


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and the most, in ms."""
    if not seconds:
        return {}
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return {"p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99, "most_ms": 1e3 * max(seconds)}


# Slow and broken clients


@contextlib.contextmanager
def broken(port: int, count: int, seconds: float) -> Iterator[None]:
    """They misbehave in a process of their own."""
    command = [sys.executable, str(Path(__file__).parent / "run.py"), "serve_load", "--broken"]
    process = subprocess.Popen([*command, str(port), str(count), str(seconds + 30)])
    try:
        time.sleep(3)
        yield
    finally:
        process.terminate()
        process.wait()


async def misbehave(port: int, count: int, seconds: float) -> None:
    """So many clients, each by one of the rules, again and again."""
    until = time.monotonic() + seconds

    async def one(number: int) -> None:
        chance = random.Random(number)
        await asyncio.sleep(3 * chance.random())
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                await asyncio.wait_for(
                    once(port, RULES[number % len(RULES)], chance), until - time.monotonic()
                )
            await asyncio.sleep(0.5 + chance.random())

    await asyncio.gather(*(one(number) for number in range(count)))


async def once(port: int, rule: str, chance: random.Random) -> None:
    """One connection that a server regrets."""
    if rule == "no_handshake":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for letter in b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n":
            writer.write(bytes([letter]))
            await asyncio.sleep(0.5)
        await reader.read()
        return
    async with connect(f"ws://127.0.0.1:{port}/v1/stream", open_timeout=30) as socket:
        if rule == "nonsense":
            await socket.send(chance.randbytes(50).hex())
            await asyncio.sleep(1)
            return
        await socket.send('{"type": "start", "lattices": "json"}')
        if rule == "never_speaks":
            await asyncio.sleep(1e6)
        if rule == "half_a_frame":
            await socket.send(bytes(3201))
            await asyncio.sleep(1e6)
        sound = np.random.default_rng(chance.randrange(10)).integers(-9000, 9000, 5 * RATE)
        data = sound.astype("<i2").tobytes()
        if rule == "vanishes":
            await socket.send(data)
            await asyncio.sleep(chance.random())
            socket.transport.abort()
            return
        socket.transport.pause_reading()  # never reads, and sends as fast as it may
        while True:
            await socket.send(data)


# The peer


def against(python: Path, audios: list[np.ndarray]) -> dict[str, Any] | None:
    """Both servers on the same weights, by the same protocol, one after the other."""
    if not python.is_file() or not (NETWORK / "onnx" / "tokens.txt").is_file():
        print(f"no peer: {python} or {NETWORK}/onnx is missing; run recogniser_peers first.")
        return None
    found: dict[str, Any] = {}
    servers: dict[str, Any] = {
        "ours, LSTM": lambda: ours(NETWORK / "lstm.solo"),
        "sherpa-onnx int8, 60 ms": lambda: theirs(python, "int8", 6),
        "sherpa-onnx int8, 300 ms": lambda: theirs(python, "int8", 30),
        "ours, shipped model": lambda: ours(WORK / "english-small.solo"),
    }
    for name, server in servers.items():
        with server() as (port, process):
            found[name] = asyncio.run(measure_vosk(port, process, audios))
    base = found["ours, LSTM"]["reply"].get("p99_ms", float("nan"))
    for one in found.values():
        one["p99_against_ours"] = one["reply"].get("p99_ms", float("nan")) / base
    return found


async def measure_vosk(port: int, process: int, audios: list[np.ndarray]) -> dict[str, Any]:
    """All streams by Vosk's protocol."""
    watching = asyncio.create_task(watch(process))
    chance = random.Random(0)
    before = processor_seconds(process)
    answers = await asyncio.gather(
        *(speak_vosk(port, audio, chance.random()) for audio in audios), return_exceptions=True
    )
    spent = processor_seconds(process) - before
    watching.cancel()
    heard = [answer for answer in answers if not isinstance(answer, BaseException)]
    seconds = sum(map(len, audios)) / RATE
    return {
        "reply": quantiles([latency for latencies in heard for latency in latencies]),
        "failed": len(answers) - len(heard), "processor_per_second": spent / seconds,
        **memory(await watching_result(watching)),
    }  # fmt: skip


def processor_seconds(process: int) -> float:
    """Of user and system so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(record: dict[str, Any]) -> None:
    """The figures for eyes."""
    rows = []
    for name in ("stream", "stream_with_broken_clients"):
        one = record[name]
        rows.append(
            [name.replace("_", " "), milliseconds(one["partial"]), str(one["events"]),
             str(one["lost_or_reordered"]), str(one["failed"]),
             f"{one['resident_after_a_quarter'] / 1e6:.0f} to "
             f"{one['resident_at_the_end'] / 1e6:.0f} MB"]
        )  # fmt: skip
    head = ["", "partials p50 / p99 / most", "events", "lost or reordered", "failed", "memory"]
    print(markdown_table(head, rows))
    if record.get("peers"):
        rows = [
            [name, milliseconds(one["reply"]), f"{one['p99_against_ours']:.2f}",
             f"{one['processor_per_second']:.4f}", f"{one['resident_most'] / 1e6:.0f} MB",
             str(one["failed"])]
            for name, one in record["peers"].items()
        ]  # fmt: skip
        head = ["", "replies p50 / p99 / most", "p99 against ours", "processor s per s", "memory",
                "failed"]  # fmt: skip
        print(markdown_table(head, rows))


def milliseconds(one: dict[str, float]) -> str:
    if not one:
        return "-"
    return f"{one['p50_ms']:.0f} / {one['p99_ms']:.0f} / {one['most_ms']:.0f} ms"
