"""A request of OpenAI's as orders to the engine, and the engine's pieces as answers and chunks."""

import asyncio
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from solomonic.lm.generate import GenerateConfig
from solomonic.serve.config import ServeConfig
from solomonic.serve.lm.answers import chat_logprobs, completion_logprobs
from solomonic.serve.lm.chat import STOP, Answer, render
from solomonic.serve.lm.engine import LmEngine
from solomonic.serve.lm.pieces import Piece, Token
from solomonic.serve.lm.request import Order, Request
from solomonic.serve.lm.schemas import ChatRequest, CompletionRequest, Sampling

COLDEST = 0.01
"""Temperatures below it choose the likeliest token: dividing by them would overflow."""


@dataclasses.dataclass
class Text:
    """One choice as far as it has come."""

    text: str = ""
    tokens: list[Token] = dataclasses.field(default_factory=list)
    finish: str | None = None
    reason: str | None = None


class Job:
    """The orders of one request, running; made by `completion` or `chat`.

    Args:
        orders: one for each prompt.
        prompts: text to send before each one's choices (echo), or "".
    """

    kind, prefix = "text_completion", "cmpl"

    def __init__(self, engine: LmEngine, orders: list[Order], prompts: list[str]) -> None:
        self.lm, self.orders, self.prompts = engine.lm, orders, prompts
        self.requests: list[Request] = []
        self._sent: dict[int, int] = {}  # characters of each choice
        try:
            for order in orders:
                self.requests.append(engine.submit(order))
        except Exception:
            self.cancel()
            raise
        self.base = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "object": self.kind,
            "created": int(time.time()),
            "model": self.lm.name,
            "system_fingerprint": self.lm.fingerprint[:16],
        }

    def cancel(self) -> None:
        """Forget it all."""
        for request in self.requests:
            request.cancel()

    def usage(self) -> dict[str, int]:
        """Token counts so far; a prompt counts once, whatever the number of choices."""
        read = sum(request.prompt_tokens for request in self.requests)
        written = sum(request.completion_tokens for request in self.requests)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }

    async def answer(self) -> dict[str, Any]:
        """The whole answer."""
        texts: dict[int, Text] = {}
        async for piece in self.pieces():
            text = texts.setdefault(piece.choice, Text())
            text.text += piece.text
            text.tokens += piece.tokens
            text.finish, text.reason = piece.finish, piece.reason
        choices = [self.choice(index, text) for index, text in sorted(texts.items())]
        return self.base | {"choices": choices, "usage": self.usage()}

    async def chunks(self, with_usage: bool) -> AsyncIterator[dict[str, Any]]:
        """The answer in chunks."""
        extra: dict[str, Any] = {"usage": None}
        async for piece in self.pieces():
            yield self.base | {"choices": [self.part(piece)]} | extra
        if with_usage:
            yield self.base | {"choices": [], "usage": self.usage()}

    async def pieces(self) -> AsyncIterator[Piece]:
        """Pieces of all requests as they come, numbered through, the prompts before them."""
        found: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()
        tasks = [
            asyncio.create_task(_forward(request, index, found))
            for index, request in enumerate(self.requests)
        ]
        try:
            for index, prompt in enumerate(self.prompts):
                for choice in range(self.orders[index].choices if prompt else 0):
                    yield Piece(index * self.orders[index].choices + choice, prompt)
            left = len(tasks)
            while left:
                piece = await found.get()
                if isinstance(piece, Exception):
                    raise piece
                left -= piece is None
                if piece is not None:
                    yield piece
        finally:
            for task in tasks:
                task.cancel()
            self.cancel()

    def choice(self, index: int, text: Text) -> dict[str, Any]:
        """A choice of the whole answer."""
        prompt = self.prompts[index // self.orders[0].choices]
        return self._completion(index, text.text, text.tokens, len(prompt)) | _end(text)

    def part(self, piece: Piece) -> dict[str, Any]:
        """A choice of a chunk."""
        shown = self._sent.get(piece.choice, 0)
        self._sent[piece.choice] = shown + len(piece.text)
        made = self._completion(piece.choice, piece.text, list(piece.tokens), shown)
        return made | _end(piece)

    def _completion(
        self, index: int, text: str, tokens: list[Token], offset: int
    ) -> dict[str, Any]:
        wanted = self.orders[0].logprobs is not None
        scores = completion_logprobs(self.lm.tokenizer, tokens, offset) if wanted else None
        return {"index": index, "text": text, "logprobs": scores}


class ChatJob(Job):
    """The same for a chat, whose answers are messages."""

    kind, prefix = "chat.completion", "chatcmpl"

    def choice(self, index: int, text: Text) -> dict[str, Any]:
        message = {"role": "assistant", "content": Answer().push(text.text), "refusal": None}
        found: dict[str, Any] = {"index": index, "message": message}
        return found | {"logprobs": self._scores(text.tokens)} | _end(text)

    async def chunks(self, with_usage: bool) -> AsyncIterator[dict[str, Any]]:
        base = self.base | {"object": "chat.completion.chunk", "usage": None}
        for index in range(self.orders[0].choices):
            delta = {"role": "assistant", "content": "", "refusal": None}
            yield base | {"choices": [self._delta(index, delta, Piece(index))]}
        answers = [Answer() for _ in range(self.orders[0].choices)]
        async for piece in self.pieces():
            text = answers[piece.choice].push(piece.text)
            delta = {"content": text} if text else {}
            if delta or piece.tokens or piece.finish:
                yield base | {"choices": [self._delta(piece.choice, delta, piece)]}
        if with_usage:
            yield base | {"choices": [], "usage": self.usage()}

    def _delta(self, index: int, delta: dict[str, Any], piece: Piece) -> dict[str, Any]:
        scores = self._scores(list(piece.tokens)) if piece.tokens else None
        return {"index": index, "delta": delta, "logprobs": scores} | _end(piece)

    def _scores(self, tokens: list[Token]) -> dict[str, Any] | None:
        if self.orders[0].logprobs is None:
            return None
        return chat_logprobs(self.lm.tokenizer, tokens)


async def _forward(request: Request, index: int, found: asyncio.Queue) -> None:
    """Put a request's pieces into the queue, numbered behind those of the requests before."""
    try:
        async for piece in request:
            place = index * request.order.choices + piece.choice
            found.put_nowait(dataclasses.replace(piece, choice=place))
        found.put_nowait(None)
    except Exception as error:
        found.put_nowait(error)


def _end(text: Text | Piece) -> dict[str, Any]:
    # The end of a line is how a chat's answer ends, so no news to its client.
    reason = None if text.reason == STOP else text.reason
    return {"finish_reason": text.finish, "stop_reason": reason}


def completion(
    engine: LmEngine, body: CompletionRequest, config: ServeConfig, client: str = ""
) -> Job:
    """Start a completion for a client, named so that rows are shared fairly.

    Raises:
        HttpError: as `LmEngine.submit`.
    """
    tokenizer = engine.lm.tokenizer
    prompts: list[Any] = body.prompt if isinstance(body.prompt, list) else [body.prompt]
    if prompts and isinstance(prompts[0], int):
        prompts = [prompts]
    ids = [tokenizer.encode(entry) if isinstance(entry, str) else entry for entry in prompts]
    echoed = [
        (entry if isinstance(entry, str) else tokenizer.decode(entry)) if body.echo else ""
        for entry in prompts
    ]
    most = 16 if body.max_tokens is None else body.max_tokens
    order = _order(engine, body, config, most)
    order = dataclasses.replace(order, logprobs=body.logprobs, client=client)
    # No prompt at all begins a new document.
    orders = [dataclasses.replace(order, prompt=found or [tokenizer.eos_id]) for found in ids]
    return Job(engine, orders, echoed)


def chat(engine: LmEngine, body: ChatRequest, config: ServeConfig, client: str = "") -> ChatJob:
    """Start an answer in a chat for a client, named so that rows are shared fairly.

    Raises:
        HttpError: as `LmEngine.submit`.
    """
    prompt = render((message.role, message.text()) for message in body.messages)
    given = body.max_completion_tokens or body.max_tokens
    order = _order(engine, body, config, given or config.max_new_tokens)
    order = dataclasses.replace(
        order,
        prompt=engine.lm.tokenizer.encode(prompt),
        stop=(STOP, *order.stop),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        client=client,
    )
    return ChatJob(engine, [order], [""])


def _order(engine: LmEngine, body: Sampling, config: ServeConfig, most: int) -> Order:
    """What both kinds have in common; without a prompt."""
    temperature = 1.0 if body.temperature is None else body.temperature
    settings = GenerateConfig(
        max_new_tokens=min(most, config.max_new_tokens),
        temperature=0.0 if temperature < COLDEST else temperature,
        top_k=body.top_k or 0,
        top_p=1.0 if body.top_p is None else body.top_p,
        min_p=body.min_p or 0.0,
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        seed=body.seed,
        eos_id=engine.lm.tokenizer.eos_id,
    )
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return Order(
        prompt=(), config=settings, choices=body.n or 1, stop=stop, seconds=config.request_timeout
    )
