"""The processes that a service starts, and their end.

Ray ends its own when it is stopped in peace. Stopped while it starts, it leaves agents behind for a
while; and a proxy outlives the Ray that started it when that dies.
"""

import logging
import os
from collections.abc import Collection
from pathlib import Path

import psutil

__all__ = ["children", "end_leftovers"]

logger = logging.getLogger(__name__)


def children() -> set[psutil.Process]:
    """Every process below this one."""
    return set(psutil.Process().children(recursive=True))


def end_leftovers(started: Collection[psutil.Process], folder: Path) -> None:
    """Waits for ``started`` and kills what stays, and all whose command names ``folder``."""
    _, alive = psutil.wait_procs(started, timeout=3)
    strays = {
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid != os.getpid()
        and any(str(folder) in part for part in process.info["cmdline"] or ())
    }
    found = strays | set(alive)
    for process in found:
        logger.debug("ending leftover process %d", process.pid)
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(found, timeout=10)
