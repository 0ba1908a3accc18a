"""axe-core finds nothing wrong with either tab, in either theme, empty and in use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from page_support import SIZES, Watched, heard, play

AXE = Path(__file__).resolve().parent / "vendor" / "axe" / "axe.min.js"
Open = Callable[..., Watched]


def violations(page: Any) -> list[str]:
    """What axe finds: rule, element and why."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [
        f"{rule['id']}: {node['target']}: {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_violations(fake: Open, session_audio: Path, theme: str) -> None:
    size = SIZES["desktop"] if theme == "light" else SIZES["phone"]
    watched = fake(size, color_scheme=theme, reduced_motion="reduce")
    page = watched.open()
    assert violations(page) == []
    play(page, session_audio)
    heard(page, 3)
    page.click("#lattice-previous")
    page.click("#time-table summary")
    page.click("#lattice-table summary")
    assert violations(page) == []
    page.click("#open-settings")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.click("#tab-text")
    page.fill("#prompt", "The old lighthouse keeper opened the door and")
    page.click("#generate")
    page.wait_for_selector("#map .token")
    page.click("#map summary")
    assert violations(page) == []
    watched.check()


def test_the_check_sees_what_is_wrong(fake: Open) -> None:
    page = fake().open()
    page.evaluate("document.getElementById('mic').querySelector('span').remove()")
    assert any(line.startswith("button-name: ['#mic']") for line in violations(page))
