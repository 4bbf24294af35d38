"""Servers that a test writes; see `tests.apps.client`."""

from tests.apps.client.conftest import _no_key_of_the_environment, serve_raw

__all__ = ["_no_key_of_the_environment", "serve_raw"]
