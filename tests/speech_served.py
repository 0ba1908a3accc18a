"""A real server with the tiny recogniser on a free port of this machine, for tests of protocols."""

import asyncio
import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI

from solomonic.serve.app import create_app
from solomonic.serve.config import ServeConfig
from solomonic.serve.server import Server, make_server
from solomonic.serve.services import Services
from solomonic.serve.store import open_store
from solomonic.speech.events import Event
from solomonic.speech.lattice import Lattice, best_path, n_best
from solomonic.speech.native_recognizer import NativeRecognizer
from speech_tiny import RATE, command, silence

TINY = Path(__file__).parents[1] / "native/tests/data/speech.solo"


@dataclasses.dataclass
class Served:
    """Where it listens, and what it holds."""

    port: int
    services: Services
    server: Server
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """As a signal would."""
        self.server.should_exit = True


@contextlib.contextmanager
def serving(
    *, asr: bool = True, reranker: Any = None, lm: Any = None, **settings: Any
) -> Iterator[Served]:
    """The server, until the block ends."""
    config = ServeConfig(**{"port": 0, "requests_per_minute": 0, "grace": 5.0, **settings})
    app: FastAPI = create_app(
        config,
        asr=NativeRecognizer(TINY) if asr else None,
        lm=lm,
        store=open_store(None),
        reranker=reranker,
    )
    services: Services = app.state.services
    server = make_server(app, config)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until, "the server does not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(port, services, server, thread)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server does not stop"


def sounds(seed: int = 0, utterances: int = 2) -> np.ndarray:
    """(n,) int16: words and silences."""
    parts = [command(seed=seed + i) for i in range(utterances)]
    audio = np.concatenate([silence(0.3, 1e-3, seed=seed), *parts])
    return np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16)


def alone(audio: np.ndarray, rate: int = RATE, **options: Any) -> list[Event]:
    """What the recogniser says by itself about int16 samples."""
    stream = NativeRecognizer(TINY).create_stream(**options)
    stream.accept_waveform(rate, audio)
    stream.input_finished()
    return stream.events()


def plain(events: list[Event]) -> list[dict[str, Any]]:
    """Events as clients get them."""
    found = []
    for event in events:
        one = json.loads(json.dumps(event.to_json()))
        found.append({"type": one.pop("event"), **one})
    return found


class FakeReranker:
    """Prefers the lattice's second sentence; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.delay = 0.0

    def rerank(self, lattice: Lattice, memory: Any = None, *, n: int = 10) -> Any:
        self.asked += 1
        time.sleep(self.delay)
        paths = n_best(lattice, n)
        best = paths[min(1, len(paths) - 1)]
        sentences = [
            {"text": p.text, "arcs": list(p.arcs), "acoustic": p.acoustic, "bias": p.bias,
             "lm": -1.0, "internal": 0.0, "memory": 0.0, "words": len(p.words), "score": p.score}
            for p in paths
        ]  # fmt: skip
        one_best = best_path(lattice).text
        return FakeReranked(best.text, one_best, list(best.arcs), sentences)


@dataclasses.dataclass
class FakeReranked:
    text: str
    one_best: str
    arcs: list[int]
    sentences: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "one_best": self.one_best, "arcs": self.arcs,
                "hypotheses": self.sentences, "memory_hits": []}  # fmt: skip


def run(work: Any, seconds: float = 60) -> Any:
    """The coroutine to its end; one that hangs fails."""
    return asyncio.run(asyncio.wait_for(work, seconds))
