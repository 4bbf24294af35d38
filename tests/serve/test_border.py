"""What holds for every route."""

import asyncio

import httpx
import pytest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from serve.args import ServiceArgs
from serve.border import Border
from serve.ingress import PUBLIC_PATHS, create_api, create_app
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics
from serve.models import Models

from .conftest import TEXTS, TOKEN

pytestmark = pytest.mark.asyncio


async def test_no_route_answers_without_a_key_but_the_public_ones(
    stranger: httpx.AsyncClient, service_args: ServiceArgs, models: Models, metrics: ServiceMetrics
) -> None:
    api = create_api(service_args, models=models, metrics=metrics)
    routes = [route for route in api.routes if isinstance(route, Route)]
    assert len(routes) == len(api.routes), "a mount or a nested router escapes this test"
    asked = set()
    for route in routes:
        path = route.path.replace("{model}", "intents")
        for verb in route.methods or ():
            reply = await stranger.request(verb, path)
            asked.add(path)
            if path in PUBLIC_PATHS:
                assert reply.status_code == 200, path
            else:
                assert reply.status_code == 401, path
                assert reply.headers["www-authenticate"] == "Bearer"
    assert {"/v1/classify", "/v1/chat/completions", "/v1/models", "/metrics"} <= asked


@pytest.mark.parametrize("path", ["/", "/nothing", "/v1/classify/", "/healthz/", "//healthz"])
async def test_an_unknown_path_is_not_told_from_a_known_one_without_a_key(
    stranger: httpx.AsyncClient, path: str
) -> None:
    assert (await stranger.get(path)).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["Bearer wrong-wrong-wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer ", "Bearer"],
)
async def test_a_wrong_key_is_refused(stranger: httpx.AsyncClient, header: str) -> None:
    reply = await stranger.get("/v1/models", headers={"authorization": header})
    assert reply.status_code == 401
    assert reply.json()["error"]["type"] == "authentication_error"
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert TOKEN not in reply.text


async def test_metrics_are_public_only_where_the_arguments_say_so(
    service_args: ServiceArgs, models: Models, keys: KeyRing, metrics: ServiceMetrics
) -> None:
    args = service_args.model_copy(update={"metrics_need_key": False})
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401


async def test_errors_of_the_framework_have_our_shape(client: httpx.AsyncClient) -> None:
    missing = await client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "route_not_found")
    wrong_verb = await client.get("/v1/classify")
    assert wrong_verb.status_code == 405
    assert wrong_verb.headers["allow"] == "POST"
    assert "does not take GET" in wrong_verb.json()["error"]["message"]


