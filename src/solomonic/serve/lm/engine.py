"""Continuous batching: one worker thread advances all texts together, step by step.

A step reads one token of every text that is being written, and up to `prompt_chunk` tokens of a few
prompts, in one call; then every text whose turn it is gets its next token. Texts join and leave
between steps. A long prompt is read beside the others, never before them.

What a text becomes depends on its prompt, settings and seed alone: prompts are cut at fixed places,
and rows of the native core do not know of each other.
"""

import asyncio
import collections
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence

from torch import Tensor

from solomonic.core import ShapeError, VocabularyError
from solomonic.lm.generate import GenerateConfig
from solomonic.serve.config import ServeConfig
from solomonic.serve.errors import HttpError
from solomonic.serve.lm.loaded import LoadedModel
from solomonic.serve.lm.pieces import Piece
from solomonic.serve.lm.request import Order, Request, Row
from solomonic.serve.lm.rows import rows_of
from solomonic.serve.metrics import Metrics

PROMPTS = 2
"""Prompts that are read in one step, each by a chunk."""
log = logging.getLogger(__name__)


class LmEngine:
    """Generation for many clients with one model.

    Args:
        lm: the model; other threads may use it meanwhile only through a twin of its own.
        config: limits: max_batch, max_queue, max_prompt_tokens, prompt_chunk.
        metrics: where to count, or None.
    """

    def __init__(
        self, lm: LoadedModel, config: ServeConfig, metrics: Metrics | None = None
    ) -> None:
        self.lm, self.config = lm, config
        self._metrics = metrics or Metrics()
        self._rows_of = rows_of(lm.reader)
        self._changed = threading.Condition()
        self._waiting: collections.deque[Request] = collections.deque()
        self._rows: list[Row] = []
        self._stopping = self._ending = False
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="solomonic-lm", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._thread.is_alive()

    @property
    def running(self) -> int:
        """Texts that are read or written now."""
        return len(self._rows)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    def submit(self, order: Order) -> Request:
        """Take an order; call it from the event loop that will read the pieces.

        Raises:
            HttpError: 400 for a prompt that is too long, 503 when the queue is full or the server
                is stopping.
            ShapeError: the prompt is empty. VocabularyError: a token is no token of the model.
        """
        self._check(order)
        request = Request(order)
        with self._changed:
            if self._stopping:
                raise _stopping()
            if self._queued(order.choices) > self.config.max_queue:
                self._metrics.refused.labels("queue_full").inc()
                raise HttpError(
                    503, "queue_full", "the server is busy; try again in a moment.", retry_after=2
                )
            self._waiting.append(request)
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify_all()
        return request

    async def generate(
        self, tokens: Sequence[int], config: GenerateConfig, stop: Sequence[str] = ()
    ) -> AsyncIterator[Piece]:
        """Pieces of the one text that follows `tokens`; see `submit` for errors."""
        order = Order(
            prompt=tokens, config=config, stop=tuple(stop), seconds=self.config.request_timeout
        )
        async for piece in self.submit(order):
            yield piece

    async def drain(self, deadline: float) -> None:
        """Take nothing more, and wait until all is written; at the deadline (`time.monotonic`)
        texts are ended as they are."""
        with self._changed:
            self._stopping = True
        while self._busy_now() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        while self._busy_now() and self.alive:
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """End the worker."""
        with self._changed:
            self._stopping = self._ending = True
            self._changed.notify_all()
        await asyncio.to_thread(self._thread.join)

    @property
    def _most(self) -> int:
        return max(self.config.max_batch, 1)

    def _check(self, order: Order) -> None:
        if len(order.prompt) == 0:
            raise ShapeError("the prompt is empty; give at least one token.")
        if len(order.prompt) > self.config.max_prompt_tokens:
            raise HttpError(
                400, "context_length_exceeded",
                f"the prompt has {len(order.prompt)} tokens, and this server reads at most "
                f"{self.config.max_prompt_tokens}; shorten it.",
                param="prompt",
            )  # fmt: skip
        if min(order.prompt) < 0 or max(order.prompt) >= self.lm.vocab_size:
            raise VocabularyError(
                f"the prompt has a token outside the vocabulary of {self.lm.vocab_size} tokens; "
                "encode it with the tokenizer of the model."
            )
        if order.choices > self._most:
            raise HttpError(
                400, "too_many_choices",
                f"this server writes at most {self._most} texts at once; ask for fewer.", param="n",
            )  # fmt: skip

    def _queued(self, choices: int) -> int:
        """Requests that must wait for rows, with one of so many choices behind the others. Those
        that the worker will take before its next step do not count."""
        free, queued = self._most - self._taken(), 0
        for wanted in (*(request.order.choices for request in self._waiting), choices):
            queued += queued > 0 or wanted > free
            free -= wanted
        return queued

    def _taken(self) -> int:
        return len(self._rows) + sum(len(row.siblings) for row in self._rows)

    def _busy_now(self) -> bool:
        with self._changed:
            return self._busy or bool(self._rows or self._waiting)

    # ---- the worker ------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                while not (self._rows or self._waiting):
                    if self._ending:
                        return
                    self._changed.wait()
                self._busy = True
                self._leave()
                self._join()
            try:
                if self._rows:
                    self._step()
            except Exception as error:
                log.exception("step failed", extra={"part": "lm", "count": len(self._rows)})
                self._fail(error)

    def _leave(self) -> None:
        """Rows and requests that nobody waits for, that took too long, or must end, go."""
        now, reason = time.monotonic(), "shutdown" if self._ending else "timeout"
        for row in self._rows:
            if row.done or row.request.cancelled:
                row.done = True
            elif self._ending or now > row.request.deadline:
                for member in (row, *row.siblings):
                    member.end("length", reason)
                    self._metrics.finished.labels(reason).inc()
        self._rows = [row for row in self._rows if not row.done]
        kept: collections.deque[Request] = collections.deque()
        for request in self._waiting:
            if self._ending:
                request.put(_stopping())
            elif now > request.deadline:
                request.put(_waited())
            elif not request.cancelled:
                kept.append(request)
        self._waiting = kept

    def _join(self) -> None:
        """The clients with the fewest rows get those that are free, who waited longest first."""
        while self._waiting:
            held = collections.Counter(row.request.order.client for row in self._rows)
            for row in self._rows:
                held[row.request.order.client] += len(row.siblings)
            request = min(self._waiting, key=lambda waits: held[waits.order.client])
            if self._taken() + request.order.choices > self._most:
                break
            self._waiting.remove(request)
            first, *others = (
                Row(request, choice, self.lm.tokenizer) for choice in range(request.order.choices)
            )
            first.state, first.siblings = self._rows_of.start(), others
            self._rows.append(first)
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.rows.set(len(self._rows))

    def _step(self) -> None:
        """Read one token of all who write, a chunk of some prompts; then write."""
        begun = time.perf_counter()
        writing = [row for row in self._rows if row.writing]
        prompts = [row for row in self._rows if not row.writing]
        read = prompts[:PROMPTS]
        # Who has just had a turn goes behind those who have not.
        self._rows = writing + prompts[PROMPTS:] + read
        chosen = writing + read
        tokens = [row.take(self.config.prompt_chunk) for row in chosen]
        logits, states = self._rows_of.read([row.state for row in chosen], tokens)
        for index, (row, state) in enumerate(zip(chosen, states, strict=True)):
            row.state = state
            row.has_read(tokens[index], self.lm.vocab_size)
            if row.unread:
                continue
            if not row.writing:
                self._begin(row)
            for member in (row, *row.siblings):
                self._write(member, logits[index : index + 1])
            self._rows += row.siblings
            row.siblings = []
        self._metrics.tokens.labels("prompt").inc(sum(len(t) for t in tokens[len(writing) :]))
        self._metrics.step_seconds.observe(time.perf_counter() - begun)

    def _begin(self, row: Row) -> None:
        """The prompt was read: the other choices of the request go on from the same state."""
        row.writing = True
        self._metrics.first_token.observe(time.monotonic() - row.request.born)
        for sibling in row.siblings:
            sibling.state, sibling.unread = self._rows_of.copy(row.state), []
            sibling.writing = True
            sibling.seen_like(row)

    def _write(self, row: Row, logits: Tensor) -> None:
        try:
            row.write(logits)
        except Exception as error:  # logits that are not finite: of this row alone
            log.exception("sampling failed", extra={"part": "lm"})
            row.done = True
            row.request.put(error)
            row.request.cancel()
        self._metrics.tokens.labels("generated").inc()
        if row.done:
            self._metrics.finished.labels("ended").inc()

    def _fail(self, error: Exception) -> None:
        """What was under way in a step that failed is lost; the engine goes on."""
        with self._changed:
            for row in self._rows:
                row.done = True
                row.request.put(error)
                row.request.cancel()
            self._rows = []


def _stopping() -> HttpError:
    return HttpError(
        503, "stopping", "the server is stopping; try again in a moment.", retry_after=5
    )


def _waited() -> HttpError:
    return HttpError(
        503, "queue_timeout", "the server was too busy for the time allowed; try again.",
        retry_after=5,
    )  # fmt: skip
