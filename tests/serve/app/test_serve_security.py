"""Who may come in, how much of it, and what is never told, sent or written down."""

import contextlib
import datetime
import http.client
import io
import ipaddress
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from serve_app import Running, running
from serve_lm import ENGINES, tiny_lm
from solomonic.core import CheckpointError, ConfigError
from solomonic.serve import logs
from solomonic.serve.config import ServeConfig
from solomonic.serve.keys import KeyFile, issue_key
from solomonic.serve.limits import Buckets
from solomonic.serve.speech.engine import SpeechEngine

ENGINE = ENGINES[-1]
SECRET = "my password is swordfish nineteen"
Answer = tuple[int, dict[str, str], bytes]


def ask(served: Running, method: str, path: str, body: object = None, **headers: str) -> Answer:
    """One request on a connection of its own."""
    link = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, dict):
        named["Content-Type"] = "application/json"
    link.request(method, path, data, named)
    answer = link.getresponse()
    content = answer.read()
    link.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content


def code(answer: Answer) -> str:
    return json.loads(answer[2])["error"]["code"]


@pytest.fixture(scope="module")
def open_server() -> Iterator[Running]:
    config = ServeConfig(
        requests_per_minute=0, max_json_bytes=2000, max_body_bytes=5000, body_timeout=1.5,
        header_timeout=1.5, cors_origins=("https://friend.example",), max_requests_per_client=2,
    )  # fmt: skip
    with running(config, lm=tiny_lm(ENGINE)) as server:
        yield server


def test_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys = KeyFile(file)
    phone = issue_key(keys, "phone", limits={"requests_per_minute": 3})
    bound = issue_key(keys, "tablet", user="ana")
    text = file.read_text()
    assert phone not in text and len(phone) > 40 and phone.startswith("slm_")
    with running(ServeConfig(api_key_file=str(file), requests_per_minute=0)) as server:
        for headers in ({}, {"Authorization": "Bearer slm_wrong"}, {"X_API_Key": phone[:-1]}):
            answer = ask(server, "GET", "/v1/models", **headers)
            assert answer[0] == 401 and code(answer) == "invalid_api_key"
            assert answer[1]["www-authenticate"] == "Bearer"
        assert ask(server, "GET", f"/v1/models?api_key={phone}")[0] == 401
        assert ask(server, "GET", "/health")[0] == ask(server, "GET", "/ready")[0] == 200
        assert ask(server, "GET", "/metrics")[0] == 401
        assert ask(server, "GET", "/v1/models", Authorization=f"Bearer {phone}")[0] == 200
        assert ask(server, "GET", "/v1/models", X_API_Key=phone)[0] == 200
        assert ask(server, "GET", "/v1/models", X_API_Key=phone)[0] == 200
        limited = ask(server, "GET", "/v1/models", X_API_Key=phone)
        assert limited[0] == 429 and 1 <= int(limited[1]["retry-after"]) <= 20
        other = ask(server, "GET", "/v1/models", X_API_Key=bound, X_Solomonic_User="bob")
        assert other[0] == 403 and code(other) == "user_not_allowed"
        assert ask(server, "GET", "/v1/models", X_API_Key=bound, X_Solomonic_User="ana")[0] == 200
        server.services.keys._found.clear()  # instead of waiting until it is forgotten
        assert KeyFile(file).revoke_key("tablet") and not KeyFile(file).revoke_key("tablet")
        assert ask(server, "GET", "/v1/models", X_API_Key=bound)[0] == 401
        KeyFile(file).revoke_key("phone")
        server.services.keys._found.clear()
        # The last key is gone, and the door is still shut.
        assert ask(server, "GET", "/v1/models")[0] == 401


def test_the_first_key_shuts_the_door() -> None:
    with running(ServeConfig(requests_per_minute=0)) as server:
        assert ask(server, "GET", "/v1/models")[0] == 200
        key = issue_key(server.services.store, "first")
        server.services.keys._looked -= 10  # instead of waiting until it looks again
        assert ask(server, "GET", "/v1/models")[0] == 401
        assert ask(server, "GET", "/v1/models", X_API_Key=key)[0] == 200


