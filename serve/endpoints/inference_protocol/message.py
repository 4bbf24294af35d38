"""A request taken apart and a reply put together: a JSON object, and binary tensors behind it.

The binary extension is Triton's: the header ``Inference-Header-Content-Length`` says where the
JSON object ends, and the tensors follow in the order in which it names them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response
from pydantic import ValidationError
from starlette.datastructures import Headers

from serve.endpoints.inference_protocol.schema import InferRequest, RequestInput
from serve.endpoints.inference_protocol.tensors import (
    TensorSpec,
    TextTensor,
    Values,
    malformed,
    read_binary,
    read_json,
    to_bytes,
)
from serve.errors import ApiError, explain_validation

__all__ = ["read_inputs", "read_message", "wanted_outputs", "write_message"]

_JSON_LENGTH = "inference-header-content-length"
_NUMBER = re.compile(r"[0-9]{1,18}")


def read_message(body: bytes, headers: Headers) -> tuple[InferRequest, bytes]:
    """The request and the bytes behind it.

    Raises:
        ApiError: 400 for what is none, 415 for a body that is compressed.
    """
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ApiError(
            415,
            f"content-encoding '{encoding[:40]}' is not supported by this service. Send the body "
            "as it is.",
            code="unsupported_encoding",
        )
    length = _json_length(headers.get(_JSON_LENGTH), len(body))
    try:
        return InferRequest.model_validate_json(body[:length]), body[length:]
    except ValidationError as error:
        raise explain_validation(error) from None


def read_inputs(
    query: InferRequest, binary: bytes, specs: Sequence[TensorSpec]
) -> dict[str, TextTensor]:
    """The inputs of a request by name, each as its ``specs`` says.

    Raises:
        ApiError: an input is missing, unknown, given twice, or not what it is said to be.
    """
    known = {spec.name: spec for spec in specs}
    found: dict[str, TextTensor] = {}
    place = 0
    for item in query.inputs:
        if item.name not in known:
            raise malformed(f"the model has no such input; it has {', '.join(known)}", item.name)
        if item.name in found:
            raise malformed("it is given twice", item.name)
        _check_kind(item, known[item.name])
        size = item.parameters.binary_data_size or 0
        found[item.name] = _read_input(item, binary[place : place + size])
        place += size
    if place != len(binary):
        raise ApiError(
            400,
            f"{len(binary)} bytes stand behind the JSON object; the inputs name {place} "
            "(binary_data_size).",
            code="invalid_tensor",
            param="inputs",
        )
    for spec in specs:
        if spec.name not in found and not spec.is_optional:
            raise malformed("it is missing", spec.name)
    return found


def wanted_outputs(
    query: InferRequest, specs: Sequence[TensorSpec], *, in_binary: bool
) -> list[tuple[TensorSpec, bool]]:
    """The outputs that a request asks for, in its order, and whether each comes in binary.

    Raises:
        ApiError: an output is unknown or asked for twice.
    """
    if not query.outputs:
        return [(spec, in_binary) for spec in specs]
    known = {spec.name: spec for spec in specs}
    wanted: dict[str, tuple[TensorSpec, bool]] = {}
    for place, item in enumerate(query.outputs):
        if item.name not in known or item.name in wanted:
            problem = "is asked for twice" if item.name in wanted else "does not exist"
            raise ApiError(
                400,
                f"output '{item.name[:40]}' {problem}. The model has {', '.join(known)}.",
                code="invalid_output",
                param=f"outputs.{place}",
            )
        own = item.parameters.binary_data
        wanted[item.name] = known[item.name], in_binary if own is None else own
    return list(wanted.values())


def write_message(
    tree: dict[str, Any],
    wanted: Sequence[tuple[TensorSpec, bool]],
    values: Mapping[str, Values],
    headers: Mapping[str, str],
) -> Response:
    """The reply that begins with ``tree``: its outputs, those in binary behind the JSON object."""
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for spec, is_binary in wanted:
        found = values[spec.name]
        shape = [len(found)] if isinstance(found, list) else list(found.shape)
        output: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": shape}
        if is_binary:
            binary.append(to_bytes(found))
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            output["data"] = found if isinstance(found, list) else found.ravel().tolist()
        outputs.append(output)
    text = json.dumps({**tree, "outputs": outputs}, ensure_ascii=False).encode()
    if not binary:
        return Response(text, media_type="application/json", headers=dict(headers))
    return Response(
        b"".join([text, *binary]),
        media_type="application/octet-stream",
        headers={**headers, _JSON_LENGTH: str(len(text))},
    )


def _json_length(stated: str | None, num_bytes: int) -> int:
    if stated is None:
        return num_bytes
    if not _NUMBER.fullmatch(stated) or int(stated) > num_bytes:
        raise ApiError(
            400,
            f"{_JSON_LENGTH} is '{stated[:40]}', no number from 0 to {num_bytes}, the length of "
            "the body.",
            code="invalid_header",
        )
    return int(stated)


def _check_kind(item: RequestInput, spec: TensorSpec) -> None:
    if item.datatype != spec.datatype:
        raise malformed(
            f"its datatype is {item.datatype[:40]}; the model takes {spec.datatype}", spec.name
        )
    if len(item.shape) != len(spec.shape):
        raise malformed(
            f"its shape has {len(item.shape)} dimensions; the model takes {list(spec.shape)}",
            spec.name,
        )
    has_size = item.parameters.binary_data_size is not None
    if has_size == (item.data is not None):
        raise malformed(
            "it has both data and binary_data_size; give one of them"
            if has_size
            else "it has neither data nor the parameter binary_data_size",
            spec.name,
        )


def _read_input(item: RequestInput, binary: bytes) -> TextTensor:
    if item.data is not None:
        return read_json(item.data, item.name, item.shape)
    size = item.parameters.binary_data_size
    if size != len(binary):
        raise malformed(f"its binary_data_size is {size}; the body has {len(binary)}", item.name)
    return read_binary(binary, item.name, item.shape)
