"""The OpenAPI description of a body that a route validates by itself."""

from typing import Any

from pydantic import BaseModel

__all__ = ["request_body"]


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """What goes into a route's ``openapi_extra``; nested models are written out in place."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": _inlined(schema, definitions)}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    return {name: _inlined(value, definitions) for name, value in node.items()}
