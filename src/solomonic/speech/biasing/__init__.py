"""Personal words: phrase lists, classes opened per request, and attention over a context list."""

from solomonic.speech.biasing.protocol import Bias as Bias
from solomonic.speech.biasing.trie import PhraseGraph as PhraseGraph
