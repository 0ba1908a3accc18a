"""The page against the real server: the shipped recogniser hears a file and a microphone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from page_support import SAMPLES, Watched, heard, play, until
from serve_app import running
from serve_lm import tiny_lm
from solomonic.core import SolomonicError
from solomonic.kernels import native
from solomonic.serve.config import ServeConfig
from solomonic.serve.lm.loaded import LoadedModel, load_lm
from solomonic.serve.rescore import Reranker

Open = Callable[..., Watched]
SENTENCE = "turn off the lights in the bedroom"


def language_model() -> LoadedModel:
    """The package's, or a tiny one that nobody trained where it is not there yet."""
    try:
        return load_lm()
    except SolomonicError:
        return tiny_lm()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if native.load() is None:
        pytest.skip("needs the native core")
    from solomonic.speech.device_file import write_device_model
    from solomonic.speech.native_recognizer import NativeRecognizer
    from solomonic.speech.pretrained import device_file_of, load_speech_model
    from solomonic.speech.recognizer import SHIPPED

    path = device_file_of(SHIPPED)
    if path is None:
        path = tmp_path_factory.mktemp("model") / "english-small.solo"
        write_device_model(path, load_speech_model(SHIPPED))
    lm = language_model()
    parts: dict[str, Any] = {"asr": NativeRecognizer(path), "lm": lm, "reranker": Reranker(lm)}
    with running(ServeConfig(requests_per_minute=0), **parts) as server:
        yield server.url


def test_a_file_is_heard_reranked_and_drawn(watch: Open, origin: str) -> None:
    watched = watch(origin)
    page = watched.open()
    page.evaluate("""() => { window.partials = []; new MutationObserver(() => window.partials.push(
      document.getElementById("partial").textContent)).observe(
      document.getElementById("partial"), { childList: true }); }""")
    play(page, SAMPLES / "1.opus", "real")
    assert heard(page, 1) == [SENTENCE]
    assert len(page.evaluate("window.partials")) > 2
    best = page.locator("#lattice .tag.best tspan:first-child").all_text_contents()
    assert best == SENTENCE.split()
    assert page.locator("#lattice .band").count() == len(best)
    assert page.inner_text("#nbest-note") == "reranked"
    assert "language model" in page.inner_text("#nbest")
    watched.check()


def test_the_microphone_is_heard(watch: Open, origin: str, sentence: Path) -> None:
    """Chromium plays `sentence` as its microphone, through the page's own AudioWorklet."""
    watched = watch(origin)
    page = watched.open()
    page.evaluate("""() => {
      const meter = document.getElementById("meter");
      window.loudest = 0;
      new MutationObserver(() => {
        window.loudest = Math.max(window.loudest, meter.getAttribute("aria-valuenow"));
      }).observe(meter, { attributes: true });
    }""")
    page.click("#mic")
    page.wait_for_selector(".utterance")
    page.click("#mic")  # stop
    said = heard(page, 1)[0]
    assert said.split()[-4:] == SENTENCE.split()[-4:]  # its beginning may be lost on a busy machine
    assert 30 < page.evaluate("window.loudest") <= 100
    watched.check()


def test_text_streams_and_the_model_tells_what_it_keeps(watch: Open, origin: str) -> None:
    watched = watch(origin)
    page = watched.open("/#text")
    page.wait_for_selector("#model option:not([value=''])", state="attached")
    page.fill("#max-tokens", "24")
    page.fill("#seed", "1")
    page.fill("#prompt", "set an alarm for seven and wake me up with some")
    page.click("#generate")
    page.wait_for_selector("#map .token")
    assert page.inner_text("#rate")
    text = page.locator("#output-text").text_content()
    assert len(text) > len("set an alarm for seven and wake me up with some")
    assert page.locator("#map .layer-chip").count() > 0
    watched.check()


def test_personal_words_are_kept_for_the_user(watch: Open, origin: str) -> None:
    watched = watch(origin)
    page = watched.open()
    page.click("#open-settings")
    page.fill("#user", "ada")
    page.click("#settings-save")
    page.fill("#words-input", "siobhan")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('words-state').textContent === 'saved'")
    page.reload()
    page.wait_for_selector("#words-list .chip")
    assert page.inner_text("#words-list .chip").startswith("siobhan")
    watched.check()
