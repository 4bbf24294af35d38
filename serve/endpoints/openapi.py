"""The description of the whole interface: what FastAPI knows, the key, and what may go wrong.

Errors are made in one place for all routes, so they are described in one place, too.
"""

from collections.abc import Collection
from typing import Any

from fastapi import FastAPI

__all__ = ["DescribedApi"]

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "For people."},
                "type": {"type": "string", "description": "The kind of the status."},
                "param": {
                    "type": ["string", "null"],
                    "description": "The field of the request that is at fault.",
                },
                "code": {"type": ["string", "null"], "description": "For programs."},
            },
        }
    },
}
_PROTOCOL_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "For people."}},
}
_KEY = {"type": "http", "scheme": "bearer", "description": "An API key."}


class DescribedApi(FastAPI):
    """An application whose description is whole."""

    def __init__(self, *, public_paths: Collection[str], **options: Any) -> None:
        """``public_paths`` need no key; ``options`` are FastAPI's."""
        super().__init__(**options)
        self._public_paths = frozenset(public_paths)

    def openapi(self) -> dict[str, Any]:
        """See `FastAPI.openapi`."""
        if self.openapi_schema is None:
            schema = super().openapi()
            components = schema.setdefault("components", {})
            components["securitySchemes"] = {"key": _KEY}
            components.setdefault("schemas", {}).update(
                {"Error": _ERROR, "ProtocolError": _PROTOCOL_ERROR}
            )
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    self._complete(path, operation)
        return self.openapi_schema or {}

    def _complete(self, path: str, operation: dict[str, Any]) -> None:
        name = "ProtocolError" if path.startswith("/v2") else "Error"
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        responses = operation["responses"]
        responses.pop("422", None)  # ours are 400
        responses["4XX"] = {"description": "The request is refused, and why.", "content": content}
        responses["5XX"] = {"description": "The service could not answer.", "content": content}
        operation["security"] = [] if path in self._public_paths else [{"key": []}]
