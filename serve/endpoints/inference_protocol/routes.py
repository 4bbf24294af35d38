"""`/v2/...`: the Open Inference Protocol (KServe's V2, Triton's HTTP interface).

Follows `specification/protocol/inference_rest.md` of kserve/open-inference-protocol, with Triton's
extensions for binary tensors and parameters. What a model reads and writes stands in its metadata.
"""

from typing import Any

from fastapi import APIRouter, Request, Response

from ray_sft import __version__
from serve.endpoints.inference_protocol.adapters import adapter_of
from serve.endpoints.inference_protocol.inference import Inference
from serve.endpoints.inference_protocol.schema import (
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from serve.endpoints.schema import request_body
from serve.errors import ApiError
from serve.metrics import ServiceMetrics
from serve.models import Models

__all__ = ["inference_protocol_router"]

_PLATFORMS = {"onnx": "onnxruntime_onnx", "torch": "pytorch_safetensors"}
_EXTENSIONS = ("binary_tensor_data", "parameters")
_LATEST = "1"
"""A version for clients that need a number: whatever bundle is served under the name."""
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
"""The description of a body with binary tensors behind its JSON object."""


class _Inferences:
    """The models of the service by what a path says."""

    def __init__(
        self, models: Models, metrics: ServiceMetrics, *, max_inputs: int, max_tokens: int
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._max_inputs = max_inputs
        self._max_tokens = max_tokens

    def find(self, name: str, version: str, *, is_asked: bool = False) -> Inference:
        """The model of a name in a version, "" for any; ``is_asked``: it may be a candidate.

        Raises:
            ApiError: 404 where there is none.
        """
        name, model = self._models.any(name)
        versions = self._models.versions(name)
        if version in versions:
            model = versions[version]
        elif version not in ("", _LATEST):
            raise ApiError(
                404,
                f"model '{name}' has no version '{version[:80]}'. It has {_LATEST}, "
                f"{', '.join(versions)}.",
                code="version_not_found",
            )
        elif is_asked:
            name, model = self._models.asked(name)
        return Inference(
            name=name,
            version=next(one for one in versions if versions[one].bundle is model.bundle),
            versions=(_LATEST, *versions),
            adapter=adapter_of(model),
            metrics=self._metrics,
            max_inputs=self._max_inputs,
            max_tokens=self._max_tokens,
        )


def inference_protocol_router(
    models: Models, metrics: ServiceMetrics, *, max_inputs: int, max_tokens: int
) -> APIRouter:
    """The routes, asking ``models``; at most ``max_tokens`` are generated for one row."""
    router = APIRouter(tags=["inference protocol"])
    inferences = _Inferences(models, metrics, max_inputs=max_inputs, max_tokens=max_tokens)

    @router.get("/v2", summary="Describe the server")
    async def describe_server() -> ServerMetadata:
        """Its name, version and the extensions of the protocol that it knows."""
        return ServerMetadata(name="ray-sft", version=__version__, extensions=[*_EXTENSIONS])

    @router.get("/v2/health/live", summary="Is the server alive?")
    async def live() -> ServerLive:
        """Answers as long as the event loop turns, as /healthz."""
        return ServerLive(live=True)

    @router.get("/v2/health/ready", summary="Would every model take a request?")
    async def ready() -> ServerReady:
        """200 where every model is loaded and no queue is full, else 503, as /readyz."""
        _check_not_full(models.full)
        return ServerReady(ready=True)

    # those with a version first: the name of a model may have slashes
    @router.get("/v2/models/{model:path}/versions/{version}/ready", summary="Ask for readiness")
    async def version_ready(model: str, version: str) -> ModelReady:
        """200 where the model has this version and its queue is not full, else 404 or 503."""
        inference = inferences.find(model, version)
        _check_not_full([name for name in models.full if name == inference.name])
        return ModelReady(name=inference.name, ready=True)

    @router.get("/v2/models/{model:path}/ready", summary="Ask for readiness")
    async def model_ready(model: str) -> ModelReady:
        """200 where the model exists and its queue is not full, else 404 or 503."""
        return await version_ready(model, "")

    @router.get("/v2/models/{model:path}/versions/{version}", summary="Describe a model")
    async def describe_version(model: str, version: str) -> ModelMetadata:
        """The tensors that this version of a model reads and writes."""
        return _metadata(inferences.find(model, version))

    @router.get("/v2/models/{model:path}", summary="Describe a model")
    async def describe_model(model: str) -> ModelMetadata:
        """The tensors that a model reads and writes."""
        return _metadata(inferences.find(model, ""))

    @router.post(
        "/v2/models/{model:path}/versions/{version}/infer",
        response_model=InferResponse,
        responses={200: {"content": _BINARY}},
        openapi_extra=_body(),
        summary="Ask a model in tensors",
    )
    async def infer_version(model: str, version: str, request: Request) -> Response:
        """The outputs of this version of a model, in JSON or in binary."""
        inference = inferences.find(model, version, is_asked=True)
        return await inference.reply(await request.body(), request.headers)

    @router.post(
        "/v2/models/{model:path}/infer",
        response_model=InferResponse,
        responses={200: {"content": _BINARY}},
        openapi_extra=_body(),
        summary="Ask a model in tensors",
    )
    async def infer(model: str, request: Request) -> Response:
        """The outputs of a model, in JSON or in binary."""
        return await infer_version(model, "", request)

    return router


def _check_not_full(full: list[str]) -> None:
    if full:
        raise ApiError(503, f"queue full: {', '.join(full)}.", code="not_ready")


def _metadata(inference: Inference) -> ModelMetadata:
    adapter = inference.adapter
    model = adapter.model
    return ModelMetadata(
        name=inference.name,
        versions=list(inference.versions),
        platform=_PLATFORMS[model.bundle.manifest.format],
        inputs=[TensorMetadata(**spec.tree()) for spec in adapter.inputs],
        outputs=[TensorMetadata(**spec.tree()) for spec in adapter.described_outputs()],
        parameters={
            "task": model.task.kind,
            "max_length": model.max_length,
            "max_rows": inference.max_inputs,
            **adapter.parameters,
        },
    )


def _body() -> dict[str, Any]:
    """The description of a request, in JSON and with binary tensors behind it."""
    described = request_body(InferRequest)
    described["requestBody"]["content"] |= _BINARY
    return described
