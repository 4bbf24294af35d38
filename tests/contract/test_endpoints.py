"""The laws that every endpoint obeys, whatever it is for: a key, one shape of errors, a schema."""

import re
from typing import Any

import httpx
import pytest

from serve.args import ServiceArgs
from serve.batches.upload import FORM_BYTES
from serve.endpoints.files import FILES_PATH
from serve.ingress import PUBLIC_PATHS, create_api, create_app
from serve.keys import load_keys
from serve.keys.scopes import scopes_for
from serve.metrics import ServiceMetrics
from serve.models import load_models
from tests.apps.serving import free_port, serving
from tests.serve.test_heads import market_bundle

__all__ = ["market_bundle"]

TOKEN = "a-key-of-the-contract-tests"
MAX_BODY_BYTES = 4096
MAX_FILE_BYTES = 8192


@pytest.fixture(scope="module")
def served(market_bundle, tmp_path_factory):
    """A service with all applications: a client with a key, and its OpenAPI schema."""
    folder = tmp_path_factory.mktemp("service")
    args = ServiceArgs.model_validate(
        {
            "bundles": {"market": str(market_bundle.path)},
            "num_cpus": 1,
            "max_body_bytes": MAX_BODY_BYTES,
            "assistant": {"embedding_model": "market/vector", "knowledge": str(folder / "k.lance")},
            "monitor": {"model": "market", "database": f"sqlite:///{folder}/monitor.db"},
            "recommend": {
                "embedding_model": "market/vector",
                "ranking_model": "market/click",
                "database": f"sqlite:///{folder}/recommend.db",
            },
            "batches": {"folder": str(folder / "batches"), "max_file_bytes": MAX_FILE_BYTES},
        }
    )
    metrics = ServiceMetrics()
    models = load_models(args, num_threads=1, metrics=metrics)
    keys = load_keys(folder / "none.json", {"RAY_SFT_API_KEYS": TOKEN})
    schema = create_api(args, models=models, metrics=metrics).openapi()
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    port = free_port()
    headers = {"authorization": f"Bearer {TOKEN}"}
    with (
        serving(app, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client,
    ):
        yield client, schema


def endpoints(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Verb, path and description of each, parameters of the path filled in."""
    found = [
        (verb.upper(), re.sub(r"\{[^}]+\}", "no-such-thing", path), described)
        for path, verbs in schema["paths"].items()
        for verb, described in verbs.items()
    ]
    assert len(found) >= 30
    return found


def taking_a_body(schema: dict[str, Any]) -> list[tuple[str, str]]:
    return [(verb, path) for verb, path, one in endpoints(schema) if "requestBody" in one]


def assert_error(reply: httpx.Response, where: str) -> None:
    """The reply is an error of OpenAI's shape, under /v2 of KServe's, with a message for people."""
    assert reply.headers["content-type"].startswith("application/json"), where
    error = reply.json()["error"]
    assert "Traceback" not in reply.text, where
    if reply.request.url.path.startswith("/v2"):
        assert list(reply.json()) == ["error"], where
        assert error.strip().endswith((".", ")")), (where, error)
        return
    assert set(error) == {"message", "type", "param", "code"}, where
    assert error["message"].strip().endswith((".", ")")), (where, error["message"])
    assert error["code"], where


def test_every_endpoint_needs_a_key_but_the_public_ones(served):
    client, schema = served
    for verb, path, _ in endpoints(schema):
        if path in PUBLIC_PATHS:
            continue
        for header in ({"authorization": ""}, {"authorization": "Bearer wrong-wrong-wrong"}):
            reply = client.request(verb, path, headers=header)
            assert reply.status_code == 401, path
            assert_error(reply, path)


def test_every_endpoint_is_described(served):
    _, schema = served
    for verb, path, described in endpoints(schema):
        where = f"{verb} {path}"
        assert described["summary"], where
        assert described["description"].strip().endswith("."), where
        assert described["tags"], where


@pytest.mark.parametrize(
    "body",
    [
        *(b"no JSON", b"", b"[]", b'{"no_such_field": 1}', b"\xff\xfe", b'{"input": "\xff"}'),
        *(b"[" * 3000, b'{"input": ' * 300, b'{"items": ' + b"[" * 1500 + b"]" * 1500 + b"}"),
    ],
)
def test_a_body_that_is_none_is_refused_by_every_endpoint(served, body):
    client, schema = served
    for verb, path in taking_a_body(schema):
        reply = client.request(
            verb, path, content=body, headers={"content-type": "application/json"}
        )
        assert 400 <= reply.status_code < 500, (verb, path, reply.text)
        assert_error(reply, f"{verb} {path}")


def test_a_body_that_is_too_large_is_refused_by_every_endpoint(served):
    client, schema = served
    for verb, path in taking_a_body(schema):
        limit = MAX_FILE_BYTES + FORM_BYTES if path == FILES_PATH else MAX_BODY_BYTES
        reply = client.request(verb, path, content=b" " * (limit + 1))
        assert reply.status_code == 413, (verb, path, reply.text)
        assert_error(reply, f"{verb} {path}")


def test_what_does_not_exist_and_a_wrong_verb_have_the_same_shape(served):
    client, schema = served
    for verb, path, _ in endpoints(schema):
        if "no-such-thing" in path and verb == "GET":
            reply = client.request(verb, path)
            if reply.is_error:  # of some, such as a user's events, nothing is an answer
                assert reply.status_code == 404, path
                assert_error(reply, path)
        wrong = client.request("PATCH", path)
        assert wrong.status_code == 405, path
        assert_error(wrong, path)


def test_every_endpoint_is_open_to_a_scope_of_its_own(served):
    _, schema = served
    for verb, path, _ in endpoints(schema):
        if path not in PUBLIC_PATHS:
            assert len(scopes_for(verb, path)) > 1, (
                f"only admin may {verb} {path}: serve.keys.scopes"
            )
