"""A stretch of a document's extracted text, as its reader hands it on."""

import dataclasses
import re

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""What a database's text cannot hold: NUL and halves of surrogate pairs, which PDF readers and
broken encodings leave behind."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Text that belongs together.

    Attributes:
        text: as extracted; line ends are "\\n".
        page: of a PDF, from 1; None elsewhere.
        section: the headings above it, "Results > Speed"; "" where there are none.
        whole: a passage must not reach from here into the next part (a page, a section). Parts of
            a plain text are only the blocks that it was read in.
    """

    text: str
    page: int | None = None
    section: str = ""
    whole: bool = False


def storable(text: str) -> str:
    """`text` with U+FFFD for each character that no database holds."""
    return UNSTORABLE.sub("�", text)
