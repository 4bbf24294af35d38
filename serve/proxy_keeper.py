"""Brings the proxy back at once where it dies.

By default Ray looks after its HAProxy every 10 s and replaces the actor around it after three looks
in vain: the port is away for 27 s, and the first answers after it are 404, since the new actor has
no routes yet (seen with Ray 2.60). So a task within that actor looks after the process itself, and
starts another with the routes that the actor knows.
"""

import asyncio
import logging
import sys
import threading
from typing import Any

__all__ = ["ProxyKeeper", "watch_proxy"]

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.05
_ACTORS_EVERY_S = 10.0
"""A new actor is looked after by Ray alone until then, which takes 5 s to see that HAProxy died."""
_AGAIN_S = 1.0
_ACTOR_ANSWERS_WITHIN_S = 10.0
_TASK = "_ray_sft_watch"


class ProxyKeeper:
    """Has every proxy of this Ray watched while it is entered, those that Ray replaces too."""

    def __init__(self) -> None:
        """Watches nothing before it is entered."""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy-keeper", daemon=True)

    def __enter__(self) -> "ProxyKeeper":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join(timeout=2 * _ACTOR_ANSWERS_WITHIN_S)

    def _run(self) -> None:
        while not self._is_over.is_set():
            _watch_all()
            self._is_over.wait(_ACTORS_EVERY_S)


def _watch_all() -> None:
    import ray
    from ray import cloudpickle
    from ray.exceptions import RayError

    # by its name the actor would import this package, and with it 200 MB of libraries
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]
    try:
        for actor in _proxies():
            ray.get(actor.__ray_call__.remote(watch_proxy), timeout=_ACTOR_ANSWERS_WITHIN_S)
    except (RayError, ValueError) as error:  # it has just ended, or is about to begin
        logger.warning("a proxy is not watched yet: %s", error)


def _proxies() -> list[Any]:
    import ray
    from ray.serve._private.constants import SERVE_NAMESPACE, SERVE_PROXY_NAME
    from ray.util import list_named_actors

    names = [
        str(one["name"])
        for one in list_named_actors(all_namespaces=True)
        if one["namespace"] == SERVE_NAMESPACE and one["name"].startswith(SERVE_PROXY_NAME)
    ]
    # the fallback is Ray's own server in Python, whose process is the actor
    return [ray.get_actor(name, SERVE_NAMESPACE) for name in names if "fallback" not in name]


def watch_proxy(manager: Any) -> None:
    """Begins to look after the HAProxy of ``manager``, within whose process this runs.

    That is Ray's actor, whose event loop runs in another thread. Called again it changes nothing.
    """
    task = getattr(manager, _TASK, None)
    if task is None or task.done():
        task = asyncio.run_coroutine_threadsafe(_keep(manager), manager.event_loop)
        setattr(manager, _TASK, task)


async def _keep(manager: Any) -> None:
    proxy = manager._haproxy
    while True:
        process = await _ended(proxy)
        async with manager._reload_lock:
            if proxy._proc is not process:
                continue
            logger.warning("the proxy ended with status %s; starting another", process.returncode)
            try:
                await proxy.start()
            except (RuntimeError, OSError):
                logger.exception("the proxy does not start; trying again")
                await asyncio.sleep(_AGAIN_S)


async def _ended(proxy: Any) -> Any:
    """The process, once it is dead at two looks: at the first Ray may be stopping it itself."""
    suspect = None
    while True:
        process = proxy._proc
        is_dead = process is not None and process.returncode is not None
        if is_dead and process is suspect:
            return process
        suspect = process if is_dead else None
        await asyncio.sleep(_LOOK_EVERY_S)
