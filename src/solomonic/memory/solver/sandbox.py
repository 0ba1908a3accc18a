"""A subprocess that may compute and nothing else: for running code that nobody has vouched for.

What holds it, on Linux (x86-64, aarch64):

    seccomp    no sockets, no new processes, no signals to others, no tracing, mounts, BPF, keys
    landlock   files are read below the interpreter and system folders, written in its own empty one
    rlimits    CPU seconds, address space, size of a file, open files, no core
    the rest   its own session: the whole group is killed at the time limit; an empty environment,
               isolated mode of Python, output cut at a limit, its folder removed afterwards

Elsewhere only the last two are there, and `run` refuses unless `allow_weak` says that this will do.
All is put in force by the child itself (`_jail.py`) before it reads the code.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from solomonic.core import Config, ConfigError, require, require_least
from solomonic.memory.solver import jail

_JAIL = Path(jail.__file__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SandboxConfig(Config):
    """Bounds of one run.

    Attributes:
        seconds: of wall-clock time; then the group is killed.
        cpu_seconds: of computing.
        memory: bytes of address space.
        file_bytes: of any file that it writes, its output too.
        files: that may be open.
        output: characters of standard output and error that are kept, each.
        allow_weak: run where neither seccomp nor Landlock is to be had.
    """

    seconds: float = 5.0
    cpu_seconds: int = 4
    memory: int = 512 << 20
    file_bytes: int = 4 << 20
    files: int = 32
    output: int = 4000
    allow_weak: bool = False

    def __post_init__(self) -> None:
        require(self.seconds > 0, f"seconds = {self.seconds} must be positive.")
        require_least(self, 1, "cpu_seconds", "memory", "file_bytes", "files", "output")


@dataclasses.dataclass(frozen=True)
class Ran:
    """How a run ended.

    Attributes:
        status: exit status; negative is the signal that ended it.
        timed_out: it was killed at `seconds`.
        result: what it wrote to the descriptor `RESULT_FD`, at most `file_bytes`.
        output, errors: the beginnings of what it printed.
        seconds: wall-clock.
    """

    status: int
    timed_out: bool
    result: bytes
    output: str
    errors: str
    seconds: float

    def explain(self) -> str:
        """Why it failed, in a few words."""
        if self.timed_out:
            return "time limit"
        if self.status == -signal.SIGXCPU:
            return "CPU limit"
        if self.status < 0:
            return f"killed by signal {-self.status}"
        last = self.errors.strip().splitlines()[-1:]
        return last[0][:200] if last else f"exit status {self.status}"


def protections() -> list[str]:
    """What holds code here: 'seccomp', 'landlock', 'rlimits'."""
    return jail.available()


def run_python(source: str, data: bytes = b"", config: SandboxConfig | None = None) -> Ran:
    """Run Python source. `data` is on its standard input; results go to descriptor 3.

    Raises:
        ConfigError: this machine cannot hold it and `allow_weak` is off.
    """
    config = config or SandboxConfig()
    return _run([], source, data, config)


def run_program(arguments: Sequence[str], files: dict[str, str], config: SandboxConfig) -> Ran:
    """Run another program on files put into its folder; it may start threads, no processes.

    Raises:
        ConfigError: as `run_python`.
    """
    return _run(list(arguments), "", b"", config, files)


def _run(
    program: list[str],
    source: str,
    data: bytes,
    config: SandboxConfig,
    files: dict[str, str] | None = None,
) -> Ran:
    if "seccomp" not in protections() and not config.allow_weak:
        raise ConfigError(
            "code cannot be kept from the network here (no seccomp); run it on Linux, or allow it "
            "with allow_weak / --allow-weak-sandbox."
        )
    with (
        tempfile.TemporaryDirectory(prefix="solomonic-sandbox-", ignore_cleanup_errors=True) as at,
        tempfile.TemporaryFile() as result,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as given,
    ):
        home = Path(at)
        for name, text in (files or {}).items():
            (home / name).write_text(text, encoding="utf-8")
        given.write(data)
        given.seek(0)
        with _result_at_three(result) as passed:
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_JAIL), *_orders(config, home, source, program)],
                stdin=given,
                stdout=out,
                stderr=err,
                cwd=home,
                env={"PATH": "/usr/bin:/bin", "HOME": at, "LC_ALL": "C.UTF-8", "RESULT": passed},
                pass_fds=(int(passed),),
                start_new_session=True,
            )
            timed_out = _wait(process, config.seconds)
        return Ran(
            process.returncode,
            timed_out,
            _head(result, config.file_bytes),
            _head(out, config.output).decode("utf-8", "replace"),
            _tail(err, config.output).decode("utf-8", "replace"),
            time.perf_counter() - began,
        )


def _orders(config: SandboxConfig, home: Path, source: str, program: list[str]) -> list[str]:
    limits = f"{config.cpu_seconds},{config.memory},{config.file_bytes},{config.files}"
    (home / "main.py").write_text(source, encoding="utf-8")
    return [limits, str(home), *program]


@contextlib.contextmanager
def _result_at_three(file):  # type: ignore[no-untyped-def]
    """The number of a descriptor of `file` that the child inherits."""
    copy = os.dup(file.fileno())
    try:
        yield str(copy)
    finally:
        os.close(copy)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait, and leave nothing of the group behind; whether time ran out."""
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _head(file, most: int) -> bytes:  # type: ignore[no-untyped-def]
    file.seek(0)
    return file.read(most)


def _tail(file, most: int) -> bytes:  # type: ignore[no-untyped-def]
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - most))
    return file.read(most)
