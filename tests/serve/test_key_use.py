"""What a key opens, how often, and what is counted of it, through the border."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from time import monotonic

import httpx
import pytest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serve.args import ServiceArgs
from serve.caller import charge_tokens, permit_model
from serve.ingress import create_app
from serve.keys import KeyLimits, KeyRing, add_key, follow_file, load_keys, revoke_key
from serve.metrics import ServiceMetrics
from serve.models import Models
from serve.quotas import LocalQuotas
from serve.quotas.shared import SharedQuotas
from tests.apps.serving import free_port, serving
from tests.waiting import async_wait_until

from .bare_asgi import Reply, ask, bordered
from .conftest import TEXTS, TOKEN
from .quotas.near_book import NearBook

pytestmark = pytest.mark.asyncio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.mark.parametrize(
    ("scopes", "opened"),
    [
        (["admin"], "classify chat models topics metrics debug"),
        (["infer"], "classify chat models"),
        (["chat"], "chat models"),
        (["read"], "models topics"),
        (["metrics"], "metrics"),
        (["monitor", "metrics"], "models topics metrics"),
    ],
)
async def test_a_key_opens_what_its_scopes_say(path: Path, scopes: list[str], opened: str) -> None:
    token = add_key(path, name="web", scopes=scopes)  # type: ignore[arg-type]
    border = bordered(load_keys(path, {}))
    routes = {
        "classify": ("POST", "/v1/classify"),
        "chat": ("POST", "/v1/chat/completions"),
        "models": ("GET", "/v1/models"),
        "topics": ("GET", "/v1/monitor/topics"),
        "metrics": ("GET", "/metrics"),
        "debug": ("GET", "/debug"),
    }
    replies = {name: await ask(border, token, *route) for name, route in routes.items()}
    assert " ".join(name for name, reply in replies.items() if reply.status == 200) == opened
    for reply in replies.values():
        if reply.status != 200:
            assert reply.status == 403
            assert (reply.error["type"], reply.code) == ("permission_error", "missing_scope")
            assert "takes the scope" in reply.error["message"]
            assert "; the key has " + ", ".join(scopes) in reply.error["message"]


async def test_a_key_for_one_model_asks_no_other(
    path: Path, service_args: ServiceArgs, models: Models
) -> None:
    token = add_key(path, name="web", scopes=["infer"], models=["intents"])
    app = create_app(
        service_args, models=models, keys=load_keys(path, {}), metrics=ServiceMetrics()
    )
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service", headers=headers
    ) as client:
        for body in ({"input": TEXTS[0]}, {"input": TEXTS[0], "model": "intents"}):
            assert (await client.post("/v1/classify", json=body)).status_code == 200
        for model in ({}, {"model": "replies"}):
            chat = {"messages": [{"role": "user", "content": TEXTS[0]}], "max_tokens": 1} | model
            reply = await client.post("/v1/chat/completions", json=chat)
            assert reply.status_code == 403, reply.text
            error = reply.json()["error"]
            assert (error["type"], error["code"]) == ("permission_error", "model_not_permitted")
            assert error["param"] == "model"
            assert "'replies'; it may use: intents" in error["message"]


async def test_tokens_of_a_request_are_charged_to_its_key(
    path: Path, service_args: ServiceArgs, models: Models
) -> None:
    token = add_key(path, name="web", limits=KeyLimits(tokens_per_minute=1000))
    app = create_app(
        service_args, models=models, keys=load_keys(path, {}), metrics=ServiceMetrics()
    )
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {token}"}
    chat = {"messages": [{"role": "user", "content": TEXTS[0]}], "max_tokens": 4, "stream": True}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service", headers=headers
    ) as client:
        left = []
        for _ in range(2):
            reply = await client.post("/v1/classify", json={"input": list(TEXTS)})
            left.append(int(reply.headers["x-ratelimit-remaining-tokens"]))
        used = reply.json()["usage"]["total_tokens"]
        assert used > 0
        assert 0 <= used - (left[0] - left[1]) <= 20  # what a moment has refilled
        assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200
        reply = await client.get("/v1/models")
        assert left[1] - int(reply.headers["x-ratelimit-remaining-tokens"]) > used


async def test_outside_a_request_everything_is_permitted_and_free() -> None:
    permit_model("anything")
    charge_tokens(10**9)


async def test_the_service_s_limits_hold_for_keys_without_their_own(
    service_args: ServiceArgs, models: Models, keys: KeyRing
) -> None:
    args = service_args.model_copy(update={"requests_per_minute": 2})
    app = create_app(args, models=models, keys=keys, metrics=ServiceMetrics())
    replies = [await ask(app, TOKEN, "GET", "/v1/models") for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0", "0"]
    assert replies[0].headers["x-ratelimit-limit-requests"] == "2"
    assert replies[2].headers["retry-after"] == "30"
    assert replies[2].error["type"] == "rate_limit_error"
    assert (await ask(app, None, "GET", "/healthz")).status == 200
    assert "x-ratelimit-limit-requests" not in (await ask(app, None, "GET", "/healthz")).headers


async def test_a_refused_request_uses_nothing(path: Path) -> None:
    limits = KeyLimits(requests_per_minute=1, concurrent_requests=1)
    token = add_key(path, name="web", scopes=["chat"], limits=limits)
    border = bordered(load_keys(path, {}))
    for _ in range(5):
        assert (await ask(border, token)).status == 403
        assert (await ask(border, token + "x")).status == 401
        assert (await ask(border, token, headers=[(b"x-request-id", b"a b")])).status == 400
    assert (await ask(border, token, path="/v1/chat/completions")).status == 200
    assert (await ask(border, token, path="/v1/chat/completions")).status == 429


class Holding:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        self.active += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await self.may_end.wait()
            await send({"type": "http.response.body", "body": b"b"})
        finally:
            self.active -= 1


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive, send
    raise ZeroDivisionError


async def test_a_request_counts_as_concurrent_until_it_ends(path: Path) -> None:
    token = add_key(path, name="web", limits=KeyLimits(concurrent_requests=2))
    app = Holding()
    border = bordered(load_keys(path, {}), app=app)
    running = [asyncio.create_task(ask(border, token)) for _ in range(2)]
    await async_wait_until(lambda: app.active == 2)
    refused = await ask(border, token)
    assert (refused.status, refused.code) == (429, "too_many_concurrent_requests")
    assert refused.headers["retry-after"] == "1"
    running[0].cancel()  # as a server does with a client that has left
    await asyncio.wait(running[:1])
    third = asyncio.create_task(ask(border, token))
    await async_wait_until(lambda: app.active == 2)
    assert (await ask(border, token)).status == 429
    app.may_end.set()
    assert [(await task).status for task in (running[1], third)] == [200, 200]
    assert (await ask(border, token)).status == 200


async def test_a_request_that_fails_or_is_too_late_gives_its_place_back(path: Path) -> None:
    token = add_key(path, name="web", limits=KeyLimits(concurrent_requests=1))
    ring, quotas = load_keys(path, {}), LocalQuotas()
    broken = bordered(ring, app=fails, quotas=quotas)
    late = bordered(ring, app=Holding(), quotas=quotas, request_timeout_s=0.01)
    large = bordered(ring, quotas=quotas)
    for _ in range(3):
        assert (await ask(broken, token)).status == 500
        await ask(late, token)
        assert (await ask(large, token, body=b" " * 2000)).status == 413
    assert (await ask(large, token)).status == 200


class Streaming:
    """Never ends by itself, as an application of the framework does until its client has left."""

    def __init__(self) -> None:
        self.active = self.num = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def events():
            self.active += 1
            self.num += 1
            try:
                while True:
                    yield b"data: x\n\n"
                    await asyncio.sleep(0.01)
            finally:
                self.active -= 1

        await StreamingResponse(events())(scope, receive, send)


async def test_a_stream_whose_client_leaves_gives_its_place_back(
    path: Path,
) -> None:
    token = add_key(path, name="web", limits=KeyLimits(concurrent_requests=1))
    app = Streaming()
    port = free_port()
    headers = {"authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{port}"
    with serving(bordered(load_keys(path, {}), app=app), port):
        await leave_streams(app, httpx.AsyncClient(base_url=url, headers=headers, timeout=20))
    assert app.num == 3


async def leave_streams(app: Streaming, new_client: httpx.AsyncClient) -> None:
    async with new_client as client:
        for _ in range(3):
            async with client.stream("POST", "/v1/chat/completions", content=b"{}") as reply:
                assert reply.status_code == 200
                await anext(reply.aiter_raw())
                assert (await client.post("/v1/classify", content=b"{}")).status_code == 429
            await async_wait_until(lambda: app.active == 0)


async def test_several_borders_share_the_limit_of_a_key(path: Path) -> None:
    limits = KeyLimits(requests_per_minute=90, concurrent_requests=50)
    token = add_key(path, name="web", limits=limits)
    book = NearBook(monotonic)
    borders = [
        bordered(load_keys(path, {}), quotas=SharedQuotas(book=book, replica=str(number)))
        for number in range(3)
    ]
    async with AsyncExitStack() as stack:
        for border in borders:
            await stack.enter_async_context(border.running())
        begin = monotonic()
        replies = await asyncio.gather(*(ask(borders[i % 3], token) for i in range(150)))
        for border in borders * 2:
            replies += [await ask(border, token) for _ in range(60)]
        most = 90 + 1.5 * (monotonic() - begin)
    num = sum(reply.status == 200 for reply in replies)
    assert 90 <= num <= most
    assert {reply.status for reply in replies} == {200, 429}
    last: Reply = replies[-1]
    assert int(last.headers["retry-after"]) >= 1
    assert last.headers["x-ratelimit-limit-requests"] == "90"


async def test_a_running_service_follows_its_key_file(path: Path) -> None:
    first = add_key(path, name="first")
    border = bordered(follow_file(load_keys(path, {}), path))
    async with border.running():
        second = add_key(path, name="second", lifetime=timedelta(days=1))
        revoke_key(path, name="first")
        for _ in range(100):
            replies = [await ask(border, token) for token in (first, second)]
            if [reply.status for reply in replies] == [401, 200]:
                break
            await asyncio.sleep(0.1)
        assert [reply.code for reply in replies] == ["revoked_api_key", "ok"]


async def test_requests_are_counted_by_the_name_of_their_key_alone(path: Path) -> None:
    token = add_key(path, name="web", scopes=["chat"])
    metrics = ServiceMetrics()
    border = bordered(load_keys(path, {}), metrics=metrics)
    await ask(border, token, path="/v1/chat/completions")
    await ask(border, token)
    await ask(border, "wrong-wrong-wrong")
    await ask(border, None)
    shown = metrics.render().decode()
    lines = [line for line in shown.splitlines() if line.startswith("ray_sft_key_requests_total")]
    assert lines == [
        'ray_sft_key_requests_total{key="web",status="200"} 1.0',
        'ray_sft_key_requests_total{key="web",status="403"} 1.0',
    ]
    assert token not in shown
    assert 'ray_sft_requests_total{model="",route="/v1/classify",status="401"} 2.0' in shown
    assert "key=" not in "".join(x for x in shown.splitlines() if x.startswith("ray_sft_requests"))
