"""Stopping: what runs is finished or ended cleanly, and nothing new begins."""

import asyncio
import http.client
import json
import threading
import time
from typing import Any

import openai

from serve_app import Running, running
from serve_lm import ENGINES, tiny_lm
from solomonic.serve.config import ServeConfig

ENGINE = ENGINES[-1]


def stream(server: Running, tokens: int, into: dict[str, Any]) -> threading.Thread:
    """Read a stream in a thread of its own."""

    def work() -> None:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="no", max_retries=0) as client:
            chunks = client.completions.create(
                model="tiny", prompt="a", max_tokens=tokens, stream=True, temperature=0,
                stream_options={"include_usage": True},
            )  # fmt: skip
            for chunk in chunks:
                for choice in chunk.choices:
                    into["count"] = into.get("count", 0) + 1
                    into["finish"] = choice.finish_reason
                    into["reason"] = choice.model_extra and choice.model_extra["stop_reason"]
                into["usage"] = chunk.usage

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_running_text_is_finished_and_new_ones_are_refused() -> None:
    config = ServeConfig(requests_per_minute=0, grace=100.0, max_new_tokens=300)
    with running(config, lm=tiny_lm(ENGINE)) as server:
        engine = server.services.engine
        assert engine is not None
        read, slow = engine._rows_of.read, threading.Event()

        def held(*given: Any) -> Any:
            slow.wait(100)
            return read(*given)

        engine._rows_of.read = held  # type: ignore[method-assign]
        found: dict[str, Any] = {}
        reader = stream(server, 100, found)
        while not engine.running:
            time.sleep(0.01)
        server.server.should_exit = True
        while not server.services.draining.is_set():
            time.sleep(0.01)
        for path in ("/ready", "/v1/models"):
            link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            link.request("GET", path)
            answer = link.getresponse()
            assert answer.status == 503 and answer.getheader("Retry-After") == "5"
            assert json.loads(answer.read())["error"]["code"] == "stopping"
            link.close()
        slow.set()
        reader.join(60)
        assert (found["finish"], found["reason"]) in (("length", None), ("stop", None))
        assert found["usage"].completion_tokens > 5
        server.stop()


def test_at_the_end_of_the_grace_time_a_text_is_ended_cleanly() -> None:
    config = ServeConfig(requests_per_minute=0, grace=0.2, max_new_tokens=10**9)
    with running(config, lm=tiny_lm(ENGINE)) as server:
        engine = server.services.engine
        assert engine is not None
        engine.lm.tokenizer.eos_id = 10**6  # it never ends by itself
        found: dict[str, Any] = {}
        reader = stream(server, 10**9, found)
        while found.get("count", 0) < 3:
            time.sleep(0.01)
        server.stop()
        reader.join(60)
        assert (found["finish"], found["reason"]) == ("length", "shutdown")
        assert found["usage"].completion_tokens > 2  # the stream went on to its last event


def test_every_part_is_drained_and_closed() -> None:
    seen: list[str] = []
    with running(ServeConfig(grace=5.0)) as server:

        async def drain(deadline: float) -> None:
            await asyncio.sleep(0)
            assert 0 < deadline - time.monotonic() <= 5
            seen.append("drained")

        async def broken(deadline: float) -> None:
            raise ValueError("a part that cannot")

        async def close() -> None:
            seen.append("closed")

        server.services.drains += [broken, drain]
        server.services.closers.append(close)
        server.stop()
    assert seen[0] == "drained" and seen[-1] == "closed"