async def test_an_oversize_body_is_refused(client: httpx.AsyncClient) -> None:
    async def pieces():
        for _ in range(20):
            yield b"x" * 1000

    for content in (b"x" * 9000, pieces()):
        reply = await client.post("/v1/classify", content=content)
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 4000,
        b'{"input": ' + b"[" * 4000 + b"]" * 4000 + b"}",
        b'{"input": ' * 600 + b'"x"' + b"}" * 600,
        b'{"messages": ' + b'[{"content": ' * 600 + b"}",
        b'{"input": "\xff"}',
        b'{"input": "\xed\xa0\x80"}',
        b'{"input": "a\x00b"}',
        b'{"input": "\\ud800"}',
        b'\xef\xbb\xbf{"input": "x"}',
        b'{"input": ' + b"9" * 5000 + b"}",
        b'{"input": "x", "top_k": 1e999}',
    ],
)
@pytest.mark.parametrize("path", ["/v1/classify", "/v1/chat/completions"])
async def test_json_that_is_deep_or_no_text_is_refused_without_a_fault(
    client: httpx.AsyncClient, path: str, body: bytes
) -> None:
    reply = await client.post(path, content=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["code"] in ("invalid_json", "invalid_value")


async def test_a_null_character_is_a_character_for_a_model(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/classify", json={"input": "where is\x00 my parcel"})
    assert reply.status_code == 200


async def test_ten_thousand_texts_are_refused(
    service_args: ServiceArgs, models: Models, keys: KeyRing, metrics: ServiceMetrics
) -> None:
    args = service_args.model_copy(update={"max_body_bytes": 1 << 20})
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    headers = {"authorization": f"Bearer {TOKEN}"}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service", headers=headers
    ) as client:
        reply = await client.post("/v1/classify", json={"input": ["x"] * 10_000})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "too_many_inputs"
    assert len(reply.content) < 1000


async def test_a_request_id_is_kept_made_or_refused(client: httpx.AsyncClient) -> None:
    kept = await client.get("/healthz", headers={"x-request-id": "abc-123"})
    assert kept.headers["x-request-id"] == "abc-123"
    made = [(await client.get("/healthz")).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    for bad in ("a b", "x" * 129, "é".encode()):
        refused = await client.get("/healthz", headers={"x-request-id": bad})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "invalid_request_id"


@pytest.mark.parametrize(
    "name",
    [
        "x-request-timeout-seconds",
        "X-Request-Disconnect-Disabled",
        "serve_multiplexed_model_id",
        "Serve-Multiplexed-Model-Id",
    ],
)
async def test_headers_that_would_steer_ray_are_refused(
    client: httpx.AsyncClient, name: str
) -> None:
    reply = await client.get("/v1/models", headers={name: "0"})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "unsupported_header"


async def test_a_request_beyond_the_deadline_is_ended(
    keys: KeyRing, metrics: ServiceMetrics
) -> None:
    was_cancelled = asyncio.Event()

    async def never_answers(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled.set()
            raise

    app = Border(
        never_answers,
        keys=keys,
        metrics=metrics,
        public_paths=["/slow"],
        known_paths=["/slow"],
        request_timeout_s=0.02,
        adds_request_id=True,
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        reply = await client.get("/slow")
    assert reply.status_code == 408
    assert reply.json()["error"]["type"] == "timeout_error"
    assert was_cancelled.is_set()


@pytest.mark.parametrize("proxy", ["haproxy", "plain"])
async def test_what_the_proxy_refused_is_counted_where_it_is_ours(
    service_args: ServiceArgs, models: Models, keys: KeyRing, proxy: str
) -> None:
    metrics, told = ServiceMetrics(), {b"x-refused": "41"}
    args = service_args.model_copy(update={"proxy": proxy})
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.post("/v1/classify", headers=told)).status_code == 401
        for nonsense in ("-1", "1e3", "9" * 30, ""):
            await client.post("/v1/classify", headers={b"x-refused": nonsense})
    counted = 'ray_sft_requests_total{model="",route="/v1/classify",status="429"} 41.0'
    assert (counted in metrics.render().decode()) == (proxy == "haproxy")


async def test_every_reply_has_the_security_headers(stranger: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/v1/models", "/docs"):
        headers = (await stranger.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "strict-transport-security" not in headers


async def test_our_own_fault_shows_nothing_of_the_inside(
    service_args: ServiceArgs,
    keys: KeyRing,
    metrics: ServiceMetrics,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Models):
        def describe(self):
            raise ZeroDivisionError("secret detail")

    app = create_app(service_args, models=Broken({}), keys=keys, metrics=metrics)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        headers = {"authorization": f"Bearer {TOKEN}", "x-request-id": "find-me"}
        reply = await client.get("/v1/models", headers=headers)
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert "find-me" in reply.json()["error"]["message"]
    assert "find-me" in caplog.text
    assert "secret detail" in caplog.text


async def test_readiness_health_and_models(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    ready = await client.get("/readyz")
    assert ready.json() == {"status": "ready", "models": ["intents", "replies"]}
    listed = (await client.get("/v1/models")).json()
    assert [entry["id"] for entry in listed["data"]] == ["intents", "replies"]
    one = (await client.get("/v1/models/replies")).json()
    assert one == listed["data"][1]
    assert one["task"] == "causal_language_model"
    assert (await client.get("/v1/models/none")).status_code == 404


async def test_metrics_count_requests_batches_and_tokens(client: httpx.AsyncClient) -> None:
    def figure(text: str, name: str) -> float:
        lines = [line for line in text.splitlines() if line.startswith(name + " ")]
        return float(lines[0].split()[-1]) if lines else 0.0

    names = (
        'ray_sft_requests_total{model="intents",route="/v1/classify",status="200"}',
        'ray_sft_batch_texts_sum{model="intents"}',
        'ray_sft_requests_total{model="",route="other",status="404"}',
    )
    before = (await client.get("/metrics")).text
    await client.post("/v1/classify", json={"input": list(TEXTS)})
    await client.get("/v1/nothing")
    after = (await client.get("/metrics")).text
    assert [figure(after, name) - figure(before, name) for name in names] == [1, len(TEXTS), 1]
    assert 'ray_sft_queued{model="intents"} 0.0' in after


async def test_docs_need_no_other_server(stranger: httpx.AsyncClient) -> None:
    page = (await stranger.get("/docs")).text
    assert "/v1/chat/completions" in page
    assert "max_completion_tokens" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


async def test_routes_with_a_name_in_them_are_counted_by_their_pattern(client) -> None:
    await client.get("/v1/models/intents")
    await client.get("/v2/models/intents/ready")
    shown = (await client.get("/metrics")).text
    assert 'route="/v1/models/{model:path}",status="200"' in shown
    assert "/v1/models/intents" not in shown
    assert "/v2/models/intents" not in shown
