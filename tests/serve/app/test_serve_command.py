"""`solomonic serve`: what it tells, what it refuses, and a real process that a signal ends."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from solomonic.cli.main import main
from solomonic.lm.model import LanguageModel
from solomonic.lm.pretrained import save_pretrained
from solomonic.serve.keys import KeyFile, issue_key
from solomonic.serve.store import Utterance, open_store
from solomonic.text import ByteTokenizer
from tiny import tiny_config


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The command sends the process's logs to standard error, which is this test's only."""
    names = ("", "solomonic", "uvicorn", "uvicorn.access", "websockets")
    known = [(log, list(log.handlers), log.propagate, log.level, log.disabled)
             for log in map(logging.getLogger, names)]  # fmt: skip
    yield
    for log, handlers, propagate, level, disabled in known:
        log.handlers, log.propagate, log.disabled = handlers, propagate, disabled
        log.setLevel(level)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["serve", *arguments])
    found = capsys.readouterr()
    return status, found.out, found.err


def test_keys_are_shown_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for place in (["--api-key-file", f"{tmp_path}/keys.json"], ["--store", f"{tmp_path}/a.db"]):
        add = ["keys", "add", "phone", "--user", "ana", "--limit", "max_streams=2", *place]
        status, out, err = run(capsys, *add)
        assert status == 0 and re.fullmatch(r"slm_[\w-]{43}\n", out) and "only its hash" in err
        status, shown, _ = run(capsys, "keys", "list", *place)
        assert status == 0 and shown == "phone\tana\tmax_streams=2\n"
        assert out.strip() not in "".join(
            file.read_text("latin-1") for file in tmp_path.iterdir() if file.is_file()
        )
        assert run(capsys, *add)[0] == 2
        assert run(capsys, "keys", "revoke", "phone", *place)[0] == 0
        status, _, err = run(capsys, "keys", "revoke", "phone", *place)
        assert status == 2 and "there is no key 'phone'" in err
    assert "either --store or --api-key-file" in run(capsys, "keys", "list")[2]


def test_users_are_listed_and_deleted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = ["--store", f"{tmp_path}/a.db"]
    status, _, err = run(capsys, "users", "list", *place)
    assert status == 2 and "there is no store" in err and not list(tmp_path.iterdir())
    with closing(open_store(f"{tmp_path}/a.db")) as store:
        store.commit("ana", Utterance(text="call siobhan"))
        store.commit("bob", Utterance(text="good night"))
    status, out, _ = run(capsys, "users", "list", *place)
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 0 and [row[:2] for row in rows] == [["ana", "1"], ["bob", "1"]]
    assert [
        one["user"] for one in json.loads(run(capsys, "users", "list", "--json", *place)[1])
    ] == [
        "ana",
        "bob",
    ]
    status, _, err = run(capsys, "users", "delete", "eve", "--yes", *place)
    assert status == 2 and "there is no user 'eve'" in err
    assert run(capsys, "users", "delete", "ana", "--yes", *place)[0] == 0
    with closing(open_store(f"{tmp_path}/a.db")) as store:
        assert store.users() == ["bob"]


def test_a_deleted_user_is_in_no_key_file_either(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place, file = ["--store", f"{tmp_path}/a.db"], tmp_path / "keys.json"
    with closing(open_store(f"{tmp_path}/a.db")) as store:
        store.commit("bob", Utterance(text="good night"))
    for name, user in (("phone", "ana"), ("watch", "ana"), ("desk", "bob"), ("any", "")):
        issue_key(KeyFile(file), name, user)
    missing = ["--api-key-file", f"{tmp_path}/none.json"]
    status, _, err = run(capsys, "users", "delete", "ana", "--yes", *place, *missing)
    assert status == 2 and "there is no key file" in err
    given = [*place, "--api-key-file", str(file)]
    status, _, err = run(capsys, "users", "delete", "ana", "--yes", *given)
    assert status == 0 and "2 keys" in err
    assert "ana" not in file.read_text()
    assert [key.name for key in KeyFile(file).keys()] == ["desk", "any"]  # noqa: SIM118
    assert run(capsys, "users", "delete", "ana", "--yes", *given)[0] == 2


def test_what_cannot_be_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    none = ["--asr", "none", "--lm", "none", "--port", "0"]
    taken = socket.create_server(("127.0.0.1", 0))
    (tmp_path / "bad.pem").write_text("no certificate")
    cases = [
        (["--asr", "none", "--lm", "none", "--port", str(taken.getsockname()[1])], "cannot listen"),
        ([*none, "--host", "0.0.0.0"], "there are no API keys"),
        ([*none, "--host", "203.0.113.9"], "cannot listen on 203.0.113.9"),
        ([*none, "--local-only", "--host", "0.0.0.0"], "leave --host out"),
        ([*none, "--local-only", "--store", "postgresql://db.example/x"], "give a file"),
        ([*none, "--tls-cert", "a.pem"], "give both"),
        ([*none, "--tls-cert", f"{tmp_path}/bad.pem", "--tls-key", "b"], "TLS cannot use"),
        ([*none, "--cors-origin", "*"], "is not exact"),
        ([*none, "--set", "max_bach=3"], "did you mean 'max_batch'"),
        ([*none, "--set", "max_batch=0"], "must be at least 1"),
        ([*none, "--rerank-weights", "w.json"], "need a language model"),
        (["--asr", "none", "--port", "0", "--lm", f"{tmp_path}/no"], "there is no language model"),
        (["--lm", "none", "--port", "0", "--asr", f"{tmp_path}/no"], ""),
        ([*none, "--api-key-file", f"{tmp_path}/bad.pem"], "is no key file"),
    ]
    for arguments, sentence in cases:
        status, _, err = run(capsys, *arguments)
        assert status == 2 and sentence in err, (arguments, err)
        assert err.startswith("error: ") and err.count("\n") == 1
    taken.close()


def test_a_process_serves_and_ends_well(tmp_path: Path) -> None:
    save_pretrained(tmp_path / "small", LanguageModel(tiny_config("B")), ByteTokenizer())
    arguments = ["--asr", "none", "--lm", f"{tmp_path}/small", "--port", "0", "--local-only"]
    process = subprocess.Popen(
        [sys.executable, "-m", "solomonic.cli", "serve", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(8)]
    address = re.search(r"http://127\.0\.0\.1:\d+", told[0])
    assert address and any("small" in line for line in told), told
    assert "local only" in "".join(told) and "everybody on this machine" in told[-1]
    with urllib.request.urlopen(f"{address[0]}/v1/models", timeout=60) as answer:
        assert json.load(answer)["data"][0]["id"] == "small"
    process.send_signal(signal.SIGTERM)
    _, logged = process.communicate(timeout=60)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in logged.splitlines()]
    assert "request" in events and "Application shutdown complete." in events
