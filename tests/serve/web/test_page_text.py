"""The text tab in a real browser: streams, stopping, the memory map, and keyboards."""

from collections.abc import Callable

import pytest

from page_fake import HITS, STORY, State
from page_support import SIZES, Watched, overflow, until

expect = pytest.importorskip("playwright.sync_api").expect
Open = Callable[..., Watched]
PROMPT = "The old lighthouse keeper opened the door and"


@pytest.mark.parametrize("size", SIZES)
def test_a_text_streams_and_is_mapped(fake: Open, state: State, size: str) -> None:
    watched = fake(SIZES[size])
    page = watched.open("/#text")
    page.wait_for_selector("#model option[value=assistant-small]", state="attached")
    page.fill("#prompt", PROMPT)
    page.fill("#seed", "7")
    page.fill("#stop-at", "\\n\\n")
    page.click("#generate")
    page.wait_for_selector("#map .token")
    assert page.inner_text("#output-text") == PROMPT + STORY
    body = state.bodies[0]
    assert (body["model"], body["prompt"], body["seed"]) == ("assistant-small", PROMPT, 7)
    assert (body["stream"], body["stop"]) == (True, ["\n\n"])
    assert 0 <= body["temperature"] <= 2
    tokens = page.locator("#map .token-text").all_text_contents()
    assert "".join(tokens) == PROMPT + STORY
    assert (
        page.locator("#map .strip rect.kept").count() == 6 + 8 + 4
    )  # all slots of the three layers
    assert overflow(page) <= 0
    watched.check()


def test_the_map_goes_back_in_time(fake: Open) -> None:
    watched = fake()
    page = watched.open("/#text")
    page.fill("#prompt", PROMPT + STORY)
    page.click("#map-now")
    page.wait_for_selector("#map .token")
    kept = page.locator("#map .strip rect.kept").count()
    page.locator("#map-time").focus()
    page.keyboard.press("Home")
    tokens = page.locator("#map .token").count()
    expect(page.locator("#map .strip rect.kept")).to_have_count(0)
    expect(page.locator("#map .token.unread")).to_have_count(tokens - 1)
    page.keyboard.press("End")
    expect(page.locator("#map .strip rect.kept")).to_have_count(kept)
    page.locator('#map .token[tabindex="0"]').focus()
    page.keyboard.press("ArrowRight")
    told = page.inner_text("#map .inspector")
    assert "token 1" in told
    assert "layer 3" in told
    page.click("#map .layer-chip >> nth=0")
    expect(page.locator("#map .strip rect.kept")).to_have_count(kept - 6)
    page.click("#map summary")
    expect(page.locator("#map tbody tr")).to_have_count(tokens)  # drawn when it is first opened
    watched.check()


def test_stopping(fake: Open, state: State) -> None:
    state.pause = 0.25
    watched = fake()
    page = watched.open("/#text")
    page.fill("#prompt", PROMPT)
    page.keyboard.press("Control+Enter")
    until(page, "document.getElementById('rate').textContent.startsWith('2 ')")
    page.click("#stop")
    page.wait_for_selector("#generate:not([disabled])")
    text = page.inner_text("#output-text")
    assert text.startswith(PROMPT + " looked")
    assert len(text) < len(PROMPT + STORY)
    assert "stopped" in page.inner_text("#rate")
    watched.check(said="ERR_ABORTED")


def test_chat_keeps_what_was_said(fake: Open, state: State) -> None:
    state.hits = True
    watched = fake()
    page = watched.open("/#text")
    page.check("input[value=chat]", force=True)
    for text in ("hello", "and again"):
        page.fill("#prompt", text)
        page.keyboard.press("Enter")
        page.wait_for_selector("#generate:not([disabled])")
    turns = page.locator("#output-text .turn").all_text_contents()
    assert turns == [
        "You: hello", "Model: You said hello.", "You: and again", "Model: You said and again.",
    ]  # fmt: skip
    assert [one["role"] for one in state.bodies[1]["messages"]] == ["user", "assistant", "user"]
    page.wait_for_selector("#text-hits li")  # they come with the memory map
    assert HITS[0]["text"] in page.inner_text("#text-hits")
    watched.check()


def test_a_fault_in_the_stream_is_told(fake: Open, state: State) -> None:
    state.cut = True
    watched = fake()
    page = watched.open("/#text")
    page.fill("#prompt", PROMPT)
    page.click("#generate")
    page.wait_for_selector("#text-banner:not([hidden])")
    assert page.inner_text("#text-banner") == "The model was taken away; try again."
    assert page.inner_text("#output-text") == PROMPT + STORY  # what came is kept
    assert page.is_enabled("#generate")
    watched.check()


def test_tabs_by_keyboard(fake: Open) -> None:
    watched = fake()
    page = watched.open()
    page.locator("#tab-speech").focus()
    for key, shown in (("ArrowRight", "text"), ("ArrowRight", "speech"), ("ArrowLeft", "text"),
                       ("Home", "speech"), ("End", "text")):  # fmt: skip
        page.keyboard.press(key)
        hidden = "speech" if shown == "text" else "text"
        assert page.evaluate("document.activeElement.id") == f"tab-{shown}"
        assert page.get_attribute(f"#tab-{shown}", "aria-selected") == "true"
        assert page.is_visible(f"#panel-{shown}")
        assert page.is_hidden(f"#panel-{hidden}")
        assert page.get_attribute(f"#tab-{hidden}", "tabindex") == "-1"
    page.keyboard.press("Tab")  # into the panel or the rest of the header, not to the other tab
    assert page.evaluate("document.activeElement.id") != "tab-speech"
    watched.check()


def test_themes(fake: Open) -> None:
    watched = fake(color_scheme="dark", reduced_motion="reduce")
    page = watched.open()
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.click("#theme")  # light, whatever the system says
    light = page.evaluate(background)
    assert dark != light
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate(background) == light
    page.click("#theme")
    assert page.evaluate(background) == dark
    watched.check()
