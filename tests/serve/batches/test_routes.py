"""The limits of files and batches, their lists, and what of them is refused; nothing runs here."""

import socket
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import httpx
import openai
import pytest

from serve.args import ServiceArgs
from serve.batches import BatchArgs
from serve.keys import KeyLimits
from tests.waiting import wait_until

from .conftest import Service, content_of, request_line, served, start, upload

LINES = [request_line("a", {"input": "hello"})]


class Waiting:
    """Runs no batch, as a cluster without a free processor."""

    async def wake(self) -> None: ...

    def running(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()


@pytest.fixture(scope="module")
def service(args: ServiceArgs) -> Iterator[Service]:
    yield from served(args, Waiting())


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    head = service.head(service.client("plain"))
    with httpx.Client(base_url=service.url, headers=head, timeout=30, trust_env=False) as client:
        yield client


def refusal(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


@pytest.mark.parametrize(
    ("fields", "content", "expected"),
    [
        ({}, b"x", (400, "invalid_value")),
        ({"purpose": "fine-tune"}, b"x", (400, "invalid_value")),
        ({"purpose": "batch", "more": "x"}, b"x", (400, "unsupported_parameter")),
        ({"purpose": "batch"}, b"", (400, "empty_file")),
        ({"purpose": "batch"}, None, (400, "missing_file")),
        ({"purpose": "batch"}, b"x" * 20_001, (413, "file_too_large")),
        ({"purpose": "batch"}, b"x" * 40_000, (413, "body_too_large")),
        ({"purpose": "batch", "expires_after[seconds]": "7200"}, b"x", (400, "invalid_value")),
        (
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "9999999999",
            },
            b"x",
            (400, "invalid_value"),
        ),
    ],
)
def test_a_file_that_cannot_be_kept_is_refused_and_leaves_nothing(
    service: Service, http: httpx.Client, fields, content, expected
) -> None:
    if content is None:
        reply = http.post(
            "/v1/files",
            content=b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--',
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
    else:
        reply = http.post("/v1/files", data=fields, files={"file": ("a", content)})
    assert refusal(reply) == expected
    assert http.get("/v1/files").json()["data"] == []
    assert not [path for path in folder_of(service).glob("*/files/*") if path.is_file()]


def folder_of(service: Service) -> Path:
    assert service.args.batches is not None
    return Path(service.args.batches.folder)


def test_a_client_that_leaves_within_its_file_leaves_nothing(service: Service, http) -> None:
    head = (
        "POST /v1/files HTTP/1.1\r\nhost: service\r\ncontent-length: 5000\r\n"
        "content-type: multipart/form-data; boundary=x\r\n"
        f"authorization: {http.headers['authorization']}\r\n\r\n"
        '--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nsome'
    )
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
    wait_until(
        lambda: not [path for path in folder_of(service).glob("*/files/*") if path.is_file()]
    )
    assert http.get("/v1/files").json()["data"] == []


def test_only_an_upload_may_be_longer_than_a_body(http: httpx.Client) -> None:
    body = b" " * 3000
    assert refusal(http.post("/v1/files", content=body)) == (400, "invalid_content_type")
    assert refusal(http.post("/v1/classify", content=body)) == (413, "body_too_large")
    assert refusal(http.post("/v1/batches", content=body)) == (413, "body_too_large")
    reply = http.request("DELETE", "/v1/files/file-1", content=body)
    assert refusal(reply) == (413, "body_too_large")


def test_lists_have_pages_and_an_order(service: Service) -> None:
    client = service.client("lists")
    ids = [upload(client, LINES, f"{number}.jsonl") for number in range(4)]
    assert [one.id for one in client.files.list()] == ids[::-1]
    assert [one.id for one in client.files.list(limit=1)] == ids[::-1]
    assert [one.id for one in client.files.list(limit=3, order="asc")] == ids
    assert client.files.list(purpose="batch_output").data == []
    page = client.files.list(limit=2)
    assert (page.has_more, len(page.data)) == (True, 2)
    with pytest.raises(openai.BadRequestError, match="names nothing of this list"):
        client.files.list(after="file-0")
    for limit in (0, 10_001):
        with pytest.raises(openai.BadRequestError):
            client.files.list(limit=limit)
    batches = [
        client.batches.create(
            input_file_id=ids[0], endpoint="/v1/embeddings", completion_window="24h"
        ).id
        for _ in range(2)
    ]
    assert [one.id for one in client.batches.list(limit=1)] == batches[::-1]
    assert client.batches.list(after=batches[0]).data == []


def test_a_file_is_kept_as_long_as_its_client_wishes(service: Service) -> None:
    client = service.client("wishing")
    kept = client.files.create(
        file=("a", content_of(LINES)),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 7200},
    )
    assert (kept.expires_at or 0) - kept.created_at == 7200
    other = client.files.create(file=("a", content_of(LINES)), purpose="batch")
    assert (other.expires_at or 0) - other.created_at == 30 * 86_400
    assert client.files.content(kept.id).content == content_of(LINES)


def test_a_file_that_a_batch_reads_stays(service: Service) -> None:
    client = service.client("reading")
    batch = client.batches.retrieve(start(client, LINES))
    with pytest.raises(openai.ConflictError, match=batch.id):
        client.files.delete(batch.input_file_id)
    assert client.files.retrieve(batch.input_file_id).id == batch.input_file_id
    cancelled = client.batches.cancel(batch.id)
    assert (cancelled.status, cancelled.cancelling_at is None) == ("cancelling", False)
    assert client.batches.cancel(batch.id) == cancelled
    assert client.batches.retrieve(batch.id) == cancelled


def test_a_key_keeps_a_limited_number_of_files_and_batches(service: Service) -> None:
    client = service.client("many")
    for _ in range(2):
        start(client, LINES)
    with pytest.raises(openai.RateLimitError) as caught:
        start(client, LINES)
    assert caught.value.code == "too_many_batches"
    assert caught.value.response.headers["retry-after"] == "60"
    for _ in range(3):
        upload(client, LINES)
    with pytest.raises(openai.BadRequestError) as full:
        upload(client, LINES)
    assert full.value.code == "too_many_files"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/monitor/items"}, "endpoint"),
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": "file-0"}, "input_file_id"),
        ({"input_file_id": "../../etc/passwd"}, "input_file_id"),
        ({"input_file_id": "\x00"}, "input_file_id"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "\x00"}}, "metadata.a"),
        ({"metadata": {"a": "x" * 600}}, "metadata.a"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"more": 1}, "more"),
    ],
)
def test_a_batch_that_cannot_be_made_is_refused(http: httpx.Client, change, param) -> None:
    body = {"input_file_id": "file-" + "0" * 32, "endpoint": "/v1/classify"}
    reply = http.post("/v1/batches", json={**body, "completion_window": "24h", **change})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert http.get("/v1/batches").json()["data"] == []


