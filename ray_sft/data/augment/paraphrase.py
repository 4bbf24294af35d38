"""Texts said anew by a chat model: a bundle of yours, or an OpenAI-compatible endpoint."""

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ray_sft.bundle import Bundle
from ray_sft.core import ConfigError
from ray_sft.data.augment.base import TextRewrites
from ray_sft.data.augment.chat_models import BundleChat, EndpointChat, Order
from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.ledger import Ledger
from ray_sft.data.augment.segments import has_letters, untouchables
from ray_sft.data.references import ModelReference, weights_of

__all__ = ["Paraphrase"]

_QUOTES = ('""', "''", "\u201c\u201d", "\u2018\u2019", "\u300c\u300d")
_HERE = ("localhost", "127.0.0.1", "::1")
_SEED_BITS = 31
"""Endpoints take seeds of 32 bits with a sign."""


class Paraphrase(TextRewrites):
    """Whole texts in other words of a chat model.

    An answer of an endpoint is asked for once and kept, so that a run that is repeated costs
    nothing and sees the same copies. A text stays where the model was cut off, says nothing, or
    loses an address, a mention or a ticker.
    """

    kind: Literal["paraphrase"] = "paraphrase"
    model: ModelReference = Field(min_length=1)
    """A bundle of the task causal_language_model in ONNX format, such as
    ``runs/NAME/bundles/int8``; or with ``endpoint``, the name of a model there."""
    endpoint: str = ""
    """Base address of an OpenAI-compatible service, such as ``http://localhost:8000/v1``; empty
    for a bundle, which runs here."""
    key_variable: str = Field(default="OPENAI_API_KEY", pattern=r"^\w+$")
    """Environment variable that holds the endpoint's key; recipes hold none."""
    instruction: str = (
        "Write the text below in other words. Keep its language, its meaning, its tone and about "
        "its length. Answer with the new text and nothing else."
    )
    """What the model is asked to do; the text follows."""
    temperature: float = Field(default=0.9, ge=0, le=2)
    """How freely words are drawn."""
    max_tokens: int = Field(default=256, ge=1, le=8192)
    """The longest answer in tokens."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """How many answers are awaited at a time, in each worker."""
    retries: int = Field(default=5, ge=0, le=20)
    """How often a request is repeated that the endpoint fails on or is too busy for; the waits
    between them grow, or are as long as the endpoint asks for."""
    time_limit_s: float = Field(default=120.0, gt=0)
    """How long an answer may take."""
    input_price: float | None = Field(default=None, ge=0)
    """What a million tokens of a prompt cost, in the currency of ``max_cost``; only an endpoint on
    this machine may do without."""
    output_price: float | None = Field(default=None, ge=0)
    """What a million tokens of an answer cost."""
    max_cost: float = Field(default=5.0, ge=0)
    """What all answers in the ``cache`` together may cost; a request that could exceed it is not
    sent, and the run ends."""
    cache: str = "paraphrases.db"
    """File of the answers; on a cluster, one that all machines see."""

    @field_validator("cache")
    @classmethod
    def _same_from_anywhere(cls, cache: str) -> str:
        """Workers run in other folders."""
        return str(Path(cache).expanduser().absolute())

    @model_validator(mode="after")
    def _endpoint_is_an_address(self) -> Self:
        if self.endpoint and urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise ValueError(f"endpoint '{self.endpoint}' is no address of http or https")
        return self

    def check(self) -> None:
        """See `Augmentation.check`."""
        if not self.endpoint:
            _check_bundle(self.model)
            return
        if find_spec("openai") is None:
            raise ConfigError(
                "augment: paraphrase.endpoint needs the package openai. Install ray-sft[endpoint]."
            )
        if urlsplit(self.endpoint).hostname in _HERE:
            return
        if self.input_price is None or self.output_price is None:
            raise ConfigError(
                "augment: paraphrase needs input_price and output_price, so that max_cost means "
                "something. Give 0 for an endpoint that costs nothing."
            )
        if self.key_variable not in os.environ:
            raise ConfigError(
                f"augment: paraphrase needs a key for '{self.endpoint}'. Put it into the "
                f"environment variable {self.key_variable}, or name another in key_variable."
            )

    def fingerprint(self) -> str:
        """See `Augmentation.fingerprint`; follows the weights of a bundle."""
        how = {"cache", "concurrency", "retries", "time_limit_s", "max_cost"}
        said = self.model_dump_json(exclude=how) + weights_of(self.model)
        return hashlib.sha256(said.encode()).hexdigest()

    def rewrite(self, texts: Sequence[str], rngs: Sequence[Draws]) -> list[str]:
        """See `TextRewrites.rewrite`.

        Raises:
            DataError: the endpoint cannot be reached or refuses, or the cost has reached its cap.
        """
        orders = [
            Order(f"{self.instruction}\n\n{text}", rng.below(1 << _SEED_BITS))
            for text, rng in zip(texts, rngs, strict=True)
        ]
        places = [number for number, text in enumerate(texts) if has_letters(text)]
        answers = self._answers([orders[place] for place in places])
        said = list(texts)
        for place, answer in zip(places, answers, strict=True):
            said[place] = _usable(texts[place], answer)
        return said

    def _answers(self, orders: Sequence[Order]) -> list[str]:
        if not self.endpoint:
            return _bundle_chat(self.model).answer(
                orders, temperature=self.temperature, max_tokens=self.max_tokens
            )
        key = os.environ.get(self.key_variable, "")
        return _endpoint_chat(self, key).answer(orders)


@lru_cache(maxsize=1)
def _bundle_chat(model: str) -> BundleChat:
    return BundleChat(Bundle.open(Path(model)))


@lru_cache(maxsize=2)
def _endpoint_chat(asked: Paraphrase, key: str) -> EndpointChat:
    return EndpointChat(
        asked.endpoint,
        asked.model,
        key=key,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
        concurrency=asked.concurrency,
        retries=asked.retries,
        time_limit_s=asked.time_limit_s,
        ledger=Ledger(Path(asked.cache), asked.max_cost),
        prices=(asked.input_price or 0.0, asked.output_price or 0.0),
    )


def _check_bundle(model: str) -> None:
    bundle = Bundle.open(Path(model))
    found = [task.kind for task in bundle.manifest.tasks.values()]
    if "causal_language_model" not in found or bundle.manifest.format != "onnx":
        kinds = ", ".join(found)
        raise ConfigError(
            f"augment: paraphrase needs a causal_language_model in ONNX format, and bundle "
            f"'{model}' is {kinds} in {bundle.manifest.format} format. Give the int8 or onnx "
            "bundle of a chat model, or set endpoint."
        )


def _usable(text: str, answer: str) -> str:
    """The answer without quotes that the text does not have; the text where it is of no use."""
    found = answer.strip()
    if len(found) > 1 and found[0] + found[-1] in _QUOTES and found[0] != text.strip()[:1]:
        found = found[1:-1].strip()
    is_whole = all(word in found for word in untouchables(text))
    return found if has_letters(found) and is_whole else text
