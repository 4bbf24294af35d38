"""What an inference request of the Open Inference Protocol may hold, and what describes a model.

An option that is not listed is refused by name, those of Triton's extensions (shared memory,
sequences, classification) too: a reply that leaves one out would mean something else.
"""

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictBool

__all__ = [
    "InferRequest",
    "InferResponse",
    "ModelMetadata",
    "ModelReady",
    "Parameters",
    "RequestInput",
    "RequestOutput",
    "ResponseOutput",
    "ServerLive",
    "ServerMetadata",
    "ServerReady",
    "TensorMetadata",
]

_Size = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Parameters: TypeAlias = dict[str, str | int | float | bool]
"""What the protocol lets stand beside tensors."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class InputParameters(_Strict):
    """How an input is sent."""

    binary_data_size: _Size | None = None
    """Its bytes behind the JSON object, in place of ``data``."""


class RequestInput(_Strict):
    """A tensor to read."""

    name: str
    shape: list[_Size]
    datatype: str
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None
    """Its elements row by row, or in lists nested as the shape says."""


class OutputParameters(_Strict):
    """How an output is wanted."""

    binary_data: StrictBool | None = None
    """Whether it comes behind the JSON object, in binary."""


class RequestOutput(_Strict):
    """An output that is wanted."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferRequest(_Strict):
    """Inputs for a model."""

    inputs: list[RequestInput]
    """Those that the model's metadata name."""
    id: str | None = None
    """Sent back with the reply."""
    model_name: str | None = None
    """The same as in the path; may be left out."""
    parameters: dict[str, Any] = {}
    """``binary_data_output``, whether outputs come in binary where they do not say themselves; for
    a model that generates text also ``max_tokens``, ``temperature``, ``seed``, ``stop`` and so on,
    as in /v1/completions."""
    outputs: list[RequestOutput] | None = None
    """Those that are wanted; all of them when left out."""


class ResponseOutput(BaseModel):
    """A tensor that a model has written."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferResponse(BaseModel):
    """The outputs of a model."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model_name: str
    model_version: str
    """The fingerprint of the bundle that has answered."""
    id: str | None = None
    parameters: Parameters
    """``prompt_tokens``, the tokens that were read, and where text is written
    ``completion_tokens``."""
    outputs: list[ResponseOutput]


class TensorMetadata(BaseModel):
    """An input or output of a model."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    datatype: str
    shape: list[int]
    """-1 for a dimension of any size."""


class ModelMetadata(BaseModel):
    """What a model reads and writes."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    versions: list[str]
    """``1``, whatever is served, and the fingerprint of the bundle that is."""
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: Parameters
    """What tensors do not say, such as the ``labels`` of the columns of ``scores``, a list as
    JSON: the protocol has no lists here."""


class ModelReady(BaseModel):
    """Whether a model takes requests."""

    name: str
    ready: bool


class ServerLive(BaseModel):
    """That the server answers."""

    live: bool


class ServerReady(BaseModel):
    """That every model takes requests."""

    ready: bool


class ServerMetadata(BaseModel):
    """Which server this is."""

    name: str
    version: str
    extensions: list[str]