@pytest.mark.parametrize(
    "name", ["file-0", "..%2F..%2Fetc", "file-" + "0" * 32, "%2e%2e", "a" * 999]
)
def test_what_does_not_exist_is_not_found(http: httpx.Client, name: str) -> None:
    for method, path in (
        ("GET", f"/v1/files/{name}"),
        ("GET", f"/v1/files/{name}/content"),
        ("DELETE", f"/v1/files/{name}"),
        ("GET", f"/v1/batches/{name}"),
        ("POST", f"/v1/batches/{name}/cancel"),
    ):
        assert http.request(method, path).status_code == 404


def test_the_limits_of_a_key_count_requests_and_not_lines(service: Service) -> None:
    client = service.client("slow", limits=KeyLimits(requests_per_minute=4))
    lines = [request_line(str(number), {"input": "hello"}) for number in range(20)]
    start(client, lines)  # two requests, after one or more that waited for the key
    with pytest.raises(openai.RateLimitError) as caught:
        [client.batches.list() for _ in range(4)]
    assert caught.value.code == "rate_limit_exceeded"


@pytest.mark.asyncio
async def test_a_service_without_batches_has_no_such_routes(
    client: httpx.AsyncClient, service_args: ServiceArgs
) -> None:
    assert service_args.batches is None
    for path in ("/v1/files", "/v1/batches"):
        assert refusal(await client.get(path)) == (404, "route_not_found")


def test_the_defaults_are_those_of_the_description() -> None:
    args = BatchArgs()
    assert (args.keep_s, args.most_cpus) == (30 * 86_400, 1)
