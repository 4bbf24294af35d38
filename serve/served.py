"""A model as requests meet it: a head behind a queue, or a generator behind its engine.

Where models come from stands in `serve.loading`, what names they have in `serve.models`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from pydantic import BaseModel

from ray_sft.bundle import Bundle
from ray_sft.bundle.manifest import MANIFEST
from ray_sft.core import ServeError
from ray_sft.inference import TextEngine
from ray_sft.tasks import Processor, Row, Task
from serve.bundle_metrics import BundleMetrics
from serve.outcomes import Answer, QueueFullError

__all__ = [
    "Encoder",
    "Generator",
    "JointResponse",
    "LoadedBundle",
    "Served",
    "TextQueue",
    "TranslatedText",
]


class JointResponse(BaseModel):
    """What the heads of a model say of one input, by task."""

    by_task: dict[str, Any]


class TranslatedText(BaseModel):
    """What a translation model has written."""

    text: str
    num_tokens: int
    is_whole: bool


class TextQueue(Protocol):
    """Where texts wait for a model: a `Batcher`, or one that is watched."""

    @property
    def num_queued(self) -> int:
        """How many texts wait."""

    @property
    def is_full(self) -> bool:
        """Whether the next text would be refused."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""

    def refusal(self) -> QueueFullError | None:
        """See `Batcher.refusal`."""

    async def submit(self, rows: Sequence[Row], *, cut: bool = False) -> list[Answer | ServeError]:
        """See `Batcher.submit`."""

    def close(self) -> None:
        """See `Batcher.close`."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """One head of a model behind a queue; heads that run together share the queue."""

    bundle: Bundle
    task_name: str
    task: Task
    batcher: TextQueue
    processor: Processor

    @property
    def max_length(self) -> int:
        """Tokens of the longest input; 0 where inputs are not counted in tokens."""
        max_length: int = getattr(self.task, "max_length", 0)
        return max_length

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return self.batcher.is_full

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self.batcher.is_idle

    async def submit(self, rows: Sequence[Row]) -> list[Answer | ServeError]:
        """See `Batcher.submit`; each answer is that of this head."""
        answers = await self.batcher.submit(rows)
        return [self._own(answer) for answer in answers]

    async def submit_joint(
        self, rows: Sequence[Row], *, cut: bool = False
    ) -> list[Mapping[str, BaseModel] | ServeError]:
        """What every head of the queue says of each row, by task, or what was wrong.

        ``cut`` as for `Batcher.submit`.
        """
        return [
            answer if isinstance(answer, ServeError) else self._every(answer.response)
            for answer in await self.batcher.submit(rows, cut=cut)
        ]

    def close(self) -> None:
        """Ends its thread; closing again does nothing."""
        self.batcher.close()

    def _every(self, response: BaseModel) -> Mapping[str, BaseModel]:
        if isinstance(response, JointResponse):
            return response.by_task
        return {self.task_name: response}

    def _own(self, answer: Answer | ServeError) -> Answer | ServeError:
        if isinstance(answer, Answer) and isinstance(answer.response, JointResponse):
            response: BaseModel = answer.response.by_task[self.task_name]
            return Answer(response, answer.num_tokens, answer.timing)
        return answer


@dataclass(frozen=True, slots=True)
class Generator:
    """A model that `/v1/chat/completions` asks."""

    bundle: Bundle
    task_name: str
    task: Task
    engine: TextEngine
    max_queued: int

    @property
    def processor(self) -> Processor:
        """The tokenizer."""
        return self.engine.processor

    @property
    def max_length(self) -> int:
        """Tokens of prompt and reply together."""
        return self.engine.max_length

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return self.engine.num_queued >= self.max_queued

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self.engine.num_queued == self.engine.num_active == 0

    def close(self) -> None:
        """Ends its thread."""
        self.engine.close()


Served: TypeAlias = Encoder | Generator


@dataclass(frozen=True, slots=True, eq=False)
class LoadedBundle:
    """A bundle at work: a model for each of its tasks, by the name that requests use."""

    name: str
    path: str
    fingerprint: str
    """SHA-256 of the manifest that was loaded; the folder may hold another bundle by now."""
    bundle: Bundle
    models: Mapping[str, Served]
    metrics: BundleMetrics
    release: Callable[[], None]
    """Frees the weights."""
    samples: Mapping[str, Mapping[str, Any]]
    """A request with its answer by model name; the folder's may be another bundle's by now."""

    @property
    def is_idle(self) -> bool:
        """Whether none of its models has anything to do."""
        return all(model.is_idle for model in self.models.values())

    def is_the_one_of(self, path: str, fingerprint: str) -> bool:
        """Whether this is the bundle of ``fingerprint``; without one, what lies in ``path`` now."""
        if fingerprint:
            return self.fingerprint == fingerprint
        is_there = (self.bundle.path / MANIFEST).is_file()
        return self.path == path and (not is_there or self.bundle.fingerprint == self.fingerprint)

    def close(self) -> None:
        """Ends its threads and frees its weights, which nobody may use any more."""
        for model in self.models.values():
            model.close()
        self.metrics.forget()
        self.release()
