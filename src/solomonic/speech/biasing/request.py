"""One request's personal words, from plain text to what the decoder and the model take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from solomonic.core import ConfigError, require
from solomonic.speech.biasing.carriers import Carriers, read_carriers
from solomonic.speech.biasing.grammar import BothGraphs, Catalogue, ClassGraph, spell_words
from solomonic.speech.biasing.phrases import (
    LARGEST_BOOST,
    Dropped,
    Phrase,
    Spelled,
    complain,
    read_phrases,
    spell,
)
from solomonic.speech.biasing.protocol import Bias, Scaled
from solomonic.speech.biasing.trie import PhraseGraph
from solomonic.text.pieces import WordPieces

if TYPE_CHECKING:
    from solomonic.speech.biasing.attention import Context
    from solomonic.speech.biasing.pointer import Listed


class Personal(NamedTuple):
    """A request's personal words, as what reads a stream takes them; None where there is nothing.

    graph: for the search. context: for the attention of frames. listed: for that of the joint
    network.
    """

    graph: Bias | None = None
    context: "Context | None" = None
    listed: "Listed | None" = None

    def attended(self, listed: "Listed | None", search_scale: float) -> "Personal":
        """The same where the joint network attends to the phrases too, and the search pays less."""
        if listed is None:
            return self
        graph = None if self.graph is None else Scaled(self.graph, search_scale)
        return self._replace(graph=graph, listed=listed)


class Biasing:
    """Phrases, and classes that carriers open, compiled for one vocabulary.

    `Biasing(["siobhan nguyen", "kettle :2.5"], pieces=pieces).graph` goes to `Decoder.start`;
    `.tokens` to the attention's `embed`. Both are empty when there is nothing to favour.

    Args:
        phrases: a file, or phrases with or without a weight ("kettle :2.5"); see `read_phrases`.
        classes: the entries of each class by name, or a `Catalogue` made before.
        carriers: sentences that open the classes, such as "call @contact"; see `read_carriers`.
        pieces: the model's vocabulary.
        boost: nats per piece of a phrase that has no weight of its own.
        segmentations: in how many ways a phrase may be cut into pieces.
        possessives: whether "ann" is also "ann's".
        strict: whether a phrase that cannot be used is an error, or is listed in `dropped`.

    Attributes:
        pieces: the vocabulary it was compiled for.
        graph: the automaton for the decoder, or None.
        phrases, catalogues: what is used.
        dropped: what is not, and why (only with strict=False).

    Raises:
        DataError: phrases that cannot be used (all are counted, the first five shown), more than
            5,000 of them, a file that cannot be read, a carrier that is wrong.
        ConfigError: a setting out of range, a class without a carrier or a carrier without its.
    """

    def __init__(
        self,
        phrases: str | Path | Sequence[str | Phrase] = (),
        classes: Mapping[str, Sequence[str | Phrase] | Catalogue] | None = None,
        carriers: Sequence[str] = (),
        *,
        pieces: WordPieces,
        boost: float = 1.5,
        segmentations: int = 4,
        possessives: bool = False,
        strict: bool = True,
    ) -> None:
        require(
            0 < boost <= LARGEST_BOOST,
            f"boost must be above 0 and at most {LARGEST_BOOST:g}, not {boost}; without phrases "
            "nothing is boosted.",
        )
        require(segmentations >= 1, f"segmentations must be 1 or more, not {segmentations}.")
        self.pieces = pieces
        read = read_phrases(phrases)
        spelled, dropped = spell(
            read, pieces, boost=boost, segmentations=segmentations, possessives=possessives
        )
        if strict:
            complain(dropped, len(read), "phrases")
        self.phrases: list[Spelled] = spelled
        self.dropped: list[Dropped] = dropped
        self.catalogues: dict[str, Catalogue] = {}
        for name, entries in (classes or {}).items():
            if not isinstance(entries, Catalogue):
                entries = Catalogue(
                    entries,
                    pieces,
                    boost=boost,
                    segmentations=segmentations,
                    possessives=possessives,
                    strict=strict,
                )
            elif entries.pieces != pieces:
                raise ConfigError(
                    f"the catalogue of '@{name}' was made with another vocabulary; make it again "
                    "with the model's."
                )
            self.catalogues[name] = entries
            self.dropped += entries.dropped
        tree = read_carriers([carriers] if isinstance(carriers, str) else carriers)
        _match_names(tree, self.catalogues)
        self.graph = self._compile(tree, pieces, segmentations)

    @property
    def tokens(self) -> list[list[int]]:
        """The likeliest spelling of every phrase and entry, each once, for the attention."""
        entries = [*self.phrases, *(e for c in self.catalogues.values() for e in c.entries)]
        return [list(way) for way in dict.fromkeys(e.segmentations[0] for e in entries)]

    def _compile(self, tree: Carriers, pieces: WordPieces, segmentations: int) -> Bias | None:
        starts = [False, *(pieces.starts_word(token) for token in range(1, pieces.size))]
        listed = opened = None
        if self.phrases:
            listed = PhraseGraph(
                [way for phrase in self.phrases for way in phrase.segmentations],
                [phrase.worth for phrase in self.phrases for _ in phrase.segmentations],
                starts,
            )
        if any(catalogue.entries for catalogue in self.catalogues.values()):
            trees = {name: c.tree for name, c in self.catalogues.items() if c.entries}
            opened = ClassGraph(tree, spell_words(tree, pieces, segmentations), trees, starts)
        if listed is None:
            return opened
        return listed if opened is None else BothGraphs(listed, len(listed), opened)


def _match_names(carriers: Carriers, catalogues: Mapping[str, Catalogue]) -> None:
    """Every class has a carrier and every carrier's class is given: else one is off in silence."""
    unknown = sorted(carriers.names - set(catalogues))
    if unknown:
        known = ", ".join(f"@{name}" for name in sorted(catalogues)) or "none"
        raise ConfigError(
            f"the carriers name '@{unknown[0]}', which is not among the classes ({known}); give "
            "its entries, an empty list if there are none."
        )
    unused = sorted(set(catalogues) - carriers.names)
    if unused:
        raise ConfigError(
            f"no carrier opens the class '@{unused[0]}', so it would never act; give one such as "
            f"'call @{unused[0]}', or give its entries as phrases."
        )
