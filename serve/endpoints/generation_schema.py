"""What every request for generated text may hold: OpenAI's fields, and a few of vLLM's.

An option that is not listed is refused by name. A few that every client library can send are
taken with the one value that means "as usual".
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ray_sft.inference import Constraint, GenerationRequest

__all__ = [
    "MAX_CHOICES",
    "GenerationOptions",
    "ResponseFormat",
    "StreamOptions",
    "Strict",
    "StructuredOutputs",
]

MAX_CHOICES = 8
"""Replies to one prompt."""


class Strict(BaseModel):
    """A part of a request, which has no other fields than these."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class StreamOptions(Strict):
    """Options of a streamed reply."""

    include_usage: bool = False
    """Whether a last event with the token counts is sent."""


class JsonSchema(Strict):
    """A schema that a reply must fit."""

    name: str
    """Tells readers what it is; the model does not see it."""
    description: str | None = None
    """The same."""
    schema_: dict[str, Any] = Field(alias="schema")
    """The schema. What cannot be enforced is refused by name."""
    strict: bool | None = None
    """Replies always fit; false is taken too."""


class ResponseFormat(Strict):
    """What a reply must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    """With the type ``json_schema``."""

    @model_validator(mode="after")
    def _fits_together(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise PydanticCustomError(
                "schema_missing", "json_schema stands with the type json_schema and only there"
            )
        return self


class StructuredOutputs(Strict):
    """What a reply must look like, as vLLM spells it; give one of these."""

    json_: dict[str, Any] | None = Field(default=None, alias="json")
    """A JSON schema."""
    regex: str | None = None
    """An expression in Rust's spelling, which the whole reply matches."""
    choice: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    """The reply is one of these."""
    grammar: str | None = None
    """A context-free grammar in Lark's spelling."""

    @model_validator(mode="after")
    def _is_one(self) -> "StructuredOutputs":
        given = [self.json_, self.regex, self.choice, self.grammar]
        if sum(one is not None for one in given) != 1:
            raise PydanticCustomError(
                "one_constraint", "give one of json, regex, choice and grammar"
            )
        return self

    @property
    def constraint(self) -> Constraint:
        """The same for the engine."""
        if self.json_ is not None:
            return Constraint("json_schema", json.dumps(self.json_))
        if self.regex is not None:
            return Constraint("regex", self.regex)
        if self.choice is not None:
            return Constraint("choice", json.dumps(self.choice))
        return Constraint("lark", self.grammar or "")


class GenerationOptions(Strict):
    """How text is generated, whatever it goes on from."""

    model: str | None = None
    """Name of the model; may be left out where the service has one generator."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Replies to each prompt, drawn with seeds from ``seed`` on; default 1."""
    stream: bool = False
    """Whether the reply is sent as it is made, as server-sent events."""
    stream_options: StreamOptions | None = None
    """Only with ``stream``."""
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    """0, the default here (OpenAI's is 1), always takes the most probable token."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Draw from the fewest tokens whose probability reaches this; default 1."""
    top_k: int | None = Field(default=None, ge=0)
    """Draw from this many tokens; default 0: all. Not one of OpenAI's options."""
    repetition_penalty: float | None = Field(default=None, gt=0.0, le=2.0)
    """Above 1: tokens of prompt and reply become less probable. Not one of OpenAI's options."""
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    """Taken off the logit of every token that the reply has."""
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    """The same, times how often the reply has it."""
    seed: int | None = Field(default=None, ge=0, lt=1 << 62)
    """Equal requests of equal seed have equal replies; default 0."""
    stop: Annotated[str, Field(min_length=1)] | list[Annotated[str, Field(min_length=1)]] | None = (
        None
    )
    """The reply ends before the first of these, at most four."""
    structured_outputs: StructuredOutputs | None = None
    """What the reply must look like. Not one of OpenAI's options."""
    user: str | None = None
    """Taken since OpenAI's clients send it; nothing depends on it."""

    @model_validator(mode="before")
    @classmethod
    def _take_out_neutral_options(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        usual = cls.neutral()
        return {
            name: value
            for name, value in tree.items()
            if name not in usual or not any(_same(value, one) for one in usual[name])
        }

    @classmethod
    def neutral(cls) -> Mapping[str, tuple[Any, ...]]:
        """Options that are not supported, with the values that ask for nothing."""
        return {"logit_bias": (None, {})}

    @field_validator("stop")
    @classmethod
    def _at_most_four(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and len(stop) > 4:
            raise PydanticCustomError("too_many_stops", "at most four stop strings are supported")
        return stop

    @model_validator(mode="after")
    def _streams_or_not(self) -> "GenerationOptions":
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("no_stream", "stream_options needs stream: true")
        return self

    @property
    def constraint(self) -> Constraint | None:
        """What the reply must look like.

        A subclass may know other ways to ask for it.
        """
        outputs = self.structured_outputs
        return None if outputs is None else outputs.constraint

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def requests(
        self, prompt: list[int], *, max_tokens: int, top_scores: int | None, scope: str
    ) -> list[GenerationRequest]:
        """What the engine is asked, once for each choice."""
        first = self.seed or 0
        return [
            GenerationRequest(
                prompt_ids=tuple(prompt),
                max_tokens=max_tokens,
                temperature=self.temperature or 0.0,
                top_k=self.top_k or 0,
                top_p=1.0 if self.top_p is None else self.top_p,
                repetition_penalty=self.repetition_penalty or 1.0,
                presence_penalty=self.presence_penalty or 0.0,
                frequency_penalty=self.frequency_penalty or 0.0,
                seed=seed,
                stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
                constraint=self.constraint,
                top_scores=top_scores,
                scope=scope,
            )
            for seed in range(first, first + (self.n or 1))
        ]


def _same(value: Any, usual: Any) -> bool:
    return bool(value == usual) and isinstance(value, bool) == isinstance(usual, bool)
