"""Errors of the HTTP interface, in OpenAI's shape: ``{"error": {message, type, param, code}}``.

| status | type                  | when                                                   |
|--------|-----------------------|--------------------------------------------------------|
| 400    | invalid_request_error | malformed JSON, a wrong or unsupported field           |
| 401    | authentication_error  | no key or a wrong one                                  |
| 403    | permission_error      | the key lacks a scope, or may not ask the model        |
| 404    | not_found_error       | no such route or model                                 |
| 405    | invalid_request_error | a route asked with the wrong method                    |
| 408    | timeout_error         | not answered within the service's deadline             |
| 409    | invalid_request_error | not now: a training runs, a batch reads or has ended   |
| 413    | invalid_request_error | body too long                                          |
| 415    | invalid_request_error | body compressed                                        |
| 424    | invalid_request_error | the model has another task than the route              |
| 429    | rate_limit_error      | queue full, or a key beyond its limits; Retry-After    |
|        |                       | says when to come again                                |
| 500    | server_error          | our fault; the log has the request id                  |
| 503    | server_error          | not ready                                              |

Under ``/v2`` the statuses are the same, and the shape is that of the Open Inference Protocol,
``{"error": message}``: its clients show what stands there as a text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from serve.outcomes import QueueFullError

__all__ = ["ApiError", "error_body", "explain_problem", "explain_validation", "queue_full"]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class ApiError(Exception):
    """A reply other than success; what it says is shown to the client."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``param`` names the field of the request that is at fault."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def located_message(self) -> str:
        """The message for a shape without ``param``: it names the field by itself."""
        if self.param is None or self.param in self.message:
            return self.message
        return f"{self.param}: {self.message}"

    def tree(self) -> dict[str, str | None]:
        """What stands under ``error``."""
        return {
            "message": self.message,
            "type": _TYPES.get(self.status, "invalid_request_error"),
            "param": self.param,
            "code": self.code,
        }


def queue_full(error: QueueFullError) -> ApiError:
    """A full queue as a 429 that says when to come again."""
    retry_after = {"retry-after": str(error.retry_after_s)}
    return ApiError(429, str(error), code="queue_full", headers=retry_after)


def error_body(error: ApiError, path: str = "") -> bytes:
    """The JSON of a reply to a request for ``path``."""
    is_inference_protocol = path == "/v2" or path.startswith("/v2/")
    shown = error.located_message if is_inference_protocol else error.tree()
    return json.dumps({"error": shown}, ensure_ascii=False).encode()


def explain_validation(error: ValidationError) -> ApiError:
    """A problem of a body as a 400, with the path to the field and the value.

    Where a field takes a text or a list, both alternatives complain; the one that got further
    knows better.
    """
    problems = error.errors(include_url=False)
    found = [item for item in problems if not item["type"].endswith("_type")] or problems
    return explain_problem(max(found, key=lambda item: len(item["loc"])))


def explain_problem(problem: Mapping[str, Any]) -> ApiError:
    """One of pydantic's problems as a 400."""
    param = ".".join(str(part) for part in _location(problem["loc"])) or None
    if problem["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {problem['msg']}.", code="invalid_json")
    if problem["type"] == "extra_forbidden":
        return ApiError(
            400,
            f"'{param}' is not supported by this service. Leave it out.",
            code="unsupported_parameter",
            param=param,
        )
    value = repr(problem.get("input"))
    shown = value if len(value) <= 80 else value[:77] + "..."
    return ApiError(
        400,
        f"{param or 'the body'}: {problem['msg']} (got {shown}).",
        code="invalid_value",
        param=param,
    )


def _location(parts: Sequence[Any]) -> list[Any]:
    """The path without the names of the alternatives that pydantic puts into it."""
    return [part for part in parts if isinstance(part, int) or part.isidentifier()]
