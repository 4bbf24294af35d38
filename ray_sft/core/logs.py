"""Logging for commands: everything shown is also written to the run folder."""

import logging
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

__all__ = ["configure_logging", "log_to_file"]

_NOISY = ("ray", "deepspeed", "DeepSpeed", "torch.distributed", "httpx", "onnxscript", "onnx_ir")


def configure_logging(console: Console, *, verbose: bool = False) -> None:
    """Routes our records to ``console``; libraries speak from WARNING up."""
    handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    for name in ("ray_sft", "serve", "cluster"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def log_to_file(path: Path) -> logging.Handler:
    """Adds a file handler for every record; the caller removes it from the root logger."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    return handler
