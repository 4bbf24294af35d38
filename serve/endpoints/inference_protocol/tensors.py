"""Tensors as the Open Inference Protocol writes them, in JSON and in its binary extension.

Nothing here knows models. What a request states (a shape, a size) is compared with what it holds
before anything is made of it, so that a large number costs nothing.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from serve.errors import ApiError

__all__ = [
    "Datatype",
    "TensorSpec",
    "TextTensor",
    "Values",
    "malformed",
    "read_binary",
    "read_json",
    "to_bytes",
]

Datatype: TypeAlias = Literal["BYTES", "FP32"]
"""Those that the models of this service read and write."""
Values: TypeAlias = list[str] | NDArray[np.float32]
"""What an output holds: texts, or numbers in an array of the output's shape."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a model."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    """-1 for a dimension of any size."""
    is_optional: bool = False
    """Whether an input may be left out."""

    def tree(self) -> dict[str, Any]:
        """What the metadata of a model say of it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class TextTensor:
    """Texts in an array, row by row."""

    name: str
    shape: tuple[int, ...]
    values: list[str]

    def rows(self) -> list[list[str]]:
        """The rows of an array of two dimensions."""
        num_rows, width = self.shape
        return [self.values[row * width : (row + 1) * width] for row in range(num_rows)]


def read_json(data: Sequence[Any], name: str, shape: Sequence[int]) -> TextTensor:
    """A tensor of texts out of ``data``, which is flat or nested as the shape says.

    Raises:
        ApiError: it holds something else, or another number of elements.
    """
    values = _flat(data, name, shape)
    _check_count(len(values), name, shape)
    for place, value in enumerate(values):
        if not isinstance(value, str):
            raise malformed(f"element {place} is {_shown(value)}; BYTES are texts in JSON", name)
    return TextTensor(name, tuple(shape), values)


def read_binary(data: bytes, name: str, shape: Sequence[int]) -> TextTensor:
    """A tensor of texts out of ``data``: each its length in 4 bytes, then UTF-8.

    Raises:
        ApiError: the data end too early or are no text, or hold another number of elements.
    """
    values: list[str] = []
    place = 0
    while place < len(data):
        end = place + _LENGTH.size
        if end <= len(data):
            end += _LENGTH.unpack_from(data, place)[0]
        if end > len(data):
            raise malformed(
                f"element {len(values)} ends at byte {end} of its {len(data)}: each is its length "
                "in 4 bytes, little-endian, and as many bytes",
                name,
            )
        values.append(_decoded(data[place + _LENGTH.size : end], len(values), name))
        place = end
    _check_count(len(values), name, shape)
    return TextTensor(name, tuple(shape), values)


def to_bytes(values: Values) -> bytes:
    """An output in binary."""
    if isinstance(values, list):
        encoded = [value.encode() for value in values]
        return b"".join(_LENGTH.pack(len(one)) + one for one in encoded)
    return values.astype("<f4").tobytes()


def malformed(problem: str, name: str) -> ApiError:
    """What is wrong with an input of a request."""
    return ApiError(400, f"{problem}.", code="invalid_tensor", param=f"inputs.{name[:40]}")


def _flat(data: Sequence[Any], name: str, shape: Sequence[int]) -> list[Any]:
    """The elements in the order of rows; ``data`` is flat where it holds no lists."""
    if len(shape) < 2 or not any(isinstance(item, list) for item in data):
        return list(data)
    if len(data) != shape[0]:
        raise malformed(f"data has {len(data)} rows; its shape {list(shape)} says otherwise", name)
    flat: list[Any] = []
    for place, row in enumerate(data):
        if not isinstance(row, list) or len(row) != math.prod(shape[1:]):
            raise malformed(
                f"row {place} of data is {_shown(row)}; its shape {list(shape)} says otherwise",
                name,
            )
        flat += _flat(row, name, shape[1:])
    return flat


def _check_count(num_values: int, name: str, shape: Sequence[int]) -> None:
    if num_values != math.prod(shape):
        raise malformed(f"there are {num_values} elements; the shape says {list(shape)}", name)


def _decoded(element: bytes, place: int, name: str) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"element {place} is no UTF-8 ({error.reason})", name) from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
