"""A request as it waits, runs and ends: the bridge between the worker thread and its client."""

import asyncio
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import torch
from torch import Tensor

from solomonic.lm.generate import GenerateConfig, choose
from solomonic.serve.lm.pieces import Piece, Shown, Token
from solomonic.text import Tokenizer

TOP = 20
"""Most log-probabilities of other tokens that are given for a token."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What a client wants.

    Attributes:
        prompt: token ids, at least one.
        config: how to choose tokens, and how many.
        choices: texts to write; choice i draws with `config.seed` + i.
        stop: strings that end a text.
        logprobs: None, or how many of the likeliest tokens to give for each one.
        seconds: after which the texts are ended as they are.
        client: whose it is, so that one client's many requests do not keep others waiting.
    """

    prompt: Sequence[int]
    config: GenerateConfig
    choices: int = 1
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    seconds: float = 120.0
    client: str = ""


class Request:
    """An order that was accepted: iterate over its pieces; `cancel` when nobody reads them.

    Attributes:
        prompt_tokens, completion_tokens: counts so far.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.prompt_tokens, self.completion_tokens = len(order.prompt), 0
        self.born = time.monotonic()
        self.deadline = self.born + order.seconds
        self.cancelled = False
        self.started = False
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._open = order.choices

    def cancel(self) -> None:
        """The worker forgets the request before its next step."""
        self.cancelled = True

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Pieces of all choices as they come, until every choice has ended.

        Raises:
            HttpError: the request waited too long, or the server is stopping.
        """
        try:
            while self._open:
                piece = await self._pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                self._open -= piece.finish is not None
                yield piece
        finally:
            self.cancel()

    def put(self, piece: Piece | Exception) -> None:
        """From the worker: hand over a piece, or what went wrong."""
        try:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        except RuntimeError:  # the loop has ended, so nobody waits any more
            self.cancelled = True


class Row:
    """One text of a request while it is read and written.

    Attributes:
        unread: tokens to read next; of a text that is being written its last one.
        state: what the model remembers; None before the first step.
        writing: whether the prompt has been read.
        siblings: the other choices of the request until they go on from this row's state.
    """

    def __init__(self, request: Request, choice: int, tokenizer: Tokenizer) -> None:
        self.request, self.choice = request, choice
        self.unread = list(request.order.prompt)
        self.state: Any = None
        self.writing = self.done = False
        self.siblings: list[Row] = []
        self._tokenizer = tokenizer
        config = request.order.config
        self._config, self._left = config, config.max_new_tokens
        seed = secrets.randbits(62) if config.seed is None else config.seed + choice
        self._generator = torch.Generator().manual_seed(seed % 2**63)
        self._shown = Shown(tokenizer, request.order.stop)
        self._seen: Tensor | None = None

    def take(self, most: int) -> list[int]:
        """The next tokens to read, at most so many."""
        tokens, self.unread = self.unread[:most], self.unread[most:]
        return tokens

    def has_read(self, tokens: Sequence[int], vocab_size: int) -> None:
        """Remember which tokens `repetition_penalty` acts on."""
        if self._config.repetition_penalty != 1:
            if self._seen is None:
                self._seen = torch.zeros(1, vocab_size, dtype=torch.bool)
            self._seen[0, torch.tensor(tokens)] = True

    def seen_like(self, other: "Row") -> None:
        """What `other` has read was read by this row too."""
        self._seen = None if other._seen is None else other._seen.clone()

    def write(self, logits: Tensor) -> None:
        """Choose the next token from logits (1, V), and hand out what can be shown."""
        token = int(choose(logits, self._config, self._seen, self._generator))
        self._left -= 1
        self.request.completion_tokens += 1
        if token == self._config.eos_id:
            return self.end("stop")
        said, tokens = self._shown.push(self._note(token, logits))
        if self._shown.stopped is not None:
            self._put(said, tokens, "stop", self._shown.stopped)
        elif self._left <= 0:
            self._finish(said, tokens, "length", None)
        else:
            self.unread = [token]
            if said or tokens:
                self._put(said, tokens)

    def end(self, finish: str, reason: str | None = None) -> None:
        """End the text with what it has."""
        self._finish("", (), finish, reason)

    def _finish(
        self, text: str, tokens: tuple[Token, ...], finish: str, reason: str | None
    ) -> None:
        more, others = self._shown.flush()
        self._put(text + more, tokens + others, finish, reason)

    def _put(
        self,
        text: str,
        tokens: tuple[Token, ...],
        finish: str | None = None,
        reason: str | None = None,
    ) -> None:
        self.done = finish is not None
        kept = tokens if self.request.order.logprobs is not None else ()
        self.request.put(Piece(self.choice, text, kept, finish, reason))

    def _note(self, token: int, logits: Tensor) -> Token:
        """The token with the model's own log-probabilities: before temperature and penalties."""
        count = self.request.order.logprobs
        if count is None:
            return Token(token)
        scores = logits[0].double().log_softmax(dim=-1)
        found = scores.topk(min(count, len(scores)))
        pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return Token(token, float(scores[token]), tuple(pairs))
