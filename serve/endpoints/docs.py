"""`/docs`: the OpenAPI description as one page that needs no script and no other server."""

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

__all__ = ["docs_router"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
section { border-top: 1px solid #ccc } code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { background: #f6f6f6; padding: .75rem; overflow-x: auto } .verb { color: #06c }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd }
pre { background: #222 } .verb { color: #6bf } }
"""


def docs_router() -> APIRouter:
    """The page, made from the application that it is part of."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(_page(request.app.openapi()))

    return router


def _page(schema: dict[str, Any]) -> str:
    sections = [
        _section(verb, path, operation)
        for path, operations in schema["paths"].items()
        for verb, operation in operations.items()
    ]
    title, about = escape(schema["info"]["title"]), escape(schema["info"].get("description", ""))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1><p>{about}</p>"
        f'<p>Machine-readable: <a href="openapi.json">openapi.json</a></p>'
        f"{''.join(sections)}</body></html>"
    )


def _section(verb: str, path: str, operation: dict[str, Any]) -> str:
    about = f"{operation.get('summary', '')}. {operation.get('description', '')}"
    parts = [
        f'<section><h2><span class="verb">{verb.upper()}</span> <code>{escape(path)}</code></h2>',
        f"<p>{escape(about)}</p>",
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "schema" in body:
        text = json.dumps(body["schema"], indent=2, ensure_ascii=False)
        parts.append(f"<details open><summary>Body</summary><pre>{escape(text)}</pre></details>")
    parts.append("</section>")
    return "".join(parts)
