"""A service for the pages to ask, the pages as the command serves them, and a browser."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.apps.foreign_service import ForeignService
from tests.apps.serving import free_port
from tests.apps.visit import Visit, start_browser
from tests.waiting import wait_until

LAUNCH = (
    "import sys; from apps.main import launch; "
    "launch(service_url=sys.argv[1], api_key=sys.argv[2], port=int(sys.argv[3]))"
)


@pytest.fixture(name="free_port")
def _free_port_fixture() -> int:
    return free_port()


@pytest.fixture(scope="session")
def make_service() -> Callable[[], ForeignService]:
    """Makes services that do not run yet."""
    return lambda: ForeignService(free_port())


@pytest.fixture
def foreign_service() -> Iterator[ForeignService]:
    """A running service."""
    service = ForeignService(free_port())
    with service.running():
        yield service


@pytest.fixture(scope="session")
def launch() -> Callable[[ForeignService, int], subprocess.Popen[str]]:
    """Starts the pages as the command starts them."""

    def start(service: ForeignService, port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", LAUNCH, service.url, service.api_key, str(port)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="session")
def served(
    make_service: Callable[[], ForeignService],
    launch: Callable[[ForeignService, int], subprocess.Popen[str]],
) -> Iterator[tuple[ForeignService, str]]:
    """The pages for all tests of the room, with the service that they ask."""
    service, port = make_service(), make_service().port
    process = launch(service, port)
    url = f"http://127.0.0.1:{port}/"
    wait_until(lambda: process.poll() is not None or answers(url), timeout_s=60)
    assert process.stderr is not None
    assert process.poll() is None, process.stderr.read()
    yield service, url
    process.send_signal(signal.SIGINT)
    process.wait(timeout=15)
    process.stderr.close()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser; no longer than a module, for its event loop is in the way of others."""
    with start_browser() as started:
        yield started


@pytest.fixture
def visit(browser: Any, served: tuple[ForeignService, str]) -> Iterator[Callable[..., Visit]]:
    """Opens a page as a person would; afterwards nothing must have gone wrong in the browser."""
    visits: list[Visit] = []

    def go(page: str = "", *, width: int = 1280, height: int = 900) -> Visit:
        visits.append(Visit(browser, served[1] + page, width, height))
        return visits[-1]

    yield go
    for one in visits:
        one.close()


@pytest.fixture
def service(served: tuple[ForeignService, str]) -> Iterator[ForeignService]:
    """The service that the pages ask, not running yet; what a test changes is undone."""
    yield served[0]
    served[0].reset()
