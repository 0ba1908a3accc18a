"""The stretch of a store that a wrong quotation most likely meant.

`nearest_by_definition` compares with every stretch of every text. The fast form compares only where
pieces of the quotation stand verbatim, several of them in the same order: it misses what shares no
piece of eight characters, and that was no quotation.
"""

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from solomonic.memory.quotes.corpus import Corpus

if TYPE_CHECKING:
    import numpy as np

_PIECES = (32, 16, 8)  # bytes of the pieces looked for, the surest first
_STRIDE = 4
_PLACES = 64  # of one piece; more tell nothing
_CANDIDATES = 12


class Near(NamedTuple):
    """Bytes `start` to `end` of the corpus; `distance` characters are to be inserted, deleted or
    replaced."""

    start: int
    end: int
    distance: int


def nearest(corpus: Corpus, quoted: str) -> Near | None:
    """The stretch with the smallest edit distance among likely places; None if there are none."""
    pattern = corpus.encode(quoted)
    best: Near | None = None
    slack = 8 + len(pattern) // 4
    for anchor, place in _likely(corpus, pattern):
        start, end = corpus.around(anchor, place - slack, place + len(pattern) + slack)
        found = _align(corpus, pattern, start, end)
        if found and (best is None or found.distance < best.distance):
            best = found
    return best


def nearest_by_definition(corpus: Corpus, quoted: str) -> Near | None:
    """The same among all stretches of all texts."""
    pattern, best, start = corpus.encode(quoted), None, 0
    while start < len(corpus.data):
        first, last = corpus.around(start, start, len(corpus.data))
        found = _align(corpus, pattern, first, last)
        if found and (best is None or found.distance < best.distance):
            best = found
        start = last + 1
    return best


def _likely(corpus: Corpus, pattern: bytes) -> list[tuple[int, int]]:
    """Most supported first: where a piece of the pattern stands, and where the pattern would begin
    (perhaps in front of the text)."""
    votes: Counter[int] = Counter()
    anchors: dict[int, int] = {}
    for size in _PIECES:
        if size > len(pattern) and size != _PIECES[-1]:
            continue
        for at in range(0, max(len(pattern) - size, 0) + 1, _STRIDE):
            piece = pattern[at : at + size]
            for count, place in enumerate(corpus.places(piece)):
                if count >= _PLACES:
                    break
                # Insertions and deletions shift what follows: near beginnings vote together.
                bucket = (place - at) // 16
                votes[bucket] += size
                anchors.setdefault(bucket, place)
        if votes:
            break
    return [(anchors[bucket], 16 * bucket) for bucket, _ in votes.most_common(_CANDIDATES)]


def _align(corpus: Corpus, pattern: bytes, start: int, end: int) -> Near | None:
    """The best stretch within bytes `start` to `end` of the corpus."""
    text, wanted = corpus.data[start:end].decode(), pattern.decode(errors="replace")
    if not text or not wanted:
        return None
    forward = _costs(_points(wanted), _points(text))
    distance = int(forward.min())
    ends = (forward == distance).nonzero()[0]
    # The same backwards from an end tells where it begins. Of equals near each other the one that
    # is as long as what is sought: a letter was changed more likely than left out.
    spans = []
    for last in ends[ends <= ends[0] + 2].tolist():
        backward = _costs(_points(wanted[::-1]), _points(text[:last][::-1]))
        lengths = (backward == distance).nonzero()[0].tolist()
        spans += [(abs(length - len(wanted)), last - length, last) for length in lengths if length]
    if not spans:
        return None
    _, first, last = min(spans)
    begin = start + len(text[:first].encode())
    return Near(begin, begin + len(text[first:last].encode()), distance)


def _costs(pattern: "np.ndarray", text: "np.ndarray") -> "np.ndarray":
    """For each end in `text` (n + 1): the fewest edits that make `pattern` of a stretch that ends
    there (Sellers 1980), a row of the table at a time."""
    import numpy as np

    columns = np.arange(len(text) + 1)
    row = np.zeros(len(text) + 1, dtype=np.int64)
    for count, point in enumerate(pattern, 1):
        changed = np.empty_like(row)
        changed[0] = count
        changed[1:] = np.minimum(row[:-1] + (text != point), row[1:] + 1)
        # A run of insertions costs one each: the running minimum of what is left after them.
        row = np.minimum.accumulate(changed - columns) + columns
    return row


def _points(text: str) -> "np.ndarray":
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
