"""The demo's parts: questions to a real server, tables, refusals. The whole is an e2e test."""

import io
import json
import socket

import pytest
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from rich.console import Console

from cluster.demo import RECIPES, run_demo, service_arguments, show_answers, show_reports
from cluster.filling import fill_applications
from cluster.questions import ask_everything, await_ready
from ray_sft.core import ServeError
from serve.args import ServiceArgs
from tests.apps.real_service import build_real_service
from tests.apps.serving import free_port, serving


class Foreign:
    """What the server answers; a test changes it."""

    whole = "It costs 3.90."
    streamed = ("It costs", " 3.90.")
    ends = True
    relevance = 0.5


def _app(foreign, folder):
    app = build_real_service(folder)

    @app.middleware("http")
    async def check(request: Request, call_next):
        is_closed = request.url.path.startswith(("/v1", "/metrics"))
        if is_closed and request.headers.get("authorization") != "Bearer right":
            return PlainTextResponse("the API key is wrong", 401)
        return await call_next(request)

    @app.get("/healthz")
    async def fine():
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics():
        return PlainTextResponse("# HELP a\na 1\nb 2\n")

    @app.get("/")
    async def page():
        return HTMLResponse("<html><title>Customer service</title></html>")

    @app.post("/v1/classify")
    async def classify(request: Request):
        label = "delivery_cost" if (await request.json())["input"].isascii() else "reset_password"
        return {"data": [{"label": label, "score": 0.9}]}

    @app.post("/v1/embeddings")
    async def embed():
        return {"data": [{"index": 0, "embedding": [0.6, 0.8]}]}

    @app.post("/v1/score")
    async def score():
        return {"data": [{"index": 0, "score": 0.75}, {"index": 1, "score": 0.25}]}

    @app.post("/v1/rerank")
    async def rerank():
        return {"results": [{"index": 1, "relevance_score": foreign.relevance}]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        if not (await request.json()).get("stream"):
            return {"choices": [{"message": {"role": "assistant", "content": foreign.whole}}]}
        events = [{"choices": [{"delta": {"content": piece}}]} for piece in foreign.streamed]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        body = "".join([*lines, "data: [DONE]\n\n" if foreign.ends else ""])
        return Response(body, media_type="text/event-stream")

    return app


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A service whose applications are real, and which knows the samples."""
    told = Foreign()
    port = free_port()
    told.url = f"http://127.0.0.1:{port}"
    with serving(_app(told, tmp_path_factory.mktemp("service")), port):
        told.filled = fill_applications(told.url, api_key="right")
        yield told


@pytest.fixture
def foreign(filled):
    yield filled
    for name in ("whole", "streamed", "ends", "relevance"):
        setattr(filled, name, getattr(Foreign, name))


def test_the_samples_are_taken_whole_and_a_second_time_change_nothing(filled):
    texts = [answer.text for answer in filled.filled]
    assert texts[0] == "48 added, 0 known"
    assert not [text for text in texts if "rejected" in text]
    again = [answer.text for answer in fill_applications(filled.url, api_key="right")]
    assert again[0] == "0 added, 48 known"
    assert not [text for text in again[:-1] if not text.startswith("0 ")]


def test_every_endpoint_is_asked_and_its_answer_shown(foreign):
    answers = ask_everything(foreign.url, foreign.url, api_key="right")
    texts = {(answer.endpoint, answer.question.isascii()): answer.text for answer in answers}
    assert texts["POST /v1/classify", True] == "delivery_cost (90%)"
    assert texts["POST /v1/classify", False] == "reset_password (90%)"
    assert texts["POST /v1/embeddings", True] == "a vector of 2 numbers"
    assert texts["POST /v1/chat/completions", True] == foreign.whole
    assert texts["POST /v1/chat/completions, streamed", True] == foreign.whole
    assert texts["POST /v1/assistant/answer", True].startswith("[unknown")  # the last one asked
    assert texts["GET /v1/monitor/topics", True].startswith("8 topics")
    assert texts["GET /v1/recommend/status", True].startswith("150 items, 2500 events")
    assert texts["GET /metrics", True] == "2 figures"
    assert texts["the page", True].endswith("kB of HTML")
    out = io.StringIO()
    show_answers(Console(file=out, width=120), answers)
    assert "delivery_cost (90%)" in out.getvalue()


def test_another_shape_is_told_with_the_endpoint(foreign):
    foreign.relevance = "much"
    with pytest.raises(ServeError, match=r"/v1/rerank answered in another shape .*much"):
        ask_everything(foreign.url, foreign.url, api_key="right")


def test_a_stream_that_differs_is_told(foreign):
    foreign.streamed = ("It costs", " 4.")
    with pytest.raises(ServeError, match=r"streamed 'It costs 4\.', but at once"):
        ask_everything(foreign.url, foreign.url, api_key="right")


def test_a_stream_without_its_end_is_told(foreign):
    foreign.ends = False
    with pytest.raises(ServeError, match=r"without \[DONE\]"):
        ask_everything(foreign.url, foreign.url, api_key="right")


def test_an_empty_answer_is_told(foreign):
    foreign.whole, foreign.streamed = " ", (" ",)
    with pytest.raises(ServeError, match="wrote nothing"):
        ask_everything(foreign.url, foreign.url, api_key="right")


def test_a_refusal_is_told_with_the_endpoint(foreign):
    with pytest.raises(ServeError, match="/v1/models answered 401: the API key is wrong"):
        ask_everything(foreign.url, foreign.url, api_key="wrong")


def test_waiting_ends_when_the_server_dies_or_never_answers(foreign, free_ports):
    await_ready(f"{foreign.url}/readyz", timeout_s=5, check=lambda: None)

    def dead():
        raise ServeError("the service has ended")

    away = f"http://127.0.0.1:{free_ports[1]}/readyz"
    with pytest.raises(ServeError, match="has ended"):
        await_ready(away, timeout_s=5, check=dead)
    with pytest.raises(ServeError, match=r"did not answer within 0\.3 s"):
        await_ready(away, timeout_s=0.3, check=lambda: None)


def test_the_table_has_every_figure_of_the_reports(tmp_path):
    stages = [
        {"stage": "train-trained", "seconds": 12.34, "size_bytes": 90_000_000, "cached": True},
        {
            "stage": "int8",
            "seconds": 3,
            "quality": {"accuracy": 0.912, "num_rows": 479},
            "speed": {"p50_ms": 4.5},
        },
    ]
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"name": "customer_intents", "stages": stages}))
    out = io.StringIO()
    show_reports(Console(file=out, width=140), [path])
    for text in ("12.3 s", "(earlier)", "90.0 MB", "accuracy 0.912", "p50_ms 4.5"):
        assert text in out.getvalue()
    assert "num_rows" not in out.getvalue()


def test_a_damaged_report_is_told(tmp_path):
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ServeError, match="report"):
        show_reports(Console(file=io.StringIO()), [tmp_path / "report.json"])


def test_a_port_in_use_is_told_before_anything_runs(tmp_path, free_ports):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_ports[0]))
        taken.listen()
        with pytest.raises(ServeError, match=f"port {free_ports[0]} is in use"):
            run_demo(
                check=True,
                runs_dir=tmp_path / "runs",
                port=free_ports[0],
                app_port=free_ports[1],
                console=Console(file=io.StringIO()),
            )
    assert not (tmp_path / "runs").exists()


def test_the_service_is_given_what_the_recipes_leave_and_data_of_the_runs_folder(tmp_path):
    runs = tmp_path / "some: runs"
    args = ServiceArgs.model_validate(service_arguments(runs))
    assert args.bundles == {recipe: str(runs / recipe / "bundles" / "int8") for recipe in RECIPES}
    assert args.assistant.knowledge.startswith(f"{runs}/")
    for application in (args.monitor, args.recommend):
        assert application.database.startswith(f"sqlite:///{runs}/")
