"""Logs for machines: one JSON object a line, with the request that a line is about.

Only where asked for; else lines are as Ray writes them. Neither holds what was asked or answered,
unless `serve.prompt_log` is told to.
"""

import logging
import sys
from contextvars import ContextVar
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

from serve.caller import CALLER

__all__ = ["REQUEST_ID", "NamesRequest", "log_as_json"]

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered; the border sets it."""

_OURS = ("serve", "ray_sft")
_FORMAT = "{asctime}{levelname}{name}{message}"
_NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}


class NamesRequest(logging.Filter):
    """Adds the request, its key and its model to a line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`; every line passes."""
        if request_id := REQUEST_ID.get():
            record.request_id = request_id
        if caller := CALLER.get():
            record.key, record.model = caller.key.name, caller.model
        return True


def log_as_json(stream: TextIO = sys.stderr) -> None:
    """Writes what this project logs to ``stream`` as JSON, from now on."""
    formatter = JsonFormatter(
        _FORMAT, style="{", rename_fields=_NAMES, datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(NamesRequest())
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
