"""Requests and replies of the Open Inference Protocol as bytes, against Triton's own client."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.http._infer_result import InferResult

from serve.endpoints.inference_protocol.message import (
    read_inputs,
    read_message,
    wanted_outputs,
    write_message,
)
from serve.endpoints.inference_protocol.schema import InferRequest
from serve.endpoints.inference_protocol.tensors import TensorSpec, TextTensor
from serve.errors import ApiError

TEXT = TensorSpec("text", "BYTES", (-1,))
TABLE = TensorSpec("table", "BYTES", (-1, -1), is_optional=True)
SPECS = (TEXT, TABLE)
MIXED = ["Köln \U0001f600", "", "转账 \x00 nul", "a" * 300]
"""Two, one, four and no bytes a character."""


def understood(
    body: bytes, json_length: int | None = None, **headers: str
) -> tuple[InferRequest, dict[str, TextTensor]]:
    if json_length is not None:
        headers["inference-header-content-length"] = str(json_length)
    query, binary = read_message(body, Headers(headers))
    return query, read_inputs(query, binary, SPECS)


def refused(body: bytes, json_length: int | None = None, **headers: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        understood(body, json_length, **headers)
    assert 400 <= caught.value.status < 500
    return caught.value


def as_json(**tree: Any) -> bytes:
    return json.dumps(tree).encode()


def tensor(values: Any, *, binary: bool, name: str = "text") -> InferInput:
    array = np.asarray(values, dtype=np.object_)
    item = InferInput(name, list(array.shape), "BYTES")
    item.set_data_from_numpy(array, binary_data=binary)
    return item


@pytest.mark.parametrize("binary", [True, False])
def test_what_tritons_client_sends_is_understood(binary: bool) -> None:
    table = [["one", ""], ["two", "zwei"]]
    items = [tensor(MIXED, binary=binary), tensor(table, binary=binary, name="table")]
    outputs = [InferRequestedOutput("score", binary_data=True)]
    body, length = InferenceServerClient.generate_request_body(
        items, outputs=outputs, request_id="42", parameters={"seed": 7}
    )
    query, found = understood(body, length)
    assert (query.id, query.parameters) == ("42", {"seed": 7})
    assert found["text"] == TextTensor("text", (4,), MIXED)
    assert found["table"].rows() == table
    specs = [TensorSpec("score", "FP32", (-1,)), TEXT]
    assert wanted_outputs(query, specs, in_binary=False) == [(specs[0], True)]


def test_one_input_may_be_binary_and_another_not() -> None:
    items = [tensor(["a"], binary=True), tensor([["b"]], binary=False, name="table")]
    body, length = InferenceServerClient.generate_request_body(items)
    _, found = understood(body, length)
    assert found["text"].values == ["a"]
    assert found["table"].values == ["b"]


def test_data_may_be_nested_as_the_shape_says_or_flat() -> None:
    text = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}
    table = {"name": "table", "shape": [2, 2], "datatype": "BYTES"}
    for data in (["a", "b", "c", "d"], [["a", "b"], ["c", "d"]]):
        _, found = understood(as_json(inputs=[text, table | {"data": data}]))
        assert found["table"].rows() == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize(
    "wanted",
    [
        {"label": True, "scores": True, "words": True},
        {"label": False, "scores": False, "words": False},
        {"scores": True, "label": False},
        {"words": False, "scores": True},
    ],
)
def test_what_is_written_is_read_by_tritons_client(wanted: dict[str, bool]) -> None:
    specs = {
        "label": TensorSpec("label", "BYTES", (-1,)),
        "scores": TensorSpec("scores", "FP32", (-1, 3)),
        "words": TensorSpec("words", "BYTES", (-1,)),
    }
    scores = np.asarray([[0.1, 0.2, 1 / 3], [1e-30, -7, 1.0]], dtype=np.float32)
    values = {"label": ["Köln", ""], "scores": scores, "words": MIXED}
    reply = write_message(
        {"model_name": "market/topic", "id": "ü"},
        [(specs[name], binary) for name, binary in wanted.items()],
        values,
        {"x-queue-time": "1"},
    )
    length = reply.headers.get("inference-header-content-length")
    assert (length is not None) == any(wanted.values())
    kind = "application/octet-stream" if length else "application/json"
    assert reply.headers["content-type"] == kind
    assert reply.headers["x-queue-time"] == "1"
    found = InferResult.from_response_body(bytes(reply.body), header_length=length)
    assert found.get_response()["id"] == "ü"
    assert [one["name"] for one in found.get_response()["outputs"]] == list(wanted)
    for name in wanted:
        array = found.as_numpy(name)
        if name == "scores":
            np.testing.assert_array_equal(array, scores)
        else:
            texts = [one.decode() if isinstance(one, bytes) else one for one in array.tolist()]
            assert texts == values[name]
            assert found.get_output(name)["shape"] == [len(texts)]


TEXT_TREE = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "texts"}, "no such input; it has text, table"),
        ({"datatype": "FP32"}, "datatype is FP32; the model takes BYTES"),
        ({"shape": [1, 1]}, "2 dimensions; the model takes [-1]"),
        ({"shape": []}, "0 dimensions"),
        ({"shape": [2]}, "1 elements; the shape says [2]"),
        ({"shape": [-1]}, "greater than or equal to 0"),
        ({"shape": [1.5]}, "valid integer"),
        ({"shape": [True]}, "valid integer"),
        ({"shape": [1 << 62]}, "1 elements; the shape says"),
        ({"shape": [1 << 64]}, "less than"),
        ({"shape": "1"}, "valid array"),
        ({"data": []}, "0 elements"),
        ({"data": [1]}, "element 0 is 1"),
        ({"data": [None]}, "element 0 is None"),
        ({"data": [["x"]]}, "element 0 is ['x']"),
        ({"data": "x"}, "valid array"),
        ({"data": None}, "neither data nor"),
        ({"parameters": {"binary_data_size": 0}}, "both data and binary_data_size"),
        ({"parameters": {"binary_data_size": -1}}, "greater than or equal to 0"),
        ({"parameters": {"binary_data_size": "5"}}, "valid integer"),
        ({"parameters": {"shared_memory_region": "x"}}, "not supported"),
        ({"parameters": [1]}, "parameters"),
        ({"more": 1}, "not supported"),
    ],
)
def test_a_wrong_input_is_explained(change: dict[str, Any], said: str) -> None:
    error = refused(as_json(inputs=[TEXT_TREE | change]))
    assert said in error.located_message


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"inputs": []}, "inputs.text: it is missing"),
        ({}, "Field required"),
        ({"inputs": None}, "valid array"),
        ({"inputs": [TEXT_TREE, TEXT_TREE]}, "inputs.text: it is given twice"),
        ({"inputs": [TEXT_TREE, {"name": "table"}]}, "Field required"),
        ({"inputs": [1]}, "inputs.0"),
        ({"inputs": [TEXT_TREE], "id": 7}, "valid string"),
        ({"inputs": [TEXT_TREE], "timeout": 7}, "'timeout' is not supported"),
        ({"inputs": [TEXT_TREE], "parameters": 7}, "be an object"),
        ({"inputs": [TEXT_TREE], "outputs": [{}]}, "Field required"),
        (
            {"inputs": [TEXT_TREE], "outputs": [{"name": "a", "parameters": {"binary_data": 1}}]},
            "valid boolean",
        ),
        (
            {
                "inputs": [TEXT_TREE],
                "outputs": [{"name": "a", "parameters": {"classification": 3}}],
            },
            "not supported",
        ),
    ],
)
def test_a_wrong_request_is_explained(tree: dict[str, Any], said: str) -> None:
    assert said in refused(as_json(**tree)).located_message


@pytest.mark.parametrize(
    ("data", "shape", "said"),
    [
        (["a", "b"], [1, 1], "2 elements"),
        ([["a"], ["b", "c"]], [2, 1], "row 1 of data is ['b', 'c']"),
        ([["a"], "b"], [2, 1], "row 1 of data is 'b'"),
        ([["a"]], [2, 1], "1 rows"),
        ([[["a"]]], [1, 1], "element 0 is ['a']"),
        ([], [1 << 62, 1], "0 elements"),
    ],
)
def test_nested_data_of_another_shape_are_refused(data: Any, shape: list[int], said: str) -> None:
    table = {"name": "table", "shape": shape, "datatype": "BYTES", "data": data}
    assert said in refused(as_json(inputs=[TEXT_TREE, table])).message


def test_an_empty_table_of_a_billion_rows_costs_nothing() -> None:
    table = {"name": "table", "shape": [10**9, 0], "datatype": "BYTES", "data": []}
    _, found = understood(as_json(inputs=[TEXT_TREE, table]))
    assert found["table"].values == []


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    junk = "[" * depth + "]" * depth
    body = f'{{"inputs": [{{"name": "text", "shape": [1], "datatype": "BYTES", "data": {junk}}}]}}'
    refused(body.encode())
    refused(f'{{"inputs": [], "parameters": {{"a": {junk}}}}}'.encode())


def binary_request(data: bytes, *, shape: list[int] | None = None, size: int | None = None) -> Any:
    item = {
        "name": "text",
        "shape": [1] if shape is None else shape,
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data) if size is None else size},
    }
    head = as_json(inputs=[item])
    return head + data, len(head)


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (
            b"\x01\x00\x00\x00xyz",
            {"size": 5},
            "7 bytes stand behind the JSON object; the inputs name 5",
        ),
        (b"\x01\x00\x00\x00x", {"size": 6}, "binary_data_size is 6; the body has 5"),
        (b"\x01\x00\x00\x00x", {"size": 1 << 62}, "the body has 5"),
        (b"\x02\x00\x00\x00x", {}, "element 0 ends at byte 6 of its 5"),
        (b"\xff\xff\xff\xffx", {}, "element 0 ends at byte 4294967299 of its 5"),
        (b"\x01\x00", {}, "element 0 ends at byte 4 of its 2"),
        (b"\x01\x00\x00\x00\xff", {}, "element 0 is no UTF-8"),
        (b"\x03\x00\x00\x00\xed\xa0\x80", {}, "element 0 is no UTF-8"),
        (b"\x01\x00\x00\x00x", {"shape": [2]}, "1 elements"),
        (b"\x01\x00\x00\x00x", {"shape": [1 << 62]}, "1 elements"),
        (b"\x00\x00\x00\x00" * 10_000, {}, "10000 elements"),
        (b"", {}, "0 elements"),
    ],
)
def test_wrong_binary_data_are_explained(data: bytes, options: dict[str, Any], said: str) -> None:
    body, length = binary_request(data, **options)
    assert said in refused(body, length).message


@pytest.mark.parametrize("stated", ["-1", "+3", "x", "", "1e3", " 5", "9" * 30, "\u00b2", "100000"])
def test_a_length_of_the_json_that_is_none_is_refused(stated: str) -> None:
    body, _ = binary_request(b"\x01\x00\x00\x00x")
    error = refused(body, **{"inference-header-content-length": stated})
    assert error.code == "invalid_header"


def test_a_wrong_length_of_the_json_is_refused() -> None:
    body, length = binary_request(b"\x01\x00\x00\x00x")
    for wrong in (0, 1, length - 1, length + 1, len(body)):
        assert refused(body, wrong).code == "invalid_json"
    assert refused(body).code == "invalid_json"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_compressed_body_is_refused_by_name(encoding: str) -> None:
    error = refused(b"\x1f\x8b", **{"content-encoding": encoding})
    assert (error.status, error.code) == (415, "unsupported_encoding")
    assert encoding in error.message


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([{"name": "no"}], "output 'no' does not exist. The model has text, table."),
        ([{"name": "text"}, {"name": "text"}], "output 'text' is asked for twice"),
    ],
)
def test_a_wrong_output_is_explained(outputs: list[dict[str, str]], said: str) -> None:
    query = InferRequest.model_validate({"inputs": [], "outputs": outputs})
    with pytest.raises(ApiError, match="output") as caught:
        wanted_outputs(query, SPECS, in_binary=False)
    assert said in caught.value.located_message


def outcome(body: bytes, json_length: int | None = None) -> dict[str, TextTensor] | ApiError:
    try:
        return understood(body, json_length)[1]
    except ApiError as error:
        return error


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=40), size=st.none() | st.integers(0, 60), cut=st.integers(-3, 3))
def test_any_bytes_are_texts_or_refused(data: bytes, size: int | None, cut: int) -> None:
    body, length = binary_request(data, size=size)
    found = outcome(body, length + cut)
    if isinstance(found, ApiError):
        assert 400 <= found.status < 500
        return
    assert cut == 0
    again = InferInput("text", [1], "BYTES")
    again.set_data_from_numpy(np.asarray(found["text"].values, dtype=np.object_))
    assert again._get_binary_data() == data


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs", "x"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_a_request_or_refused(tree: Any) -> None:
    for body in (json.dumps(tree), json.dumps({"inputs": [tree]})):
        found = outcome(body.encode())
        if isinstance(found, ApiError):
            assert 400 <= found.status < 500
            assert found.message
