"""A server that says what was recorded: the page's own tests need no model for most things.

It plays serve/web/recorded.json (made by record.py beside it) as the audio comes in, keeps phrases
in a list, streams a fixed text word by word, and can be told to break connections.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, StreamingResponse

from solomonic.serve.errors import install
from solomonic.serve.web.routes import router

RECORDED = Path(__file__).resolve().parent / "serve" / "web" / "recorded.json"
STORY = (
    " looked out over the water. The lamp had burned for forty years, and in all that time nobody "
    "had come up the stairs without being asked. Tonight somebody had."
)
FLAGS = {"speaker": "kathleen", "speaker_score": 0.91, "whisper": 0.86, "language": "en"}
HITS = [{"text": "kathleen asked for bread on monday", "score": 0.72, "time": 1_760_000_000}]


class State:
    """What tests set and look at."""

    def __init__(self) -> None:
        self.phrases: list[str] = ["siobhan", "kathleen"]
        self.breaks: list[float] = []  # s of audio at which a connection is cut, one each
        self.key = ""  # asked for, if set
        self.flags = False
        self.hits = False
        self.full = 0  # connections to refuse with 1013
        self.starts: list[dict[str, Any]] = []
        self.users: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.pause = 0.004  # s between pieces of text
        self.slow = 0.0  # s before each event of a stream
        self.cut = False  # whether a completion ends in an error


def make_app(state: State) -> FastAPI:
    """The application; `state` may change while it runs."""
    app = FastAPI()
    install(app)
    app.include_router(router)
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(subprotocol="solomonic" if "solomonic" in offered else None)
        if state.key and f"key.{state.key}" not in offered:
            return await socket.close(4401, "the API key is not valid.")
        if state.full:
            state.full -= 1
            return await socket.close(1013, "all streams are taken; try again in a moment.")
        state.users.append(socket.query_params.get("user", ""))
        try:
            await _play(socket, recorded, state)
        except WebSocketDisconnect:
            return None

    @app.get("/v1/users/me/phrases")
    async def phrases(request: Request) -> JSONResponse:
        if state.key and request.headers.get("authorization") != f"Bearer {state.key}":
            return JSONResponse({"error": {"message": "an API key is needed."}}, 401)
        return JSONResponse({"phrases": state.phrases})

    @app.put("/v1/users/me/phrases")
    async def put_phrases(request: Request) -> JSONResponse:
        given = (await request.json())["phrases"]
        if "x" in given:
            return JSONResponse({"error": {"message": "1 of the phrases cannot be heard."}}, 400)
        state.phrases = given
        return JSONResponse({"phrases": state.phrases})

    @app.delete("/v1/users/me")
    async def forget() -> JSONResponse:
        count, state.phrases = len(state.phrases), []
        return JSONResponse({"deleted": {"phrases": count}})

    _add_texts(app, state)
    return app


def _add_texts(app: FastAPI, state: State) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "assistant-small", "object": "model"}]}

    @app.post("/v1/completions")
    async def complete(request: Request) -> StreamingResponse:
        body = await request.json()
        state.bodies.append(body)
        pieces = ({"choices": [{"text": piece}]} for piece in _pieces(STORY, body["max_tokens"]))
        return StreamingResponse(_sse(pieces, state), media_type="text/event-stream")

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        body = await request.json()
        state.bodies.append(body)
        said = f"You said {body['messages'][-1]['content']}."
        pieces = ({"choices": [{"delta": {"content": piece}}]} for piece in _pieces(said, 99))
        return StreamingResponse(_sse(pieces, state), media_type="text/event-stream")

    @app.post("/v1/memory_map")
    async def memory_map(request: Request) -> dict[str, Any]:
        found = fake_map((await request.json())["text"])
        return found | {"memory_hits": HITS if state.hits else []}


async def _play(socket: WebSocket, recorded: list[Any], state: State) -> None:
    state.starts.append(json.loads(await socket.receive_text()))
    await socket.send_json({"type": "ready", "version": 1})
    cut = state.breaks.pop(0) if state.breaks else None
    read, place = 0.0, 0
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        finished = message.get("text") is not None
        read = 1e9 if finished else read + len(message["bytes"]) / 32_000
        while place < len(recorded) and recorded[place][0] <= read:
            told = dict(recorded[place][1])
            place += 1
            if state.flags and told["type"] == "final":
                told |= FLAGS
            if state.hits and told["type"] == "reranked":
                told["memory_hits"] = HITS
            await asyncio.sleep(state.slow)
            await socket.send_json(told)
        if cut is not None and read >= cut:
            return await socket.close(1011, "a fault of the server.")
        if finished:
            await socket.send_json({"type": "done"})
            return await socket.close(1000)


def _pieces(text: str, most: int) -> list[str]:
    words = [word if place == 0 else f" {word}" for place, word in enumerate(text.split(" "))]
    return words[:most]


async def _sse(messages: Any, state: State) -> AsyncIterator[str]:
    for message in messages:
        yield f"data: {json.dumps(message)}\n\n"
        await asyncio.sleep(state.pause)
    if state.cut:
        yield 'data: {"error": {"message": "the model was taken away; try again."}}\n\n'
        return
    last: dict[str, Any] = {"choices": [{"text": "", "delta": {}, "finish_reason": "length"}]}
    yield f"data: {json.dumps(last)}\n\n"
    yield "data: [DONE]\n\n"


def fake_map(text: str) -> dict[str, Any]:
    """A map as three layers with few slots might keep it: a token is kept if it is long."""
    tokens = [part if place == 0 else f" {part}" for place, part in enumerate(text.split(" "))]
    length, window = len(tokens), 8
    layers = []
    for number, slots in ((1, 6), (3, 8), (5, 4)):
        innovation = [
            round((len(token) * 37 + place * 11 * number) % 97 / 97, 4)
            for place, token in enumerate(tokens)
        ]
        since, until, held = [-1] * length, [-1] * length, []
        for time in range(window, length + 1):
            fresh = time - window
            if fresh < length and innovation[fresh] > 0.45:
                since[fresh], until[fresh] = time, length
                held.append(fresh)
            if len(held) > slots:
                gone = min(held, key=lambda place: innovation[place])
                held.remove(gone)
                until[gone] = time
        layers.append(
            {
                "layer": number, "slots": slots, "innovation": innovation, "since": since,
                "until": until, "kept": sorted(held),
            }
        )  # fmt: skip
    return {"model": "assistant-small", "window": window, "tokens": tokens, "layers": layers}
