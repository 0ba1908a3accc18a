"""The sandbox: what code in it can do is compute, and nothing is left behind."""

import os
import signal
import time
from pathlib import Path

import pytest

from solomonic.core import ConfigError
from solomonic.memory.solver import jail, sandbox
from solomonic.memory.solver.sandbox import SandboxConfig, protections, run_python

QUICK = SandboxConfig(seconds=60.0)
pytestmark = pytest.mark.skipif("seccomp" not in protections(), reason="no seccomp here")


def test_it_computes_and_gives_its_result_back() -> None:
    ran = run_python(
        "import os, sys\nprint('said')\n"
        "os.write(int(os.environ['RESULT']), sys.stdin.read().upper().encode())",
        b"given",
        QUICK,
    )
    assert (ran.status, ran.result, ran.output, ran.timed_out) == (0, b"GIVEN", "said\n", False)


ESCAPES = {
    "socket": "import socket; socket.socket()",
    "unix socket": "import socket; socket.socketpair()",
    "fork": "import os; os.fork()",
    "process": "import subprocess; subprocess.run(['/bin/true'])",
    "exec": "import os; os.execv('/bin/true', ['true'])",
    "kill": "import os; os.kill(os.getppid(), 9)",
    "kill a group": "import os; os.killpg(os.getpgid(os.getppid()), 9)",
    "read": "open('/etc/hostname').read()",
    "list": "import os; os.listdir('/root')",
    "write": "open('/tmp/solomonic-escape', 'w')",
    "remove": "import os; os.remove({victim!r})",
    "rename": "import os; os.rename({victim!r}, 'here')",
    "link": "import os; os.symlink('/etc', 'etc'); os.listdir('etc')",
    "memory": "x = bytearray(10 ** 11)",
    "file": "open('big', 'wb').write(bytes(10 ** 8))",
    "files": "kept = [open('f%d' % i, 'w') for i in range(1000)]",
    "trace": "import ctypes; l = ctypes.CDLL(None, use_errno=True)\n"
    "assert l.ptrace(16, 1, 0, 0) == 0",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_else_is_possible(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    ran = run_python(ESCAPES[name].replace("{victim!r}", repr(str(victim))), b"", QUICK)
    assert ran.status == 1 and not ran.timed_out, ran
    assert victim.read_text() == "mine"
    assert not Path("/tmp/solomonic-escape").exists()


def test_without_landlock_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other filter, for kernels without Landlock: run through a copy of the jail."""
    text = Path(jail.__file__).read_text().replace("_landlock_version() > 0", "False")
    source = Path(jail.__file__).with_name("jail.py")
    assert text != source.read_text()
    copy = Path(os.environ.get("TMPDIR", "/tmp")) / f"jail-{os.getpid()}.py"
    copy.write_text(text)
    monkeypatch.setattr(sandbox, "_JAIL", copy)
    try:
        assert run_python("print(1 + 1)", b"", QUICK).output == "2\n"
        for code in ("open('a', 'w')", "import os; os.mkdir('a')", ESCAPES["socket"]):
            assert run_python(code, b"", QUICK).status == 1
    finally:
        copy.unlink()


def test_a_long_run_is_killed_with_all_that_it_started() -> None:
    began = time.monotonic()
    ran = run_python("import time\nwhile True: time.sleep(1)", b"", SandboxConfig(seconds=0.5))
    assert ran.timed_out and ran.status == -signal.SIGKILL and ran.explain() == "time limit"
    assert time.monotonic() - began < 60


def test_computing_is_limited_too() -> None:
    ran = run_python("while True: pass", b"", SandboxConfig(seconds=120, cpu_seconds=1))
    assert ran.status in (-signal.SIGXCPU, -signal.SIGKILL) and not ran.timed_out


def test_threads_may_run_and_output_is_cut() -> None:
    ran = run_python(
        "import threading\nt = threading.Thread(target=print, args=('x' * 10000,))\n"
        "t.start(); t.join()",
        b"",
        SandboxConfig(seconds=60, output=100),
    )
    assert ran.status == 0 and ran.output == "x" * 100


def test_weak_protection_is_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "protections", lambda: ["rlimits"])
    with pytest.raises(ConfigError, match="no seccomp"):
        run_python("pass")
    assert run_python("pass", b"", SandboxConfig(seconds=60, allow_weak=True)).status == 0


def test_its_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_python("open('left', 'w').write('x')", b"", QUICK)
    assert list(tmp_path.iterdir()) == []
