"""`/v2/...` behind a real server, asked by Triton's own client."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from ray_sft.bundle import Bundle
from ray_sft.inference import Predictor

from .conftest import LABELS, TEXTS, TOKEN

KEY = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def triton(server_url: str) -> Iterator[InferenceServerClient]:
    address = server_url.removeprefix("http://")
    with InferenceServerClient(address, network_timeout=30.0) as client:
        yield client


def texts_input(texts: Any = TEXTS, *, binary: bool = True) -> InferInput:
    array = np.asarray(texts, dtype=np.object_)
    item = InferInput("text", list(array.shape), "BYTES")
    item.set_data_from_numpy(array, binary_data=binary)
    return item


def test_health_needs_no_key_and_everything_else_does(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert not triton.is_model_ready("intents")
    for ask in (
        triton.get_server_metadata,
        lambda: triton.get_model_metadata("intents"),
        lambda: triton.infer("intents", [texts_input()]),
    ):
        with pytest.raises(InferenceServerException) as caught:
            ask()
        assert str(caught.value).startswith("[401] the API key is missing.")


def test_the_server_and_its_models_are_described(
    triton: InferenceServerClient, classifier_bundle: Bundle, generator_bundle: Bundle
) -> None:
    server = triton.get_server_metadata(headers=KEY)
    assert server["name"] == "ray-sft"
    assert server["extensions"] == ["binary_tensor_data", "parameters"]
    intents = triton.get_model_metadata("intents", headers=KEY)
    assert intents["versions"] == ["1", classifier_bundle.fingerprint]
    assert intents["platform"] == "pytorch_safetensors"
    assert intents["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert intents["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "score", "datatype": "FP32", "shape": [-1]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
    ]
    assert json.loads(intents["parameters"].pop("labels")) == list(LABELS)
    assert intents["parameters"] == {
        "task": "sequence_classification",
        "max_length": 64,
        "max_rows": 8,
    }
    replies = triton.get_model_metadata("replies", headers=KEY)
    assert replies["platform"] == "onnxruntime_onnx"
    assert replies["versions"][1] == generator_bundle.fingerprint
    assert [one["name"] for one in replies["outputs"]] == ["text", "finish_reason"]


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_gets_the_answers_of_the_bundle(
    triton: InferenceServerClient, classifier_bundle: Bundle, binary: bool
) -> None:
    outputs = (
        None
        if binary
        else [
            InferRequestedOutput(name, binary_data=False) for name in ("scores", "score", "label")
        ]
    )
    found = triton.infer(
        "intents",
        [texts_input(binary=binary)],
        outputs=outputs,
        request_id="a 42",
        headers=dict(KEY),
    )
    assert found.get_response()["id"] == "a 42"
    assert found.get_response()["model_name"] == "intents"
    assert found.get_response()["model_version"] == classifier_bundle.fingerprint
    expected = Predictor(classifier_bundle).predict([{"text": text} for text in TEXTS])
    labels = found.as_numpy("label").tolist()
    if binary:
        labels = [label.decode() for label in labels]
    assert labels == [answer.label for answer in expected]
    scores = np.asarray(
        [
            [{one.label: one.score for one in answer.scores}[name] for name in LABELS]
            for answer in expected
        ]
    )
    np.testing.assert_allclose(found.as_numpy("scores"), scores, atol=1e-5)
    np.testing.assert_allclose(found.as_numpy("score"), scores.max(axis=1), atol=1e-5)
    assert found.as_numpy("scores").dtype == np.float32


def test_outputs_are_those_asked_for_each_in_its_way(triton: InferenceServerClient) -> None:
    outputs = [
        InferRequestedOutput("score", binary_data=False),
        InferRequestedOutput("label", binary_data=True),
    ]
    found = triton.infer("intents", [texts_input()], outputs=outputs, headers=dict(KEY))
    score, label = found.get_response()["outputs"]
    assert (score["name"], len(score["data"])) == ("score", len(TEXTS))
    assert label["parameters"]["binary_data_size"] > 0
    assert "data" not in label
    assert found.as_numpy("scores") is None


@pytest.mark.parametrize("by_number", [True, False])
def test_a_version_is_the_bundles_fingerprint_or_1(
    triton: InferenceServerClient, classifier_bundle: Bundle, by_number: bool
) -> None:
    version = "1" if by_number else classifier_bundle.fingerprint
    assert triton.is_model_ready("intents", version, headers=KEY)
    assert triton.get_model_metadata("intents", version, headers=KEY)["name"] == "intents"
    found = triton.infer("intents", [texts_input()], model_version=version, headers=dict(KEY))
    assert found.get_response()["model_version"] == classifier_bundle.fingerprint


def test_an_unknown_model_or_version_is_none(triton: InferenceServerClient) -> None:
    for model, version, said in (
        ("none", "", "model 'none' does not exist. This route has: intents, replies."),
        ("none", "1", "model 'none' does not exist"),
        ("intents", "2", "model 'intents' has no version '2'. It has 1, "),
        ("intents/x", "", "model 'intents/x' does not exist"),
    ):
        assert not triton.is_model_ready(model, version, headers=KEY)
        for ask in (
            lambda m=model, v=version: triton.get_model_metadata(m, v, headers=KEY),
            lambda m=model, v=version: triton.infer(
                m, [texts_input()], model_version=v, headers=dict(KEY)
            ),
        ):
            with pytest.raises(InferenceServerException) as caught:
                ask()
            assert caught.value.status() == "404"
            assert said in caught.value.message()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"parameters": {"temperature": 1.0}},
            "'parameters.temperature' is not supported for a seq",
        ),
        ({"sequence_id": 7, "sequence_start": True}, "'parameters.sequence_id' is not supported"),
        ({"priority": 1}, "'parameters.priority' is not supported"),
        ({"timeout": 1000}, "'parameters.timeout' is not supported"),
        ({"outputs": [InferRequestedOutput("logits")]}, "output 'logits' does not exist"),
        ({"outputs": [InferRequestedOutput("scores", class_count=3)]}, "classification' is not"),
        ({"request_compression_algorithm": "gzip"}, "content-encoding 'gzip' is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    triton: InferenceServerClient, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        triton.infer("intents", [texts_input()], headers=dict(KEY), **options)
    assert caught.value.status() in ("400", "415")
    assert said in str(caught.value)


def test_a_wrong_input_is_explained_to_tritons_client(triton: InferenceServerClient) -> None:
    numbers = InferInput("text", [2], "FP32")
    numbers.set_data_from_numpy(np.zeros(2, dtype=np.float32))
    for item, said in (
        (numbers, "inputs.text: its datatype is FP32; the model takes BYTES"),
        (texts_input([["a"], ["b"]]), "inputs.text: its shape has 2 dimensions"),
        (texts_input([b"\xff"]), "inputs.text: element 0 is no UTF-8"),
        (texts_input(["fine", ""]), "inputs.text.1: String should have at least 1 character"),
        (texts_input(["fine", "  "]), "inputs.text.1: text is missing or empty"),
        (texts_input(["fine", "0" * 70]), "inputs.text.1: the text has 70 tokens; the model takes"),
        (texts_input(["x" * 5000]), "inputs.text.0: the text has 5000 characters"),
        (texts_input(["x"] * 9), "inputs.text has 9 texts; one request may have 8"),
        (texts_input([]), "inputs.text: it has no element"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            triton.infer("intents", [item], headers=dict(KEY))
        assert caught.value.status() == "400"
        assert said in str(caught.value)


def test_replies_are_those_of_chat(triton: InferenceServerClient, server_url: str) -> None:
    options = {"max_tokens": 6, "temperature": 0.8, "seed": 3}
    found = triton.infer("replies", [texts_input(TEXTS[:3])], parameters=options, headers=dict(KEY))
    texts = [text.decode() for text in found.as_numpy("text")]
    reasons = [reason.decode() for reason in found.as_numpy("finish_reason")]
    read = written = 0
    with httpx.Client(base_url=server_url, headers=KEY, timeout=30, trust_env=False) as http:
        for text, reply, reason in zip(TEXTS, texts, reasons, strict=False):
            messages = [{"role": "user", "content": text}]
            tree = http.post("/v1/chat/completions", json={"messages": messages, **options}).json()
            (choice,) = tree["choices"]
            assert choice["message"]["content"] == reply
            assert choice["finish_reason"] == reason
            read += tree["usage"]["prompt_tokens"]
            written += tree["usage"]["completion_tokens"]
    assert found.get_response()["parameters"] == {
        "prompt_tokens": read,
        "completion_tokens": written,
    }
