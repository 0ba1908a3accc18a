"""The pictures of docs/page.md: the page in Chromium, with the recorded session (record.py).

    PYTHONPATH=tests python tests/serve/web/screenshots.py [FOLDER]

Without FOLDER they go to docs/img.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import soundfile
from playwright.sync_api import sync_playwright
from record import session_audio

from page_fake import State, make_app
from page_support import CHROMIUM, Server, flags, heard, play

DOCS = Path(__file__).resolve().parents[3] / "docs" / "img"
PROMPT = "The old lighthouse keeper opened the door and"


def speech(page: Any, sound: Path) -> None:
    """The sentence that reranking mends, with a word pointed at."""
    play(page, sound)
    heard(page, 3)
    page.click("#lattice-previous")
    page.locator("#lattice .tag.path:not(.best)").first.hover(force=True)


def text(page: Any, _: Path) -> None:
    """A text with its memory map."""
    page.click("#tab-text")
    page.fill("#prompt", PROMPT)
    page.click("#generate")
    page.wait_for_selector("#map .token")
    page.locator("#map .token").nth(13).hover()


def main(folder: Path) -> None:
    """Take all three."""
    folder.mkdir(parents=True, exist_ok=True)
    shots = (("speech", speech, "light"), ("text", text, "light"), ("dark", speech, "dark"))
    with (
        tempfile.TemporaryDirectory() as place,
        Server(make_app(State())) as origin,
        sync_playwright() as playwright,
    ):
        sound = Path(place) / "session.wav"
        soundfile.write(sound, session_audio(), 16_000)
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags())
        for name, act, theme in shots:
            page = browser.new_page(
                viewport={"width": 1280, "height": 900}, color_scheme=theme, reduced_motion="reduce"
            )
            page.set_default_timeout(60_000)
            page.goto(origin)
            page.wait_for_selector("html[data-ready]")
            act(page, sound)
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"page-{name}.png", full_page=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
