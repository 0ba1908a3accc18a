"""What users said before: read when they come, used to rerank, written when they have spoken.

Language model and memories are used on one thread, the store on others, so that a database that
hangs does not stop reranking. What one user commits is written in order.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from solomonic.core import CheckpointError, StorageError
from solomonic.serve.errors import HttpError
from solomonic.serve.store.base import Utterance
from solomonic.speech.lattice import Lattice

REMEMBERED_USERS = 256
"""Whose memories stay in this process; the one used longest ago is read again when needed."""
NAMES = 100
"""Words said before that become personal words of a stream."""
BELIEVED = 5.0
"""Seconds for which a memory is used without a look at the store: what other processes do to a
user, such as deleting them, is known after that."""
PATIENCE = 2.0
"""Seconds that such a look may take."""
MOST_WAITING = 64
"""Rerankings that may wait; more are refused."""
_log = logging.getLogger("solomonic.serve.speech")
Value = TypeVar("Value")


@dataclasses.dataclass
class _Known:
    """One user in this process."""

    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    users: int = 0  # who holds or awaits the lock: it must not be forgotten meanwhile
    revision: int = -1
    seen: float = 0.0  # when the store was last asked for its revision (`time.monotonic`)
    memory: Any = None
    phrases: tuple[str, ...] = ()


class Recall:
    """The memories of all users of a server.

    Args:
        store: a `serve.store.Store`.
        reranker: a `serve.rescore.Reranker`, or None: then nothing is reranked, and what is said is
            only written down.
        lm: the language model of the memories, or None.
    """

    def __init__(self, store: Any, reranker: Any, lm: Any) -> None:
        self.store, self.reranker, self.lm = store, reranker, lm
        self._users: OrderedDict[str, _Known] = OrderedDict()
        self._thinking = ThreadPoolExecutor(1, "solomonic-rerank")
        self._writing = ThreadPoolExecutor(4, "solomonic-store")
        self._waiting = 0

    @property
    def reranks(self) -> bool:
        """Whether there is a reranker."""
        return self.reranker is not None

    async def personal(self, user: str) -> tuple[list[str], list[str]]:
        """The user's phrases as stored, and surprising words that they said before."""
        async with self._known(user) as known:
            await self._refresh(user, known)
            names: list[str] = []
            if known.memory is not None:
                names = await self._think(known.memory.names, NAMES)
            return list(known.phrases), names

    async def rerank(self, user: str, lattice: Lattice, n: int = 10) -> Any:
        """`Reranker.rerank` with what the user said before.

        Raises:
            HttpError: 503 when too many wait.
        """
        if self._waiting >= MOST_WAITING:
            raise HttpError(
                503, "rerank_busy", "too many lattices wait to be reranked; try again.",
                retry_after=1,
            )  # fmt: skip
        self._waiting += 1
        try:
            memory = await self._memory(user)
            # Reading does not change a memory, and all of it is on one thread.
            return await self._think(lambda: self.reranker.rerank(lattice, memory, n=n))
        finally:
            self._waiting -= 1

    async def hits(self, user: str, text: str) -> list[dict[str, Any]]:
        """Words of a text that the user said before: {"text", "score", "time"}."""
        memory = await self._memory(user) if self.reranks else None
        if memory is None:
            return []
        return [hit.to_json() for hit in await self._think(self.reranker.hits, text, memory)]

    async def commit(self, user: str, utterance: Utterance) -> int:
        """Remember what was said; gives the revision of the user's record.

        Raises:
            StorageError: it could not be written, and is not remembered.
            DataError: it is too long.
        """
        async with self._known(user) as known:
            await self._refresh(user, known)
            state, fingerprint = None, ""
            if self.lm is not None:
                when = utterance.time or time.time()
                utterance = dataclasses.replace(utterance, time=when)
                state = await self._think(_read, known.memory, utterance)
                fingerprint = self.lm.fingerprint
            try:
                revision = await self._write(
                    lambda: self.store.commit(user, utterance, state=state, fingerprint=fingerprint)
                )
            except BaseException:
                known.revision = -1  # what the memory has read is not stored: read it again
                raise
            known.revision, known.seen = revision, time.monotonic()
            return revision

    async def set_phrases(self, user: str, phrases: list[str]) -> None:
        """Replace the user's personal words."""
        async with self._known(user) as known:
            await self._write(lambda: self.store.set_phrases(user, phrases))
            known.revision = -1

    async def record(self, user: str, last: int = 1000) -> Any:
        """The user's record (`UserMemory`), without the model's state."""
        return await self._write(lambda: self.store.memory(user, last=last, state=False))

    async def delete(self, user: str) -> dict[str, int]:
        """Delete every trace of a user; how much of each there was."""
        async with self._known(user) as known:
            deleted = await self._write(lambda: self.store.delete_user(user))
            known.revision, known.memory, known.phrases = -1, None, ()
            return deleted

    async def work(self, function: Callable[..., Value], *given: Any) -> Value:
        """Run something that takes a while, off the event loop."""
        return await self._think(function, *given)

    def close(self) -> None:
        """Let the threads end."""
        self._thinking.shutdown(wait=False, cancel_futures=True)
        self._writing.shutdown(wait=True)

    @contextlib.asynccontextmanager
    async def _known(self, user: str) -> AsyncIterator[_Known]:
        known = self._users.setdefault(user, _Known())
        self._users.move_to_end(user)
        known.users += 1
        try:
            async with known.lock:
                yield known
        finally:
            known.users -= 1
            for name in list(self._users):
                if len(self._users) <= REMEMBERED_USERS:
                    break
                if not self._users[name].users:
                    del self._users[name]

    async def _memory(self, user: str) -> Any:
        """What the user said before, as the store had it at most `BELIEVED` seconds ago: another
        process may have deleted the user. A store that does not answer stops nobody who is known.
        """
        async with self._known(user) as known:
            if known.revision < 0:
                await self._refresh(user, known)
            elif time.monotonic() - known.seen > BELIEVED:
                known.seen = time.monotonic()
                with contextlib.suppress(StorageError, TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        latest = await self._latest(user)
                    if latest != known.revision:
                        await self._refresh(user, known)
            return known.memory

    async def _latest(self, user: str) -> int:
        seen = await self._write(lambda: self.store.memory(user, last=1, state=False))
        return seen.revision

    async def _refresh(self, user: str, known: _Known) -> None:
        """Read the user's record unless this process has its latest revision."""
        known.seen = time.monotonic()
        if known.revision >= 0 and await self._latest(user) == known.revision:
            return
        record = await self._write(lambda: self.store.memory(user))
        if self.lm is not None:
            known.memory = await self._think(_memory, self.lm, record)
        known.phrases, known.revision = tuple(record.phrases), record.revision

    async def _think(self, function: Callable[..., Value], *given: Any) -> Value:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thinking, function, *given)

    async def _write(self, function: Callable[..., Value]) -> Value:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writing, function)


def _memory(lm: Any, record: Any) -> Any:
    from solomonic.serve.rescore.memory import Memory

    try:
        memory = Memory.from_record(lm, record)
    except CheckpointError:
        _log.warning("a user's stored memory is damaged and is made anew from the utterances")
        memory = Memory.from_record(lm, dataclasses.replace(record, state=None, fingerprint=""))
    # Another server may have written utterances without this model's state behind them.
    if record.state is not None and record.fingerprint == lm.fingerprint:
        for said in record.utterances:
            if said.revision > record.state_revision:
                memory.read(said.text, said.time)
    return memory


def _read(memory: Any, utterance: Utterance) -> bytes:
    memory.read(utterance.text, utterance.time)
    return memory.to_bytes()
