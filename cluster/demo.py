"""The whole line on the samples: what the three pages need, the service, and a question to each."""

import json
import logging
import secrets
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cluster.children import Child, Children, interruptible
from cluster.filling import fill_applications
from cluster.questions import Answer, ask_everything, await_ready
from ray_sft.core import ServeError

__all__ = ["RECIPES", "run_demo", "service_arguments", "show_answers", "show_reports"]

logger = logging.getLogger(__name__)

RECIPES = {
    "customer_intents": ("train.epochs=2", "compress.budget={accuracy: -0.05}"),
    "customer_replies": ("train.epochs=2",),
    "market_opinion": (
        "train.epochs=1",
        "train.workers=1",
        "compress.budget={topic/accuracy: -0.05, sentiment/accuracy: -0.05}",
    ),
    "knowledge": ("train.workers=1",),
    "recommendation": ("train.epochs=1", "train.workers=1"),
}
"""What the demonstration runs, and how it shortens it to stay within minutes on two cores. What is
trained for so short is less sure of its answers, and changes more of them when it is quantized;
one worker starts faster than two."""

_RUN_WITHIN_S = 3600.0
_READY_WITHIN_S = 240.0


class _Stage(BaseModel):
    """What the table shows of a stage."""

    stage: str
    seconds: float
    size_bytes: int | None = None
    quality: dict[str, float] = {}
    speed: dict[str, float] = {}
    cached: bool = False


class _Report(BaseModel):
    name: str
    stages: list[_Stage]


