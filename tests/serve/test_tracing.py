"""Traces as a collector receives them: a real receiver of OTLP over HTTP."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics
from serve.models import load_models
from serve.tracing_args import TracingArgs
from tests.apps.serving import free_port, serving

from .conftest import TEXTS, TOKEN

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@dataclass
class Collector:
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""

    def spans(self) -> list[Span]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def ask(args: ServiceArgs, keys: KeyRing, *, headers: dict[str, str]) -> None:
    """Asks a service of these arguments once well and once wrongly, and stops it."""
    metrics = ServiceMetrics()
    models = load_models(args, num_threads=1, metrics=metrics)
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    port = free_port()
    known = {"authorization": f"Bearer {TOKEN}"} | headers
    with serving(app, port), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        body = {"model": "intents", "input": TEXTS[1]}
        assert client.post("/v1/classify", json=body, headers=known).status_code == 200
        wrong = {"input": {"no": TEXTS[2]}}
        assert client.post("/v1/classify", json=wrong, headers=known).status_code == 400


def test_a_trace_is_gone_on_with_and_tells_the_time_but_no_text(service_args, keys, collector):
    tracing = TracingArgs(endpoint=collector.url, sample=0.0)
    args = service_args.model_copy(update={"tracing": tracing})
    ask(args, keys, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    good, wrong = sorted(collector.spans(), key=lambda span: span.start_time_unix_nano)
    for span in (good, wrong):
        assert span.trace_id.hex() == TRACE
        assert span.parent_span_id.hex() == PARENT
        assert span.name == "POST /v1/classify"
    told = {item.key: item.value for item in good.attributes}
    assert told["http.response.status_code"].int_value == 200
    assert told["ray_sft.model"].string_value == "intents"
    assert float(told["ray_sft.inference-time"].string_value) > 0
    assert told["ray_sft.batch-size"].string_value == "1"
    sent = b"".join(collector.bodies)
    for secret in (*TEXTS, TOKEN):
        assert secret.encode() not in sent


@pytest.mark.parametrize(("sample", "num_spans"), [(1.0, 2), (0.0, 0)])
def test_what_no_client_traces_is_sampled(service_args, keys, collector, sample, num_spans):
    tracing = TracingArgs(endpoint=collector.url, sample=sample)
    ask(service_args.model_copy(update={"tracing": tracing}), keys, headers={})
    assert len(collector.spans()) == num_spans


def test_without_tracing_nothing_is_sent(service_args, keys, collector):
    ask(service_args, keys, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert collector.bodies == []
