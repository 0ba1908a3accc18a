"""/v1/models, /v1/completions, /v1/chat/completions as OpenAI's clients know them; /v1/memory_map.

`model` and every other name is only ever compared with those that were loaded at the start. What
needs PyTorch is imported where a language model is there: a server of speech alone never loads it.
"""

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from solomonic.core import ConfigError
from solomonic.serve.auth import Client, require_client
from solomonic.serve.errors import HttpError
from solomonic.serve.lm.answers import (
    ChatCompletion,
    Completion,
    LayerMap,
    MemoryHit,
    MemoryMapAnswer,
    Model,
    Models,
)
from solomonic.serve.lm.schemas import (
    ChatRequest,
    CompletionRequest,
    MemoryMapRequest,
    Sampling,
)
from solomonic.serve.lm.stream import EventStream, Gone, unless_gone
from solomonic.serve.openapi import BODY, REFUSALS, errors
from solomonic.serve.services import Services, services_of

if TYPE_CHECKING:
    from solomonic.lm.memory_map import MemoryMap
    from solomonic.serve.lm.engine import LmEngine
    from solomonic.serve.lm.jobs import Job

router = APIRouter(prefix="/v1", tags=["language models"])
Asking = Annotated[Client, Depends(require_client)]
SLACK = 30.0
"""Seconds for which an answer may still be read after its time to be written is over."""
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer, or with `stream` its chunks as server-sent events.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


async def startup(services: Services) -> None:
    """Start the engine of the language model, where there is one."""
    if services.lm is None:
        return
    from solomonic.serve.lm.engine import LmEngine

    engine = services.engine = LmEngine(services.lm, services.config, services.metrics)
    services.drains.append(engine.drain)
    services.closers.append(engine.close)


@router.get("/models", operation_id="listModels", responses=REFUSALS)
async def models(request: Request, client: Asking) -> Models:
    """The models of this server."""
    found = services_of(request).models()
    return Models(object="list", data=[_model(name, *entry) for name, entry in found.items()])


@router.get("/models/{model}", operation_id="retrieveModel", responses=REFUSALS | errors(404))
async def one_model(model: str, request: Request, client: Asking) -> Model:
    """One of them."""
    found = services_of(request).models()
    if model not in found:
        raise _unknown_model()
    return _model(model, *found[model])


@router.post(
    "/completions",
    operation_id="createCompletion",
    response_model=Completion,
    responses=_STREAM | BODY | errors(404),
)
async def completions(body: CompletionRequest, request: Request, client: Asking) -> Response:
    """Text that follows a prompt."""
    engine = _engine(request, body.model)
    if body.echo and body.logprobs is not None:
        raise HttpError(
            400, "unsupported_parameter",
            "log-probabilities of a prompt are not given here; leave out echo or logprobs.",
            param="logprobs",
        )  # fmt: skip
    from solomonic.serve.lm.jobs import completion

    several = isinstance(body.prompt, list) and not isinstance(body.prompt[0], int)
    prompts = len(body.prompt) if several else 1
    return await _run(
        request,
        client,
        body,
        prompts,
        lambda config: completion(engine, body, config, client.name),
    )


@router.post(
    "/chat/completions",
    operation_id="createChatCompletion",
    response_model=ChatCompletion,
    responses=_STREAM | BODY | errors(404),
)
async def chat_completions(body: ChatRequest, request: Request, client: Asking) -> Response:
    """What the assistant says next in a conversation."""
    engine = _engine(request, body.model)
    from solomonic.serve.lm.jobs import chat

    return await _run(
        request, client, body, 1, lambda config: chat(engine, body, config, client.name)
    )


@router.post("/memory_map", operation_id="memoryMap", responses=BODY | errors(404))
async def show_memory(body: MemoryMapRequest, request: Request, client: Asking) -> MemoryMapAnswer:
    """Which tokens of a text each B'MOJO layer keeps, until when, and how surprising each was; and
    which of its words the user said before."""
    services = services_of(request)
    engine = _engine(request, body.model)
    lm, most = engine.lm, services.config.max_prompt_tokens
    ids = lm.tokenizer.encode(body.text)
    if len(ids) > most:
        raise HttpError(
            400, "context_length_exceeded",
            f"the text has {len(ids)} tokens, and this server reads at most {most}; shorten it.",
            param="text",
        )  # fmt: skip
    hits = [MemoryHit(**hit) for hit in await services.recall.hits(client.user, body.text)]
    if len(ids) < 2:  # nothing was kept yet, and there is nothing to be compared with
        pieces = [lm.tokenizer.decode([token]) for token in ids]
        window = lm.reader.config.window_size
        return MemoryMapAnswer(
            model=lm.name, tokens=pieces, window=window, layers=[], memory_hits=hits
        )
    from solomonic.lm.memory_map import memory_map
    from solomonic.lm.native import NativeModel

    reader = lm.reader.twin() if isinstance(lm.reader, NativeModel) else lm.reader
    with services.limits.slot("memory maps", client.name, 2):
        try:
            found = await asyncio.to_thread(memory_map, reader, lm.tokenizer, body.text)
        except ConfigError as error:
            raise HttpError(404, "no_memory_map", str(error)) from None
    return _map_of(lm.name, found, hits)


async def _run(
    request: Request, client: Client, body: Sampling, prompts: int, start: Any
) -> Response:
    """Admit, start and answer a request for `prompts` prompts, in one piece or as a stream."""
    services = services_of(request)
    config, count = services.config, body.n or 1
    if count > config.max_choices:
        raise HttpError(
            400, "too_many_choices",
            f"this server writes at most {config.max_choices} choices; ask for fewer.", param="n",
        )  # fmt: skip
    most = client.limit("max_requests", config.max_requests_per_client)
    with ExitStack() as stack:
        stack.enter_context(services.limits.slot("prompts", client.name, most, prompts))
        job: Job = start(config)
        stack.callback(job.cancel)
        if body.stream:
            options = body.stream_options
            usage = bool(options and options.include_usage)
            held = stack.pop_all()  # left when the stream ends
            return EventStream(lambda: job.chunks(usage), held, config.request_timeout + SLACK)
        try:
            return JSONResponse(await unless_gone(request.receive, job.answer()))
        except Gone:
            return Response(status_code=499)  # nobody reads it; the log tells


def _engine(request: Request, model: str | None) -> "LmEngine":
    """The engine of the model named.

    Raises:
        HttpError: 404, there is no such language model here.
    """
    services = services_of(request)
    if services.engine is None:
        raise HttpError(404, "no_language_model", "this server has no language model.")
    if model is not None and model != services.engine.lm.name:
        raise _unknown_model()
    return services.engine


def _unknown_model() -> HttpError:
    return HttpError(
        404, "model_not_found", "there is no such model here; /v1/models lists those there are.",
        param="model",
    )  # fmt: skip


def _model(name: str, kind: Any, created: int) -> Model:
    return Model(id=name, object="model", created=created, owned_by="solomonic", kind=kind)


def _map_of(name: str, found: "MemoryMap", hits: list[MemoryHit]) -> MemoryMapAnswer:
    layers = []
    for layer in found.layers:
        since, until = layer.lifetimes()
        layers.append(LayerMap(
            layer=layer.layer,
            kept=layer.final.tolist(),
            innovation=layer.innovation.tolist(),
            since=since.tolist(),
            until=until.tolist(),
        ))  # fmt: skip
    return MemoryMapAnswer(
        model=name, tokens=found.pieces, window=found.window, layers=layers, memory_hits=hits
    )
