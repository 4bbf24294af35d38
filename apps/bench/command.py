"""The command ``ray-sft bench``: checks, loads, shows, writes."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvloop
from rich.console import Console

from apps.bench.load import Load
from apps.bench.plan import Plan
from apps.bench.preflight import check_service, try_request
from apps.bench.show import show_progress, show_summary
from apps.bench.summary import Summary, summarize
from apps.bench.wire import make_requests
from apps.client import ServiceError
from apps.client.address import check_key

__all__ = ["bench_service", "told"]


@contextmanager
def told() -> Iterator[None]:
    """Ends the program with a message where a user can mend what is wrong.

    Raises:
        SystemExit: for a ServiceError, ValueError or OSError within the context.
    """
    try:
        yield
    except (ServiceError, ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


def bench_service(
    plan: Plan,
    console: Console,
    *,
    key: str,
    json_path: Path | None = None,
    html_path: Path | None = None,
) -> Summary:
    """Loads the service and prints the figures, at last as one line of JSON.

    Raises:
        ServiceError: the service is away or refuses, or answered nothing.
        ValueError: the URL or the key is none.
        OSError: a file cannot be written; the figures have been printed by then.
    """
    check_service(plan, key=key)
    load = Load(plan, make_requests(plan, key=check_key(key)))
    uvloop.run(_run(load, console))
    summary = summarize(load)
    show_summary(summary, console)
    line = json.dumps(summary.tree(), ensure_ascii=False)
    console.print(line, soft_wrap=True, markup=False, highlight=False)
    if json_path is not None:
        json_path.write_text(line + "\n", encoding="utf-8")
    if html_path is not None:
        from apps.bench.page import render_page  # matplotlib takes a second

        html_path.write_text(render_page(summary, load), encoding="utf-8")
    if not summary.requests:
        raise ServiceError(_why_none(summary))
    return summary


def _why_none(summary: Summary) -> str:
    if summary.failed:
        return "the service answered none of the requests."
    return "no request was begun and answered after the warm-up. Give a longer --duration."


async def _run(load: Load, console: Console) -> None:
    await try_request(load.plan, load.requests[0])
    showing = asyncio.create_task(show_progress(load, console))
    try:
        await load.run()
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing
