"""Whether the models of a process still answer, asked by one of their own samples.

A process whose event loop turns may hold a model that hangs, fails or has lost its mind: the
sample goes through the same queue as a request, so all of it is tried. Ray takes a replica that
fails this three times away and starts another.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from ray_sft.core import ServeError
from ray_sft.inference import EngineBusy, GenerationRequest, sample_difference
from serve.models import Models
from serve.outcomes import Answer, QueueFullError, RefusedError
from serve.served import Encoder, Generator, Served, TranslatedText

__all__ = ["Probe"]

logger = logging.getLogger(__name__)


class Probe:
    """Asks every queue of ``models`` one sample, now and then."""

    def __init__(
        self, models: Models, *, interval_s: float, clock: Callable[[], float] = monotonic
    ) -> None:
        """At most once in ``interval_s`` seconds, unless the last time something was wrong.

        The models were checked when they were loaded, so the first time is an interval away.
        """
        self._models = models
        self._interval_s = interval_s
        self._clock = clock
        self._due = clock() + interval_s

    async def check(self) -> None:
        """Returns where all is well, or was a moment ago.

        Raises:
            ServeError: a model does not answer its sample as it did.
        """
        if self._clock() < self._due:
            return
        for name, model, sample in self._one_of_each_queue():
            try:
                await _ask(name, model, sample)
            except (QueueFullError, EngineBusy):
                continue  # busy is not ill
        self._due = self._clock() + self._interval_s

    def _one_of_each_queue(self) -> Iterator[tuple[str, Served, Mapping[str, Any] | None]]:
        seen: set[int] = set()
        for loaded in list(self._models.bundles.values()):
            for name, model in loaded.models.items():
                place = id(model.batcher if isinstance(model, Encoder) else model.engine)
                if place not in seen:
                    seen.add(place)
                    yield name, model, loaded.samples.get(name)


async def _ask(name: str, model: Served, sample: Mapping[str, Any] | None) -> None:
    if isinstance(model, Generator):
        await _ask_generator(name, model)
        return
    if sample is None:
        return
    (answer,) = await model.submit([sample["request"]])
    if isinstance(answer, RefusedError):
        return  # longer than requests may be, which the recording was not held to
    if not isinstance(answer, Answer):
        raise ServeError(f"model '{name}' fails on its own sample: {answer}")
    if isinstance(answer.response, TranslatedText):
        return  # what was recorded is how probable a translation is
    if difference := sample_difference(sample, answer.response):
        raise ServeError(f"model '{name}' answers its own sample differently: {difference}.")


async def _ask_generator(name: str, model: Generator) -> None:
    token = model.processor.eos_token_id or 0
    stream = model.engine.submit(GenerationRequest(prompt_ids=(token,), max_tokens=1))
    try:
        chunks = [chunk async for chunk in stream]
    finally:
        stream.cancel()
    if not chunks:
        raise ServeError(f"model '{name}' generates nothing.")
