"""What the service offers right now; one look serves every open page."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass

from apps.client import AsyncClient, ServiceError
from apps.replies.operation import Model

__all__ = ["Offer", "ServiceWatch"]

_CLASSIFIERS = frozenset({"sequence_classification"})
_CHAT_MODELS = frozenset({"causal_lm", "causal_language_model"})


@dataclass(frozen=True, slots=True)
class Offer:
    """What pages can use; ``problem`` says why there is nothing."""

    classifier: str | None = None
    chat_model: str | None = None
    has_assistant: bool = False
    has_monitor: bool = False
    has_recommender: bool = False
    problem: ServiceError | None = None

    @property
    def is_available(self) -> bool:
        """Whether a request would be answered."""
        return self.problem is None

    @property
    def has_conversation(self) -> bool:
        """Whether a question would be answered or at least recognised."""
        return self.has_assistant or self.chat_model is not None or self.classifier is not None

    @property
    def has_intents(self) -> bool:
        """Whether questions are assigned a topic, as far as is known."""
        return self.classifier is not None or self.has_assistant or not self.is_available

    @property
    def key(self) -> str:
        """Equal for offers between which a page need not change."""
        parts = (
            self.is_available,
            self.classifier,
            self.chat_model,
            self.has_assistant,
            self.has_monitor,
            self.has_recommender,
        )
        return repr(parts)


class ServiceWatch:
    """Asks the service how it is, at most once in ``max_age_s`` however many pages want to know."""

    def __init__(self, client: AsyncClient, *, max_age_s: float = 1.0) -> None:
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

    async def look_again(self) -> Offer:
        """The state at this moment; for requests that matter more than the look costs.

        Raises:
            ServiceError: the service is away or refuses.
        """
        self.forget()
        offer = await self.look()
        if offer.problem is not None:
            raise offer.problem
        return offer

    def forget(self) -> None:
        """The next look asks again; for when a request has just failed."""
        self._seen_at = float("-inf")

    async def _ask(self) -> Offer:
        try:
            await self._client.check_ready()
            models = await self._client.models()
            has_assistant, has_monitor, has_recommender = await asyncio.gather(
                self._client.assistant.is_offered(),
                self._client.monitor.is_offered(),
                self._client.recommend.is_offered(),
            )
        except ServiceError as error:
            return Offer(problem=error)
        offer = Offer(
            classifier=_first(models, _CLASSIFIERS),
            chat_model=_first(models, _CHAT_MODELS),
            has_assistant=has_assistant,
            has_monitor=has_monitor,
            has_recommender=has_recommender,
        )
        if offer.has_conversation or has_monitor or has_recommender:
            return offer
        served = ", ".join(f"{model.id} ({model.task})" for model in models) or "nothing"
        return Offer(
            problem=ServiceError(
                f"The service offers {served}; these pages need a classifier, a chat model, an "
                "assistant, a monitor or a recommender.",
                status=200,
            )
        )


def _first(models: list[Model], tasks: Collection[str]) -> str | None:
    return next((model.id for model in models if model.task in tasks), None)
