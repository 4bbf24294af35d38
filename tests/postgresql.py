"""One PostgreSQL for the whole test session, started by the first test that asks for it."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The folder of the socket of a PostgreSQL that lives as long as the tests."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        pytest.skip("postgresql is not installed")
    programs = binaries[-1].parent
    prefix: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def run(*command: str) -> None:
        subprocess.run(
            [*prefix, *command], check=True, cwd=folder, timeout=60, stdout=subprocess.DEVNULL
        )

    data = str(folder / "data")
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    try:
        run(
            f"{programs}/initdb", "--no-sync", "--auth=trust", "--username=tests",
            "--encoding=UTF8", "--locale=C.UTF-8", "-D", data,
        )  # fmt: skip
        run(f"{programs}/pg_ctl", "-w", "-D", data, "-l", f"{data}/log", "-o", options, "start")
        try:
            yield str(folder)
        finally:
            run(f"{programs}/pg_ctl", "-w", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def empty_database(socket_dir: str) -> str:
    """The URL of a new database."""
    name = "t" + os.urandom(8).hex()
    with psycopg.connect(
        host=socket_dir, user="tests", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql+psycopg://tests@/{name}?host={socket_dir}"
