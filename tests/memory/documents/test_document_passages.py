"""Documents become passages: verbatim, at their places, the same however the text comes."""

import codecs
import random
import tracemalloc
from pathlib import Path

import pytest

from solomonic.core import ConfigError, DataError
from solomonic.memory.documents import (
    Part,
    PassageConfig,
    cut,
    list_files,
    open_document,
    read_document,
)

TEXT = (
    "Erste Zeile — ‘ein’ Satz. Noch einer!\n\nZweiter Absatz…\r\nmit Zeilenende.\r\rDritter: 日本。"
)
CLEAN = TEXT.replace("\r\n", "\n").replace("\r", "\n")


def words(draw: random.Random, count: int) -> str:
    breaks = [" ", " ", " ", ". ", "\n", "\n\n", " \n  \n", "。", "?” "]
    made = [
        "".join(draw.choices("abcdefghijkléü日", k=draw.randrange(1, 12))) + draw.choice(breaks)
        for _ in range(count)
    ]
    return "".join(made)


def test_passages_are_the_text_however_it_comes() -> None:
    draw = random.Random(0)
    for _ in range(60):
        text, config = (
            words(draw, draw.randrange(200)),
            PassageConfig(size=draw.choice([16, 50, 200])),
        )
        whole = list(cut([Part(text)], config))
        joined = "".join(passage.text for passage in whole)
        assert text.startswith(joined), (text, whole)
        assert not text[len(joined) :].strip()
        for passage in whole:
            assert text[passage.offset : passage.offset + len(passage.text)] == passage.text
            assert len(passage.text) <= config.size
            assert passage.text.strip()
        ends = sorted(draw.randrange(len(text) + 1) for _ in range(draw.randrange(30)))
        blocks = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
        assert list(cut(map(Part, blocks), config)) == whole


def test_where_a_passage_ends() -> None:
    config = PassageConfig(size=40)
    paragraphs = "A first paragraph of words.\n\nA second. It has sentences, and no more to say."
    assert [p.text for p in cut([Part(paragraphs)], config)] == [
        "A first paragraph of words.\n\n",
        "A second. It has sentences, and no more ",
        "to say.",
    ]
    (first, second) = cut([Part("x" * 39 + "e\u0301" + "y" * 10)], config)
    assert first.text == "x" * 39  # the accent stays with its letter
    assert second.offset == 39
    assert list(cut([Part(" \n" * 500)], config)) == []
    gap = list(cut([Part("one" + " " * 200 + "two")], config))
    assert [p.text.strip() for p in gap] == ["one", "two"]
    assert gap[1].offset + len(gap[1].text) == 206
    with pytest.raises(ConfigError, match="size = 3"):
        PassageConfig(size=3)


def test_pages_and_sections_are_not_joined() -> None:
    parts = [
        Part("page one", page=1, whole=True),
        Part("\n \n", page=2, whole=True),
        Part("page three", page=3, whole=True),
    ]
    found = list(cut(parts))
    assert [(p.text, p.page, p.offset) for p in found] == [
        ("page one", 1, 0),
        ("\n \npage three", 3, 8),
    ]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
    ],
)
def test_encodings_are_recognised(encoding: str, mark: bytes) -> None:
    assert read_document(open_document(mark + TEXT.encode(encoding))) == CLEAN


def test_encodings_without_a_mark() -> None:
    western = "Zürich – 5 €, “so”".encode("windows-1252")
    found = open_document(western)
    assert found.encoding == "windows-1252"
    assert read_document(found) == "Zürich – 5 €, “so”"
    assert read_document(open_document("plain words\n".encode("utf-16-le"))) == "plain words\n"
    russian = "Привет".encode("koi8-r")
    assert read_document(open_document(russian, encoding="koi8-r")) == "Привет"
    for binary in (b"\x89PNG\r\n\x1a\n\0\0", b"abc\x81def", bytes(range(256))):
        with pytest.raises(DataError, match="standard input is binary or text of an unknown"):
            open_document(binary)
    with pytest.raises(DataError, match="no text encoding 'tea'"):
        open_document(b"a", encoding="tea")
    with pytest.raises(DataError, match="no text encoding 'hex'"):
        open_document(b"a", encoding="hex")
    with pytest.raises(DataError, match="is no ascii text"):
        read_document(open_document("ü".encode(), encoding="ascii"))
    with pytest.raises(ConfigError, match="no kind of document 'tea'"):
        open_document(b"a", kind="tea")


