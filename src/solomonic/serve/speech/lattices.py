"""POST /v1/lattices: one lattice message in, its sentences out, reranked with what the user said.

For devices that keep no connection. `/v1/stream` has revisions; here a message stands alone.
"""

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict

from solomonic.serve.auth import Client, require_client
from solomonic.serve.errors import HttpError
from solomonic.serve.lm.answers import MemoryHit
from solomonic.serve.openapi import BODY, errors
from solomonic.serve.services import services_of
from solomonic.serve.speech.device import LARGEST_LATTICE, flags_json, read_message
from solomonic.serve.speech.forms import hypotheses_json, lattice_json
from solomonic.serve.speech.socket import BadMessage, parse_object
from solomonic.serve.store.base import Utterance

router = APIRouter()
LARGEST_BODY = 2 * LARGEST_LATTICE


class Sentence(BaseModel):
    """A way through the lattice; scores in nats."""

    model_config = ConfigDict(extra="forbid")
    text: str
    arcs: list[int]
    acoustic: float
    bias: float
    lm: float
    internal: float
    memory: float
    words: int
    score: float


class Answer(BaseModel):
    """What a lattice says."""

    model_config = ConfigDict(extra="forbid")
    kind: str
    utterance: int
    revision: int
    text: str
    one_best: str
    arcs: list[int]
    hypotheses: list[Sentence]
    memory_hits: list[MemoryHit]
    reranked: bool
    record: int | None = None
    speaker: str | None = None
    speaker_score: float | None = None
    whisper: float | None = None
    language: str | None = None
    lattice: dict[str, Any] | None = None
    best: list[int] | None = None


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["lattice"],
                    "properties": {
                        "lattice": {"type": "string", "description": "base64 of the message"}
                    },
                }
            },
        },
    }
}


@router.post(
    "/v1/lattices",
    tags=["speech"],
    summary="Rerank a lattice message",
    response_model_exclude_none=True,
    responses=BODY | errors(415),
    openapi_extra=_BODY,
)
async def rerank_lattice(
    request: Request,
    client: Annotated[Client, Depends(require_client)],
    n: Annotated[int, Query(ge=1, le=100, description="Sentences wanted.")] = 10,
    remember: Annotated[
        bool, Query(description="Whether a final becomes part of the user's memory.")
    ] = True,
    lattice: Annotated[bool, Query(description="Whether the lattice comes back as JSON.")] = False,
) -> Answer:
    """The body is a lattice message, or JSON with its base64. Without a language model the
    sentences are those of the lattice itself (`reranked` is false)."""
    services = services_of(request)
    message = await read_message(services, await _body(request))
    if message.lattice is None:
        raise HttpError(
            400, "lattice_missing",
            "a message without a lattice has a meaning on /v1/stream only.",
        )  # fmt: skip
    recall = services.recall
    if recall.reranks:
        found = (await recall.rerank(client.user, message.lattice, n)).to_json()
    else:
        found = await recall.work(hypotheses_json, message.lattice, n)
    plain: dict[str, Any] = {
        "kind": message.kind,
        "utterance": message.utterance,
        "revision": message.revision,
        "reranked": recall.reranks,
        **found,
        **flags_json(message),
    }
    if remember and message.kind in ("final", "commit") and found["text"]:
        said = Utterance(found["text"], found["one_best"], source="lattice")
        plain["record"] = await recall.commit(client.user, said)
    if lattice:
        plain |= await recall.work(lattice_json, message.lattice)
    return Answer(**plain)


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/octet-stream", "application/json"):
        raise HttpError(
            415, "unsupported_media_type",
            "send the message as application/octet-stream, or its base64 in application/json.",
        )  # fmt: skip
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > LARGEST_BODY:
            raise HttpError(
                413, "too_large", f"the body has more than {LARGEST_BODY} bytes; prune the lattice."
            )
    if kind == "application/octet-stream":
        return data
    try:
        plain = parse_object(data.decode())
    except UnicodeDecodeError:
        raise BadMessage("invalid_json", "the body is no JSON; send a JSON object.") from None
    if set(plain) != {"lattice"} or not isinstance(plain["lattice"], str):
        raise BadMessage("invalid_value", 'the body must be {"lattice": base64}.', "lattice")
    try:
        return base64.b64decode(plain["lattice"], validate=True)
    except (binascii.Error, ValueError):
        raise BadMessage("invalid_value", "'lattice' is no base64.", "lattice") from None
