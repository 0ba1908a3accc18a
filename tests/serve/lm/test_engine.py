"""Continuous batching changes when a text is written and never what is written."""

import asyncio
import random
import time
from typing import Any

import pytest

from serve_lm import ENGINES, alone, tiny_lm
from solomonic.core import ShapeError, VocabularyError
from solomonic.lm.generate import GenerateConfig
from solomonic.serve.config import ServeConfig
from solomonic.serve.errors import HttpError
from solomonic.serve.lm.engine import LmEngine
from solomonic.serve.lm.pieces import Piece
from solomonic.serve.lm.request import Order, Request

CONFIG = ServeConfig(max_batch=4, max_queue=3, prompt_chunk=7, max_prompt_tokens=400)


ENDLESS = {"max_new_tokens": 10**9, "eos_id": None}


def with_engine(work: Any, engine: str = ENGINES[-1], config: ServeConfig = CONFIG) -> Any:
    """Run `work(engine)` in a loop of its own."""

    async def inside() -> Any:
        made = LmEngine(tiny_lm(engine), config)
        try:
            return await work(made)
        finally:
            await asyncio.wait_for(made.close(), 20)

    return asyncio.run(inside())


def order(made: LmEngine, prompt: str, **settings: Any) -> Order:
    names = ("choices", "stop", "logprobs", "seconds", "client")
    parts = {name: settings.pop(name) for name in names
             if name in settings}  # fmt: skip
    config = GenerateConfig(**({"max_new_tokens": 20, "eos_id": 256} | settings))
    return Order(prompt=made.lm.tokenizer.encode(prompt), config=config, **parts)


async def pieces(request: Request) -> list[Piece]:
    return [piece async for piece in request]


async def text(request: Request, choice: int = 0) -> str:
    found = await pieces(request)
    return "".join(piece.text for piece in found if piece.choice == choice)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_is_the_same_alone_and_in_company(engine: str) -> None:
    draw = random.Random(5)
    wanted: list[tuple[str, GenerateConfig]] = []
    for index in range(8 if engine == "native" else 4):
        prompt = "".join(draw.choice("abcdef \n") for _ in range(draw.choice((1, 3, 20, 50))))
        settings: dict[str, Any] = [
            {"temperature": 0.0},
            {"temperature": 0.9, "seed": index},
            {"temperature": 1.3, "seed": index, "top_k": 20, "top_p": 0.9, "min_p": 0.01},
            {"temperature": 1.0, "seed": index, "repetition_penalty": 1.3},
        ][index % 4]
        wanted.append((prompt, GenerateConfig(max_new_tokens=draw.randint(1, 12), **settings)))

    async def work(made: LmEngine) -> list[str]:
        async def one(prompt: str, config: GenerateConfig, delay: float) -> str:
            await asyncio.sleep(delay)
            ids = made.lm.tokenizer.encode(prompt)
            return await text(made.submit(Order(prompt=ids, config=config.replace(eos_id=256))))

        jobs = [one(*case, delay=0.004 * index) for index, case in enumerate(wanted)]
        return await asyncio.gather(*jobs)

    config = CONFIG.replace(max_queue=50)
    lm = tiny_lm(engine)
    assert with_engine(work, engine, config) == [alone(lm, *case) for case in wanted]


@pytest.mark.parametrize("engine", ENGINES)
def test_choices_share_the_prompt_and_differ_by_their_seed(engine: str) -> None:
    settings = {"temperature": 1.0, "max_new_tokens": 15, "repetition_penalty": 1.2}

    async def work(made: LmEngine) -> list[str]:
        request = made.submit(order(made, "three " * 5, choices=3, seed=7, **settings))
        found = await pieces(request)
        return ["".join(p.text for p in found if p.choice == choice) for choice in range(3)]

    lm = tiny_lm(engine)
    wanted = [alone(lm, "three " * 5, GenerateConfig(seed=7 + i, **settings)) for i in range(3)]
    assert len(set(wanted)) == 3
    assert with_engine(work, engine) == wanted


def test_a_long_prompt_does_not_hold_up_a_short_one() -> None:
    async def work(made: LmEngine) -> list[str]:
        ended: list[str] = []

        async def one(name: str, request: Request) -> None:
            await pieces(request)
            ended.append(name)

        short = {"max_new_tokens": 3, "temperature": 0.0}
        with made._changed:  # the worker begins when both have asked
            asked = [made.submit(order(made, prompt, **short)) for prompt in ("x" * 400, "y" * 30)]
        await asyncio.gather(one("long", asked[0]), one("short", asked[1]))
        return ended

    assert with_engine(work) == ["short", "long"]


def test_stop_strings_end_the_text_and_are_not_shown() -> None:
    whole = alone(tiny_lm(ENGINES[-1]), "stop", GenerateConfig(max_new_tokens=60, seed=1))
    stop = whole[20:23]
    assert stop not in whole[:19]

    async def work(made: LmEngine) -> list[Piece]:
        wanted = order(made, "stop", max_new_tokens=60, seed=1, stop=("never there", stop))
        return await pieces(made.submit(wanted))

    found = with_engine(work)
    assert "".join(piece.text for piece in found) == whole[: whole.index(stop)]
    assert (found[-1].finish, found[-1].reason) == ("stop", stop)


