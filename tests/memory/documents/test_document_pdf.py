"""PDF: pages and their text; passwords, broken and cut files are refused in one sentence."""

import io
import random
from collections.abc import Sequence

import pytest

from solomonic.core import DataError
from solomonic.memory.documents import cut, open_document, read_document

pypdf = pytest.importorskip("pypdf")


def make_pdf(pages: Sequence[str]) -> bytes:
    """A PDF of lines of text, written by hand."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects.append(f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode())
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for number, page in enumerate(pages):
        lines = [line.replace("(", r"\(").replace(")", r"\)") for line in page.split("\n")]
        shown = " ".join(f"({line}) Tj 0 -14 Td" for line in lines)
        stream = f"BT /F1 12 Tf 72 720 Td {shown} ET".encode("latin-1")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    start, count = len(out), len(objects) + 1
    out += f"xref\n0 {count}\n0000000000 65535 f \n{table}".encode()
    out += f"trailer << /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


PAGES = ["So much depends\nupon a red wheel", "", "barrow (glazed) with\nrain water"]


def locked(data: bytes, password: str, algorithm: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(password, owner_password="owner", algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_pages() -> None:
    document = open_document(make_pdf(PAGES))
    assert document.kind == "pdf"
    found = list(cut(document.parts()))
    assert [passage.page for passage in found] == [1, 3]
    assert [" ".join(passage.text.split()) for passage in found] == [
        "So much depends upon a red wheel",
        "barrow (glazed) with rain water",
    ]
    text = read_document(document)
    for passage in found:
        assert text[passage.offset : passage.offset + len(passage.text)] == passage.text
    assert "wheelbarrow" not in text


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_passwords(algorithm: str) -> None:
    if algorithm == "AES-256":
        pytest.importorskip("cryptography")
    plain = make_pdf(PAGES)
    data = locked(plain, "tea", algorithm)
    with pytest.raises(DataError, match="protected by a password; `memory add --password` opens"):
        read_document(open_document(data, source="a.pdf"))
    with pytest.raises(DataError, match="protected by a password; the password given is not"):
        read_document(open_document(data, password="milk"))
    assert read_document(open_document(data, password="tea")) == read_document(open_document(plain))
    free = locked(plain, "", algorithm)  # encrypted so that it cannot be printed; all may read it
    assert read_document(open_document(free)) == read_document(open_document(plain))


def test_a_pdf_of_images_has_no_text() -> None:
    with pytest.raises(DataError, match="has no text"):
        read_document(open_document(make_pdf(["", ""])))


@pytest.mark.parametrize("data", [b"%PDF-1.4\n", b"%PDF-1.7 and then nothing of it", b"no pdf"])
def test_no_pdf(data: bytes) -> None:
    with pytest.raises(DataError, match="broken or cut PDF"):
        read_document(open_document(data, kind="pdf"))


def test_cut_and_flipped_files_are_read_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    """pypdf mends what it can; the rest is one sentence, whatever goes wrong inside it."""
    draw, data, refused = random.Random(0), make_pdf(PAGES), 0
    for _ in range(150):
        broken = bytearray(data[: draw.randrange(20, len(data))] if draw.random() < 0.5 else data)
        for _ in range(draw.randrange(12)):
            broken[draw.randrange(len(broken))] = draw.randrange(256)
        try:
            read_document(open_document(bytes(broken), kind="pdf"))
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 20 < refused < 150
    assert caplog.records == []
