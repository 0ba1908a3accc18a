"""One browser and one server for all tests of the page; without Debian's Chromium they are skipped.

Everything that a page asks for is watched: nothing may leave the server's origin, and nothing may
be said in the console.
"""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]


class Server(uvicorn.Server):
    """uvicorn in a thread, on a free port of this machine."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(app, "127.0.0.1", 0, log_level="error", ws="websockets-sansio")
        )
        self.thread = threading.Thread(target=self.run, daemon=True)

    def install_signal_handlers(self) -> None:
        """None: the thread is not the main one."""

    def __enter__(self) -> str:
        """The address, once it listens."""
        self.thread.start()
        while not self.started:
            assert self.thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = self.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self.should_exit = self.force_exit = True
        self.thread.join(10)


@dataclass
class Watched:
    """A page with what it asked for and said."""

    page: Any
    origin: str
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note all requests, sockets, console lines and errors from now on."""
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("console", lambda line: self.said.append(f"{line.type}: {line.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))

    def check(self) -> None:
        """Nothing left the origin, and nothing was complained of."""
        allowed = (self.origin, self.origin.replace("http", "ws", 1), f"blob:{self.origin}")
        foreign = [url for url in self.requests if not url.startswith(allowed)]
        assert foreign == []
        assert self.said == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium through Playwright, without a network to the outside."""
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    api = pytest.importorskip("playwright.sync_api")
    os.environ.setdefault("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()
