"""Run by test_serve_security: a local-only server in a process of its own, and what it sends."""

import asyncio
import contextlib
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from serve_app import running
from serve_lm import tiny_lm
from solomonic.core import ConfigError
from solomonic.serve import local
from solomonic.serve.config import ServeConfig


def main(engine: str) -> None:
    called: list[str] = []

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            called.append(str(given[1]))

    sys.addaudithook(watch)
    config = ServeConfig(local_only=True, requests_per_minute=0)
    local.check(config)
    local.forbid_connections()
    with running(config, lm=tiny_lm(engine)) as server:
        text = json.dumps({"model": "tiny", "prompt": "a", "max_tokens": 2}).encode()
        audio = b"RIFF" * 100
        found = [
            ask(f"{server.url}/v1/{path}", body)
            for path, body in (
                ("completions", text),
                ("memory_map", b'{"text": "abc"}'),
                ("audio/transcriptions", audio),
                ("audio/x", audio),
            )
        ]
        found += [knock(f"ws://127.0.0.1:{server.port}/{path}") for path in ("", "vosk")]
        ours = own_sockets()
    told = {"found": found, "ours": ours, "called": list(called)}
    make_loop = server.server.config.get_loop_factory()
    assert make_loop is not None
    attempts = [*ATTEMPTS, lambda: through(make_loop())]
    print(json.dumps(told | {"refused": sum(map(refuses, attempts))}))


def ask(url: str, body: bytes) -> int:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def knock(url: str) -> int:
    try:
        with connect(url):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def own_sockets() -> list[str]:
    """ "local remote" of every socket of this process, as the kernel has them."""
    links = [
        str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()
    ]
    found = []
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            parts = line.split()
            if f"socket:[{parts[9]}]" in links:
                found.append(f"{parts[1]} {parts[2]}")
    return found


def through(loop: asyncio.AbstractEventLoop) -> None:
    """A connection by the event loop that the server runs on; uvloop's own are not seen."""
    connecting = loop.create_connection(asyncio.Protocol, "192.0.2.1", 80)
    with contextlib.closing(loop), contextlib.suppress(TimeoutError):
        loop.run_until_complete(asyncio.wait_for(connecting, 1))


def refuses(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except ConfigError:
        return True
    return False


ATTEMPTS: list[Callable[[], Any]] = [
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    lambda: socket.getaddrinfo("example.org", 80),
    lambda: socket.gethostbyname("example.org"),
    lambda: urllib.request.urlopen("http://example.org/", timeout=1),
]

if __name__ == "__main__":
    os.environ.pop("http_proxy", None)
    main(sys.argv[1])
