"""One inference request, from its bytes to its reply; nothing here knows paths."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Response
from pydantic import BaseModel
from starlette.datastructures import Headers

from ray_sft.core import ServeError
from ray_sft.tasks import Row
from serve.endpoints.inference_protocol.adapters import Adapter
from serve.endpoints.inference_protocol.generation import (
    generate,
    prompts_of,
    read_parameters,
    requests_of,
)
from serve.endpoints.inference_protocol.message import (
    read_inputs,
    read_message,
    wanted_outputs,
    write_message,
)
from serve.endpoints.inference_protocol.schema import InferRequest
from serve.endpoints.inference_protocol.tensors import TextTensor, malformed
from serve.endpoints.texts import answer_rows, check_count, check_sizes, timing_headers, usage_of
from serve.errors import ApiError
from serve.metrics import ServiceMetrics
from serve.models import Encoder, Generator

__all__ = ["Inference"]

_BINARY_OUTPUT = "binary_data_output"


@dataclass(frozen=True, slots=True)
class _Found:
    """What a model says to the rows of a request."""

    responses: list[BaseModel]
    num_tokens: dict[str, int]
    """Read and written."""
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Inference:
    """A model that is asked in tensors."""

    name: str
    version: str
    """The fingerprint of its bundle."""
    versions: tuple[str, ...]
    """Those that may be asked for by name."""
    adapter: Adapter[Any]
    metrics: ServiceMetrics
    max_inputs: int
    """Rows of one request."""
    max_tokens: int
    """Generated for one row."""

    async def reply(self, body: bytes, headers: Headers) -> Response:
        """The reply to a request.

        Raises:
            ApiError: the request cannot be answered.
        """
        query, binary = read_message(body, headers)
        in_binary, parameters = self._parameters(query)
        wanted = wanted_outputs(query, self.adapter.outputs, in_binary=in_binary)
        rows = self._rows(read_inputs(query, binary, self.adapter.inputs))
        model = self.adapter.model
        if isinstance(model, Generator):
            found = await self._generated(model, rows, parameters)
        else:
            found = await self._answered(model, rows, parameters)
        tree: dict[str, Any] = {"model_name": self.name, "model_version": self.version}
        if query.id is not None:
            tree["id"] = query.id
        tree["parameters"] = found.num_tokens
        values = self.adapter.values(rows, found.responses)
        return write_message(tree, wanted, values, found.headers)

    def _parameters(self, query: InferRequest) -> tuple[bool, dict[str, Any]]:
        """Whether outputs come in binary, and the parameters that are for the model."""
        if query.model_name is not None and query.model_name != self.name:
            raise ApiError(
                400,
                f"model_name is '{query.model_name[:80]}', and the path says '{self.name}'. Leave "
                "it out.",
                code="invalid_value",
                param="model_name",
            )
        parameters = dict(query.parameters)
        in_binary = parameters.pop(_BINARY_OUTPUT, False)
        if not isinstance(in_binary, bool):
            raise ApiError(
                400,
                f"parameters.{_BINARY_OUTPUT} is neither true nor false.",
                code="invalid_value",
                param=f"parameters.{_BINARY_OUTPUT}",
            )
        return in_binary, parameters

    def _rows(self, tensors: Mapping[str, TextTensor]) -> list[Row]:
        first = self.adapter.row_input
        num_rows = len(tensors[first].values)
        if not num_rows:
            raise malformed("it has no element", first)
        check_count(num_rows, part=f"inputs.{first}", max_inputs=self.max_inputs)
        for name, tensor in tensors.items():
            check_sizes(tensor.values, self.adapter.model, partial(_place, name))
        return self.adapter.rows(tensors)

    async def _answered(
        self, model: Encoder, rows: Sequence[Row], parameters: Mapping[str, Any]
    ) -> _Found:
        if parameters:
            name = next(iter(parameters))
            raise ApiError(
                400,
                f"'parameters.{name[:40]}' is not supported for a {model.task.kind} model. Leave "
                "it out.",
                code="unsupported_parameter",
                param="parameters",
            )
        answers = await answer_rows(rows, model, partial(_place, self.adapter.row_input))
        responses = []
        for place, answer in enumerate(answers):
            if isinstance(answer, ServeError):  # a tensor has no place for what is missing
                where = _place(self.adapter.row_input, place)
                raise ApiError(500, str(answer), code="item_failed", param=where)
            responses.append(answer.response)
        num_tokens = {"prompt_tokens": usage_of(answers).prompt_tokens}
        return _Found(responses, num_tokens, timing_headers(answers))

    async def _generated(
        self, model: Generator, rows: Sequence[Row], parameters: Mapping[str, Any]
    ) -> _Found:
        options = read_parameters(parameters)
        prompts = await asyncio.to_thread(prompts_of, rows, model)
        requests = requests_of(prompts, options, model, max_tokens=self.max_tokens)
        replies, headers = await generate(self.name, model, requests, metrics=self.metrics)
        num_tokens = {
            "prompt_tokens": sum(len(prompt) for prompt in prompts),
            "completion_tokens": sum(reply.num_tokens for reply in replies),
        }
        return _Found([*replies], num_tokens, headers)


def _place(name: str, index: int) -> str:
    return f"inputs.{name}.{index}"
