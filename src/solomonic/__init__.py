"""B'MOJO sequence models: fading and eidetic memory, from bytes to generated text.

The names below are imported when they are first used (PEP 562), so that `import solomonic` loads
neither torch nor Transformers. What it does do is to see to it that Transformers' Auto classes know
`model_type = "bmojo"`, whichever of the two is imported first (see `_hooks.py`).
"""

from typing import TYPE_CHECKING

from solomonic import _hooks
from solomonic.core.lazy import names_of

if TYPE_CHECKING:
    from solomonic.core.errors import SolomonicError as SolomonicError
    from solomonic.layers.config import ModelConfig as ModelConfig
    from solomonic.lm.generate import GenerateConfig as GenerateConfig
    from solomonic.lm.generate import generate as generate
    from solomonic.lm.hf import BMojoConfig as BMojoConfig
    from solomonic.lm.hf import BMojoForCausalLM as BMojoForCausalLM
    from solomonic.lm.model import LanguageModel as LanguageModel
    from solomonic.lm.pretrained import load_pretrained as load_pretrained
    from solomonic.lm.pretrained import save_pretrained as save_pretrained
    from solomonic.speech.recognizer import Recognizer as Recognizer
    from solomonic.text.tokenizer import BpeTokenizer as BpeTokenizer
    from solomonic.text.tokenizer import ByteTokenizer as ByteTokenizer
    from solomonic.text.tokenizer import load_tokenizer as load_tokenizer

__version__ = "0.1.0"

__all__ = [
    "BMojoConfig",
    "BMojoForCausalLM",
    "ModelConfig",
    "LanguageModel",
    "load_pretrained",
    "save_pretrained",
    "GenerateConfig",
    "generate",
    "ByteTokenizer",
    "BpeTokenizer",
    "load_tokenizer",
    "Recognizer",
    "SolomonicError",
    "__version__",
]

__getattr__, __dir__ = names_of(
    __name__,
    {
        "core.errors": "SolomonicError",
        "layers.config": "ModelConfig",
        "lm.generate": "GenerateConfig generate",
        "lm.hf": "BMojoConfig BMojoForCausalLM",
        "lm.model": "LanguageModel",
        "lm.pretrained": "load_pretrained save_pretrained",
        "speech.recognizer": "Recognizer",
        "text.tokenizer": "BpeTokenizer ByteTokenizer load_tokenizer",
    },
)

_hooks.install()
