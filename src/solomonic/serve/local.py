"""Local-only mode: the process may connect to nothing outside this machine.

An audit hook sees every connection that Python code asks for, whichever library does, and cannot be
taken back. What it forbids raises `ConfigError` in whoever asked. Of connections that C libraries
open it sees nothing: the server runs on asyncio's own event loop and not on uvloop
(`serve.server`), and a store on another machine is refused before the start (`check`).
"""

import sys
from typing import Any

from solomonic.core import ConfigError
from solomonic.serve.config import ServeConfig, is_loopback

_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", *_LOOKUPS)
_installed = False


def check(config: ServeConfig) -> None:
    """Refuse settings with which something would leave this machine.

    Raises:
        ConfigError: they would.
    """
    if not config.local_only or "://" not in config.store or config.store.startswith("sqlite"):
        return
    from sqlalchemy import make_url

    url = make_url(config.store)
    host = url.host or url.query.get("host") or ""
    hosts = (host,) if isinstance(host, str) else host
    if not all(name == "" or name.startswith("/") or is_loopback(name) for name in hosts):
        raise ConfigError(
            "--local-only keeps everything on this machine, and the store is on another one; give "
            "a file as --store."
        )


def forbid_connections() -> None:
    """From now on this process connects to nothing but itself and this machine."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS:
        return
    where = arguments[0] if event in _LOOKUPS else arguments[1]
    host = where[0] if isinstance(where, tuple) and where else where
    if isinstance(host, bytes):
        host = host.decode("utf-8", errors="replace")
    # No address (a connected socket), a path (a Unix socket) or an empty name stay here.
    if not isinstance(host, str) or host == "" or not isinstance(where, (tuple, str)):
        return
    if isinstance(where, str) and event not in _LOOKUPS:
        return
    if not is_loopback(host):
        raise ConfigError("local-only mode: nothing is sent to other machines.")
