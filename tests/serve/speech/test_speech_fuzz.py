"""Malformed messages with a fixed budget: one clear error each, no crash, no stream left behind.

SOLOMONIC_FUZZ=10000 pytest tests/serve/speech/test_speech_fuzz.py      the long form
"""

import asyncio
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import connect

from needs import needs_recognizer
from solomonic.serve.speech.socket import CLOSE
from solomonic.speech.events import Final
from solomonic.speech.lattice import LatticeMessage, encode_message
from speech_served import Served, alone, run, serving, sounds

pytestmark = needs_recognizer
BUDGET = int(os.environ.get("SOLOMONIC_FUZZ", "240"))
ROOT = Path(__file__).parents[3]
STARTS = [
    '{"type": "start"}', '{"type": "start", "encoding": "lattice"}',
    '{"type": "start", "encoding": "pcm_f32le", "lattices": "json", "rerank": true}',
]  # fmt: skip
GOOD = [*STARTS, '{"config": {"sample_rate": 8000, "words": true}}', '{"eof" : 1}',
        '{"type": "finish"}', '{"reset" : 1}']  # fmt: skip
VALUES = [
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    10**30,
    "",
    "x" * 1000,
    [],
    {},
    [[]],
    "\0",
    "\ud7ff",
    "NaN",
]


def mangled(chance: random.Random, lattice: bytes) -> str | bytes:
    """Something that nobody should send."""
    kind = chance.randrange(7)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:  # a lattice message with some bytes changed
        data = bytearray(lattice[: chance.randrange(1, len(lattice) + 1)])
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    text = chance.choice(GOOD)
    if kind == 2:  # characters changed
        place = chance.randrange(len(text))
        return text[:place] + chance.choice('{}[]",:\\0aé\u2028') + text[place + 1 :]
    if kind == 3:
        return text[: chance.randrange(len(text))]
    if kind == 4:  # a value of another kind
        plain = json.loads(text)
        inner = plain.get("config", plain)
        inner[chance.choice([*inner, "phrases", "x"])] = chance.choice(VALUES)
        return json.dumps(plain)
    if kind == 5:
        return chance.choice(
            ["[" * 5000, '{"a":' * 5000, "9" * 5000, "-", "\u0000", "null", "1e999"]
        )
    return json.dumps(chance.choice(VALUES))


def nonsense(chance: random.Random, lattice: bytes) -> str | bytes:
    """`mangled`, but for the one in thousands that is a good end of a conversation after all: a
    character was put in the place of its like, or true in that of 1."""
    while True:
        found = mangled(chance, lattice)
        try:
            plain = json.loads(found) if isinstance(found, str) else None
        except (ValueError, RecursionError):
            return found
        if plain not in ({"type": "finish"}, {"eof": 1}):
            return found


async def attempt(served: Served, seed: int, lattice: bytes) -> list[dict[str, Any]]:
    """One connection; what it was told."""
    chance = random.Random(seed)
    path = chance.choice(["/v1/stream", "/vosk"])
    found = []
    async with connect(served.ws + path, max_size=2**22) as socket:
        try:
            if path == "/v1/stream" and chance.random() < 0.7:
                await socket.send(chance.choice(STARTS))
            for _ in range(chance.randrange(1, 3)):
                await socket.send(nonsense(chance, lattice))
            # A message that means nothing anywhere ends what the mangled ones left standing.
            await socket.send('{"type": "nothing"}')
            async with asyncio.timeout(0.5 if "lattice" in path else 20):
                while True:
                    message = await socket.recv()
                    if isinstance(message, str):
                        found.append(json.loads(message))
                    if found and found[-1].get("error", {}).get("code") == "unknown_message":
                        break
        except (websockets.ConnectionClosed, TimeoutError):
            pass
    return found


def test_malformed_messages_cost_one_clear_error_each() -> None:
    audio = sounds(1)
    event = next(e for e in alone(audio) if isinstance(e, Final) and e.result.text)
    lattice = encode_message(LatticeMessage(lattice=event.result.lattice))

    async def work(served: Served) -> int:
        errors = 0
        for first in range(0, BUDGET, 8):
            some = [attempt(served, seed, lattice) for seed in range(first, min(first + 8, BUDGET))]
            for messages in await asyncio.gather(*some):
                told = [one["error"] for one in messages if "error" in one]
                assert told, messages
                errors += len(told)
                for error in told:
                    assert set(error) == {"message", "type", "code", "param"}
                    assert error["code"] != "internal_error"
                    assert error["message"].endswith((".", "!"))
        for _ in range(1000):
            if not served.services.speech.streams:
                break
            await asyncio.sleep(0.01)
        assert served.services.speech.streams == 0
        async with connect(served.ws + "/v1/stream") as socket:  # it still hears
            await socket.send('{"type": "start"}')
            await socket.send(audio.tobytes())
            await socket.send('{"type": "finish"}')
            finals = [one async for m in socket if (one := json.loads(m))["type"] == "final"]
        right = [e.result.text for e in alone(audio) if isinstance(e, Final)]
        assert [final["result"]["text"] for final in finals] == right
        return errors

    with serving() as served:
        assert run(work(served), 60 + BUDGET) >= BUDGET


def test_the_page_of_the_protocol_knows_every_code() -> None:
    page = (ROOT / "PROTOCOL.md").read_text("utf-8")
    codes = {code for code in CLOSE if code != "audio_refused"}
    for file in (ROOT / "src/solomonic/serve/speech").glob("*.py"):
        source = file.read_text("utf-8")
        codes |= set(re.findall(r'BadMessage\(\s*"(\w+)"', source))
        codes |= set(re.findall(r'Refused\(\s*"(\w+)"', source))
        codes |= set(re.findall(r'StreamFailed\(\s*"(\w+)"', source)) - {"closed"}
    missing = sorted(code for code in codes if f"`{code}`" not in page)
    assert missing == []


def test_the_examples_of_the_page_are_json() -> None:
    page = (ROOT / "PROTOCOL.md").read_text("utf-8")
    blocks = re.findall(r"```json\n(.*?)```", page, re.S)
    assert len(blocks) == 3
    start = json.loads(blocks[0])
    assert start.pop("type") == "start"
    for block in blocks[1:]:
        assert isinstance(json.loads(block), dict)
