"""What a server may do and how much of it: addresses, limits, and what is allowed."""

import dataclasses
import ipaddress
from urllib.parse import urlsplit

from solomonic.core import Config, require

MIB = 2**20
_MAY_BE_ZERO = ("port", "requests_per_minute", "max_queue", "grace")
LEVELS = ("debug", "info", "warning", "error")
"""Log levels by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeConfig(Config):
    """Settings of one server. Times are seconds; 0 turns a limit off where that is said.

    Attributes:
        host, port: where it listens; port 0 is any free one.
        store: where users' memories are: "" in this process only, a path, or a database URL.
        api_key_file: keys of those who may come in; "" takes the keys of the store.
        allow_anonymous: serve a network without keys. Without it a server that has no keys
            listens on this machine only.
        hosts: names in the `Host` header that are answered; empty: any, but on a loopback address
            only the names of this machine, so that no web page reaches it by a name of its own.
        cors_origins: web pages of other servers that may call this one, "https://example.org".
        tls_cert, tls_key: PEM files; both or none.
        local_only: this machine alone is answered, no audio is taken over the network, and the
            process may connect to nothing outside.
        max_body_bytes: of an upload of audio or lattices. max_json_bytes: of any other body.
        max_seconds: of audio in one request. body_timeout: until a body has arrived.
        header_timeout: until the first request of a connection is there.
        request_timeout: for an answer; a generation that takes longer is ended.
        idle_timeout: of a WebSocket on which nothing comes.
        requests_per_minute: of one client; 0: any number. Bursts of as many are let through.
        max_connections: open at once, all clients together.
        max_streams, max_streams_per_client: audio streams at once.
        max_batch: texts that are generated at once. max_queue: requests that may wait for that.
        max_requests_per_client: generations of one client at once, waiting or running.
        max_prompt_tokens, max_new_tokens: of one text. max_choices: texts of one request.
        prompt_chunk: prompt tokens a text reads in one step, between steps of the others.
        grace: how long running work may go on after the server was told to stop.
        log_level: one of `LEVELS`. metrics: whether /metrics is there.

    Raises:
        ConfigError: a value out of range, or settings that exclude each other.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    store: str = ""
    api_key_file: str = ""
    allow_anonymous: bool = False
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    local_only: bool = False
    max_body_bytes: int = 64 * MIB
    max_json_bytes: int = 2 * MIB
    max_seconds: float = 1800.0
    body_timeout: float = 60.0
    header_timeout: float = 10.0
    request_timeout: float = 120.0
    idle_timeout: float = 60.0
    requests_per_minute: int = 600
    max_connections: int = 1000
    max_streams: int = 64
    max_streams_per_client: int = 32
    max_batch: int = 16
    max_queue: int = 64
    max_requests_per_client: int = 16
    max_prompt_tokens: int = 16384
    max_new_tokens: int = 2048
    max_choices: int = 8
    prompt_chunk: int = 32
    grace: float = 10.0
    log_level: str = "info"
    metrics: bool = True

    def __post_init__(self) -> None:
        for name in ("hosts", "cors_origins"):  # JSON and callers have lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        require(0 <= self.port < 65536, f"port {self.port} is no port; give 1 to 65535.")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                low = 0 if field.name in _MAY_BE_ZERO else 1
                require(
                    value >= low or (isinstance(value, float) and value > 0),
                    f"{field.name} = {value} must be at least {low}.",
                )
        require(
            bool(self.tls_cert) == bool(self.tls_key),
            "TLS needs a certificate and its key; give both --tls-cert and --tls-key.",
        )
        require(
            self.log_level in LEVELS,
            f"log_level '{self.log_level}' is unknown; use one of {', '.join(LEVELS)}.",
        )
        for origin in self.cors_origins:
            _check_origin(origin)
        require(
            not self.local_only or self.loopback,
            f"--local-only listens on this machine alone, and {self.host} is reached from others; "
            "leave --host out.",
        )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls_cert else ''}://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine and nothing else. Names are not looked up."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _check_origin(origin: str) -> None:
    parts = urlsplit(origin)
    exact = f"{parts.scheme}://{parts.netloc}"
    require(
        parts.scheme in ("http", "https") and bool(parts.netloc) and exact == origin,
        f"the origin '{origin}' is not exact; write it as in https://example.org, without a path "
        "and without '*'.",
    )
