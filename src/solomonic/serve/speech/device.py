"""Devices that recognise by themselves: their lattice messages, as events and reranked sentences.

A message that is malformed costs one error and nothing else; many in a row end the connection.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from solomonic.core import DataError
from solomonic.serve.services import Services
from solomonic.serve.speech.errors import SHUTTING_DOWN, StreamFailed
from solomonic.serve.speech.forms import for_reranking, lattice_result
from solomonic.serve.speech.socket import BadMessage, Socket, error_json, parse_object
from solomonic.speech.events import Event, Final, Reset, SpeculativeEnd
from solomonic.speech.lattice import LatticeMessage, decode_message
from solomonic.speech.result import Result

if TYPE_CHECKING:
    from solomonic.serve.speech.revisions import Revisions

LARGEST_LATTICE = 16 * 1024
"""Bytes of a lattice message; 30 s of speech take about 6,000. A reader's work is bounded by it."""
MOST_ERRORS = 20
"""Malformed messages in a row."""


class DeviceLattices:
    """One device's connection.

    Args:
        lattices: "json" and "binary" send back what came; "none" does not.
    """

    def __init__(
        self, services: Services, socket: Socket, revisions: "Revisions", lattices: str
    ) -> None:
        self._services, self._socket = services, socket
        self._revisions, self._lattices = revisions, lattices
        self._utterance = self._revision = 0  # the next utterance, its last revision
        self._open: Result | None = None  # of that revision, neither reset nor committed
        self._time = 0.0

    async def run(self) -> None:
        """Until the device says {"type": "finish"}.

        Raises:
            Gone: it went.
            StreamFailed: the server stops.
            BadMessage: too much nonsense, or nothing for too long.
        """
        from solomonic.serve.speech.stream import tell_event

        errors, idle = 0, self._services.config.idle_timeout
        while True:
            message = await self._socket.receive_unless(self._services.draining.wait(), idle)
            if message is None:
                raise StreamFailed("shutting_down", SHUTTING_DOWN)
            try:
                if isinstance(message, str):
                    if parse_object(message) == {"type": "finish"}:
                        break
                    raise BadMessage(
                        "unknown_message", 'a device sends lattices and {"type": "finish"} only.'
                    )
                events, flags = await self._read(message)
                errors = 0
            except (BadMessage, DataError) as error:
                errors += 1
                if errors >= MOST_ERRORS:
                    raise BadMessage(
                        "too_many_errors", f"{errors} malformed messages came in a row; give up."
                    ) from error
                await self._socket.send(error_json(error))
                continue
            for event in events:
                await tell_event(self._socket, event, self._lattices, self._revisions, flags)
        await self._revisions.settle()

    async def _read(self, data: bytes) -> tuple[list[Event], dict[str, Any]]:
        """The events that a message stands for, and its flags."""
        message = await read_message(self._services, data)
        if message.utterance < self._utterance:
            return [], {}  # a repetition: that utterance is over
        if message.utterance > self._utterance:
            self._begin(message.utterance)
        result = None
        if message.lattice is not None:
            result = await self._services.recall.work(
                lattice_result, message.lattice, message.reason
            )
        self._time = max(self._time, message.duration)
        return self._events(message, result), flags_json(message)

    def _events(self, message: LatticeMessage, result: Result | None) -> list[Event]:
        at = {"time": self._time, "utterance": message.utterance}
        if message.kind == "speculative_end":
            if not message.revision:
                raise BadMessage("unknown_revision", "revisions of speculations count from 1.")
            if message.revision <= self._revision:
                return []
            before = self._void(at)
            self._revision, self._open = message.revision, result
            end = SpeculativeEnd(
                **at, revision=message.revision, result=result, reason=message.reason
            )
            return [*before, end]
        if message.kind == "reset":
            return self._void(at) if message.revision >= self._revision else []
        before, commit = [], message.kind == "commit"
        if commit:
            result = self._open
            if result is None or message.revision != self._revision:
                raise BadMessage(
                    "unknown_revision",
                    f"revision {message.revision} of utterance {message.utterance} is not open; "
                    "send its lattice as 'final'.",
                )
        elif self._revision and message.revision <= self._revision:
            raise BadMessage(
                "unknown_revision",
                f"revision {message.revision} of utterance {message.utterance} is not new.",
            )
        else:
            before = self._void(at)
        final = Final(
            **at, revision=message.revision, commit=commit, result=result, reason=message.reason
        )
        self._begin(message.utterance + 1)
        return [*before, final]

    def _void(self, at: dict[str, Any]) -> list[Event]:
        if self._open is None:
            return []
        self._open = None
        return [Reset(**at, revision=self._revision)]

    def _begin(self, utterance: int) -> None:
        self._utterance, self._revision, self._open = utterance, 0, None


async def read_message(services: Services, data: bytes) -> LatticeMessage:
    """A lattice message from a stranger, its lattice one of words and of bounded size.

    Raises:
        BadMessage: it is too large.
        DataError: it is no such message.
    """
    if len(data) > LARGEST_LATTICE:
        raise BadMessage(
            "too_large",
            f"a lattice message has {len(data)} bytes, more than {LARGEST_LATTICE}; prune it.",
        )
    return await services.recall.work(_decode, data)


def flags_json(message: LatticeMessage) -> dict[str, Any]:
    """What the device noticed besides the words."""
    found: dict[str, Any] = {}
    if message.speaker is not None:
        found |= {"speaker": message.speaker, "speaker_score": message.speaker_score}
    if message.whisper is not None:
        found["whisper"] = round(message.whisper, 4)
    if message.language is not None:
        found["language"] = message.language
    return found


def _decode(data: bytes) -> LatticeMessage:
    message = decode_message(data)
    if message.lattice is None:
        return message
    return dataclasses.replace(message, lattice=for_reranking(message.lattice))
