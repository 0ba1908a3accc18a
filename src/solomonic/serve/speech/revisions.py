"""Reranking by the revision protocol: begun on speculation, dropped on reset, kept on commit.

    speculative_end r   the lattice is reranked at once        -> {"type": "reranked", revision r}
    reset r             that work is dropped
    final r, commit     the work of r is used: only what is new is done
    final r             a new lattice is reranked              -> {"type": "reranked", revision r}

After a final the sentence is remembered, in the order of the utterances -> {"type": "remembered"}.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from solomonic.core import SolomonicError
from solomonic.serve.speech.forms import hypotheses_json
from solomonic.serve.speech.recall import Recall
from solomonic.serve.speech.socket import error_json
from solomonic.serve.store.base import Utterance
from solomonic.speech.lattice import Lattice

SENTENCES = 10
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Revisions:
    """Work on the lattices of one conversation.

    Args:
        recall: of the server.
        user: who speaks.
        send: gives the client a message.
        rerank: whether the client wants it (and the server can).
        remember: whether finals become part of the user's memory.
        source: what is written down as where an utterance came from.

    Attributes:
        reranks: whether lattices are reranked at all.
    """

    def __init__(
        self,
        recall: Recall,
        user: str,
        send: Send,
        *,
        rerank: bool,
        remember: bool,
        source: str,
    ) -> None:
        self._recall, self._user, self._send = recall, user, send
        self.reranks = rerank and recall.reranks
        self._remember, self._source = remember, source
        self._speculated: dict[tuple[int, int], asyncio.Task[str]] = {}
        self._last: asyncio.Task[None] | None = None  # the latest final, which the next one awaits
        self._tasks: set[asyncio.Task[Any]] = set()

    def speculate(self, utterance: int, revision: int, lattice: Lattice) -> None:
        """Begin work that may be dropped."""
        if self.reranks:
            self._speculated[utterance, revision] = self._begin(
                self._reranked(utterance, revision, lattice)
            )

    def reset(self, utterance: int, revision: int) -> None:
        """Drop the work of every revision up to this one."""
        for key in [k for k in self._speculated if k[0] == utterance and k[1] <= revision]:
            self._speculated.pop(key).cancel()

    def final(self, utterance: int, revision: int, lattice: Lattice | None, heard: str) -> None:
        """The utterance is over; what was begun on this revision stands."""
        ready = self._speculated.pop((utterance, revision), None)
        self.reset(utterance, revision)
        self._last = self._begin(
            self._finish(self._last, ready, utterance, revision, lattice, heard)
        )

    async def settle(self) -> None:
        """Wait until every final has been worked off."""
        if self._last is not None:
            await self._last

    async def close(self) -> None:
        """Drop speculative work; what was final is still remembered."""
        for task in self._speculated.values():
            task.cancel()
        with contextlib.suppress(Exception):
            await self.settle()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _finish(
        self,
        before: asyncio.Task[None] | None,
        ready: asyncio.Task[str] | None,
        utterance: int,
        revision: int,
        lattice: Lattice | None,
        heard: str,
    ) -> None:
        if before is not None:
            await before
        text = heard
        if ready is not None:
            text = await ready
        elif self.reranks and lattice is not None:
            text = await self._reranked(utterance, revision, lattice)
        if self._remember and text:
            said = Utterance(text, heard, source=self._source)
            try:
                record = await self._recall.commit(self._user, said)
            except SolomonicError as error:
                await self._tell(error_json(error) | _key(utterance, revision))
            else:
                await self._tell({"type": "remembered", **_key(utterance, revision),
                                  "record": record})  # fmt: skip

    async def _reranked(self, utterance: int, revision: int, lattice: Lattice) -> str:
        """Rerank and tell; the text. Where that fails, the recogniser's own stands."""
        try:
            found = await self._recall.rerank(self._user, lattice, SENTENCES)
        except SolomonicError as error:
            await self._tell(error_json(error) | _key(utterance, revision))
            return hypotheses_json(lattice, 1)["text"]
        await self._tell({"type": "reranked", **_key(utterance, revision), **found.to_json()})
        return found.text

    async def _tell(self, message: dict[str, Any]) -> None:
        """A client that has gone is no reason to forget what it said."""
        with contextlib.suppress(Exception):
            await self._send(message)


def _key(utterance: int, revision: int) -> dict[str, int]:
    return {"utterance": utterance, "revision": revision}
