"""Both flavours of the client, and servers that a test writes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.apps.client.flavour import FLAVOURS, Flavour
from tests.apps.client.raw_server import RawServer


@pytest.fixture(params=list(FLAVOURS))
def flavour(request: pytest.FixtureRequest) -> Flavour:
    return FLAVOURS[request.param]


@pytest.fixture
def serve_raw() -> Iterator[Callable[..., RawServer]]:
    """Starts servers that give the answers, and stops them at the end."""
    with ExitStack() as stack:

        def start(*answers: Any, port: int = 0) -> RawServer:
            return stack.enter_context(RawServer(answers, port).running())

        yield start


@pytest.fixture(autouse=True)
def _no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_SFT_API_KEY", raising=False)
