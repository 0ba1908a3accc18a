"""Our WebSocket, /v1/stream: audio or lattices in, events and reranked sentences out.

PROTOCOL.md has every message. A client that sends audio gets the events of its stream; a device
that recognises by itself sends lattice messages and gets the same events and the same reranking.
"""

import asyncio
import contextlib
import dataclasses
from typing import Any, Literal, cast

from starlette.websockets import WebSocket

from solomonic.core import DataError, SolomonicError
from solomonic.serve.auth import Client, require_client_ws, subprotocol
from solomonic.serve.errors import HttpError
from solomonic.serve.services import Services, conversation, services_of
from solomonic.serve.speech.device import DeviceLattices
from solomonic.serve.speech.errors import SHUTTING_DOWN, StreamFailed
from solomonic.serve.speech.fields import Fields
from solomonic.serve.speech.forms import event_json, for_reranking, lattice_json
from solomonic.serve.speech.personal import open_stream
from solomonic.serve.speech.revisions import Revisions
from solomonic.serve.speech.session import HIGHEST_RATE, LOWEST_RATE, Session
from solomonic.serve.speech.socket import BadMessage, Gone, Socket, error_json, parse_object
from solomonic.speech.audio import PcmDecoder
from solomonic.speech.events import Event, Final, Reset, SpeculativeEnd
from solomonic.speech.lattice import Lattice, LatticeMessage, encode_message

