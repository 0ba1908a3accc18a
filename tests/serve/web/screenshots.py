"""The pictures of docs/page.md: the real server in Chromium, with the spoken session of record.py.

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

from page_support import CHROMIUM, flags, heard, play, real_parts
from serve_app import running

DOCS = Path(__file__).resolve().parents[3] / "docs" / "img"
PROMPT = """my sister siobhan is coming to dinner on saturday
add bread milk and two lemons to my shopping list
set an alarm for half past six tomorrow morning
play some jazz in the kitchen and turn down the lights
what is the weather like in galway this weekend
call the restaurant and ask whether they have a table for four at eight
remind me to pick up the flowers and the cake from the bakery on friday afternoon
how long does the train from dublin take and what does a ticket cost
turn the heating up to twenty one degrees in the guest room
read me the last message from doctor okonkwo and then delete it
put the kettle on in ten minutes and open the blinds in the living room
send a message to siobhan and ask"""


def speech(page: Any, sound: Path) -> None:
    """The sentence that reranking mends, with a word pointed at."""
    play(page, sound)
    heard(page, 3)
    page.click("#lattice-previous")
    changed = page.locator("#lattice .tag.path:not(.best)")
    (changed if changed.count() else page.locator("#lattice .tag.path")).first.hover(force=True)


def text(page: Any, _: Path) -> None:
    """A text with its memory map."""
    page.click("#tab-text")
    page.fill("#prompt", PROMPT)
    page.fill("#seed", "3")
    page.fill("#max-tokens", "64")
    page.click("#generate")
    page.wait_for_selector("#map .token")
    page.locator("#map .token").nth(4).hover()


def main(folder: Path) -> None:
    """Take all three."""
    folder.mkdir(parents=True, exist_ok=True)
    shots = (("speech", speech, "light"), ("text", text, "light"), ("dark", speech, "dark"))
    with (
        tempfile.TemporaryDirectory() as place,
        running(**real_parts(Path(place))) as server,
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
            page.goto(server.url)
            page.wait_for_selector("html[data-ready]")
            act(page, sound)
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"page-{name}.png", full_page=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
