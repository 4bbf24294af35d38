"""The samples of bundles, asked through the routes of a real service."""

import httpx
import pytest

from serve.ingress import create_app
from serve.metrics import ServiceMetrics
from serve.release.golden import GoldenBundle, ask_golden
from serve.release.settings import Release
from tests.apps.serving import free_port, serving
from tests.serve.conftest import TOKEN
from tests.serve.test_heads import market_bundle

__all__ = ["market_bundle"]


@pytest.fixture
def served(make_changing, first, second, generator_bundle, market_bundle, keys):
    """A service with a canary, and a client."""
    changing = make_changing(
        {"intents": first.path, "replies": generator_bundle.path, "market": market_bundle.path},
        releases={"intents": Release(bundle=str(second.path), percent=30)},
        num_slots=2,
    )
    app = create_app(changing.args, models=changing.models, keys=keys, metrics=ServiceMetrics())
    port = free_port()
    headers = {"authorization": f"Bearer {TOKEN}"}
    with (
        serving(app, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client,
    ):
        yield client


def canary(bundle, second, *, is_candidate):
    return GoldenBundle(
        "intents", bundle, is_candidate=is_candidate, percent=30, salt=second.fingerprint
    )


def test_every_task_answers_its_samples(served, first, second, generator_bundle, market_bundle):
    golden = [
        canary(first, second, is_candidate=False),
        canary(second, second, is_candidate=True),
        GoldenBundle("replies", generator_bundle),
        GoldenBundle("market", market_bundle),
    ]
    assert ask_golden(served, golden) == []
    shown = served.get("/metrics").text
    for route in ("classify", "chat/completions", "embeddings", "score"):
        assert f'route="/v1/{route}",status="200"' in shown  # or nothing was asked


def test_answers_of_another_bundle_are_noticed(served, second):
    problems = ask_golden(served, [canary(second, second, is_candidate=False)])
    assert problems
    assert problems[0].startswith("model 'intents': '")
    assert "expected" in problems[0]


def test_a_route_that_refuses_is_noticed(served, first):
    (problem, *_) = ask_golden(served, [GoldenBundle("nobody", first)])
    assert "model 'nobody': /v1/classify answered 404" in problem
    served.headers["authorization"] = "Bearer wrong-wrong-wrong-wrong"
    (problem, *_) = ask_golden(served, [GoldenBundle("intents", first)])
    assert "/v1/classify answered 401" in problem


def test_a_service_that_is_not_there_is_noticed():
    with httpx.Client(base_url=f"http://127.0.0.1:{free_port()}") as client:
        (problem,) = ask_golden(client, [])
    assert "does not answer" in problem
