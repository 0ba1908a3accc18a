"""Words as a language model's tokens, one word at a time.

A sentence is scored between two end-of-text tokens, as the model was trained on it: one spoken
sentence, in lower case, words a blank apart. A search through a lattice sees it word by word, so
each word is encoded alone, with the blank before it, and the tokens are put together. For bytes,
and for byte-pair encodings that never merge across the beginning of a word (GPT-2's splitting, and
so `BpeTokenizer`), that is exactly the encoding of the whole sentence. `agrees` finds out whether
it is; where it is not, sentences have to be scored whole.
"""

from collections.abc import Sequence

from solomonic.text import Tokenizer

_PROBES = (
    "turn on the kitchen light",
    "what's the weather like in o'fallon",
    "call 911 'til 7:30 a.m. at l l bean's",
    "über die brücke",
)
_MOST = 20_000  # words remembered


class WordTokens:
    """The tokens of words at the beginning and inside of a sentence; safe in several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end = tokenizer.eos_id
        self._known: dict[tuple[str, bool], tuple[int, ...]] = {}
        self.additive = all(self.agrees(text.split()) for text in _PROBES)
        """Whether words can be encoded one by one, as far as some difficult sentences show."""

    def word(self, word: str, first: bool) -> tuple[int, ...]:
        """Tokens of one word (not empty), which is the first of its sentence or not."""
        key = (word, first)
        found = self._known.get(key)
        if found is None:
            text = spoken(word) if first else " " + spoken(word)
            found = tuple(self.tokenizer.encode(text))
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = found
        return found

    def sentence(self, words: Sequence[str]) -> list[int]:
        """Tokens of the sentence encoded whole, without the ends."""
        return self.tokenizer.encode(" ".join(spoken(word) for word in words))

    def agrees(self, words: Sequence[str]) -> bool:
        """Whether word by word and whole give the same tokens."""
        alone = [token for i, word in enumerate(words) for token in self.word(word, i == 0)]
        return alone == self.sentence(words)


def spoken(word: str) -> str:
    """A word as the model's training text has it: in lower case. Lattices of other programs are
    often in capitals."""
    return word.lower()
