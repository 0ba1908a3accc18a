"""Which form of an op runs: chosen in one place, explicitly, and always explained.

Every op has a slow definition ("reference") and a fast form in plain PyTorch ("torch"), which takes
everything. Faster forms take less: a form says in one sentence what it refuses, and `explain` shows
the sentence. Nothing is chosen in silence.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from solomonic.core import ConfigError
from solomonic.kernels import attention, conv, delta, innovation, linear, selection, ssd, transducer


def takes_all(*_args: object) -> str | None:
    """A form without limits."""
    return None


@dataclasses.dataclass(frozen=True)
class Form:
    """One implementation of an op.

    function: takes the arguments of the op's `reference`, in that order.
    refuses: the same arguments -> None, or one sentence saying why this form cannot take them.
    """

    function: Callable
    refuses: Callable[..., str | None] = takes_all


ORDER = ("triton", "native", "torch")
"""Backends that "auto" tries, the fastest first."""

TABLE: dict[str, dict[str, Form]] = {
    "attention": {
        "reference": Form(attention.reference),
        "torch": Form(attention.blocks),
        "triton": Form(attention.triton.attention, attention.triton.refuses),
        "native": Form(attention.native.attention, attention.native.refuses),
    },
    "conv": {
        "reference": Form(conv.reference),
        "torch": Form(conv.shifted),
        "native": Form(conv.native.conv, conv.native.refuses),
    },
    "delta": {
        "reference": Form(delta.reference),
        "torch": Form(delta.chunked),
        "native": Form(delta.native.delta, delta.native.refuses),
    },
    "innovation": {"reference": Form(innovation.reference), "torch": Form(innovation.shifted)},
    "linear": {
        "reference": Form(linear.reference),
        "torch": Form(linear.plain),
        "native": Form(linear.native.linear, linear.native.refuses),
    },
    "selection": {
        "reference": Form(selection.reference),
        "torch": Form(selection.blocks),
        "triton": Form(selection.triton.select, selection.triton.refuses),
    },
    "ssd": {
        "reference": Form(ssd.reference),
        "torch": Form(ssd.chunked),
        "native": Form(ssd.native.ssd, ssd.native.refuses),
        "triton": Form(ssd.triton.ssd, ssd.triton.refuses),
    },
    "transducer": {
        "reference": Form(transducer.reference.transducer),
        "torch": Form(transducer.wavefront),
        "native": Form(transducer.native.transducer, transducer.native.refuses_lattice),
    },
    "transducer_hidden": {
        "reference": Form(transducer.reference.hidden),
        "torch": Form(transducer.cells.hidden),
        "native": Form(transducer.native.hidden, transducer.native.refuses_hidden),
    },
    "transducer_scores": {
        "reference": Form(transducer.reference.scores),
        "torch": Form(transducer.cells.scores),
        "native": Form(transducer.native.scores, transducer.native.refuses_scores),
    },
    "transducer_slopes": {
        "reference": Form(transducer.reference.slopes),
        "torch": Form(transducer.cells.slopes),
        "native": Form(transducer.native.slopes, transducer.native.refuses_slopes),
    },
    "transducer_spread": {
        "reference": Form(transducer.reference.spread),
        "torch": Form(transducer.cells.spread),
        "native": Form(transducer.native.spread, transducer.native.refuses_spread),
    },
}

_wanted: ContextVar[str] = ContextVar("solomonic_backend", default="auto")
_seen: ContextVar[list[str] | None] = ContextVar("solomonic_watch", default=None)


def resolve(op: str, *args: object) -> Callable:
    """The function that runs for `op` on these arguments under the backend in force.

    Args:
        args: what the op will be called with; without them, forms that may refuse are left out.

    Raises:
        ConfigError: the op does not exist, or the backend asked for refuses these arguments.
    """
    forms, wanted = _forms(op), _wanted.get()
    if wanted in forms:
        reason = forms[wanted].refuses(*args) if args else None
        if reason is not None:
            raise ConfigError(f"op '{op}' cannot run on backend '{wanted}': {reason}")
        return forms[wanted].function
    for backend in ORDER:
        if backend in forms and _refusal(forms[backend], args) is None:
            return forms[backend].function
    raise AssertionError(f"op '{op}' has no form that takes everything")


def run(op: str, *args: Any) -> Any:
    """Call `op` in the form that `resolve` chooses."""
    function, seen = resolve(op, *args), _seen.get()
    if seen is not None and (sentence := explain(op, *args)) not in seen:
        seen.append(sentence)
    return function(*args)


@contextmanager
def watch() -> Iterator[list[str]]:
    """Collect what `explain` says about every op that runs inside the block, each sentence once."""
    seen: list[str] = []
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


@contextmanager
def use(backend: str) -> Iterator[None]:
    """Choose the backend inside the block.

    "auto" takes the fastest form that does not refuse the arguments; "reference", "torch", "native"
    and "triton" insist: the op then raises with the reason instead of taking another. Ops that have
    no form of that name at all run as under "auto", and `explain` says so.
    """
    known = {"auto"} | {name for forms in TABLE.values() for name in forms}
    if backend not in known:
        raise ConfigError(f"backend '{backend}' is unknown; use one of {', '.join(sorted(known))}.")
    token = _wanted.set(backend)
    try:
        yield
    finally:
        _wanted.reset(token)


def explain(op: str, *args: object) -> str:
    """One sentence: which form of `op` runs on these arguments, and why no faster one does."""
    forms, wanted = _forms(op), _wanted.get()
    function = resolve(op, *args)
    chosen = next(name for name, form in forms.items() if form.function is function)
    parts = []
    if wanted == chosen:
        parts.append("asked for")
    elif wanted != "auto":
        parts.append(f"there is no {wanted} form of it")
    if wanted != chosen:
        for faster in ORDER[: ORDER.index(chosen)]:
            reason = _refusal(forms[faster], args) if faster in forms else None
            if reason is not None:
                parts.append(f"not {faster}: {reason.removesuffix('.')}")
    why = "; ".join(parts) or "the fastest form there is"
    return f"{op}: {chosen} ({function.__module__}); {why}"


def _refusal(form: Form, args: tuple) -> str | None:
    if args or form.refuses is takes_all:
        return form.refuses(*args)
    return "that depends on the arguments"


def _forms(op: str) -> dict[str, Form]:
    if op not in TABLE:
        raise ConfigError(f"op '{op}' is unknown; use one of {', '.join(sorted(TABLE))}.")
    return TABLE[op]
