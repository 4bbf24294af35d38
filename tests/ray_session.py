"""One Ray for the whole test session, started by the first test that asks for it."""

from collections.abc import Iterator

import pytest

from ray_sft.ray_session import start_ray


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of this process's own, with the settings that a run uses."""
    with start_ray():
        yield