def run_demo(*, check: bool, runs_dir: Path, port: int, app_port: int, console: Console) -> int:
    """Runs everything, shows it, and stays until Ctrl-C; with ``check`` it ends by itself.

    Returns 0; what fails is raised, after every process that was started is gone.

    Raises:
        ServeError: a port is taken, a step fails, or an endpoint does not answer.
    """
    for wanted in (port, app_port):
        _check_port(wanted)
    runs_dir = runs_dir.resolve()
    logs = runs_dir / "demo"
    logs.mkdir(parents=True, exist_ok=True)
    key = secrets.token_urlsafe(24)
    environment = {
        "RAY_SFT_API_KEYS": key,
        "RAY_SFT_API_KEY": key,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    began = time.monotonic()
    with interruptible(), Children(environment) as children:
        for recipe, overrides in RECIPES.items():
            console.print(Rule(recipe))
            command = _ray_sft("run", recipe, *overrides, "--runs-dir", str(runs_dir))
            children.start(f"'ray-sft run {recipe}'", command).wait(timeout_s=_RUN_WITHIN_S)
        console.print(Rule("service and page"))
        servers = _start_servers(children, runs_dir, logs, port=port, app_port=app_port)
        service_url, page_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{app_port}"
        for url in (f"{service_url}/readyz", page_url):
            await_ready(url, timeout_s=_READY_WITHIN_S, check=lambda: children.check_alive(servers))
        filled = fill_applications(service_url, api_key=key)
        show_answers(console, filled + ask_everything(service_url, page_url, api_key=key))
        show_reports(console, [runs_dir / recipe / "report.json" for recipe in RECIPES])
        console.print(f"done in {time.monotonic() - began:.0f} s")
        if not check:
            _show_urls(console, service_url, page_url, key, runs_dir)
            _stay(children, servers)
    return 0


def show_answers(console: Console, answers: Sequence[Answer]) -> None:
    """The table of answers."""
    table = Table(title="one question to every endpoint", title_justify="left", show_lines=True)
    for column in ("endpoint", "question", "answer"):
        table.add_column(column, overflow="fold")
    table.add_column("time", justify="right")
    for answer in answers:
        # as text: an answer is no markup
        cells = [Text(part) for part in (answer.endpoint, answer.question, answer.text)]
        table.add_row(*cells, f"{answer.seconds * 1e3:.0f} ms")
    console.print(table)


def show_reports(console: Console, paths: Sequence[Path]) -> None:
    """The table of stages of some runs.

    Raises:
        ServeError: a report is missing or damaged.
    """
    table = Table(title="what was run", title_justify="left", show_lines=True)
    for column in ("stage", "time", "size", "quality", "speed"):
        justify: Any = "right" if column in ("time", "size") else "left"
        table.add_column(column, justify=justify, overflow="fold")
    for path in paths:
        report = _read_report(path)
        for stage in report.stages:
            table.add_row(f"{report.name}\n  {stage.stage}", *_cells(stage))
    console.print(table)


def _cells(stage: _Stage) -> list[str]:
    size = f"{stage.size_bytes / 1e6:.1f} MB" if stage.size_bytes else ""
    took = f"{stage.seconds:.1f} s" if stage.seconds else ""  # a pass is timed with its stage
    took += "\n(earlier)" if took and stage.cached else ""
    quality = {
        name: v for name, v in stage.quality.items() if "num_" not in name and "[" not in name
    }
    return [took, size, _figures(quality), _figures(stage.speed)]


def _figures(figures: Mapping[str, float]) -> str:
    return "\n".join(f"{name} {value:.4g}" for name, value in figures.items())


def _read_report(path: Path) -> _Report:
    try:
        return _Report.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ServeError(f"report '{path}' cannot be read: {error}") from None


def _start_servers(
    children: Children, runs_dir: Path, logs: Path, *, port: int, app_port: int
) -> list[Child]:
    config = logs / "service.yaml"
    config.write_text(yaml.safe_dump(service_arguments(runs_dir), sort_keys=False))
    service = children.start(
        "the service",
        _ray_sft("serve", "--config", str(config), "--port", str(port)),
        log=logs / "service.log",
    )
    url = f"http://127.0.0.1:{port}"
    page = children.start(
        "the page",
        _ray_sft("app", "--service", url, "--port", str(app_port)),
        log=logs / "page.log",
    )
    return [service, page]


def service_arguments(runs_dir: Path) -> Any:
    """The packaged configuration, for the runs and the data of this demonstration."""
    spec = find_spec("serve")  # an import would load all of it
    assert spec is not None
    assert spec.origin is not None
    packaged = Path(spec.origin).parent / "configs" / "applications.yaml"
    return _moved(yaml.safe_load(packaged.read_text(encoding="utf-8")), runs_dir)


def _moved(tree: Any, runs_dir: Path) -> Any:
    """``tree`` with ``runs_dir`` for the folder ``runs`` in paths and in SQLite's URLs."""
    if isinstance(tree, dict):
        return {name: _moved(value, runs_dir) for name, value in tree.items()}
    if isinstance(tree, str) and tree.startswith(("runs/", "sqlite:///runs/")):
        return tree.replace("runs/", f"{runs_dir}/", 1)
    return tree


def _show_urls(console: Console, service_url: str, page_url: str, key: str, runs_dir: Path) -> None:
    lines = [
        f"pages     {page_url}",
        f"service   {service_url}  (docs at {service_url}/docs)",
        f"API key   {key}  (only for this demo)",
        f"reports   {', '.join(str(runs_dir / name / 'report.html') for name in RECIPES)}",
        "",
        f"curl {service_url}/v1/classify -H 'Authorization: Bearer {key}' "
        """-H 'Content-Type: application/json' -d '{"input": "Where is my parcel?"}'""",
        "",
        "Ctrl-C stops everything.",
    ]
    console.print(Text("\n".join(lines)), soft_wrap=True)


def _stay(children: Children, servers: Sequence[Child]) -> None:
    """Until Ctrl-C, or until one of the servers dies."""
    try:
        while True:
            children.check_alive(servers)
            time.sleep(0.5)
    except KeyboardInterrupt:
        logger.info("stopping the service and the page ...")


def _ray_sft(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ray_sft.cli", *arguments]


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServeError(
                f"port {port} is in use ({error.strerror}). Stop what holds it, or choose others "
                "with --port and --app-port."
            ) from None