def test_logprobs_are_the_models_and_belong_to_the_text() -> None:
    async def work(made: LmEngine) -> list[Piece]:
        return await pieces(made.submit(order(made, "ab", temperature=0.0, logprobs=3)))

    found = with_engine(work)
    tokens = [token for piece in found for token in piece.tokens]
    assert len(tokens) == 20
    for token in tokens:
        assert token.top[0] == (token.token, token.logprob) and token.logprob < 0
        assert len(token.top) == 3
    text_of = tiny_lm().tokenizer.decode([token.token for token in tokens])
    assert text_of == "".join(piece.text for piece in found)


def test_a_client_that_goes_frees_its_row() -> None:
    async def work(made: LmEngine) -> None:
        endless = order(made, "a", **ENDLESS, seconds=1e6)
        running = [made.submit(endless) for _ in range(4)]
        readers = [asyncio.create_task(pieces(request)) for request in running]
        waiting = made.submit(order(made, "b", max_new_tokens=2))
        while made.running < 4:
            await asyncio.sleep(0.005)
        assert made.waiting == 1
        readers[2].cancel()  # what Starlette does to the answer of a client that has gone
        assert await asyncio.wait_for(pieces(waiting), 20)
        for reader in readers:
            reader.cancel()
        while made.running:
            await asyncio.sleep(0.005)

    with_engine(work)


def test_rows_that_come_free_go_to_who_has_fewest() -> None:
    """One client has all four rows and waits for two more: a row goes to who came last of all.

    None of its texts ends by itself, so that the other would wait for ever if its turn were last.
    """

    async def work(made: LmEngine) -> None:
        endless = order(made, "a", **ENDLESS, seconds=1e6, client="greedy")
        greedy = [made.submit(endless) for _ in range(6)]
        while made.running < 4:
            await asyncio.sleep(0.002)
        modest = made.submit(order(made, "a", max_new_tokens=2, eos_id=None, client="modest"))
        assert (made.running, made.waiting) == (4, 3)
        greedy[0].cancel()
        await asyncio.wait_for(pieces(modest), 20)
        assert modest.completion_tokens == 2
        for request in greedy:
            request.cancel()

    with_engine(work)


def test_a_full_queue_refuses_and_a_free_one_does_not() -> None:
    async def work(made: LmEngine) -> None:
        endless = order(made, "a", **ENDLESS, seconds=1e6)
        held = [made.submit(endless) for _ in range(4)]
        while made.running < 4:
            await asyncio.sleep(0.005)
        held += [made.submit(endless) for _ in range(3)]
        with pytest.raises(HttpError) as refused:
            made.submit(endless)
        assert (refused.value.status, refused.value.code) == (503, "queue_full")
        assert refused.value.headers["Retry-After"] == "2"
        for request in held:
            request.cancel()
        while made.running or made.waiting:
            await asyncio.sleep(0.005)
        assert await pieces(made.submit(order(made, "b", max_new_tokens=1)))

    with_engine(work)


def test_time_outs_end_a_text_and_a_wait() -> None:
    async def work(made: LmEngine) -> None:
        slow = [made.submit(order(made, "a", **ENDLESS, seconds=0.3)) for _ in range(4)]
        late = made.submit(order(made, "b", seconds=0.05))
        with pytest.raises(HttpError, match="too busy"):
            await pieces(late)
        for request in slow:
            last = (await pieces(request))[-1]
            assert (last.finish, last.reason) == ("length", "timeout")

    with_engine(work)


def test_draining_lets_texts_end_and_ends_those_that_do_not() -> None:
    async def work(made: LmEngine) -> None:
        short = made.submit(order(made, "a", max_new_tokens=30, temperature=0.0))
        endless = made.submit(order(made, "b", **ENDLESS, choices=3, seconds=1e6))
        waiting = made.submit(order(made, "c", **ENDLESS, choices=4))
        readers = [asyncio.create_task(pieces(request)) for request in (short, endless, waiting)]
        while made.running < 4:
            await asyncio.sleep(0.005)
        draining = asyncio.create_task(made.drain(time.monotonic() + 1e6))
        await readers[0]  # it ends by itself although no more is taken
        draining.cancel()
        await made.drain(time.monotonic())
        first, second, third = await asyncio.gather(*readers, return_exceptions=True)
        assert first[-1].finish and first[-1].reason is None
        ends = {piece.choice: piece.reason for piece in second if piece.finish == "length"}
        assert ends == {0: "shutdown", 1: "shutdown", 2: "shutdown"}
        assert isinstance(third, HttpError) and third.code == "stopping"
        with pytest.raises(HttpError, match="stopping"):
            made.submit(order(made, "d"))

    with_engine(work)


def test_what_cannot_be_read_is_refused() -> None:
    async def work(made: LmEngine) -> None:
        config = GenerateConfig()
        with pytest.raises(ShapeError, match="empty"):
            made.submit(Order(prompt=[], config=config))
        with pytest.raises(VocabularyError, match="vocabulary of 257"):
            made.submit(Order(prompt=[1, 257], config=config))
        with pytest.raises(HttpError, match="has 401 tokens.*at most 400"):
            made.submit(Order(prompt=[1] * 401, config=config))
        with pytest.raises(HttpError, match="at most 4 texts"):
            made.submit(Order(prompt=[1], config=config, choices=5))

    with_engine(work)


def test_a_step_that_fails_costs_its_texts_and_not_the_engine() -> None:
    async def work(made: LmEngine) -> None:
        read = made._rows_of.read
        made._rows_of.read = lambda *_: 1 / 0
        with pytest.raises(ZeroDivisionError):
            await pieces(made.submit(order(made, "a")))
        made._rows_of.read = read
        assert await pieces(made.submit(order(made, "a")))
        assert made.alive

    with_engine(work)
