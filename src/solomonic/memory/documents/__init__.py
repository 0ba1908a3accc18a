"""Documents as verbatim passages: text, Markdown, HTML and PDF, with their places.

    document = open_document("report.pdf")
    for passage in cut(document.parts(), PassageConfig(size=1000)):
        passage.text, passage.offset, passage.page

`parts` give the extracted text in order; every passage is a verbatim stretch of it, and passages
joined are the whole text but for white space at its end. `documents.keeping` puts them into a
`Memory`; all else here works without one.
"""

from solomonic.memory.documents.document import KINDS as KINDS
from solomonic.memory.documents.document import Document as Document
from solomonic.memory.documents.document import list_files as list_files
from solomonic.memory.documents.document import open_document as open_document
from solomonic.memory.documents.document import read_document as read_document
from solomonic.memory.documents.part import Part as Part
from solomonic.memory.documents.passages import Passage as Passage
from solomonic.memory.documents.passages import PassageConfig as PassageConfig
from solomonic.memory.documents.passages import cut as cut
