"""A real server on a free port of this machine, in a thread, for tests with real clients."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from solomonic.serve.app import create_app
from solomonic.serve.config import ServeConfig
from solomonic.serve.server import Server, make_server
from solomonic.serve.services import Services
from solomonic.serve.store import open_store


class Running:
    """A server that runs: its address and its insides."""

    def __init__(self, server: Server, url: str, thread: threading.Thread) -> None:
        self.server, self.url, self.thread = server, url, thread

    @property
    def services(self) -> Services:
        return self.server.services

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """As a signal would; returns when the server has ended."""
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()


@contextlib.contextmanager
def running(config: ServeConfig | None = None, **parts: Any) -> Iterator[Running]:
    """Serve `parts` (asr, lm, store, reranker) while entered."""
    config = config or ServeConfig(requests_per_minute=0)
    store = parts.pop("store", None) or open_store(None)
    app = create_app(config, store=store, **parts)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = make_server(app, config)
    work = server.serve(sockets=[listening])
    thread = threading.Thread(target=lambda: asyncio.run(work), daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        scheme = "https" if config.tls_cert else "http"
        yield Running(server, f"{scheme}://127.0.0.1:{listening.getsockname()[1]}", thread)
    finally:
        if thread.is_alive():
            server.should_exit = True
            thread.join(60)
        listening.close()
        store.close()