def test_a_search_through_keys_is_slowed_down(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    good = issue_key(KeyFile(file), "good")
    with running(ServeConfig(api_key_file=str(file), requests_per_minute=0)) as server:
        found = [ask(server, "GET", "/v1/models", X_API_Key="no")[0] for _ in range(33)]
        assert found[:30] == [401] * 30 and found[-1] == 429
        assert ask(server, "GET", "/v1/models", X_API_Key=good)[0] == 200


def test_keys_that_cannot_be(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    issue_key(keys, "a")
    for name, settings, sentence in (
        ("a", {}, "already"),
        ("a:b", {}, "no name of a key"),
        ("../x", {}, "no name of a key"),
        ("b", {"user": "x y"}, "no name of a user"),
        ("b", {"limits": {"speed": 3}}, "no limit 'speed'"),
        ("b", {"limits": {"max_streams": -1}}, "at least 0"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            issue_key(keys, name, **settings)
    for text in ("", "[]", '{"keys": [{"name": "a", "hash": "00"}]}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(CheckpointError, match="is no key file"):
            KeyFile(tmp_path / "bad.json")


def test_token_buckets_by_hand() -> None:
    now = [100.0]
    buckets = Buckets(60, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") == pytest.approx(1.0) and buckets.take("b") == 0.0
    now[0] += 0.5
    assert buckets.take("a") == pytest.approx(0.5)
    now[0] += 0.6
    assert buckets.take("a") == 0.0 and buckets.take("a") > 0
    now[0] += 1e6
    assert [buckets.take("a") for _ in range(61)].count(0.0) == 60
    assert Buckets(0).take("a") == 0.0


def test_a_body_is_counted_while_it_comes(open_server: Running) -> None:
    big = ask(open_server, "POST", "/v1/completions", b"x" * 3000)
    assert big[0] == 413 and code(big) == "too_large" and big[1]["connection"] == "close"
    with socket.create_connection(("127.0.0.1", open_server.port), timeout=30) as link:
        link.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        # The body never ends, and the answer comes all the same.
        for _ in range(5):
            link.sendall(b"200\r\n" + b"x" * 512 + b"\r\n")
        assert link.recv(4096).startswith(b"HTTP/1.1 413")


def test_nobody_without_a_key_has_a_body_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    good = issue_key(KeyFile(file), "good", limits={"requests_per_minute": 2})
    head = (
        "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nContent-Type: {}\r\n"
        "Content-Length: 1000000\r\n\r\n"
    )
    form = "multipart/form-data; boundary=x"
    with running(ServeConfig(api_key_file=str(file))) as server:
        for path, kind in (("completions", "application/json"), ("audio/transcriptions", form)):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as link:
                link.sendall(head.format(f"/v1/{path}", "wrong", kind).encode())
                assert link.recv(4096).startswith(b"HTTP/1.1 401")  # and nothing was sent yet
                link.sendall(b"x" * 1000000)  # what is on its way is no reason to be cut off
                while link.recv(4096):
                    pass
        body = {"model": "tiny", "prompt": "a"}
        for expected in (404, 404, 429):  # a request counts once
            assert ask(server, "POST", "/v1/completions", body, X_API_Key=good)[0] == expected


def test_an_upload_for_which_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")  # as a full disk would
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = part + bytes(2**20 + 1) + b"\r\n--x--\r\n"
    with running(ServeConfig()) as server:
        sent = {"Content_Type": "multipart/form-data; boundary=x"}
        answer = ask(server, "POST", "/v1/audio/transcriptions", body, **sent)
    assert answer[0] == 503 and code(answer) == "storage_unavailable"
    assert b"/nowhere" not in answer[2]


def test_slow_bodies_and_slow_headers_are_not_waited_for(open_server: Running) -> None:
    with socket.create_connection(("127.0.0.1", open_server.port), timeout=30) as link:
        link.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
        )
        assert link.recv(4096).startswith(b"HTTP/1.1 408")
    for sent in (b"", b"GET /health HTT"):
        with socket.create_connection(("127.0.0.1", open_server.port), timeout=30) as link:
            link.sendall(sent)
            assert link.recv(4096) == b""


def test_origins_and_names(open_server: Running) -> None:
    same = f"http://127.0.0.1:{open_server.port}"
    plain = ask(open_server, "GET", "/v1/models", Origin=same)
    assert plain[0] == 200 and "access-control-allow-origin" not in plain[1]
    foreign = ask(open_server, "GET", "/v1/models", Origin="https://evil.example")
    assert foreign[0] == 403 and "access-control-allow-origin" not in foreign[1]
    friend = ask(open_server, "GET", "/v1/models", Origin="https://friend.example")
    assert friend[1]["access-control-allow-origin"] == "https://friend.example"
    assert "origin" in friend[1]["vary"].lower()
    asked = ask(
        open_server, "OPTIONS", "/v1/completions", Origin="https://friend.example",
        Access_Control_Request_Method="POST",
    )  # fmt: skip
    assert asked[0] == 204 and "POST" in asked[1]["access-control-allow-methods"]
    rebound = ask(open_server, "GET", "/v1/models", Host="evil.example")
    assert rebound[0] == 421 and code(rebound) == "unknown_host"
    for bad in ("*", "https://a.example/path", "a.example"):
        with pytest.raises(ConfigError, match="is not exact"):
            ServeConfig(cors_origins=(bad,))
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{open_server.port}/v1/stream", origin="https://evil.example")
    assert refused.value.response.status_code == 403


def test_a_websocket_without_a_key_is_told_so(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = issue_key(KeyFile(file), "phone")
    with running(ServeConfig(api_key_file=str(file))) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/stream"
        with connect(url) as link, pytest.raises(ConnectionClosedError) as closed:
            link.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4401
        with connect(url, subprotocols=["solomonic", f"key.{key}"]) as link:  # type: ignore[list-item]
            assert link.subprotocol == "solomonic"


def test_every_answer_has_the_headers(open_server: Running) -> None:
    for path in ("/health", "/nothing", "/", "/openapi.json"):
        headers = ask(open_server, "GET", path)[1]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])
        assert "server" not in headers


def test_no_name_from_the_network_reaches_the_disk(open_server: Running) -> None:
    seen: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir"):
            seen.append(str(arguments[0]))

    watching = True
    sys.addaudithook(watch)
    try:
        for name in ("canary-7731", "..%2f..%2fetc%2fpasswd-canary", "%2e%2e/canary"):
            body = {"model": f"/tmp/{name}", "prompt": "canary-7731"}
            assert ask(open_server, "POST", "/v1/completions", body)[0] == 404
            for path in (f"/v1/models/{name}", f"/static/{name}", f"/{name}"):
                assert ask(open_server, "GET", path)[0] == 404
    finally:
        watching = False
    assert [path for path in seen if "canary" in path or "passwd" in path] == []


def test_tls(tmp_path: Path) -> None:
    config = ServeConfig(requests_per_minute=0, **certificate(tmp_path))
    with running(config) as server:
        context = ssl.create_default_context(cafile=config.tls_cert)
        link = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context)
        link.request("GET", "/health")
        answer = link.getresponse()
        assert answer.status == 200 and answer.read()
        assert answer.getheader("Strict-Transport-Security") == "max-age=31536000"
        link.close()


def certificate(folder: Path) -> dict[str, str]:
    """A certificate for 127.0.0.1 that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return {"tls_cert": str(folder / "cert.pem"), "tls_key": str(folder / "key.pem")}


def test_a_client_has_so_many_places(open_server: Running) -> None:
    body = {"model": "tiny", "prompt": ["a", "b", "c"], "max_tokens": 1}
    refused = ask(open_server, "POST", "/v1/completions", body)
    assert refused[0] == 429 and code(refused) == "too_many_at_once"
    body["prompt"] = ["a", "b"]
    for _ in range(3):  # places are given back
        assert ask(open_server, "POST", "/v1/completions", body)[0] == 200
        assert ask(open_server, "POST", "/v1/completions", body | {"stream": True})[0] == 200
    assert ask(open_server, "POST", "/v1/completions", body | {"top_k": -1})[0] == 400


def test_a_client_that_goes_is_noticed(open_server: Running) -> None:
    engine = open_server.services.engine
    assert engine is not None
    for stream in (True, False):
        body = json.dumps(
            {"model": "tiny", "prompt": "a", "max_tokens": 10**6, "stream": stream, "top_k": 5}
        ).encode()
        engine.config = engine.config.replace(max_new_tokens=10**6)
        with socket.create_connection(("127.0.0.1", open_server.port), timeout=30) as link:
            link.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
                b"application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            if stream:
                assert b"200" in link.recv(100)
        while engine.running or engine.waiting:
            time.sleep(0.01)
    assert not open_server.services.limits._running


def test_nothing_a_user_says_is_logged() -> None:
    stream = io.StringIO()
    known = {name: logging.getLogger(name) for name in ("", "solomonic", "uvicorn")}
    before = {name: (list(log.handlers), log.propagate, log.level) for name, log in known.items()}
    logs.configure("debug", stream)
    try:
        with running(ServeConfig(requests_per_minute=0), lm=tiny_lm(ENGINE)) as server:
            engine = server.services.engine
            assert engine is not None
            prompt = {"model": "tiny", "prompt": SECRET, "max_tokens": 5}
            assert ask(server, "POST", "/v1/completions?q=swordfish", prompt)[0] == 200
            message = {"messages": [{"role": "user", "content": SECRET}]}
            ask(server, "POST", "/v1/chat/completions", message | {"model": SECRET})
            ask(server, "POST", "/v1/chat/completions", {SECRET: SECRET})
            ask(server, "POST", "/v1/completions", f'{{"{SECRET}'.encode())
            ask(server, "GET", f"/{SECRET.replace(' ', '-')}", X_Solomonic_User=SECRET)
            ask(server, "POST", "/v1/memory_map", {"text": SECRET})
            logging.getLogger("asyncio").error(f"Task failed: {SECRET}")  # as libraries do
            for path in ("v1/stream", "vosk"):
                url = f"ws://127.0.0.1:{server.port}/{path}?api_key=swordfish"
                with connect(url, additional_headers={"X-Said": "swordfish"}) as link:
                    # The refusal is written before anything is read, so the link may be closed
                    # by the time this is sent; what was written is still there to be received.
                    with contextlib.suppress(ConnectionClosed):
                        link.send(SECRET)
                    assert "swordfish" not in str(link.recv())

            def broken(*_: object) -> None:
                raise ValueError(SECRET)

            engine._rows_of.read = broken  # type: ignore[assignment]
            answer = ask(server, "POST", "/v1/completions", prompt)
            assert answer[0] == 500 and code(answer) == "internal_error"
            assert SECRET.encode() not in answer[2]
    finally:
        for name, log in known.items():
            log.handlers, log.propagate = before[name][:2]
            log.setLevel(before[name][2])
    text = stream.getvalue()
    for part in ("swordfish", "my password", "my-password"):
        assert part not in text
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert {"id", "route", "method", "status", "ms", "client", "time", "level"} <= set(requests[0])
    assert requests[0]["route"] == "/v1/completions" and requests[0]["client"] == "local"
    assert any(line.get("error") == "ValueError" for line in lines)
    assert any(line["logger"] == "asyncio" for line in lines)
    assert {"/v1/stream", "/vosk"} <= {line["route"] for line in requests}


def test_metrics_and_readiness(open_server: Running) -> None:
    ask(open_server, "GET", "/no/such/place")
    ask(open_server, "POST", "/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 2})
    text = ask(open_server, "GET", "/metrics")[2].decode()
    assert 'solomonic_http_requests_total{method="GET",route="other",status="404"}' in text
    assert re.search(r'solomonic_lm_tokens_total\{kind="generated"\} [1-9]', text)
    assert "solomonic_ready 1.0" in text
    store = open_server.services.store
    check = store.check
    store.check = lambda: (_ for _ in ()).throw(ConfigError("down"))
    try:
        answer = ask(open_server, "GET", "/ready")
        assert answer[0] == 503 and code(answer) == "storage_unavailable"
    finally:
        store.check = check
    speech = SpeechEngine(None)  # type: ignore[arg-type]
    speech._thread = threading.Thread()  # one that is over
    open_server.services.speech = speech
    try:
        assert code(ask(open_server, "GET", "/ready")) == "engine_failed"
    finally:
        open_server.services.speech = None
    assert ask(open_server, "GET", "/ready")[0] == 200


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="watches sockets through /proc")
def test_local_only_sends_nothing_to_anyone_and_takes_no_audio() -> None:
    script = Path(__file__).with_name("local_only_script.py")
    done = subprocess.run(
        [sys.executable, script, ENGINE], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["found"] == [200, 200, 403, 403, 403, 403]
    assert told["refused"] == 6
    loopback = re.compile(r"0100007F:|00000000000000000000000001000000:")
    assert told["ours"] and all(loopback.match(line) for line in told["ours"]), told["ours"]
    assert len(told["called"]) == 6 and all("127.0.0.1" in one for one in told["called"])


def test_local_only_settings() -> None:
    with pytest.raises(ConfigError, match="leave --host out"):
        ServeConfig(local_only=True, host="0.0.0.0")
    from solomonic.serve import local

    for store in ("", "/tmp/a.db", "sqlite:////tmp/a.db", "postgresql+psycopg://u@127.0.0.1/x",
                  "postgresql+psycopg://u@/x?host=/run/postgresql"):  # fmt: skip
        local.check(ServeConfig(local_only=True, store=store))
    for store in ("postgresql+psycopg://u@db.example/x", "postgresql+psycopg://u@10.0.0.1/x"):
        with pytest.raises(ConfigError, match="give a file"):
            local.check(ServeConfig(local_only=True, store=store))
