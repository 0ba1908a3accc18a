"""The page against the real server: the shipped recogniser hears a file and a microphone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from page_support import SAMPLES, Watched, heard, play, real_parts, until
from serve_app import running
from solomonic.kernels import native
from solomonic.serve.config import ServeConfig

Open = Callable[..., Watched]
SENTENCE = "turn off the lights in the bedroom"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if native.load() is None:
        pytest.skip("needs the native core")
    parts = real_parts(tmp_path_factory.mktemp("model"))
    with running(ServeConfig(requests_per_minute=0), **parts) as server:
        yield server.url


def test_a_file_is_heard_reranked_and_drawn(watch: Open, origin: str) -> None:
    watched = watch(origin)
    page = watched.open()
    play(page, SAMPLES / "1.opus")
    assert heard(page, 1) == [SENTENCE]
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
      const partial = document.getElementById("partial");
      window.loudest = window.partials = 0;
      new MutationObserver(() => { window.partials += 1; }).observe(partial, { childList: true });
      new MutationObserver(() => {
        window.loudest = Math.max(window.loudest, meter.getAttribute("aria-valuenow"));
      }).observe(meter, { attributes: true });
    }""")
    page.click("#mic")
    page.wait_for_selector(".utterance")
    page.click("#mic")  # stop
    said = heard(page, 1)[0]
    assert said.split()[-4:] == SENTENCE.split()[-4:]  # its beginning may be lost on a busy machine
    assert page.evaluate("window.partials") > 1
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
