"""The speech tab in a real browser, against a server that plays a recording."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from page_fake import State
from page_support import SIZES, Watched, heard, overflow, play, until

Open = Callable[..., Watched]
SAID = [
    "turn off the lights in the bedroom",
    "add milk and bread to my shopping list",
    "set a timer for twelve minutes",
]
HEARD = "add milk and credit to my shopping list"


def note_partials(page: Any) -> None:
    """Keep what the sentence under way looks like, whenever it changes."""
    page.evaluate("""() => {
      window.partials = [];
      const note = () => {
        const words = (kind) => [...document.querySelectorAll(`#partial .${kind}`)].map((n) => n.textContent);
        window.partials.push({ stable: words("stable"), unstable: words("unstable"),
          arcs: document.querySelectorAll("#lattice .tag").length });
      };
      new MutationObserver(note).observe(document.getElementById("partial"), { childList: true });
    }""")  # noqa: E501


@pytest.mark.parametrize("size", SIZES)
def test_a_recording_is_heard(fake: Open, state: State, session_audio: Path, size: str) -> None:
    state.slow = 0.025  # so that the browser paints in between
    watched = fake(SIZES[size])
    page = watched.open()
    note_partials(page)
    play(page, session_audio)
    assert heard(page, 3) == SAID
    partials = page.evaluate("window.partials")
    assert any(one["stable"] and one["unstable"] for one in partials)
    assert any(one["arcs"] for one in partials)  # the lattice grows while somebody speaks

    # The sentence that reranking changed: what was heard, both paths, the parts of the score.
    page.click("#lattice-previous")
    assert page.inner_text(".utterance:nth-child(2) .heard") == f"heard: {HEARD}"
    best = page.locator("#lattice .tag.best tspan:first-child").all_text_contents()
    path = page.locator("#lattice .tag.path tspan:first-child").all_text_contents()
    assert (best, path) == (HEARD.split(), SAID[1].split())
    assert page.locator("#lattice .band").count() == len(path)
    page.locator("#lattice .tag.path:not(.best)").first.hover()
    told = page.inner_text("#lattice-inspector")
    assert all(name in told for name in ("bread", "acoustic", "language model", "memory"))
    assert page.locator("#nbest li").count() > 3

    marks = page.locator("#timeline .mark")
    kinds = {(marks.nth(n).get_attribute("class") or "").split()[1] for n in range(marks.count())}
    assert kinds <= {"speech_start", "speculative_end", "reset", "final"}
    assert len(kinds) > 1
    assert overflow(page) <= 0
    watched.check()


def test_pictures_are_tables_too(fake: Open, session_audio: Path) -> None:
    watched = fake()
    page = watched.open()
    play(page, session_audio)
    heard(page, 3)
    for name in ("time", "lattice"):
        page.click(f"#{name}-table summary")
    events = page.locator("#time-table tbody tr").all_inner_texts()
    assert [row.split("\t")[1] for row in events[:4]] == [
        "speech starts", "probably over", "reset", "probably over",
    ]  # fmt: skip
    assert "committed" in page.inner_text("#time-table")
    arcs = page.locator("#lattice-table tbody tr")
    few = arcs.count()
    page.check("#lattice-all")
    until(page, f"document.querySelectorAll('#lattice-table tbody tr').length > {few}")
    watched.check()


def test_the_lattice_by_keyboard(fake: Open, session_audio: Path) -> None:
    watched = fake()
    page = watched.open()
    play(page, session_audio)
    heard(page, 3)
    first = page.locator('#lattice .tag[tabindex="0"]')
    assert first.count() == 1
    first.focus()
    seen = [page.inner_text("#lattice-inspector")]
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        seen.append(page.inner_text("#lattice-inspector"))
    assert len(set(seen)) == 4
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#lattice-inspector") == seen[2]
    page.locator("#nbest button").nth(2).focus()
    page.keyboard.press("Enter")
    other = page.inner_text("#nbest button[aria-pressed=true] .words")
    path = page.locator("#lattice .tag.path tspan:first-child").all_text_contents()
    assert path == other.split()
    watched.check()


def test_what_was_said_can_be_saved(fake: Open, session_audio: Path) -> None:
    watched = fake()
    page = watched.open()
    assert page.is_disabled("#save-srt")
    play(page, session_audio)
    heard(page, 3)
    saved = {}
    for kind in ("txt", "json", "srt"):
        with page.expect_download() as coming:
            page.click(f"#save-{kind}")
        saved[kind] = Path(coming.value.path()).read_text(encoding="utf-8")
    assert saved["txt"] == "\n".join(SAID) + "\n"
    plain = json.loads(saved["json"])
    assert [one["text"] for one in plain["sentences"]] == SAID
    assert plain["sentences"][1]["one_best"] == HEARD
    blocks = saved["srt"].strip().split("\n\n")
    assert blocks[0].startswith("1\n00:00:00,480 --> 00:00:0")
    assert " ".join(block.split("\n")[2] for block in blocks) == " ".join(SAID)
    watched.check()


def test_a_broken_connection_is_mended(fake: Open, state: State, session_audio: Path) -> None:
    state.breaks = [5.0]  # in the middle of the second sentence
    watched = fake()
    page = watched.open()
    page.evaluate("""() => { window.told = new Set(); new MutationObserver(() => window.told.add(
      document.getElementById("speech-banner").textContent)).observe(
      document.getElementById("speech-banner"), { childList: true, subtree: true }); }""")
    play(page, session_audio)
    # The second connection is sent what came after the first final. The server, which does not
    # listen, plays its recording from the start: so its first sentence comes again, as the second.
    texts = heard(page, 3)
    assert texts[:2] == [SAID[0], SAID[0]]
    assert len(state.starts) == 2
    assert any("Trying again" in told for told in page.evaluate("[...window.told]"))
    assert page.is_hidden("#speech-banner")
    times = page.locator(".utterance button.time").all_inner_texts()
    assert times[0] == "0:00.3"
    assert times[1].startswith("0:03.")
    watched.check()


def test_a_full_server_is_asked_again(fake: Open, state: State, session_audio: Path) -> None:
    state.full = 1
    watched = fake()
    page = watched.open()
    play(page, session_audio)
    page.wait_for_selector("#speech-banner:not([hidden])")
    assert "all streams are taken" in page.inner_text("#speech-banner").lower()
    assert heard(page, 3) == SAID
    watched.check()


def test_a_key_is_asked_for_and_forgotten(fake: Open, state: State, session_audio: Path) -> None:
    state.key = "s3cret"
    watched = fake()
    page = watched.open()
    play(page, session_audio)
    page.click("#speech-banner button")
    page.fill("#user", "ada")
    page.fill("#key", "s3cret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#words-list .chip")  # loaded again, now with the key
    play(page, session_audio)
    assert heard(page, 3) == SAID
    assert state.users == ["ada"]
    assert "s3cret" not in page.evaluate("JSON.stringify(localStorage)")
    assert "s3cret" in page.evaluate("JSON.stringify(sessionStorage)")
    assert not any("s3cret" in url for url in watched.requests)
    watched.check(said="401")


def test_personal_words(fake: Open, state: State, session_audio: Path) -> None:
    watched = fake()
    page = watched.open()
    chips = page.locator("#words-list .chip")
    page.wait_for_selector("#words-list .chip:nth-child(2)")
    page.fill("#words-input", "doctor okonkwo, kathleen, aoife")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('words-state').textContent === 'saved'")
    assert state.phrases == ["siobhan", "kathleen", "doctor okonkwo", "aoife"]
    page.click("[aria-label='Remove kathleen']")
    until(page, "document.getElementById('words-state').textContent === 'saved'")
    assert state.phrases == ["siobhan", "doctor okonkwo", "aoife"]
    page.fill("#words-input", "x")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('words-state').textContent.includes('heard')")
    assert chips.count() == 3  # as before: the server refused
    page.uncheck("#remember")
    play(page, session_audio)
    heard(page, 3)
    assert "phrases" not in state.starts[0]  # the server has them
    assert state.starts[0]["remember"] is False
    page.click("#open-settings")
    page.click("#forget")
    assert state.phrases
    page.click("#forget")
    until(page, "!document.querySelector('#words-list .chip')")
    assert state.phrases == []
    watched.check(said="400")


def test_flags_and_memory_hits(fake: Open, state: State, session_audio: Path) -> None:
    state.flags = state.hits = True
    watched = fake()
    page = watched.open()
    play(page, session_audio)
    heard(page, 3)
    flags = page.locator(".utterance:first-child .flag").all_inner_texts()
    assert flags == ["speaker kathleen", "whispered", "language en"]
    assert "kathleen asked for bread" in page.inner_text("#speech-hits")
    watched.check()


def test_what_is_no_audio_is_said_to_be_none(fake: Open, tmp_path: Path) -> None:
    watched = fake()
    page = watched.open()
    for name, content, told in (
        ("a.wav", b"RIFF nonsense", "cannot decode"),
        ("b.wav", b"", "empty"),
    ):
        (tmp_path / name).write_bytes(content)
        play(page, tmp_path / name)
        until(page, f"document.getElementById('speech-banner').textContent.includes('{told}')")
        assert page.is_enabled("#choose")
    watched.check()


def test_rates_are_changed_without_aliases(fake: Open) -> None:
    """Tones at 44.1 and 48 kHz, in pieces of 128 as the browser gives them."""
    watched = fake()
    page = watched.open()
    levels = page.evaluate("""async () => {
      const { Resampler } = await import("/static/resample.js");
      const found = [];
      for (const rate of [44100, 48000, 16000, 8000]) for (const tone of [440, 3000, 10000]) {
        if (tone > rate / 2) continue;
        const resampler = new Resampler(rate);
        const output = [];
        for (let at = 0; at < rate; at += 128) {
          const block = Float32Array.from({ length: 128 }, (_, i) => Math.sin(2 * Math.PI * tone * (at + i) / rate));
          output.push(...resampler.push(block));
        }
        let error = 0, power = 0;
        for (let n = 2000; n < 14000; n += 1) {
          const wanted = tone < 8000 ? Math.sin(2 * Math.PI * tone * n / 16000) : 0;
          error += (output[n] - wanted) ** 2; power += 0.5;
        }
        found.push([rate, tone, output.length, Math.sqrt(error / power)]);
      }
      return found;
    }""")  # noqa: E501
    for rate, tone, length, error in levels:
        if rate == 16_000 and tone == 10_000:
            continue
        assert abs(length - 16_000) < 200, (rate, tone)
        assert error < 0.01, (rate, tone)
    watched.check()
