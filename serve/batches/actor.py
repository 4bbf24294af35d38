"""Who runs batches within Ray: one named actor, which every replica of a service finds.

The first replica makes it; it ends with that replica, and the next look of another one makes a
new actor, which goes on where the former stopped. So nothing of it outlives the service, and a
new release's replicas have an actor with their settings once the last of the old ones has ended.
"""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from typing import Any

import ray
from ray.exceptions import RayError

from serve.args import ServiceArgs
from serve.background import in_background
from serve.batches.job import MakeApi
from serve.batches.ray_data import answer_by_ray_data
from serve.batches.runner import Runner
from serve.batches.worker import Worker

__all__ = ["ActorRunner"]

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 10.0


class _Batches:
    """The actor; its thread runs the batches, so that it answers at once."""

    def __init__(self, args: ServiceArgs, make_api: MakeApi) -> None:
        self._worker = Worker(Runner(args, make_api, answer_by_ray_data))

    def wake(self) -> None:
        self._worker.wake()


class ActorRunner:
    """A `serve.batches.worker.BatchRunner` in an actor."""

    def __init__(self, name: str, args: ServiceArgs, make_api: MakeApi) -> None:
        """``name`` is the same for all replicas of a service, and no other's."""
        self._name = name
        self._args = args
        self._make_api = make_api
        self._actor: Any = None

    async def wake(self) -> None:
        """As `BatchRunner.wake`; does not wait for an actor that starts."""
        try:
            await self._send()
        except RayError as error:
            self._lose(error)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Looks every 10 s whether the actor lives, within the context."""
        return in_background(self._look)

    async def _look(self) -> None:
        while True:
            try:
                await (await self._send())
            except RayError as error:
                self._lose(error)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _send(self) -> Any:
        """What the actor's reply can be awaited by."""
        if self._actor is None:
            self._actor = await asyncio.to_thread(self._find)
        return self._actor.wake.remote()

    def _lose(self, error: RayError) -> None:
        # not for being slow: an actor whose maker forgets it is ended by Ray
        logger.warning("the actor '%s' is gone (%r); another is made", self._name, error)
        self._actor = None

    def _find(self) -> Any:
        actor = ray.remote(_Batches)
        # no processor of its own: the work is done by the actors of Ray Data
        return actor.options(name=self._name, get_if_exists=True, num_cpus=0).remote(
            self._args, self._make_api
        )
