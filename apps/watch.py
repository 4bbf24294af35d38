"""What the service offers right now; one look serves every open page."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass

from apps.client import ServiceClient, ServiceError
from apps.replies import Model

__all__ = ["Offer", "ServiceWatch"]

_CLASSIFIERS = frozenset({"sequence_classification"})
_CHAT_MODELS = frozenset({"causal_lm", "causal_language_model"})


@dataclass(frozen=True, slots=True)
class Offer:
    """The models that a page can use; ``problem`` says why there are none."""

    classifier: str | None = None
    chat_model: str | None = None
    problem: ServiceError | None = None

    @property
    def is_available(self) -> bool:
        """Whether a question would be answered."""
        return self.problem is None

    @property
    def has_classifier(self) -> bool:
        """Whether questions are assigned a topic, as far as is known."""
        return self.classifier is not None or not self.is_available


class ServiceWatch:
    """Asks the service how it is, at most once in ``max_age_s`` however many pages want to know."""

    def __init__(self, client: ServiceClient, *, max_age_s: float = 2.0) -> None:
        """Watches the service of ``client``."""
        self._client = client
        self._max_age_s = max_age_s
        self._lock = asyncio.Lock()
        self._offer = Offer()
        self._seen_at = float("-inf")

    async def look(self) -> Offer:
        """The present state; never raises for a service that is away."""
        async with self._lock:
            if time.monotonic() - self._seen_at > self._max_age_s:
                self._offer = await self._ask()
                self._seen_at = time.monotonic()
            return self._offer

    def forget(self) -> None:
        """The next look asks again; for when a request has just failed."""
        self._seen_at = float("-inf")

    async def _ask(self) -> Offer:
        try:
            await self._client.check_ready()
            models = await self._client.models()
        except ServiceError as error:
            return Offer(problem=error)
        offer = Offer(
            classifier=_first(models, _CLASSIFIERS), chat_model=_first(models, _CHAT_MODELS)
        )
        if offer.classifier is None and offer.chat_model is None:
            served = ", ".join(f"{model.id} ({model.task})" for model in models) or "nothing"
            problem = ServiceError(
                f"The service offers {served}; this page needs a classifier or a chat model.",
                status=200,
            )
            return Offer(problem=problem)
        return offer


def _first(models: list[Model], tasks: Collection[str]) -> str | None:
    return next((model.id for model in models if model.task in tasks), None)
