"""`POST /v1/score` and `POST /v1/rerank`: how well candidates fit a history, or texts a query.

Both ask a ranking model, which reads a history and one candidate at a time. A query is a history
of one text.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ray_sft.core import ServeError
from ray_sft.tasks.ranking import RankingResponse
from serve.endpoints.schema import request_body
from serve.endpoints.texts import (
    Text,
    Usage,
    answer_rows,
    check_count,
    check_sizes,
    timing_headers,
    usage_of,
)
from serve.errors import ApiError, explain_validation
from serve.models import Encoder, Models
from serve.outcomes import Answer

__all__ = [
    "MAX_HISTORY",
    "RerankRequest",
    "RerankResponse",
    "ScoreRequest",
    "ScoreResponse",
    "rank_router",
]

MAX_HISTORY = 512
"""Texts of a history; the task reads the latest of them."""


class ScoreRequest(BaseModel):
    """Candidates for somebody with a history."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    history: Annotated[list[Text], Field(max_length=MAX_HISTORY)] = []
    """What somebody took to before, oldest first."""
    candidates: Annotated[list[Text], Field(min_length=1)]
    """What is on offer."""
    model: str | None = None
    """Name of the model; may be left out where the service has one for this route."""


class CandidateScore(BaseModel):
    """The probability that a candidate is taken."""

    object: Literal["score"] = "score"
    index: int
    score: float


class ScoreResponse(BaseModel):
    """One score per candidate, in the order of the request."""

    object: Literal["list"] = "list"
    model: str
    data: list[CandidateScore]
    usage: Usage


class RerankRequest(BaseModel):
    """Documents to order by how well they fit a query."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    query: Text
    """What the documents should fit."""
    documents: Annotated[list[Text], Field(min_length=1)]
    """What to order."""
    top_n: int | None = Field(default=None, ge=1)
    """How many to return; all of them when left out."""
    return_documents: bool = False
    """Whether the documents' texts are sent back."""
    model: str | None = None
    """Name of the model; may be left out where the service has one for this route."""


class RankedDocument(BaseModel):
    """A document and how well it fits."""

    index: int
    relevance_score: float
    document: str | None = None


class RerankResponse(BaseModel):
    """Documents, the best first."""

    model: str
    results: list[RankedDocument]
    usage: Usage


def rank_router(models: Models, *, max_inputs: int) -> APIRouter:
    """The routes, asking ``models``."""
    router = APIRouter(tags=["ranking"])

    @router.post(
        "/v1/score",
        response_model=ScoreResponse,
        openapi_extra=request_body(ScoreRequest),
        summary="Score candidates for a history",
    )
    async def score(request: Request) -> Response:
        """The probability of a click, a like or a purchase, for each candidate."""
        try:
            query = ScoreRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.ranker(query.model, "/v1/score")
        answers = await _ask(
            query.history, query.candidates, model, part="candidates", max_inputs=max_inputs
        )
        data = [CandidateScore(index=i, score=score) for i, score in enumerate(_scores(answers))]
        response = ScoreResponse(model=name, data=data, usage=usage_of(answers))
        return _reply(response, answers)

    @router.post(
        "/v1/rerank",
        response_model=RerankResponse,
        openapi_extra=request_body(RerankRequest),
        summary="Order documents by a query",
    )
    async def rerank(request: Request) -> Response:
        """Documents by how well they fit the query, the best first."""
        try:
            query = RerankRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.ranker(query.model, "/v1/rerank")
        answers = await _ask(
            [query.query], query.documents, model, part="documents", max_inputs=max_inputs
        )
        scores = _scores(answers)
        order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
        results = [
            RankedDocument(
                index=index,
                relevance_score=scores[index],
                document=query.documents[index] if query.return_documents else None,
            )
            for index in order[: query.top_n]
        ]
        return _reply(RerankResponse(model=name, results=results, usage=usage_of(answers)), answers)

    return router


async def _ask(
    history: Sequence[str],
    candidates: Sequence[str],
    model: Encoder,
    *,
    part: str,
    max_inputs: int,
) -> list[Answer | ServeError]:
    """The answer for each candidate; ``part`` names them in errors."""
    check_count(len(candidates), part=part, max_inputs=max_inputs)

    def where(index: int) -> str:
        return f"{part}.{index}"

    check_sizes(
        history, model, lambda index: f"history.{index}" if part != "documents" else "query"
    )
    check_sizes(candidates, model, where)
    rows = [{"history": list(history), "candidate": text} for text in candidates]
    return await answer_rows(rows, model, where)


def _scores(answers: Sequence[Answer | ServeError]) -> list[float]:
    """The score of every candidate; a ranking with a gap would mislead, so one failure fails it."""
    scores = []
    for answer in answers:
        if isinstance(answer, ServeError):
            raise ApiError(500, str(answer), code="item_failed")
        assert isinstance(answer.response, RankingResponse)
        scores.append(answer.response.score)
    return scores


def _reply(response: BaseModel, answers: Sequence[Answer | ServeError]) -> Response:
    return Response(
        response.model_dump_json(exclude_none=True),
        media_type="application/json",
        headers=timing_headers(answers),
    )
