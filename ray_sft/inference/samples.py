"""The samples of a bundle: requests with the answers that this very bundle gave.

They are every later stage's smoke test: a service that does not reproduce them is not ready.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from ray_sft.core import BundleError
from ray_sft.inference.predictor import Predictor
from ray_sft.tasks import Rejected, Row

__all__ = ["NUM_SAMPLES", "check_samples", "record_samples", "sample_difference"]

NUM_SAMPLES = 16

_TOLERANCE = 0.02
"""Absolute and relative. Room for another processor's int8 kernels, not for another model."""


def record_samples(predictor: Predictor, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Up to 16 pairs of ``request`` and ``response``, with the name of the predictor's ``task``.

    Rows that cannot be used are left out.
    Every request runs alone: dynamic int8 depends slightly on a batch's other rows.
    """
    pairs: list[dict[str, Any]] = []
    for row in rows:
        if len(pairs) == NUM_SAMPLES:
            break
        request_type = predictor.task.Request
        fields = {name: row[name] for name in request_type.model_fields if name in row}
        (answer,) = predictor.predict([fields])
        if isinstance(answer, Rejected):
            continue
        request = request_type.model_validate(fields).model_dump(mode="json")
        response = answer.model_dump(mode="json")
        pairs.append({"task": predictor.name, "request": request, "response": response})
    return pairs


def check_samples(predictor: Predictor) -> None:
    """Asks the bundle's own samples of the predictor's task again.

    Raises:
        BundleError: an answer differs from the recorded one by more than the tolerance.
    """
    for number, sample in enumerate(predictor.bundle.samples(predictor.name), start=1):
        (answer,) = predictor.predict([sample["request"]])
        given = answer if isinstance(answer, Rejected) else answer.model_dump(mode="json")
        if difference := _difference(sample["response"], given, "response"):
            raise BundleError(
                f"bundle '{predictor.bundle.path}': sample {number} is answered differently than "
                f"when the bundle was made: {difference}. The libraries or the processor differ "
                f"from those of the manifest; make the bundle again on this machine."
            )


def sample_difference(sample: Mapping[str, Any], answer: BaseModel) -> str:
    """What differs between a sample's response and ``answer``, beyond the tolerance; or nothing."""
    return _difference(sample["response"], answer.model_dump(mode="json"), "response")


def _difference(expected: Any, given: Any, where: str) -> str:
    """What differs between two JSON values, or the empty string."""
    if isinstance(expected, float) and isinstance(given, int | float):
        near = abs(given - expected) <= _TOLERANCE * (1.0 + abs(expected))
        return "" if near else f"{where} is {given:.6g}, expected {expected:.6g}"
    expected, given = _by_label(expected), _by_label(given)
    if isinstance(expected, dict) and isinstance(given, dict) and expected.keys() == given.keys():
        parts = (_difference(expected[key], given[key], f"{where}.{key}") for key in expected)
        return next((part for part in parts if part), "")
    if isinstance(expected, list) and isinstance(given, list) and len(expected) == len(given):
        pairs = enumerate(zip(expected, given, strict=True))
        parts = (_difference(one, other, f"{where}.{index}") for index, (one, other) in pairs)
        return next((part for part in parts if part), "")
    return "" if expected == given else f"{where} is {given!r}, expected {expected!r}"


def _by_label(value: Any) -> Any:
    """A list of scored labels as a mapping: labels of nearly equal score may change places."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, dict) and "label" in item for item in value)
        and len({item["label"] for item in value}) == len(value)  # not so for entities
    ):
        return {item["label"]: item for item in value}
    return value
