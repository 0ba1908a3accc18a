"""B'MOJO sequence models: fading and eidetic memory, from bytes to generated text.

The names below are imported when they are first used (PEP 562), so that `import solomonic` loads
neither torch nor Transformers. What it does do is to see to it that Transformers' Auto classes know
`model_type = "bmojo"`, whichever of the two is imported first (see `_hooks.py`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from solomonic import _hooks

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

_HOMES = {
    "BMojoConfig": "solomonic.lm.hf",
    "BMojoForCausalLM": "solomonic.lm.hf",
    "ModelConfig": "solomonic.layers.config",
    "LanguageModel": "solomonic.lm.model",
    "load_pretrained": "solomonic.lm.pretrained",
    "save_pretrained": "solomonic.lm.pretrained",
    "GenerateConfig": "solomonic.lm.generate",
    "generate": "solomonic.lm.generate",
    "ByteTokenizer": "solomonic.text.tokenizer",
    "BpeTokenizer": "solomonic.text.tokenizer",
    "load_tokenizer": "solomonic.text.tokenizer",
    "Recognizer": "solomonic.speech.recognizer",
    "SolomonicError": "solomonic.core.errors",
}

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


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'solomonic' has no attribute '{name}'")
    value = getattr(import_module(home), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


_hooks.install()
