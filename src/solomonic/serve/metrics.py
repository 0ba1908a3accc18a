"""Prometheus metrics of one server, in a registry of its own. No label ever has text of a user."""

import threading
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of the whole server. Parts add their own to `registry`, prefixed "solomonic_"."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.requests = Counter(
            "solomonic_http_requests", "Requests answered.", ["route", "method", "status"],
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "solomonic_http_request_seconds", "Time until an answer was sent whole.", ["route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.refused = Counter(
            "solomonic_refused", "Requests and messages refused, by code.", ["code"],
            registry=registry,
        )  # fmt: skip
        self.sockets = Gauge(
            "solomonic_websockets", "WebSockets open now.", ["route"], registry=registry
        )
        self.ready = Gauge("solomonic_ready", "1 while new work is taken.", registry=registry)
        self.tokens = Counter(
            "solomonic_lm_tokens", "Tokens read (prompt) and written (generated).", ["kind"],
            registry=registry,
        )  # fmt: skip
        self.rows = Gauge("solomonic_lm_rows", "Texts that are generated now.", registry=registry)
        self.waiting = Gauge(
            "solomonic_lm_waiting", "Requests that wait for a row.", registry=registry
        )
        self.step_seconds = Histogram(
            "solomonic_lm_step_seconds", "One step of all rows.", buckets=SECONDS, registry=registry
        )
        self.first_token = Histogram(
            "solomonic_lm_first_token_seconds", "From a request to its first token.",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.finished = Counter(
            "solomonic_lm_finished", "Generations ended, by reason.", ["reason"], registry=registry
        )

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to the counter "solomonic_<name>", which is made when it is first used."""
        self._own(Counter, name, labels).inc(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Note a value, of seconds as a rule, in the histogram "solomonic_<name>"."""
        self._own(Histogram, name, labels).observe(value)

    def _own(self, kind: type, name: str, labels: dict[str, str]) -> Any:
        with self._lock:
            if name not in self._made:
                more: dict[str, Any] = {"buckets": SECONDS} if kind is Histogram else {}
                self._made[name] = kind(
                    f"solomonic_{name}", name.replace("_", " ").capitalize() + ".",
                    sorted(labels), registry=self.registry, **more,
                )  # fmt: skip
        return self._made[name].labels(**labels) if labels else self._made[name]

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
