"""The application: one process holds every model, so a request takes one hop.

`create_app` is plain ASGI and needs no Ray; `serve.app` places it in a deployment.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from serve.applications import Applications
from serve.args import ServiceArgs
from serve.border import Border, our_fault
from serve.endpoints import (
    chat_router,
    classify_router,
    completions_router,
    docs_router,
    embeddings_router,
    entities_router,
    health_router,
    inference_protocol_router,
    models_router,
    rank_router,
    releases_router,
    tokenize_router,
    translate_router,
)
from serve.endpoints.openapi import DescribedApi
from serve.endpoints.releases import Reports
from serve.errors import ApiError, error_body, explain_problem
from serve.keys import KeyRing, follow_file
from serve.limits import BodyLimit
from serve.metrics import ServiceMetrics
from serve.models import Models
from serve.quotas import LocalQuotas, Quotas
from serve.release.own_report import own_report
from serve.release.variants import Variants
from serve.tracing import telemetry, tracer_provider

__all__ = ["PUBLIC_PATHS", "create_api", "create_app"]

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
) -> ASGIApp:
    """The whole application, border included.

    Keys that come from the key file follow it. ``quotas`` are for a service of several replicas,
    see `serve.quotas.actor.shared_quotas`; without them limits are counted in this process.
    """
    api = create_api(args, models=models, metrics=metrics, reports=reports)
    public = PUBLIC_PATHS if args.metrics_need_key else (*PUBLIC_PATHS, "/metrics")
    return Border(
        BodyLimit(Variants(api, models), max_body_bytes=args.max_body_bytes),
        keys=follow_file(keys, Path(args.keys_file).expanduser()),
        quotas=quotas or LocalQuotas(args.key_limits),
        metrics=metrics,
        public_paths=public,
        known_paths=[route.path for route in api.routes if isinstance(route, Route)],
        request_timeout_s=args.request_timeout_s,
        adds_request_id=adds_request_id,
    )


def create_api(
    args: ServiceArgs,
    *,
    models: Models,
    metrics: ServiceMetrics,
    reports: Reports | None = None,
) -> FastAPI:
    """The routes and the shape of their errors; what holds for all is in `serve.border`.

    ``reports`` tells of every replica; without it the service is this process alone.
    """
    applications = Applications(args, models)
    traces = None if args.tracing is None else tracer_provider(args.tracing)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await applications.open()
        try:
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
    )
    for router in routers:  # one flat list: include_router would look through each in turn
        api.router.routes.extend(router.routes)
    api.add_exception_handler(ApiError, _reply_api_error)
    api.add_exception_handler(HTTPException, _reply_http_exception)
    api.add_exception_handler(RequestValidationError, _reply_validation_error)
    api.add_exception_handler(Exception, _reply_unexpected)
    return api


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
