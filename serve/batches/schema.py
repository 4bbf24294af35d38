"""What goes in and out of the routes, in OpenAI's shapes."""

from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "ENDPOINTS",
    "Batch",
    "BatchError",
    "BatchErrors",
    "BatchList",
    "BatchRequest",
    "BatchStatus",
    "Endpoint",
    "FileDeleted",
    "FileList",
    "FileObject",
    "Purpose",
    "RequestCounts",
]

Purpose: TypeAlias = Literal["batch", "batch_output"]
BatchStatus: TypeAlias = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "cancelling", "cancelled"
]
Endpoint: TypeAlias = Literal[
    "/v1/classify",
    "/v1/entities",
    "/v1/embeddings",
    "/v1/translate",
    "/v1/rerank",
    "/v1/score",
    "/v1/completions",
    "/v1/chat/completions",
]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
"""Routes whose requests a batch may hold."""


class FileObject(BaseModel):
    """A file that was uploaded, or that a batch has written."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"


class FileList(BaseModel):
    """Files of the key, a page of them."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class RequestCounts(BaseModel):
    """How many requests there are, and how many were answered or refused so far."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchError(BaseModel):
    """Why a batch failed as a whole."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None
    """Of the input file; the first is 1."""


class BatchErrors(BaseModel):
    """The first errors of a batch."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class Batch(BaseModel):
    """A file of requests, and how far they are answered. Times are seconds since 1970."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: Endpoint
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: BatchStatus = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    metadata: dict[str, str] | None = None


class BatchList(BaseModel):
    """Batches of the key, a page of them."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


_Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
_Value = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00]*$")]


class BatchRequest(BaseModel):
    """What is to be answered."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    input_file_id: str = Field(max_length=64)
    """An uploaded file; each line is {"custom_id", "method": "POST", "url", "body"}."""
    endpoint: Endpoint
    """The route of every request in the file."""
    completion_window: Literal["24h"]
    """As OpenAI's clients send it. Batches run one after another and none is given up for its
    age."""
    metadata: Annotated[dict[_Name, _Value], Field(max_length=16)] | None = None
    """Any texts, shown with the batch."""
