"""/v1/lattices and /v1/users/me: what devices send, and what is kept of their users."""

import base64
from collections.abc import Iterator

import pytest
import requests

from solomonic.serve.speech.recall import Recall
from solomonic.serve.store import open_store
from solomonic.serve.store.base import Utterance
from solomonic.speech.lattice import (
    Arc,
    Lattice,
    LatticeMessage,
    best_path,
    build_lattice,
    encode_message,
    n_best,
)
from speech_served import FakeReranker, Served, run, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(asr=False) as one:
        yield one


def lattice() -> Lattice:
    """Two ways to say it."""
    arcs = [Arc(0, 1, "turn", -0.5), Arc(1, 2, "on", -0.25), Arc(1, 2, "off", -1.5, 0.5)]
    return build_lattice([0, 5, 9], arcs, 2, frame_seconds=0.06)


def message(**options: object) -> bytes:
    return encode_message(LatticeMessage(lattice=lattice(), **options))  # type: ignore[arg-type]


def post(served: Served, data: bytes, user: str = "anna", **query: object) -> requests.Response:
    return requests.post(
        f"{served.url}/v1/lattices",
        data=data,
        params=query,  # type: ignore[arg-type]
        headers={"Content-Type": "application/octet-stream", "X-Solomonic-User": user},
        timeout=30,
    )


def test_a_lattice_is_answered_with_its_sentences(served: Served) -> None:
    flags = {"speaker": "anna", "speaker_score": 1.5, "whisper": 1.0, "language": "en"}
    answer = post(served, message(utterance=3, revision=2, **flags), n=5, lattice=True)
    assert answer.status_code == 200
    plain, right = answer.json(), n_best(lattice(), 5)
    assert plain["text"] == plain["one_best"] == "turn on"
    assert plain["reranked"] is False
    assert [h["text"] for h in plain["hypotheses"]] == [path.text for path in right]
    assert [tuple(h["arcs"]) for h in plain["hypotheses"]] == [path.arcs for path in right]
    assert (plain["utterance"], plain["revision"], plain["kind"]) == (3, 2, "final")
    assert {name: plain[name] for name in flags} == flags
    assert len(plain["lattice"]["arcs"]) == 3
    assert plain["best"] == list(best_path(lattice()).arcs)


def test_base64_in_json_is_the_same(served: Served) -> None:
    data = base64.b64encode(message()).decode()
    url = f"{served.url}/v1/lattices?remember=false"
    answer = requests.post(url, json={"lattice": data}, timeout=30)
    assert answer.json() == post(served, message(), remember=False).json()


def test_finals_are_remembered_and_speculations_are_not(served: Served) -> None:
    kept = served.services.store.memory
    assert "record" not in post(served, message(kind="speculative_end", revision=1), "bob").json()
    assert "record" not in post(served, message(), "bob", remember=False).json()
    assert kept("bob").utterances == ()
    assert post(served, message(), "bob").json()["record"] == kept("bob").revision
    assert [said.text for said in kept("bob").utterances] == ["turn on"]


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 400, "invalid_value"),
        (b"SL\x02", 400, "invalid_value"),
        (message()[:-1], 400, "invalid_value"),
        (bytes(17_000), 400, "too_large"),
        (bytes(40_000), 413, "too_large"),
        (encode_message(LatticeMessage(lattice=None, kind="reset")), 400, "lattice_missing"),
    ],
)
def test_what_is_no_lattice_is_refused(served: Served, data: bytes, status: int, code: str) -> None:
    answer = post(served, data)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("kind", "data", "status"),
    [
        ("text/plain", b"x", 415),
        ("application/json", b"{", 400),
        ("application/json", b"\xff", 400),
        ("application/json", b'{"lattice": "?"}', 400),
        ("application/json", b'{"lattice": 1}', 400),
        ("application/json", b'{"lattice": "", "more": 1}', 400),
    ],
)
def test_other_bodies_are_refused(served: Served, kind: str, data: bytes, status: int) -> None:
    headers = {"Content-Type": kind}
    answer = requests.post(f"{served.url}/v1/lattices", data=data, headers=headers, timeout=30)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "code", "param"}


def test_a_reranker_picks_and_the_memory_keeps_what_it_picked() -> None:
    with serving(asr=False, reranker=FakeReranker()) as served:
        plain = post(served, message()).json()
        assert (plain["text"], plain["one_best"], plain["reranked"]) == (
            "turn off", "turn on", True,
        )  # fmt: skip
        (said,) = served.services.store.memory("anna").utterances
        assert (said.text, said.heard) == ("turn off", "turn on")


