"""The picture of a lattice: well-formed, complete, and no label over another."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from lattice_support import command_lattice, random_lattice
from solomonic.core import StorageError
from solomonic.speech.lattice import (
    Arc,
    Lattice,
    best_path,
    build_lattice,
    draw_lattice,
    save_lattice_svg,
)

SVG = "{http://www.w3.org/2000/svg}"


def boxes(svg: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """x, y, width, height of every label."""
    rects = [group.find(SVG + "rect") for group in svg.iter(SVG + "g")]
    return [
        tuple(float(rect.attrib[name]) for name in ("x", "y", "width", "height"))  # type: ignore[misc]
        for rect in rects
        if rect is not None
    ]


@pytest.mark.parametrize(
    "lattice",
    [
        command_lattice(0, rivals=5),
        command_lattice(1, rivals=7, seconds=2.0),
        random_lattice(3, nodes=12, extra=20),
        random_lattice(5, nodes=2, extra=0),
    ],
)
def test_no_label_covers_another(lattice: Lattice) -> None:
    svg = ElementTree.fromstring(draw_lattice(lattice))
    found = boxes(svg)
    assert len(found) == lattice.arcs
    width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
    for index, (x, y, w, h) in enumerate(found):
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
        for other_x, other_y, other_w, other_h in found[index + 1 :]:
            apart_x = x + w <= other_x or other_x + other_w <= x
            apart_y = y + h <= other_y or other_y + other_h <= y
            assert apart_x or apart_y


def test_the_best_path_is_blue_and_says_the_title() -> None:
    lattice = command_lattice(0)
    svg = ElementTree.fromstring(draw_lattice(lattice))
    path = best_path(lattice)
    blue = [
        text
        for group in svg.iter(SVG + "g")
        for text in group.iter(SVG + "text")
        if text.attrib["fill"] == "#0072B2"
    ]
    assert sorted(str(text.text) for text in blue) == sorted(path.words)
    assert path.text in "".join(svg.itertext())
    assert {"0", "1", "4", "time in s"} <= {str(text.text) for text in svg.iter(SVG + "text")}


def test_markup_in_words_and_titles_is_text() -> None:
    lattice = build_lattice([0, 0], [Arc(0, 1, '<&">', -1.0)], 1, frame_seconds=0.06)
    svg = ElementTree.fromstring(draw_lattice(lattice, title="<script>"))
    assert "<script>" in "".join(svg.itertext())
    assert '<&">' in "".join(svg.itertext())


def test_saving(tmp_path: Path) -> None:
    path = save_lattice_svg(command_lattice(0), tmp_path / "a.svg")
    assert path.read_text(encoding="utf-8").startswith("<svg ")
    with pytest.raises(StorageError, match="cannot write"):
        save_lattice_svg(command_lattice(0), tmp_path / "none" / "a.svg")
