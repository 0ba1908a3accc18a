"""What the tests of the page share: a server in a thread, and a browser page that is watched."""

import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

CHROMIUM = Path("/usr/bin/chromium")
SAMPLES = (
    Path(__file__).resolve().parent.parent / "src/solomonic/speech/models/english-small/samples"
)
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1440, 900)}
PATIENCE = 60_000  # ms: other work may keep both cores busy


def flags(sound: Path | None = None) -> list[str]:
    """Of Chromium: no sandbox (tests may run as root), and a microphone that plays `sound` once."""
    found = [
        "--no-sandbox",
        "--disable-gpu",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
    ]
    return found if sound is None else [*found, f"--use-file-for-fake-audio-capture={sound}%noloop"]


class Server(uvicorn.Server, AbstractContextManager):
    """uvicorn in a thread, on a free port of this machine. Entered, it is its address."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(
            app, "127.0.0.1", 0, log_level="critical", ws="websockets-sansio", lifespan="off"
        )
        super().__init__(config)
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.started:
            assert self.thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        return f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.should_exit = self.force_exit = True
        self.thread.join(10)


@dataclass
class Watched:
    """A browser page, with all it asked for and said."""

    page: Any
    origin: str
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("console", lambda line: self.said.append(f"{line.type}: {line.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))

    def open(self, path: str = "/") -> Any:
        """Load the page and wait until it is set up."""
        self.page.goto(self.origin + path)
        self.page.wait_for_selector("html[data-ready]")
        return self.page

    def check(self, *, said: str | None = None) -> None:
        """No request left the origin, and the console is empty (or says only `said`)."""
        allowed = (
            f"{self.origin}/",
            self.origin.replace("http", "ws", 1) + "/",
            f"blob:{self.origin}/",
        )
        assert self.requests
        assert [url for url in self.requests if not url.startswith(allowed)] == []
        assert [line for line in self.said if said is None or said not in line] == []


def play(page: Any, file: Path, pace: str = "fast") -> None:
    """Give the page a recording."""
    page.select_option("#pace", pace)
    page.set_input_files("#file", str(file))


def heard(page: Any, sentences: int) -> list[str]:
    """What stands in the transcript once the stream is over."""
    page.wait_for_selector(f".utterance:nth-child({sentences})")
    page.wait_for_selector("#state[data-state=done]")
    return page.locator(".utterance .sentence").all_inner_texts()


def until(page: Any, condition: str) -> None:
    """Wait for an expression to hold. Playwright's own way needs `eval`, which the page forbids."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(30)


def overflow(page: Any) -> int:
    """Px by which the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def real_parts(folder: Path) -> dict[str, Any]:
    """Recogniser, language model and reranker of the package, for `serve_app.running`.

    Where the language model is not there, a tiny one that nobody trained.
    """
    from serve_lm import tiny_lm
    from solomonic.core import SolomonicError
    from solomonic.serve.lm.loaded import load_lm
    from solomonic.serve.rescore import Reranker
    from solomonic.speech.device_file import write_device_model
    from solomonic.speech.native_recognizer import NativeRecognizer
    from solomonic.speech.places import SHIPPED, device_file_of
    from solomonic.speech.pretrained import load_speech_model

    path = device_file_of(SHIPPED)
    if path is None:
        path = folder / "english-small.solo"
        write_device_model(path, load_speech_model(SHIPPED))
    try:
        lm = load_lm()
    except SolomonicError:
        lm = tiny_lm()
    return {"asr": NativeRecognizer(path), "lm": lm, "reranker": Reranker(lm)}
