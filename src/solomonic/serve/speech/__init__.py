"""Speech behind the server: many streams in one engine, and the protocols that feed them."""

from solomonic.serve.speech.config import SpeechConfig as SpeechConfig
from solomonic.serve.speech.engine import SpeechEngine as SpeechEngine
from solomonic.serve.speech.errors import Refused as Refused
from solomonic.serve.speech.errors import StreamFailed as StreamFailed
from solomonic.serve.speech.session import Session as Session
