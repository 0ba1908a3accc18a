"""`serve.speech.recall` with a real language model: what a user said is there again, or gone."""

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from needs import needs_recognizer
from rescore_support import random_lm
from solomonic.core import StorageError
from solomonic.serve.rescore import Memory, Reranker
from solomonic.serve.speech.recall import BELIEVED, Recall
from solomonic.serve.speech.revisions import Revisions
from solomonic.serve.store import open_store
from solomonic.serve.store.base import Utterance
from solomonic.speech.lattice import Arc, Lattice, LatticeMessage, build_lattice, encode_message
from speech_served import FakeReranker, run, serving, sounds


@pytest.fixture
def recall() -> Iterator[Recall]:
    lm = random_lm()
    made = Recall(open_store(None), Reranker(lm), lm)
    yield made
    made.close()
    gc.collect()


def lattice() -> Lattice:
    arcs = [Arc(0, 1, "call", -0.5), Arc(1, 2, "siobhan", -2.0), Arc(1, 2, "chevron", -1.9)]
    return build_lattice([0, 5, 9], arcs, 2, frame_seconds=0.06)


def test_a_memory_survives_in_the_store(recall: Recall) -> None:
    said = ["call siobhan", "turn on the kettle", "call siobhan again"]

    async def work() -> Any:
        for number, text in enumerate(said):
            await recall.commit("anna", Utterance(text, time=1.0 + number))
        return await recall.rerank("anna", lattice())

    before = run(work())
    record = recall.store.memory("anna")
    assert [one.text for one in record.utterances] == said
    memory = Memory.new(recall.lm)
    for number, text in enumerate(said):
        memory.read(text, 1.0 + number)
    assert record.state is not None
    stored = Memory.from_bytes(recall.lm, record.state)
    assert stored.words.to_json() == memory.words.to_json()
    assert record.fingerprint == recall.lm.fingerprint

    other = Recall(recall.store, recall.reranker, recall.lm)  # another process
    assert run(other.rerank("anna", lattice())).to_json() == before.to_json()
    assert recall.reranker.rerank(lattice(), memory).to_json() == before.to_json()
    assert run(other.rerank("bob", lattice())).to_json() != before.to_json()
    other.close()


def test_what_another_server_wrote_is_read(recall: Recall) -> None:
    async def work() -> tuple[Any, Any]:
        await recall.commit("anna", Utterance("call siobhan", time=1.0))
        recall.store.commit("anna", Utterance("call siobhan again", time=2.0))  # without a state
        await recall.personal("anna")
        return await recall.rerank("anna", lattice()), recall.store.memory("anna")

    found, record = run(work())
    memory = Memory.new(recall.lm)
    for said in record.utterances:
        memory.read(said.text, said.time)
    assert found.to_json() == recall.reranker.rerank(lattice(), memory).to_json()


def test_who_is_deleted_is_not_remembered_by_the_process_either(recall: Recall) -> None:
    async def work() -> tuple[Any, Any]:
        nobody = await recall.rerank("anna", lattice())
        await recall.commit("anna", Utterance("call siobhan"))
        await recall.set_phrases("anna", ["siobhan nguyen"])
        assert (await recall.personal("anna"))[0] == ["siobhan nguyen"]
        await recall.delete("anna")
        after = await recall.rerank("anna", lattice())  # before anything else looks at the store
        assert await recall.personal("anna") == ([], [])
        return nobody, after

    nobody, after = run(work())
    assert after.to_json() == nobody.to_json()
    assert recall.store.users() == []


def test_who_was_deleted_elsewhere_is_forgotten_soon(recall: Recall) -> None:
    async def work() -> tuple[Any, Any]:
        nobody = await recall.rerank("anna", lattice())
        await recall.commit("anna", Utterance("call siobhan"))
        assert [hit["text"] for hit in await recall.hits("anna", "Siobhan is here.")] == ["siobhan"]
        assert await recall.hits("bob", "Siobhan is here.") == []
        recall.store.delete_user("anna")  # as `solomonic serve users delete` does
        recall._users["anna"].seen -= 2 * BELIEVED  # instead of waiting
        return nobody, await recall.rerank("anna", lattice())

    nobody, after = run(work())
    assert after.to_json() == nobody.to_json()
    assert run(recall.hits("anna", "Siobhan is here.")) == []


def test_a_store_that_is_away_stops_no_reranking_of_who_is_known(recall: Recall) -> None:
    async def work() -> None:
        await recall.commit("anna", Utterance("call siobhan"))
        before = await recall.rerank("anna", lattice())

        def away(*_: object, **__: object) -> None:
            raise StorageError("the database is away.")

        memory, recall.store.memory = recall.store.memory, away
        recall._users["anna"].seen -= 2 * BELIEVED
        try:
            assert (await recall.rerank("anna", lattice())).to_json() == before.to_json()
            with pytest.raises(StorageError):
                await recall.rerank("carol", lattice())
        finally:
            recall.store.memory = memory

    run(work())


def test_a_reset_drops_work_and_a_commit_keeps_it() -> None:
    fake, store = FakeReranker(), open_store(None)
    recall = Recall(store, fake, None)
    told: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    async def work() -> None:
        revisions = Revisions(recall, "anna", send, rerank=True, remember=True, source="")
        fake.delay = 0.05
        revisions.speculate(0, 1, lattice())
        await asyncio.sleep(0)
        revisions.reset(0, 1)
        revisions.speculate(0, 2, lattice())
        revisions.final(0, 2, lattice(), "call chevron")
        revisions.final(1, 1, lattice(), "call chevron")
        await revisions.settle()
        await revisions.close()

    run(work())
    kinds = [(one["type"], one["utterance"], one["revision"]) for one in told]
    assert ("reranked", 0, 1) not in kinds
    assert [kind for kind in kinds if kind[0] == "remembered"] == [
        ("remembered", 0, 2), ("remembered", 1, 1),
    ]  # fmt: skip
    assert sum(kind == ("reranked", 0, 2) for kind in kinds) == 1
    assert fake.asked <= 3
    assert [said.text for said in store.memory("anna").utterances] == ["call siobhan"] * 2
    recall.close()


@needs_recognizer
def test_a_device_is_reranked_by_a_real_model_over_the_socket() -> None:
    lm = random_lm()
    message = encode_message(LatticeMessage(lattice=lattice(), kind="final", revision=1))

    async def work(url: str) -> list[Any]:
        async with connect(url + "/v1/stream?user=anna") as socket:
            await socket.send('{"type": "start", "encoding": "lattice", "rerank": true}')
            await socket.send(message)
            await socket.send('{"type": "finish"}')
            device = [json.loads(one) async for one in socket]
        async with connect(url + "/v1/stream?user=anna") as socket:
            await socket.send('{"type": "start", "rerank": true}')
            await socket.send(sounds(3).tobytes())
            await socket.send('{"type": "finish"}')
            return [*device, *[json.loads(one) async for one in socket]]

    with serving(reranker=Reranker(lm), lm=lm) as served:
        found = run(work(served.ws))
        kept = served.services.store.memory("anna")
    kinds = [one["type"] for one in found]
    assert "error" not in kinds, found
    assert kinds[:5] == ["ready", "final", "reranked", "remembered", "done"]
    assert kinds.count("remembered") == len(kept.utterances) >= 2
    assert kept.state is not None
