"""OpenAI's /v1/audio/transcriptions: a recording in, its text out, in OpenAI's formats."""

import asyncio
import dataclasses
import json
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from solomonic.serve.auth import Client, require_client
from solomonic.serve.errors import HttpError, as_http
from solomonic.serve.openapi import BODY, errors
from solomonic.serve.services import Services, services_of
from solomonic.serve.speech.errors import StreamFailed
from solomonic.serve.speech.personal import open_stream, prompt_phrases
from solomonic.serve.speech.session import Session
from solomonic.serve.speech.stream import refuse_audio
from solomonic.serve.speech.uploads import Upload
from solomonic.speech.events import Final
from solomonic.speech.result import Result, join

router = APIRouter()
ALIASES = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
"""Models that clients ask for who know no other; they get this server's."""
LONGEST_PROMPT = 10_000
_decoding = ThreadPoolExecutor(2, "solomonic-audio")
_FORMATS = {
    200: {
        "description": "The text, in the format asked for; with `stream`, server-sent events.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/plain": {"schema": {"type": "string"}},
            "text/vtt": {"schema": {"type": "string"}},
            "application/x-subrip": {"schema": {"type": "string"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """The fields of the form besides the recording."""

    model: str
    language: str
    prompt: str
    form: str
    granularities: list[str]
    stream: bool

    def check(self, services: Services) -> None:
        """Raises HttpError where they do not fit the server or each other."""
        if self.model not in (services.asr_name, *ALIASES):
            raise HttpError(
                404, "model_not_found",
                f"this server's recogniser is '{services.asr_name}'; /v1/models lists what there "
                "is.", param="model",
            )  # fmt: skip
        if not (2 <= len(self.language) <= 16 and self.language.replace("-", "").isalnum()):
            raise HttpError(
                400, "invalid_value", "language is a tag such as 'en'; leave it out.",
                param="language",
            )  # fmt: skip
        if self.granularities and self.form != "verbose_json":
            raise HttpError(
                400, "invalid_value", "times need response_format=verbose_json.",
                param="timestamp_granularities",
            )  # fmt: skip


def wanted(
    model: Annotated[str, Form(description="Of /v1/models, or whisper-1.")],
    language: Annotated[str, Form(description="Echoed; the model decides what it hears.")] = "en",
    prompt: Annotated[str, Form(description="Personal words, between commas.")] = "",
    response_format: Annotated[
        Literal["json", "text", "srt", "verbose_json", "vtt"], Form()
    ] = "json",
    temperature: Annotated[
        float, Form(ge=0, le=1, description="Has no effect: the search draws nothing at random.")
    ] = 0.0,
    granularities: Annotated[
        list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]")
    ] = None,
    stream: Annotated[bool, Form()] = False,
) -> Wanted:
    """The form as OpenAI names its fields."""
    return Wanted(
        model=model,
        language=language,
        prompt=prompt[:LONGEST_PROMPT],
        form=response_format,
        granularities=[str(one) for one in granularities or ()],
        stream=stream,
    )


@router.post(
    "/v1/audio/transcriptions",
    tags=["speech"],
    summary="The text of a recording",
    response_class=Response,
    responses=_FORMATS | BODY | errors(404),
)
async def transcribe(
    request: Request,
    client: Annotated[Client, Depends(require_client)],
    file: Annotated[UploadFile, File(description="WAV, FLAC, Ogg, MP3, ...")],
    asked: Annotated[Wanted, Depends(wanted)],
) -> Response:
    """Any format that libsndfile reads. `prompt` is read as personal words, not as text before."""
    services = services_of(request)
    refuse_audio(services)
    asked.check(services)
    session = await open_stream(
        services, client, prompt_phrases(asked.prompt), endpointing=True, live=False
    )
    if asked.stream:
        sent = _events(request, services, session, file)
        return StreamingResponse(sent, media_type="text/event-stream")
    found: list[Result] = []
    try:
        async for event in _heard(request, services, session, file):
            found.append(event.result)
    except StreamFailed as error:
        raise _failed(error) from error
    finally:
        await session.close()
    return _answer(join(found), session.heard, asked)


async def _heard(
    request: Request, services: Services, session: Session, file: UploadFile
) -> AsyncIterator[Final]:
    """The finals of an upload, as it is decoded beside the other streams."""
    loop = asyncio.get_running_loop()
    upload = await loop.run_in_executor(_decoding, Upload, file.file, services.config.max_seconds)

    async def pour() -> None:
        try:
            while len(block := await loop.run_in_executor(_decoding, upload.read)):
                await session.feed(upload.rate, block)
                if await request.is_disconnected():
                    raise StreamFailed("closed", "the client has gone.")
            if not upload.seconds:
                raise HttpError(
                    400, "invalid_audio", "the recording holds no sample.", param="file"
                )
            await session.finish()
        except BaseException:
            session.abandon()  # ends the loop below
            raise
        finally:
            upload.close()

    pouring = asyncio.create_task(pour())
    try:
        async for event in session.events():
            if isinstance(event, Final):
                yield event
        await pouring
    except StreamFailed:
        if pouring.done() and not pouring.cancelled() and (error := pouring.exception()):
            raise error from None
        raise
    finally:
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)


async def _events(
    request: Request, services: Services, session: Session, file: UploadFile
) -> AsyncIterator[str]:
    """Server-sent events: a delta an utterance, and the whole text."""
    said: list[str] = []
    try:
        async for event in _heard(request, services, session, file):
            if event.result.text:
                delta = (" " if said else "") + event.result.text
                said.append(event.result.text)
                yield _sse({"type": "transcript.text.delta", "delta": delta})
        yield _sse({"type": "transcript.text.done", "text": " ".join(said)})
        yield "data: [DONE]\n\n"
    except StreamFailed as error:
        yield _sse(_failed(error).body())
    except Exception as error:
        yield _sse(as_http(error).body())
    finally:
        await session.close()


def _sse(plain: dict[str, Any]) -> str:
    return f"data: {json.dumps(plain, ensure_ascii=False)}\n\n"


def _failed(error: StreamFailed) -> HttpError:
    status = {"shutting_down": 503, "internal_error": 500}.get(error.code, 400)
    return HttpError(status, error.code, str(error), retry_after=5 if status == 503 else None)


def _answer(result: Result, seconds: float, asked: Wanted) -> Response:
    if asked.form == "text":
        return PlainTextResponse(result.text + "\n")
    if asked.form == "srt":
        return PlainTextResponse(result.to_srt(), media_type="application/x-subrip")
    if asked.form == "vtt":
        return PlainTextResponse(to_vtt(result), media_type="text/vtt")
    usage = {"type": "duration", "seconds": round(seconds, 3)}
    if asked.form == "json":
        return JSONResponse({"text": result.text, "usage": usage})
    plain: dict[str, Any] = {
        "task": "transcribe",
        "language": asked.language,
        "duration": round(seconds, 3),
        "text": result.text,
        "usage": usage,
    }
    if "word" in asked.granularities:
        plain["words"] = [
            {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
            for word in result.words
        ]
    if "segment" in (asked.granularities or ("segment",)):
        parts = result.utterances or ((result,) if result.text else ())
        plain["segments"] = [_segment(number, part) for number, part in enumerate(parts)]
    return JSONResponse(plain)


def _segment(number: int, result: Result) -> dict[str, Any]:
    """An utterance as Whisper's segment. What has no meaning here is 0 or empty."""
    data = result.text.encode()
    acoustic = result.nbest[0].acoustic if result.nbest else 0.0
    return {
        "id": number,
        "seek": 0,
        "start": round(result.words[0].start if result.words else result.start, 3),
        "end": round(result.words[-1].end if result.words else result.end, 3),
        "text": result.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(acoustic / max(len(result.words), 1), 4),
        "compression_ratio": round(len(data) / max(len(zlib.compress(data)), 1), 4),
        "no_speech_prob": 0.0,
    }


def to_vtt(result: Result) -> str:
    """WebVTT: SubRip's captions with points in the times and no numbers."""
    cues = [caption.split("\n", 1)[1] for caption in result.to_srt().split("\n\n") if caption]
    cues = [cue.split("\n", 1) for cue in cues]
    lines = [f"{times.replace(',', '.')}\n{text.rstrip()}\n" for times, text in cues]
    return "\n".join(["WEBVTT\n", *lines])