VERSION = 1
START_SECONDS = 10.0
ENCODINGS = {"pcm_s16le": "s16le", "pcm_f32le": "f32le"}
FIELDS = ("type", "version", "encoding", "sample_rate", "endpointing", "phrases", "lattices",
          "rerank", "remember", "source")  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What a client asks for in its first message; see PROTOCOL.md."""

    encoding: str
    sample_rate: int
    endpointing: bool
    phrases: list[str]
    lattices: str
    rerank: bool
    remember: bool
    source: str

    @classmethod
    def read(cls, message: bytes | str) -> "Start":
        """Raises BadMessage where it is none."""
        if isinstance(message, bytes):
            raise BadMessage("start_expected", 'the first message must be {"type": "start", ...}.')
        plain = parse_object(message)
        if plain.get("type") != "start":
            raise BadMessage("start_expected", 'the first message must be {"type": "start", ...}.')
        fields = Fields(plain, FIELDS)
        fields.whole("version", VERSION, 1, VERSION)
        rerank = fields.flag("rerank", False)
        return cls(
            encoding=fields.one_of("encoding", (*ENCODINGS, "lattice"), "pcm_s16le"),
            sample_rate=fields.whole("sample_rate", 16000, LOWEST_RATE, HIGHEST_RATE),
            endpointing=fields.flag("endpointing", True),
            phrases=fields.phrases("phrases"),
            lattices=fields.one_of("lattices", ("none", "json", "binary"), "none"),
            rerank=rerank,
            remember=fields.flag("remember", rerank),
            source=fields.text("source", "", 100),
        )


async def serve_stream(websocket: WebSocket) -> None:
    """One client, from its first message to its last."""
    try:
        client = await require_client_ws(websocket)
    except HttpError:
        return  # it was told and closed
    services = services_of(websocket)
    with conversation(services):
        await websocket.accept(subprotocol=subprotocol(websocket))
        await _converse(services, client, Socket(websocket))


async def _converse(services: Services, client: Client, socket: Socket) -> None:
    try:
        first = await socket.receive_unless(services.draining.wait(), START_SECONDS)
        if first is None:
            raise StreamFailed("shutting_down", SHUTTING_DOWN)
        start = Start.read(first)
        revisions = Revisions(
            services.recall,
            client.user,
            socket.send,
            rerank=start.rerank,
            remember=start.remember,
            source=start.source,
        )
        try:
            if start.encoding == "lattice":
                await socket.send(_ready(services, start))
                await DeviceLattices(services, socket, revisions, start.lattices).run()
            else:
                await _audio(services, client, socket, start, revisions)
        finally:
            await revisions.close()
        await socket.send({"type": "done"})
        await socket.close()
    except Gone:
        await socket.close()
    except Exception as error:
        await socket.fail(error)
        if not isinstance(error, SolomonicError):
            raise


async def _audio(
    services: Services, client: Client, socket: Socket, start: Start, revisions: Revisions
) -> None:
    refuse_audio(services)
    session = await open_stream(
        services, client, start.phrases, endpointing=start.endpointing, live=True
    )
    try:
        await socket.send(_ready(services, start))
        hearing = asyncio.create_task(_hear(socket, session, start))
        try:
            await _tell(socket, session, start, revisions, hearing)
        finally:
            hearing.cancel()
            with contextlib.suppress(BaseException):
                await hearing
        await revisions.settle()
    finally:
        await session.close()


async def _hear(socket: Socket, session: Session, start: Start) -> None:
    """Audio and words of control, from the client to the stream."""
    decoder = PcmDecoder(ENCODINGS[start.encoding])
    odd = 0
    while True:
        message = await socket.receive()
        if isinstance(message, bytes):
            odd = (odd + len(message)) % (2 if start.encoding == "pcm_s16le" else 4)
            await session.feed(start.sample_rate, decoder.accept(message))
            continue
        plain = parse_object(message)
        if plain != {"type": "finish"}:
            raise BadMessage(
                "unknown_message", 'the text messages of a stream are {"type": "finish"} only.'
            )
        if odd:
            await socket.send(
                error_json(
                    BadMessage("half_sample", "the audio ended inside a sample, which is left out.")
                )
            )
        await session.finish()
        return


async def _tell(
    socket: Socket, session: Session, start: Start, revisions: Revisions, hearing: asyncio.Task
) -> None:
    """Events from the stream to the client; ends with the stream, or with what went wrong."""
    hearing.add_done_callback(lambda task: _end(session, task))
    try:
        async for event in session.events():
            await tell_event(socket, event, start.lattices, revisions)
    except StreamFailed:
        if hearing.done() and not hearing.cancelled() and (error := hearing.exception()):
            raise error from None  # the cause; the stream failed since its client did
        raise


def _end(session: Session, hearing: asyncio.Task) -> None:
    """A client that has gone or sends nonsense ends its stream at once."""
    if not hearing.cancelled() and hearing.exception() is not None:
        session.abandon()


async def tell_event(
    socket: Socket,
    event: Event,
    lattices: str,
    revisions: Revisions,
    flags: dict[str, Any] | None = None,
) -> None:
    """An event, its lattice where that is wanted, and the work that follows from it."""
    await socket.send(event_json(event) | (flags or {}))
    if isinstance(event, Reset):
        revisions.reset(event.utterance, event.revision)
    if not isinstance(event, SpeculativeEnd | Final):
        return
    told = isinstance(event, Final) and event.commit  # with the speculation
    lattice = event.result.lattice if revisions.reranks or lattices != "none" else None
    if lattice is not None:
        # Tens of milliseconds for a long utterance, for which nobody else's events should wait.
        lattice = await asyncio.to_thread(for_reranking, lattice)
        if lattices != "none" and not told:
            await _tell_lattice(socket, event, lattice, lattices)
    if isinstance(event, Final):
        revisions.final(event.utterance, event.revision, lattice, event.result.text)
    elif lattice is not None:
        revisions.speculate(event.utterance, event.revision, lattice)


async def _tell_lattice(
    socket: Socket, event: SpeculativeEnd | Final, lattice: Lattice, form: str
) -> None:
    if form == "json":
        key = {"utterance": event.utterance, "revision": event.revision}
        plain = await asyncio.to_thread(lattice_json, lattice)
        await socket.send({"type": "lattice", **key, **plain})
        return
    with contextlib.suppress(DataError):  # scores beyond the format's range
        message = LatticeMessage(
            lattice=lattice,
            utterance=event.utterance,
            revision=event.revision,
            kind=cast(Literal["speculative_end", "final"], event.kind),
            reason=event.reason,
            duration=max(event.result.end - event.result.start, 0.0),
        )
        await socket.send_bytes(encode_message(message, None))


def refuse_audio(services: Services) -> None:
    """Raises HttpError where this server takes no audio."""
    if services.config.local_only:
        raise HttpError(
            403, "audio_refused",
            "this server runs in local-only mode and takes no audio; send lattices.",
        )  # fmt: skip
    if services.speech is None:
        raise HttpError(
            404, "no_recogniser", "this server has no recogniser; start it with --asr MODEL."
        )


def _ready(services: Services, start: Start) -> dict[str, Any]:
    """What the client has got, and the limits it should know."""
    limits: dict[str, Any] = {}
    if start.encoding != "lattice" and services.speech is not None:
        config = services.speech.config
        limits = {
            "idle_seconds": config.idle_seconds,
            "total_seconds": config.total_seconds,
            "queue_seconds": config.queue_seconds,
        }
    return {
        "type": "ready",
        "version": VERSION,
        "model": services.asr_name,
        "rerank": start.rerank and services.recall.reranks,
        "remember": start.remember,
        "limits": limits,
    }
