"""What the server keeps of a user: shown, added to, and deleted without a trace."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from solomonic.core import DataError
from solomonic.serve.auth import Client, require_client
from solomonic.serve.errors import HttpError
from solomonic.serve.openapi import BODY, REFUSALS
from solomonic.serve.services import services_of
from solomonic.serve.speech.personal import usable
from solomonic.serve.store.base import Utterance
from solomonic.speech.biasing.phrases import MOST_PHRASES

router = APIRouter(prefix="/v1/users/me", tags=["users"])
LONGEST_PHRASE = 200
LONGEST_TEXT = 2000


class User(BaseModel):
    """How much is kept."""

    user: str
    revision: int
    phrases: int
    utterances: int


class Phrases(BaseModel):
    """Personal words."""

    model_config = ConfigDict(extra="forbid")
    phrases: list[Annotated[str, Field(min_length=1, max_length=LONGEST_PHRASE)]] = Field(
        max_length=MOST_PHRASES
    )


class Said(BaseModel):
    """Something the user said."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
    heard: Annotated[str, Field(max_length=LONGEST_TEXT)] = ""
    time: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)] = 0.0
    source: Annotated[str, Field(max_length=100)] = ""


class History(BaseModel):
    """The last sentences, the oldest first."""

    utterances: list[Said]


class Revision(BaseModel):
    """Of the user's record."""

    revision: int


class Deleted(BaseModel):
    """How much of each there was."""

    deleted: dict[str, int]


Me = Annotated[Client, Depends(require_client)]


@router.get("", summary="How much is kept of the user", responses=REFUSALS)
async def show_user(request: Request, client: Me) -> User:
    """Whose memory a request is about: the key's user, or the header X-Solomonic-User."""
    record = await services_of(request).recall.record(client.user, 100_000)
    return User(
        user=client.user,
        revision=record.revision,
        phrases=len(record.phrases),
        utterances=len(record.utterances),
    )


@router.delete("", summary="Delete every trace of the user", responses=REFUSALS)
async def delete_user(request: Request, client: Me) -> Deleted:
    """Personal words, sentences, the model's state, and keys bound to the user."""
    services = services_of(request)
    deleted = await services.recall.delete(client.user)
    deleted["keys"] = deleted.get("keys", 0) + await services.keys.forget_user(client.user)
    return Deleted(deleted=deleted)


@router.get("/phrases", summary="The user's personal words", responses=REFUSALS)
async def show_phrases(request: Request, client: Me) -> Phrases:
    """As they were stored."""
    record = await services_of(request).recall.record(client.user, 1)
    return Phrases(phrases=list(record.phrases))


@router.put("/phrases", summary="Replace the user's personal words", responses=BODY)
async def set_phrases(request: Request, client: Me, body: Phrases) -> Phrases:
    """Every phrase must be one that a recogniser can favour: one to eight words, 3 letters."""
    wrong = sum(not usable(phrase) for phrase in body.phrases)
    if wrong:
        raise HttpError(
            400, "invalid_phrases",
            f"{wrong} of {len(body.phrases)} phrases cannot be heard; give words of a-z with at "
            "least 3 letters, at most 8 words, and numbers in words.", param="phrases",
        )  # fmt: skip
    phrases = list(dict.fromkeys(" ".join(phrase.split()) for phrase in body.phrases))
    await services_of(request).recall.set_phrases(client.user, phrases)
    return Phrases(phrases=phrases)


@router.get("/utterances", summary="What is kept of what the user said", responses=REFUSALS)
async def show_utterances(
    request: Request, client: Me, last: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> History:
    """The oldest first."""
    record = await services_of(request).recall.record(client.user, last)
    said = [
        Said.model_construct(text=u.text, heard=u.heard, time=u.time, source=u.source)
        for u in record.utterances
    ]
    return History.model_construct(utterances=said)


@router.post("/utterances", summary="Remember something the user said", responses=BODY)
async def add_utterance(request: Request, client: Me, body: Said) -> Revision:
    """Such as a correction of what was recognised; the memory reads it at once."""
    if not body.text.strip():
        raise DataError("an utterance has no words; give some.")
    said = Utterance(body.text, body.heard, time=body.time, source=body.source)
    return Revision(revision=await services_of(request).recall.commit(client.user, said))
