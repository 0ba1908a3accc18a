"""kill -9 while 20 people speak: what the server said it remembers is there after the restart.

SOLOMONIC_KILLS=40 makes the long form. The samples of the shipped model are spoken in real time by
20 users at once, over `solomonic serve` with a store on disk.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from solomonic.kernels import native
from solomonic.serve.store import open_store
from solomonic.speech.audio import RATE, read_audio
from solomonic.speech.places import SHIPPED

KILLS = max(1, int(os.environ.get("SOLOMONIC_KILLS", "3")) // 3)
USERS, PIECE = 20, RATE // 10
pytestmark = pytest.mark.skipif(
    getattr(native.load(), "speech_search", None) is None,
    reason="the native core is not built with speech",
)

Acknowledged = dict[str, dict[int, str]]
"""Of each user, sentences by the revision of the record under which they are stored."""


@contextlib.contextmanager
def process(store: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The command as people start it; killed at the end whatever happens."""
    arguments = ["--lm", "none", "--port", "0", "--store", str(store), "--log-level", "error"]
    server = subprocess.Popen(
        [sys.executable, "-m", "solomonic.cli", "serve", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        address = re.search(r"http://(127\.0\.0\.1:\d+)", server.stdout.readline())
        assert address is not None
        yield address[1], server
    finally:
        server.kill()
        server.communicate()


async def speak(address: str, user: str, sound: bytes, found: Acknowledged) -> None:
    """Sentence after sentence in real time until the server is gone."""
    url = f"ws://{address}/v1/stream?user={user}"
    finals: dict[int, str] = {}

    async def listen(socket: ClientConnection) -> None:
        async for message in socket:
            event = json.loads(message)
            if event["type"] == "final":
                finals[event["utterance"]] = event["result"]["text"]
            elif event["type"] == "remembered":
                found[user][event["record"]] = finals[event["utterance"]]

    with contextlib.suppress(ConnectionClosed, OSError):
        async with connect(url, open_timeout=60) as socket:
            await socket.send('{"type": "start", "remember": true}')
            listening = asyncio.create_task(listen(socket))
            try:
                start = time.monotonic()
                for number in range(10_000):
                    first = number * 2 * PIECE % len(sound)
                    await socket.send(sound[first : first + 2 * PIECE])
                    await asyncio.sleep(max(start + number / 10 - time.monotonic(), 0))
            finally:
                await asyncio.gather(listening, return_exceptions=True)


def spoken(chance: random.Random) -> bytes:
    """Samples of the shipped model with a second of silence behind each, as 16-bit PCM."""
    clips = sorted((SHIPPED / "samples").glob("*.opus"))
    chance.shuffle(clips)
    pause = np.zeros(RATE, np.float32)
    sound = np.concatenate([part for clip in clips for part in (read_audio(clip), pause)])
    sound = sound[: len(sound) // PIECE * PIECE]
    return np.round(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()


async def crowd(
    address: str, server: "subprocess.Popen[str]", found: Acknowledged, chance: random.Random
) -> None:
    """20 people speak; some time after the first sentences are remembered the server is killed."""
    sounds = [spoken(chance) for _ in range(USERS)]
    tasks = [
        asyncio.create_task(speak(address, f"user{number}", sound, found))
        for number, sound in enumerate(sounds)
    ]
    before = sum(map(len, found.values()))
    until = time.monotonic() + 60
    while sum(map(len, found.values())) < before + USERS // 2 and time.monotonic() < until:
        await asyncio.sleep(0.01)
    await asyncio.sleep(chance.random())
    server.kill()
    await asyncio.gather(*tasks)


def test_what_was_remembered_survives_the_kill(tmp_path: Path) -> None:
    store, found, chance = tmp_path / "users.db", defaultdict(dict), random.Random(14)
    for _ in range(KILLS):
        with process(store) as (address, server):
            asyncio.run(crowd(address, server, found, chance))
    assert sum(map(len, found.values())) >= KILLS * USERS // 2
    with contextlib.closing(open_store(str(store))) as opened:
        for user, said in found.items():
            kept = {one.revision: one.text for one in opened.memory(user).utterances}
            assert said.items() <= kept.items(), user
            # Whole or not at all: every revision up to the last one is there, and has words.
            assert sorted(kept) == list(range(min(kept), max(kept) + 1))
            assert all(kept.values())
    with process(store) as (address, _):
        asked = urllib.request.Request(
            f"http://{address}/v1/users/me/utterances", headers={"X-Solomonic-User": "user0"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            told = [one["text"] for one in json.load(answer)["utterances"]]
    assert set(found["user0"].values()) <= set(told)
