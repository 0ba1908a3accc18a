"""The Vosk WebSocket protocol, as vosk-server's asr_server.py speaks it, so that its clients work.

    {"config": {"sample_rate": 16000, "words": true, "max_alternatives": 0, "phrase_list": [...]}}
    binary 16-bit audio      one reply each: {"partial": ...}, or a result where an utterance ended
    {"reset" : 1}            the result so far; the next audio begins anew
    {"eof" : 1}              the last result; then the connection closes

What differs from Vosk: `phrase_list` favours its phrases and does not forbid others; two utterances
that end within one message are one result; `model` may only name the one that runs; errors come as
{"error": {...}} before the close.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from starlette.websockets import WebSocket

from solomonic.core import SolomonicError
from solomonic.serve.auth import Client, require_client_ws, subprotocol
from solomonic.serve.errors import HttpError
from solomonic.serve.services import Services, conversation, services_of
from solomonic.serve.speech.errors import SHUTTING_DOWN, StreamFailed
from solomonic.serve.speech.fields import Fields
from solomonic.serve.speech.forms import path_words
from solomonic.serve.speech.personal import open_stream, usable
from solomonic.serve.speech.session import HIGHEST_RATE, LOWEST_RATE, Session
from solomonic.serve.speech.socket import BadMessage, Gone, Socket, parse_object
from solomonic.serve.speech.stream import refuse_audio
from solomonic.speech.audio import PcmDecoder
from solomonic.speech.events import Event, Final
from solomonic.speech.lattice import n_best
from solomonic.speech.result import Result
from solomonic.speech.words import Word

DEFAULT_RATE = 8000
"""Of vosk-server, where a client says nothing."""
MOST_ALTERNATIVES = 100
FIELDS = ("sample_rate", "phrase_list", "words", "max_alternatives", "model")


@dataclasses.dataclass(kw_only=True)
class Settings:
    """What the config messages of a connection have said so far."""

    sample_rate: int = DEFAULT_RATE
    phrases: list[str] = dataclasses.field(default_factory=list)
    words: bool = True
    alternatives: int = 0

    def update(self, message: dict[str, Any], model: str) -> None:
        """Take {"config": {...}}.

        Raises:
            BadMessage: a setting is none of Vosk's, or out of range.
        """
        config = message.get("config")
        if not isinstance(config, dict) or len(message) > 1:
            raise BadMessage("unknown_message", 'a config message is {"config": {...}}.')
        fields = Fields(config, FIELDS)
        if "sample_rate" in config:
            self.sample_rate = fields.whole("sample_rate", 0, LOWEST_RATE, HIGHEST_RATE)
        if "phrase_list" in config:
            self.phrases = [one for one in fields.phrases("phrase_list") if usable(one)]
        if "words" in config:
            number = config["words"]
            self.words = bool(number) if number in (0, 1) else fields.flag("words", True)
        if "max_alternatives" in config:
            self.alternatives = fields.whole("max_alternatives", 0, 0, MOST_ALTERNATIVES)
        if fields.text("model", model) != model:
            raise BadMessage("model_not_found", f"this server runs '{model}' only.", "model")


async def serve_vosk(websocket: WebSocket) -> None:
    """One client, until its eof."""
    try:
        client = await require_client_ws(websocket)
    except HttpError:
        return  # it was told and closed
    services = services_of(websocket)
    with conversation(services):
        await websocket.accept(subprotocol=subprotocol(websocket))
        await _converse(services, client, Socket(websocket))


async def _converse(services: Services, client: Client, socket: Socket) -> None:
    talk = _Conversation(services, client, socket)
    try:
        refuse_audio(services)
        await talk.run()
        await socket.close()
    except Gone:
        await socket.close()
    except Exception as error:
        await socket.fail(error)
        if not isinstance(error, SolomonicError):
            raise
    finally:
        await talk.close()


class _Conversation:
    def __init__(self, services: Services, client: Client, socket: Socket) -> None:
        self.services, self._client, self._socket = services, client, socket
        self._settings = Settings()
        self._session: Session | None = None
        self._decoder = PcmDecoder()
        self._before = 0.0  # seconds of audio before the last reset

    async def run(self) -> None:
        idle = self.services.config.idle_timeout
        while True:
            message = await self._socket.receive_unless(self._over(), idle)
            if message is None:
                await self._end()
            elif isinstance(message, bytes):
                await self._reply(await self._hear(message), final=False)
            elif await self._control(parse_object(message)):
                return

    async def _control(self, plain: dict[str, Any]) -> bool:
        """A text message; whether it was the last one."""
        if "config" in plain:
            self._settings.update(plain, self.services.asr_name)
            return False
        if plain not in ({"eof": 1}, {"reset": 1}):
            raise BadMessage(
                "unknown_message", "send config, eof, reset, or audio as binary messages."
            )
        await self._reply(await self._finish(), final=True)
        await self.close()
        return "eof" in plain

    async def _over(self) -> None:
        """Until the stream or the server ends by itself."""
        over = self.services.draining.wait() if self._session is None else self._session.over()
        await over

    async def _end(self) -> None:
        if self._session is None:
            raise StreamFailed("shutting_down", SHUTTING_DOWN)
        await self._settled(self._session)

    async def close(self) -> None:
        if self._session is not None:
            self._before += self._session.heard
            await self._session.close()
        self._session, self._decoder = None, PcmDecoder()

    async def _hear(self, data: bytes) -> list[Event]:
        settings = self._settings
        if self._session is None or self._session.rate not in (0, settings.sample_rate):
            await self.close()  # as Vosk does, for another rate a recogniser is made anew
            self._session = await open_stream(
                self.services, self._client, settings.phrases, endpointing=True, live=True
            )
        await self._session.feed(settings.sample_rate, self._decoder.accept(data))
        return await self._settled(self._session)

    async def _finish(self) -> list[Event]:
        if self._session is None:
            return []
        await self._session.finish()
        return await self._settled(self._session)

    async def _settled(self, session: Session) -> list[Event]:
        events = await session.settle()
        if session.failure is not None:
            if finals := [event for event in events if isinstance(event, Final)]:
                await self._socket.send(self._result(finals))
            raise session.failure
        return events

    async def _reply(self, events: Sequence[Event], *, final: bool) -> None:
        """One reply, whatever has happened."""
        finals = [event for event in events if isinstance(event, Final)]
        if finals or final:
            plain = self._result(finals)
        else:
            plain = {"partial": self._session.text if self._session else ""}
        # Vosk's own JSON, which clients look into with more than a parser.
        await self._socket.send_text(
            json.dumps(plain, ensure_ascii=False, indent=2, separators=(",", " : "))
        )

    def _result(self, finals: Sequence[Final]) -> dict[str, Any]:
        results = [event.result for event in finals]
        text = " ".join(result.text for result in results if result.text)
        if self._settings.alternatives:
            return {"alternatives": self._alternatives(results, text)}
        words = [word for result in results for word in result.words]
        if not self._settings.words or not words:
            return {"text": text}
        return {"result": [self._word(word, True) for word in words], "text": text}

    def _alternatives(self, results: Sequence[Result], text: str) -> list[dict[str, Any]]:
        """Of one utterance its n best; of several, joined, only the best."""
        if len(results) == 1 and results[0].lattice is not None:
            lattice = results[0].lattice
            paths = n_best(lattice, self._settings.alternatives)
            said = [(path.score, path.text, path_words(lattice, path)) for path in paths]
        else:
            score = sum(result.nbest[0].score for result in results if result.nbest)
            said = [(score, text, tuple(word for result in results for word in result.words))]
        found = []
        for score, sentence, words in said:
            one: dict[str, Any] = {"confidence": round(score, 6)}
            if self._settings.words and words:
                one["result"] = [self._word(word, False) for word in words]
            found.append(one | {"text": sentence})
        return found

    def _word(self, word: Word, sure: bool) -> dict[str, Any]:
        plain: dict[str, Any] = {"conf": round(word.confidence, 6)} if sure else {}
        start, end = self._before + word.start, self._before + word.end
        return plain | {"end": round(end, 6), "start": round(start, 6), "word": word.text}
