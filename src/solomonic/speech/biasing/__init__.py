"""Personal words: phrase lists, classes opened per request, and attention over a context list."""

from typing import TYPE_CHECKING

from solomonic.core.lazy import names_of

if TYPE_CHECKING:
    from solomonic.speech.biasing.attention import Context as Context
    from solomonic.speech.biasing.attention import ContextBiasing as ContextBiasing
    from solomonic.speech.biasing.attention import ContextConfig as ContextConfig
    from solomonic.speech.biasing.attention import guided_attention_loss as guided_attention_loss
    from solomonic.speech.biasing.attention import trainable_parameters as trainable_parameters
    from solomonic.speech.biasing.carriers import read_carriers as read_carriers
    from solomonic.speech.biasing.grammar import Catalogue as Catalogue
    from solomonic.speech.biasing.grammar import ClassGraph as ClassGraph
    from solomonic.speech.biasing.phrases import Dropped as Dropped
    from solomonic.speech.biasing.phrases import Phrase as Phrase
    from solomonic.speech.biasing.phrases import read_phrases as read_phrases
    from solomonic.speech.biasing.pointer import PointerBiasing as PointerBiasing
    from solomonic.speech.biasing.pointer import PointerConfig as PointerConfig
    from solomonic.speech.biasing.protocol import Bias as Bias
    from solomonic.speech.biasing.request import Biasing as Biasing
    from solomonic.speech.biasing.sampling import Sampled as Sampled
    from solomonic.speech.biasing.sampling import SamplingConfig as SamplingConfig
    from solomonic.speech.biasing.sampling import common_words as common_words
    from solomonic.speech.biasing.sampling import sample_contexts as sample_contexts
    from solomonic.speech.biasing.trie import PhraseGraph as PhraseGraph

__getattr__, __dir__ = names_of(
    __name__,
    {
        "attention": (
            "Context ContextBiasing ContextConfig guided_attention_loss trainable_parameters"
        ),
        "carriers": "read_carriers",
        "grammar": "Catalogue ClassGraph",
        "phrases": "Dropped Phrase read_phrases",
        "pointer": "PointerBiasing PointerConfig",
        "protocol": "Bias",
        "request": "Biasing",
        "sampling": "Sampled SamplingConfig common_words sample_contexts",
        "trie": "PhraseGraph",
    },
)
