"""When an utterance begins, when it is probably over and when it is over: two end-pointers."""

from typing import TYPE_CHECKING

from solomonic.core.lazy import names_of

if TYPE_CHECKING:
    from solomonic.speech.endpoint.config import EndpointConfig as EndpointConfig
    from solomonic.speech.endpoint.features import EndFeatures as EndFeatures
    from solomonic.speech.endpoint.head import EndHead as EndHead
    from solomonic.speech.endpoint.head import EndHeadConfig as EndHeadConfig
    from solomonic.speech.endpoint.head import EndHeadState as EndHeadState
    from solomonic.speech.endpoint.machine import Decision as Decision
    from solomonic.speech.endpoint.machine import Endpointer as Endpointer
    from solomonic.speech.endpoint.machine import EndpointState as EndpointState
    from solomonic.speech.endpoint.observation import Observation as Observation
    from solomonic.speech.endpoint.protocol import Downstream as Downstream
    from solomonic.speech.endpoint.protocol import Utterances as Utterances
    from solomonic.speech.endpoint.protocol import check_events as check_events
    from solomonic.speech.endpoint.voice import VoiceConfig as VoiceConfig
    from solomonic.speech.endpoint.voice import VoiceDetector as VoiceDetector
    from solomonic.speech.endpoint.voice import VoiceState as VoiceState

__getattr__, __dir__ = names_of(
    __name__,
    {
        "config": "EndpointConfig",
        "features": "EndFeatures",
        "head": "EndHead EndHeadConfig EndHeadState",
        "machine": "Decision Endpointer EndpointState",
        "observation": "Observation",
        "protocol": "Downstream Utterances check_events",
        "voice": "VoiceConfig VoiceDetector VoiceState",
    },
)
