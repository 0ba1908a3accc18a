"""Routes for those who run the server: is it alive, does it take work, what does it do."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from solomonic.core import SolomonicError
from solomonic.serve.auth import Client, require_client
from solomonic.serve.errors import HttpError
from solomonic.serve.openapi import ERRORS, REFUSALS
from solomonic.serve.services import services_of

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(extra="forbid")
    status: Literal["ok"]


class Ready(BaseModel):
    """New work is taken."""

    model_config = ConfigDict(extra="forbid")
    status: Literal["ready"]


@router.get("/health", operation_id="health")
async def health() -> Health:
    """Alive: the process answers. Asks nothing else and needs no key."""
    return Health(status="ok")


@router.get("/ready", operation_id="ready", responses={503: ERRORS[503]})
async def ready(request: Request) -> Ready:
    """Ready: models are loaded, the store answers, and the server is not stopping."""
    services = services_of(request)
    if services.draining.is_set() or not services.started:
        raise HttpError(503, "stopping", "the server takes no new work now.", retry_after=5)
    try:
        await asyncio.wait_for(asyncio.to_thread(services.store.check), 5)
    except (SolomonicError, TimeoutError):
        raise HttpError(
            503, "storage_unavailable", "the store does not answer.", retry_after=5
        ) from None
    if services.engine is not None and not services.engine.alive:
        raise HttpError(503, "engine_failed", "the language model's worker has ended; restart.")
    if services.speech is not None and not services.speech.alive:
        raise HttpError(503, "engine_failed", "the recogniser's worker has ended; restart.")
    return Ready(status="ready")


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        404: ERRORS[404],
    }
    | REFUSALS,
)
async def metrics(request: Request, client: Annotated[Client, Depends(require_client)]) -> Response:
    """What was done so far, for Prometheus. Where there are keys it needs one."""
    services = services_of(request)
    if not services.config.metrics:
        raise HttpError(404, "not_found", "metrics are switched off on this server.")
    text = await asyncio.to_thread(services.metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
