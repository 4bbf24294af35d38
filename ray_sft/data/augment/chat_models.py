"""Chat models that answer prompts many at a time: a bundle here, or an endpoint elsewhere."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ray_sft.bundle import Bundle
from ray_sft.core import DataError, reason_of
from ray_sft.data.augment.ledger import Ledger, key_of
from ray_sft.inference import GenerationRequest, GenerationStream, open_engine
from ray_sft.tasks.chat import Message, encode_prompt

__all__ = ["BundleChat", "EndpointChat", "Order"]

_NUM_SLOTS = 8
_MOST_QUEUED = 1 << 16
_MILLION = 1_000_000
_SPARE_TOKENS = 64
"""Of what a chat template puts around a prompt."""


@dataclass(frozen=True, slots=True)
class Order:
    """A prompt, and the seed of its answer."""

    prompt: str
    seed: int


class BundleChat:
    """A decoder bundle in ONNX format, on one thread of this process."""

    def __init__(self, bundle: Bundle) -> None:
        """Loads it.

        Raises:
            BundleError: the bundle holds no decoder graph.
        """
        self._engine = open_engine(
            bundle, num_slots=_NUM_SLOTS, max_queued=_MOST_QUEUED, spinning=False
        )

    def answer(self, orders: Sequence[Order], *, temperature: float, max_tokens: int) -> list[str]:
        """The answers; empty where one is cut off, or its prompt is longer than the model takes."""
        streams = [self._submit(order, temperature, max_tokens) for order in orders]
        return ["" if stream is None else _whole(stream) for stream in streams]

    def _submit(self, order: Order, temperature: float, max_tokens: int) -> GenerationStream | None:
        messages = [Message(role="user", content=order.prompt)]
        ids = tuple(encode_prompt(messages, self._engine.processor))
        request = GenerationRequest(ids, max_tokens, temperature=temperature, seed=order.seed)
        try:
            return self._engine.submit(request)
        except DataError:  # too long
            return None


def _whole(stream: GenerationStream) -> str:
    chunks = list(stream)
    is_whole = bool(chunks) and chunks[-1].finish_reason == "stop"
    return "".join(chunk.text for chunk in chunks) if is_whole else ""


class EndpointChat:
    """A model behind an OpenAI-compatible address; every answer is asked for once and kept."""

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        key: str,
        temperature: float,
        max_tokens: int,
        concurrency: int,
        retries: int,
        time_limit_s: float,
        ledger: Ledger,
        prices: tuple[float, float],
    ) -> None:
        """``prices`` are those of a million tokens that are read and written."""
        from openai import OpenAI  # an extra, and half a second

        self._client = OpenAI(
            base_url=endpoint, api_key=key or "none", max_retries=retries, timeout=time_limit_s
        )
        self._endpoint = endpoint
        self._model = model
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._concurrency = concurrency
        self._ledger = ledger
        self._prices = prices

    def answer(self, orders: Sequence[Order]) -> list[str]:
        """The answers; empty where one is cut off.

        Raises:
            DataError: the endpoint cannot be reached or refuses, or the ledger has no more to
                spend.
        """
        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(self._answer, orders))

    def _answer(self, order: Order) -> str:
        from openai import OpenAIError

        settings = (self._temperature, self._max_tokens)
        key = key_of([self._endpoint, self._model, *settings, order.prompt, order.seed])
        known = self._ledger.find(key, self._cost(self._most_read(order), self._max_tokens))
        if known is not None:
            return known
        try:
            found = self._client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": order.prompt}],
                temperature=self._temperature,
                max_tokens=self._max_tokens,
                seed=order.seed,
            )
        except OpenAIError as error:
            self._ledger.give_up(key)
            raise DataError(self._refused(error)) from None
        answer, cost = self._read(found, order)
        self._ledger.keep(key, answer, cost)
        return answer

    def _read(self, found: Any, order: Order) -> tuple[str, float]:
        usage = found.usage
        num_read = usage.prompt_tokens if usage else self._most_read(order)
        num_written = usage.completion_tokens if usage else self._max_tokens
        cost = self._cost(num_read, num_written)
        if not found.choices or found.choices[0].finish_reason == "length":
            return "", cost
        return found.choices[0].message.content or "", cost

    def _most_read(self, order: Order) -> int:
        """No tokenizer makes more tokens of a text than it has bytes."""
        return len(order.prompt.encode()) + _SPARE_TOKENS

    def _cost(self, num_read: int, num_written: int) -> float:
        input_price, output_price = self._prices
        return (num_read * input_price + num_written * output_price) / _MILLION

    def _refused(self, error: Exception) -> str:
        return (
            f"augment: paraphrase.endpoint '{self._endpoint}' gave no answer: {reason_of(error)}. "
            "Check the address, the name of the model and the key; the answers so far are kept, "
            "so that a run begun again goes on from there."
        )
