"""One browser and one server that plays a recording, for all tests of the page."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from page_fake import State, make_app
from page_support import CHROMIUM, SAMPLES, Server, Watched, flags


@pytest.fixture(scope="session")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence with silence around it, as the fake microphone takes it: 16-bit WAV, 48 kHz."""
    samples, rate = soundfile.read(SAMPLES / "1.opus", dtype="float32")
    times = np.arange(int(len(samples) * 48_000 / rate)) * rate / 48_000
    path = tmp_path_factory.mktemp("sound") / "sentence.wav"
    soundfile.write(path, np.interp(times, np.arange(len(samples)), samples), 48_000)
    return path


@pytest.fixture(scope="session")
def session_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As long as the recorded session; the server that plays it does not listen."""
    parts = [soundfile.read(SAMPLES / f"{n}.opus", dtype="float32")[0] for n in (1, 5, 2)]
    path = tmp_path_factory.mktemp("sound") / "session.wav"
    soundfile.write(path, np.concatenate(parts), 16_000)
    return path


@pytest.fixture(scope="module")
def browser(sentence: Path) -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright. Not of the session: while Playwright lives, an event
    loop runs in this thread, and no test of another module that a worker has taken could start one.
    """
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=flags(sentence), timeout=120_000
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def _served() -> Iterator[tuple[State, str]]:
    state = State()
    with Server(make_app(state)) as origin:
        yield state, origin


@pytest.fixture
def state(_served: tuple[State, str]) -> State:
    """Of the server; as new for every test."""
    _served[0].__dict__.update(State().__dict__)
    return _served[0]


@pytest.fixture
def watch(browser: Any) -> Iterator[Callable[..., Watched]]:
    """Makes watched pages in windows of their own; arguments as `browser.new_context`."""
    contexts = []

    def make(origin: str, size: tuple[int, int] = (1440, 900), **options: Any) -> Watched:
        viewport = {"width": size[0], "height": size[1]}
        context = browser.new_context(viewport=viewport, permissions=["microphone"], **options)
        contexts.append(context)
        return Watched(context.new_page(), origin)

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def fake(
    watch: Callable[..., Watched], state: State, _served: tuple[State, str]
) -> Callable[..., Watched]:
    """Makes watched pages of the server that plays the recording."""
    return lambda *args, **options: watch(_served[1], *args, **options)
