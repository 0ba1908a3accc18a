"""The whole server killed while 20 users speak: what it acknowledged is there when it is back."""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from solomonic.lm.model import LanguageModel
from solomonic.lm.pretrained import save_pretrained
from solomonic.serve.lm.loaded import load_lm
from solomonic.serve.rescore.memory import Memory
from solomonic.serve.store import open_store
from solomonic.speech.lattice import Arc, LatticeMessage, build_lattice, encode_message
from solomonic.text.tokenizer import ByteTokenizer
from tiny import tiny_config

USERS = 20
KILLS = max(1, int(os.environ.get("SOLOMONIC_KILLS", "3")) // 5)
COUNT = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Running:
    """`solomonic serve` in a process of its own."""

    def __init__(self, model: Path, store: str | Path) -> None:
        arguments = ["--asr", "none", "--lm", str(model), "--store", str(store), "--port", "0"]
        settings = ["--set", "requests_per_minute=0", "--log-level", "error"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "solomonic.cli", "serve", *arguments, *settings],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        assert address, "the server did not start"
        self.port = int(address[1])

    def ask(self, method: str, path: str, user: str, body: bytes = b"", kind: str = "json") -> dict:
        """The answer to one request; raises OSError when the server is gone."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            headers = {"X-Solomonic-User": user, "Content-Type": f"application/{kind}"}
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200, data
            return json.loads(data)

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.communicate(timeout=60)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    save_pretrained(folder, LanguageModel(tiny_config("B")), ByteTokenizer())
    yield folder


def spoken(number: int) -> str:
    return " ".join(COUNT[int(digit)] for digit in str(number))


def lattice_of(text: str) -> bytes:
    """A lattice message with one sentence."""
    words = text.split()
    arcs = [Arc(place, place + 1, word, -0.1) for place, word in enumerate(words)]
    frames = [5 * place for place in range(len(words) + 1)]
    lattice = build_lattice(frames, arcs, len(words), frame_seconds=0.06)
    return encode_message(LatticeMessage(lattice=lattice), None)


def speak_until(server: Running, acknowledged: dict[str, list[tuple[int, str]]], enough: int):
    """Let 20 users speak, half of them in lattices, and kill the server after `enough` answers."""
    done = threading.Semaphore(0)
    wrong: list[BaseException] = []

    def speak(index: int) -> None:
        user = f"user-{index}"
        try:
            while True:
                text = spoken(1000 * index + len(acknowledged[user]) + 1)
                if index % 2:
                    said = lattice_of(text)
                    answer = server.ask("POST", "/v1/lattices", user, said, "octet-stream")
                    acknowledged[user].append((answer["record"], answer["text"]))
                else:
                    said = json.dumps({"text": text}).encode()
                    answer = server.ask("POST", "/v1/users/me/utterances", user, said)
                    acknowledged[user].append((answer["revision"], text))
                done.release()
        except (OSError, http.client.HTTPException):
            pass  # it was killed
        except BaseException as error:
            wrong.append(error)
            done.release()

    threads = [threading.Thread(target=speak, args=(index,)) for index in range(USERS)]
    for thread in threads:
        thread.start()
    for _ in range(enough):
        assert done.acquire(timeout=120)
    server.end(signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert wrong == []


def check(server: Running, acknowledged: dict[str, list[tuple[int, str]]]) -> None:
    """Over HTTP: everything acknowledged is there, in order, and nothing between is missing."""
    for user, said in acknowledged.items():
        history = server.ask("GET", "/v1/users/me/utterances?last=10000", user)["utterances"]
        texts = [one["text"] for one in history]
        revisions = [revision for revision, _ in said]
        assert revisions == sorted(set(revisions))
        for revision, text in said:
            assert texts[revision - 1] == text


@pytest.mark.slow
def test_a_server_that_is_killed_has_kept_what_it_acknowledged(tmp_path: Path, model: Path) -> None:
    chance = random.Random(5)
    path = tmp_path / "users.db"
    acknowledged: dict[str, list[tuple[int, str]]] = {f"user-{i}": [] for i in range(USERS)}
    server = Running(model, path)
    for _ in range(KILLS):
        speak_until(server, acknowledged, chance.randrange(25, 70))
        server = Running(model, path)
        check(server, acknowledged)
    server.end(signal.SIGTERM)
    store, lm = open_store(path), load_lm(model)
    names = set(os.listdir(tmp_path / "users.db-states"))
    assert len(names) == sum(usage.state_bytes > 0 for usage in store.usage())
    for user, said in acknowledged.items():
        record = store.memory(user)
        assert record.revision == len(record.utterances) >= len(said)
        if said:
            assert record.fingerprint == lm.fingerprint
            assert record.state_revision == record.revision  # atomic with its utterance
            Memory.from_record(lm, record)  # whole: the model can go on from it
    store.close()
