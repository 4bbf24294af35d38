"""One request on its way through the engine: what was read, drawn and told of it."""

from time import perf_counter
from typing import Literal

import numpy as np

from ray_sft.inference.generation.constraints import Matcher
from ray_sft.inference.generation.request import GenerationChunk, GenerationRequest, TokenScore
from ray_sft.inference.generation.sampling import (
    Penalties,
    check_finite,
    sample_token,
    score_token,
)
from ray_sft.inference.generation.stream import GenerationStream
from ray_sft.inference.generation.text_stream import TextStream
from ray_sft.tasks import Array, Processor

__all__ = ["Job"]


class Job:
    """A request, its reply so far and the stream that the reply goes into."""

    def __init__(
        self,
        request: GenerationRequest,
        processor: Processor,
        *,
        number: int,
        max_length: int,
        eos: frozenset[int],
        matcher: Matcher | None,
    ) -> None:
        """Nothing is read yet; jobs of lower ``number`` came before."""
        self.request = request
        self.number = number
        self.stream = GenerationStream()
        self.num_read = 0
        self.generated: list[int] = []
        self._limit = min(request.max_tokens, max_length - len(request.prompt_ids))
        self._eos = eos
        self._matcher = matcher
        self._text = TextStream(processor, stop=request.stop)
        self._rng = np.random.default_rng(request.seed)
        self._scores: list[TokenScore] = []
        self._penalties = Penalties(
            request.prompt_ids,
            repetition=request.repetition_penalty,
            presence=request.presence_penalty,
            frequency=request.frequency_penalty,
        )

    @property
    def is_reading(self) -> bool:
        """Whether tokens of the prompt are left."""
        return self.num_read < len(self.request.prompt_ids)

    def advance(self, logits: Array) -> bool:
        """Draws a token from ``logits`` (vocabulary,) and takes it; True: goes on.

        Raises:
            ServeError: the logits are damaged, or the constraint cannot be followed.
        """
        check_finite(logits)
        token = self._draw(logits)
        if token not in self._eos:
            self._penalties.add(token)
            if self._matcher is not None:
                self._matcher.advance(token)
            if self.request.top_scores is not None:
                self._scores.append(score_token(logits, token, num_top=self.request.top_scores))
        return self.take(token, is_complete=self._matcher is not None and self._matcher.is_complete)

    def take(self, token: int, *, is_complete: bool = False) -> bool:
        """Adds a drawn token to the reply and tells what it makes final; True: goes on.

        Nothing follows a token that makes the reply ``is_complete``.
        """
        self.generated.append(token)
        self.stream.last_token = perf_counter()
        self.stream.first_token = self.stream.first_token or self.stream.last_token
        is_eos = token in self._eos
        text = "" if is_eos else self._text.push(token)
        is_complete = is_complete or is_eos
        is_full = len(self.generated) >= self._limit
        if (is_complete or is_full) and not self._text.stopped:
            text += self._text.finish()
        if is_complete or self._text.stopped:
            self._tell(text, "stop")
        elif is_full:
            self._tell(text, "length")
        else:
            if text:
                self._tell(text, None)
            return True
        self.stream.close()
        return False

    def _draw(self, logits: Array) -> int:
        request = self.request
        if not self._penalties.are_neutral:
            logits = self._penalties.apply(logits)
        if self._matcher is not None:
            logits = self._matcher.mask(logits)
        return sample_token(
            logits,
            self._rng,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
        )

    def _tell(self, text: str, finish_reason: Literal["stop", "length"] | None) -> None:
        scores, self._scores = tuple(self._scores), []
        self.stream.put(GenerationChunk(text, len(self.generated), finish_reason, scores))