def test_characters_cut_by_blocks(tmp_path: Path) -> None:
    text = "é日𝄞\r\n" * 30_000  # of 2, 3 and 4 bytes, and line ends over the borders of blocks
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode())
    assert read_document(open_document(file)) == text.replace("\r\n", "\n")
    file.write_bytes(text.encode()[:-2])  # ends in a whole character
    assert open_document(file).encoding == "utf-8"
    file.write_bytes(text.encode()[:-3])  # ends within one
    with pytest.raises(DataError, match="binary or text of an unknown"):
        open_document(file)


def test_large_texts_are_never_in_memory_whole(tmp_path: Path) -> None:
    for name in ("a.txt", "a.md"):
        file = tmp_path / name
        file.write_text("# Heading\n\nso much depends upon a red wheel barrow\n" * 40_000)
        tracemalloc.start()
        count = sum(1 for _ in cut(open_document(file).parts()))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count > 2_000
        assert peak < 1 << 20


def test_markdown_knows_its_sections() -> None:
    text = (
        "intro\n# One\n## Sub *x* ##\ntext\n```python\n# no heading\n```\nmore\n"
        "~~~\n```\n# none\n~~~\n# Two\n#hash is none\n####### nor seven\n"
    )
    document = open_document(text.encode(), kind="markdown")
    parts = list(document.parts())
    assert "".join(part.text for part in parts) == text
    assert [part.section for part in parts] == ["", "One > Sub *x*", "Two"]
    assert parts[1].text.startswith("# One\n## Sub")
    assert parts[1].text.endswith("# none\n~~~\n")


def test_html_is_what_a_reader_sees() -> None:
    page = """<!DOCTYPE html><html><head><title>T</title><style>p{}</style>
    <script>var a = "<p>no</p>";</script></head><body>
    <h1>Top &amp; first</h1><p>One <b>bold</b>,\n two&nbsp;words.<br>New<br><br>line<p>Unclosed
    <pre>
  code  <i>x</i>
    <b>y</b>
</pre><!-- no --><h2>Under</h2><table><tr><th>a<th>b</tr><tr><td>1</td><td> 2</td></tr></table>
    <ul><li>first<li>second</ul><h3></h3><noscript>no</noscript><textarea>no</textarea>"""
    parts = list(open_document(page.encode()).parts())
    assert [part.section for part in parts] == ["Top & first", "Top & first > Under"]
    assert "".join(part.text for part in parts) == (
        "Top & first\n\nOne bold, two\u00a0words.\nNew\n\nline\n\nUnclosed\n\n\n"
        "  code  x\n    y\n\nUnder\n\na\tb\n1\t2\n\nfirst\nsecond\n\n"
    )


def test_html_encodings() -> None:
    def read(data: bytes, encoding: str | None = None) -> str:
        return read_document(open_document(data, kind="html", encoding=encoding))

    assert read("<meta charset='koi8-r'><p>Привет".encode("koi8-r")) == "Привет"
    assert read("<p>Привет".encode()) == "Привет"
    assert read("<p>Zürich".encode("latin-1")) == "Zürich"
    assert read("<meta charset='tea'><p>Zürich".encode()) == "Zürich"
    assert read("\ufeff<p>Zürich".encode("utf-16-le")) == "Zürich"
    assert read("<p>Привет".encode("koi8-r"), "koi8-r") == "Привет"
    with pytest.raises(DataError, match="is no ascii text"):
        read("<p>Zürich".encode(), "ascii")


def test_html_of_any_depth_and_brokenness() -> None:
    deep = "<div>" * 5_000 + "bottom" + "</p></b>" * 100
    assert read_document(open_document(deep.encode(), kind="html")) == "bottom"
    draw = random.Random(3)
    pieces = [
        "<",
        ">",
        "<p",
        "</",
        "<![",
        "<!--",
        "-->",
        "&",
        "&#x",
        ";",
        '"',
        "a",
        "<pre>",
        "<td>",
        "]]>",
    ]
    for _ in range(300):
        page = "".join(draw.choices(pieces, k=draw.randrange(12)))
        try:
            read_document(open_document(page.encode(), kind="html"))
        except DataError as error:
            assert "no HTML that can be read" in str(error)


def test_files_and_folders(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "sub/c.HTML", "sub/.git/d.txt", "e.bin", ".hidden.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("words")
    found = [str(path.relative_to(tmp_path)) for path in list_files(tmp_path)]
    assert found == ["a.md", "b.txt", "sub/c.HTML"]
    assert list_files(tmp_path / "e.bin") == [tmp_path / "e.bin"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no documents"):
        list_files(tmp_path / "empty")
    for missing in ("none.txt", "sub"):
        with pytest.raises(DataError, match="cannot read .*check the path"):
            open_document(tmp_path / missing)
