"""The demo's parts: questions to a real server, tables, refusals. The whole is an e2e test."""

import io
import json
import socket
import threading
import time

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from rich.console import Console

from cluster.demo import run_demo, show_answers, show_reports
from cluster.questions import ask_everything, await_ready
from ray_sft.core import ServeError


class Foreign:
    """What the server answers; a test changes it."""

    whole = "It costs 3.90."
    streamed = ("It costs", " 3.90.")
    ends = True


def _app(foreign):
    app = FastAPI()

    @app.middleware("http")
    async def check(request: Request, call_next):
        is_closed = request.url.path.startswith(("/v1", "/metrics"))
        if is_closed and request.headers.get("authorization") != "Bearer right":
            return PlainTextResponse("the API key is wrong", 401)
        return await call_next(request)

    @app.get("/healthz")
    @app.get("/readyz")
    async def fine():
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics():
        return PlainTextResponse("# HELP a\na 1\nb 2\n")

    @app.get("/")
    async def page():
        return HTMLResponse("<html><title>Customer service</title></html>")

    @app.get("/v1/models")
    async def models():
        return {"data": [{"id": "intents", "task": "sequence_classification"}]}

    @app.post("/v1/classify")
    async def classify(request: Request):
        label = "delivery_cost" if (await request.json())["input"].isascii() else "reset_password"
        return {"data": [{"label": label, "score": 0.9}]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        if not (await request.json()).get("stream"):
            return {"choices": [{"message": {"role": "assistant", "content": foreign.whole}}]}
        events = [{"choices": [{"delta": {"content": piece}}]} for piece in foreign.streamed]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        body = "".join([*lines, "data: [DONE]\n\n" if foreign.ends else ""])
        return Response(body, media_type="text/event-stream")

    return app


@pytest.fixture
def foreign(free_ports):
    told = Foreign()
    told.url = f"http://127.0.0.1:{free_ports[0]}"
    config = uvicorn.Config(_app(told), port=free_ports[0], log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield told
    server.should_exit = True
    thread.join(timeout=10)


def test_every_endpoint_is_asked_and_its_answer_shown(foreign):
    answers = ask_everything(foreign.url, foreign.url, api_key="right")
    texts = {(answer.endpoint, answer.question.isascii()): answer.text for answer in answers}
    assert texts["POST /v1/classify", True] == "delivery_cost (90%)"
    assert texts["POST /v1/classify", False] == "reset_password (90%)"
    assert texts["POST /v1/chat/completions", True] == foreign.whole
    assert texts["POST /v1/chat/completions, streamed", True] == foreign.whole
    assert texts["GET /metrics", True] == "2 figures"
    assert texts["the page", True].endswith("kB of HTML")
    out = io.StringIO()
    show_answers(Console(file=out, width=120), answers)
    assert "delivery_cost (90%)" in out.getvalue()


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
