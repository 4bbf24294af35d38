"""Which scopes open which routes."""

import pytest

from serve.keys.scopes import SCOPES, scopes_for


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("POST", "/v1/classify", "infer admin"),
        ("POST", "/v1/embeddings", "infer admin"),
        ("POST", "/v2/models/intents/infer", "infer admin"),
        ("POST", "/v1/chat/completions", "chat infer admin"),
        ("POST", "/v1/completions", "chat infer admin"),
        ("POST", "/v1/files", "chat infer admin"),
        ("GET", "/v1/batches/batch_1", "chat infer read admin"),
        ("POST", "/v1/batches/batch_1/cancel", "chat infer admin"),
        ("POST", "/v1/assistant/answer", "assistant admin"),
        ("GET", "/v1/monitor/topics", "monitor read admin"),
        ("POST", "/v1/monitor/items", "monitor admin"),
        ("DELETE", "/v1/recommend/users/a", "recommend admin"),
        ("GET", "/v2/models/intents/ready", "infer read admin"),
        ("GET", "/metrics", "metrics admin"),
        ("POST", "/v1/admin/reload", "admin"),
        ("GET", "/v1/admin/releases", "admin"),
        ("GET", "/v1/releases", "read admin"),
        ("GET", "/anything/new", "admin"),
        ("POST", "/", "admin"),
        ("POST", "/v1assistant", "admin"),
        ("POST", "/v1//assistant/answer", "infer admin"),
        ("POST", "/v1/assistantx", "infer admin"),
        ("GET", "/metrics/x", "metrics admin"),
        ("GET", "/Metrics", "admin"),
    ],
)
def test_a_route_takes_one_of_its_scopes(method: str, path: str, scopes: str) -> None:
    assert " ".join(scopes_for(method, path)) == scopes


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/intents"])
def test_every_scope_but_that_of_figures_lists_the_models(path: str) -> None:
    assert set(scopes_for("GET", path)) == set(SCOPES) - {"metrics"}
