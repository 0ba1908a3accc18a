"""A PostgreSQL server for tests, started from the system's package; skips where there is none.

A conftest takes the fixtures by importing them: `from postgres_support import database, server`.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Server:
    """A PostgreSQL server in a folder of its own, reached through a socket in it."""

    def __init__(self, bins: Path, folder: Path, user: str | None) -> None:
        self.bins, self.folder, self.user = bins, folder, user

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the user who owns the folder."""
        command = [str(self.bins / program), *arguments]
        if self.user:
            command = ["runuser", "-u", self.user, "--", *command]
        log = self.folder / "programs.log"  # a pipe would be held open by the server
        with log.open("ab") as output:
            subprocess.run(command, check=True, stdout=output, stderr=output, cwd=self.folder)

    def start(self) -> None:
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off"
        log = str(self.folder / "server.log")
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://solomonic@/postgres?host={self.folder}"

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(
            host=str(self.folder), user="solomonic", dbname="postgres", autocommit=True
        )


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server; skips where PostgreSQL is not installed or root has nobody to run it as."""
    pytest.importorskip("psycopg")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    program = shutil.which("initdb") or (str(found[-1]) if found else None)
    if program is None:
        pytest.skip("needs PostgreSQL's server (Debian: apt install postgresql)")
    user = None
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam("postgres").pw_name
        if user is None or not shutil.which("runuser"):
            pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
    folder = Path(tempfile.mkdtemp(prefix="solomonic-pg-", dir=MEMORY))  # short, as a socket's
    if user:
        shutil.chown(folder, user)
    server = Server(Path(program).resolve().parent, folder, user)
    try:
        server.run("initdb", "-D", str(folder / "data"), "-U", "solomonic", "--auth=trust",
                   "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")  # fmt: skip
        server.start()
        yield server
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The URL of an empty place in the server: a schema, as databases take long to make."""
    name = f"test_{uuid.uuid4().hex}"
    with server.connect() as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    yield f"{server.url}&options=-csearch_path%3D{name}"
    with server.connect() as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")
