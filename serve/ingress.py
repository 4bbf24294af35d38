"""The application: one process holds every model, so a request takes one hop.

`create_app` is plain ASGI and needs no Ray; `serve.app` places it in a deployment.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from serve.applications import Applications
from serve.args import ServiceArgs
from serve.batches.batches import Batches
from serve.batches.upload import FORM_BYTES
from serve.batches.worker import BatchRunner, LocalRunner
from serve.border import Border, our_fault
from serve.endpoints import (
    batches_router,
    chat_router,
    classify_router,
    completions_router,
    docs_router,
    embeddings_router,
    entities_router,
    files_router,
    health_router,
    inference_protocol_router,
    models_router,
    rank_router,
    releases_router,
    tokenize_router,
    translate_router,
)
from serve.endpoints.files import FILES_PATH
from serve.endpoints.openapi import DescribedApi
from serve.endpoints.releases import Reports
from serve.errors import ApiError, error_body, explain_problem
from serve.keys import KeyRing, follow_file
from serve.limits import BodyLimit
from serve.metrics import ServiceMetrics
from serve.models import Models
from serve.prompt_log import PromptLog
from serve.quotas import LocalQuotas, Quotas
from serve.release.own_report import own_report
from serve.release.variants import Variants
from serve.shedding import Shedding
from serve.tracing import telemetry, tracer_provider

__all__ = ["PUBLIC_PATHS", "bare_api", "create_api", "create_app"]

PUBLIC_PATHS = (
    "/healthz",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
    "/docs",
    "/openapi.json",
)
"""The only paths that need no key, and /metrics where the arguments say so."""


def create_app(
    args: ServiceArgs,
    *,
    models: Models,
    keys: KeyRing,
    metrics: ServiceMetrics,
    adds_request_id: bool = True,
    quotas: Quotas | None = None,
    reports: Reports | None = None,
    batches: BatchRunner | None = None,
) -> ASGIApp:
    """The whole application, border included.

    Keys that come from the key file follow it. ``quotas`` are for a service of several replicas,
    see `serve.quotas.actor.shared_quotas`; without them limits are counted in this process.
    ``batches`` runs batches, see `serve.batches.actor.ActorRunner`; without it this process does.
    """
    api = create_api(args, models=models, metrics=metrics, reports=reports, batches=batches)
    public = PUBLIC_PATHS if args.metrics_need_key else (*PUBLIC_PATHS, "/metrics")
    uploads = _uploads(args)
    asked: ASGIApp = Variants(api, models)
    if args.log_prompts:
        asked = PromptLog(asked, uploads=uploads)
    limited = BodyLimit(asked, max_body_bytes=args.max_body_bytes, uploads=uploads)
    return Border(
        Shedding(limited, models),
        keys=follow_file(keys, Path(args.keys_file).expanduser()),
        quotas=quotas or LocalQuotas(args.key_limits),
        metrics=metrics,
        public_paths=public,
        known_paths=[route.path for route in api.routes if isinstance(route, Route)],
        request_timeout_s=args.request_timeout_s,
        adds_request_id=adds_request_id,
        proxy_refuses=args.has_own_proxy,
    )


def create_api(
    args: ServiceArgs,
    *,
    models: Models,
    metrics: ServiceMetrics,
    reports: Reports | None = None,
    batches: BatchRunner | None = None,
) -> FastAPI:
    """The routes and the shape of their errors; what holds for all is in `serve.border`.

    ``reports`` tells of every replica; without it the service is this process alone. ``batches``
    as for `create_app`.
    """
    applications = Applications(args, models)
    offline = _batches(args, models, metrics, batches)
    traces = None if args.tracing is None else tracer_provider(args.tracing)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await applications.open()
        try:
            async with AsyncExitStack() as stack:
                if offline is not None:
                    await stack.enter_async_context(offline.running())
                yield
        finally:
            await applications.close()
            if traces is not None:
                await asyncio.to_thread(traces.shutdown)
            models.close()

    api = DescribedApi(
        public_paths=PUBLIC_PATHS,
        title="ray-sft service",
        description="Every route but /healthz, /readyz and this page needs the header "
        "'Authorization: Bearer <key>'.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        telemetry=telemetry(traces),
    )
    routers = (
        classify_router(models, max_inputs=args.max_inputs),
        entities_router(models, max_inputs=args.max_inputs),
        embeddings_router(models, max_inputs=args.max_inputs),
        rank_router(models, max_inputs=args.max_inputs),
        translate_router(models, max_inputs=args.max_inputs),
        tokenize_router(models, max_inputs=args.max_inputs),
        chat_router(models, metrics, max_tokens=args.max_tokens),
        completions_router(models, metrics, max_tokens=args.max_tokens),
        models_router(models),
        releases_router(reports or own_report(models, args.release)),
        inference_protocol_router(
            models, metrics, max_inputs=args.max_inputs, max_tokens=args.max_tokens
        ),
        health_router(models, metrics),
        docs_router(),
        *applications.routers,
        *([] if offline is None else [files_router(offline), batches_router(offline)]),
    )
    for router in routers:  # one flat list: include_router would look through each in turn
        api.router.routes.extend(router.routes)
    api.add_exception_handler(ApiError, _reply_api_error)
    api.add_exception_handler(HTTPException, _reply_http_exception)
    api.add_exception_handler(RequestValidationError, _reply_validation_error)
    api.add_exception_handler(Exception, _reply_unexpected)
    return api


def bare_api(args: ServiceArgs, models: Models, metrics: ServiceMetrics) -> ASGIApp:
    """The routes on models, for those who answer batches."""
    return create_api(args, models=models, metrics=metrics)


def _batches(
    args: ServiceArgs, models: Models, metrics: ServiceMetrics, runner: BatchRunner | None
) -> Batches | None:
    if args.batches is None:
        return None
    batches = Batches(args.batches, models, runner or LocalRunner(args, bare_api))
    metrics.show(batches.figures)
    return batches


def _uploads(args: ServiceArgs) -> dict[str, int]:
    if args.batches is None:
        return {}
    return {FILES_PATH: args.batches.max_file_bytes + FORM_BYTES}


async def _reply_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return Response(
        error_body(error, request.url.path),
        status_code=error.status,
        media_type="application/json",
        headers=error.headers,
    )


async def _reply_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    message = {
        404: f"route '{path}' does not exist. /docs lists those that do.",
        405: f"route '{path}' does not take {request.method}.",
    }.get(error.status_code, str(error.detail))
    code = {404: "route_not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    headers = dict(error.headers or {})
    return await _reply_api_error(
        request, ApiError(error.status_code, message, code=code, headers=headers)
    )


async def _reply_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _reply_api_error(request, explain_problem(error.errors()[0]))


async def _reply_unexpected(request: Request, _: Exception) -> Response:
    # the framework raises the error again afterwards, and the border logs it
    return await _reply_api_error(request, our_fault(request.state.request_id))
