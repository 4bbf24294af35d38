"""What of the applications a service's arguments ask for."""

from contextlib import AsyncExitStack
from typing import Protocol

from fastapi import APIRouter

from serve.args import ServiceArgs
from serve.models import Models

__all__ = ["Applications"]


class _Application(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Applications:
    """What of assistant, monitor and recommendation the service's arguments ask for."""

    def __init__(self, args: ServiceArgs, models: Models) -> None:
        """Makes them; no model is asked before `open`.

        Raises:
            ServeError: the arguments name a model that the service does not have.
        """
        self.routers: list[APIRouter] = []
        self._applications: list[_Application] = []
        self._opened = AsyncExitStack()
        # imported where they are asked for: LanceDB and LightGBM take two seconds and 100 MB
        if args.assistant is not None:
            from serve.applications.assistant import make_assistant

            self._add(*make_assistant(args.assistant, models))
        if args.monitor is not None:
            from serve.applications.monitor import make_monitor

            self._add(*make_monitor(args.monitor, models))
        if args.recommend is not None:
            from serve.applications.recommend import make_recommender

            self._add(*make_recommender(args.recommend, models))

    def _add(self, application: _Application, router: APIRouter) -> None:
        self.routers.append(router)
        self._applications.append(application)

    async def open(self) -> None:
        """Opens every one; where one fails, those before it are closed again.

        Raises:
            ServeError: an application's data cannot be used.
        """
        async with AsyncExitStack() as stack:
            for application in self._applications:
                await application.open()
                stack.push_async_callback(application.close)
            self._opened = stack.pop_all()

    async def close(self) -> None:
        """Closes them in the reverse order."""
        await self._opened.aclose()