def test_personal_words_are_stored_and_checked(served: Served) -> None:
    url, who = f"{served.url}/v1/users/me/phrases", {"X-Solomonic-User": "carl"}
    assert requests.get(url, headers=who, timeout=30).json() == {"phrases": []}
    given = {"phrases": ["Siobhan  Nguyen", "kettle", "kettle"]}
    stored = {"phrases": ["Siobhan Nguyen", "kettle"]}
    assert requests.put(url, json=given, headers=who, timeout=30).json() == stored
    assert requests.get(url, headers=who, timeout=30).json() == stored
    assert requests.get(url, timeout=30).json() == {"phrases": []}
    for wrong in (["щука"], ["a"], [""], [1], "kettle", ["x" * 300], ["kettle"] * 5001):
        answer = requests.put(url, json={"phrases": wrong}, headers=who, timeout=30)
        assert (answer.status_code, wrong and answer.json()["error"]["param"]) == (400, "phrases")
    assert requests.get(url, headers=who, timeout=30).json() == stored


def test_a_user_is_shown_and_deleted_without_a_trace(served: Served) -> None:
    url, who = f"{served.url}/v1/users/me", {"X-Solomonic-User": "dora"}
    requests.put(f"{url}/phrases", json={"phrases": ["kettle"]}, headers=who, timeout=30)
    said = {"text": "call siobhan", "heard": "call shiv on", "source": "phone", "time": 12.0}
    made = requests.post(f"{url}/utterances", json=said, headers=who, timeout=30).json()
    assert requests.get(url, headers=who, timeout=30).json() == {
        "user": "dora", "revision": made["revision"], "phrases": 1, "utterances": 1,
    }  # fmt: skip
    history = requests.get(f"{url}/utterances", headers=who, timeout=30).json()
    assert history == {"utterances": [said]}
    assert requests.delete(url, headers=who, timeout=30).json()["deleted"]["utterances"] == 1
    assert requests.get(url, headers=who, timeout=30).json() == {
        "user": "dora", "revision": 0, "phrases": 0, "utterances": 0,
    }  # fmt: skip
    assert "dora" not in served.services.store.users()
    for wrong in ({}, {"text": ""}, {"text": " "}, {"text": "x" * 3000}, {"text": "x", "time": -1}):
        answer = requests.post(f"{url}/utterances", json=wrong, headers=who, timeout=30)
        assert answer.status_code == 400


def test_without_a_recogniser_audio_is_told_so(served: Served) -> None:
    answer = requests.post(
        f"{served.url}/v1/audio/transcriptions",
        files={"file": ("x.wav", b"RIFF")},
        data={"model": "whisper-1"},
        timeout=30,
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_recogniser")


def test_commits_of_one_user_keep_their_order_and_users_do_not_wait_for_each_other() -> None:
    import asyncio

    store = open_store(None)
    recall = Recall(store, None, None)

    async def work() -> None:
        jobs = [
            recall.commit(f"user {number % 7}", Utterance(f"sentence {number}"))
            for number in range(140)
        ]
        await asyncio.gather(*jobs)

    run(work())
    for user in range(7):
        said = [one.text for one in store.memory(f"user {user}").utterances]
        assert said == [f"sentence {number}" for number in range(user, 140, 7)]
    recall.close()


def test_what_could_not_be_stored_is_not_remembered() -> None:
    """A failing store must not leave a memory that has read what was never written."""

    class Failing:
        def __init__(self) -> None:
            self.store, self.broken = open_store(None), False

        def __getattr__(self, name: str) -> object:
            return getattr(self.store, name)

        def commit(self, *given: object, **named: object) -> int:
            if self.broken:
                raise OSError("full")
            return self.store.commit(*given, **named)  # type: ignore[arg-type]

    store = Failing()
    recall = Recall(store, None, None)

    async def work() -> None:
        await recall.commit("anna", Utterance("one"))
        store.broken = True
        with pytest.raises(OSError, match="full"):
            await recall.commit("anna", Utterance("two"))
        store.broken = False
        await recall.commit("anna", Utterance("three"))

    run(work())
    assert [said.text for said in store.memory("anna").utterances] == ["one", "three"]
    recall.close()
