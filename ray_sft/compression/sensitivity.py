"""How much a model's outputs change where a part of it alone is rounded.

The part is a unit: all products that read the same values, so that queries, keys and values stay
together (kernels fuse them). What changes is measured on training rows, as the squared error of all
outputs over their squared size: the inverse of the signal-to-noise ratio by which quantizers judge
tensors, of what the model says instead.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from ray_sft.bundle import Bundle
from ray_sft.compression.graph import products
from ray_sft.core import CompressionError
from ray_sft.inference import OnnxRunner, plan_batches
from ray_sft.models import load_processor
from ray_sft.tasks import Batch, Example, Outputs

__all__ = ["calibration_batches", "most_sensitive", "spread", "units_of"]

_ROWS = 64
"""Of each task; more change the order of units little."""
_BATCH_TOKENS = 2048


def units_of(model_dir: Path) -> list[list[str]]:
    """Of each unit of a graph in fp32 its products, which have constant weights, in their order."""
    graph = onnx.load(model_dir / "model.onnx", load_external_data=False).graph
    found: dict[str, list[str]] = {}
    for node, _ in products(graph):
        found.setdefault(node.input[0], []).append(node.name)
    return list(found.values())


def most_sensitive(
    source: Bundle,
    count: int,
    examples: Mapping[str, Sequence[Example]],
    quantize: Callable[[Path, Collection[str]], None],
) -> list[str]:
    """The products of the ``count`` units of ``source`` whose rounding changes it the most.

    Args:
        source: in ONNX format and fp32.
        count: how many; as many as there are would leave nothing to round.
        examples: rows of training by task.
        quantize: writes the graph into a folder with all products rounded but the named ones.

    Raises:
        CompressionError: there are not more units than that.
    """
    if not count:
        return []
    units = units_of(source.model_dir)
    if count >= len(units):
        raise CompressionError(
            f"'{source.manifest.name}' has {len(units)} units of products, of which {count} were "
            f"to be rounded less. Set a number below {len(units)}."
        )
    batches = list(calibration_batches(source, examples))
    expected = _outputs(source.model_dir, batches)
    every, errors = {node for unit in units for node in unit}, []
    for unit in units:
        with tempfile.TemporaryDirectory() as folder:
            quantize(Path(folder), every - set(unit))
            errors.append(_relative_error(expected, _outputs(Path(folder), batches)))
    order = np.argsort(errors)[::-1]
    return [node for number in order[:count] for node in units[number]]


def calibration_batches(
    source: Bundle, examples: Mapping[str, Sequence[Example]]
) -> Iterator[Batch]:
    """Some rows of every task, at even distances."""
    processor = load_processor(source.processor_dir)
    for name, task in source.manifest.tasks.items():
        rows = spread(examples.get(name, ()), _ROWS)
        for group in plan_batches([row.length for row in rows], max_batch_tokens=_BATCH_TOKENS):
            yield task.collate([rows[number] for number in group], processor)


def spread(examples: Sequence[Example], count: int) -> list[Example]:
    """Up to ``count`` of ``examples``, at even distances."""
    kept = min(len(examples), count)
    return [examples[len(examples) * number // kept] for number in range(kept)]


def _outputs(model_dir: Path, batches: Sequence[Batch]) -> list[Outputs]:
    runner = OnnxRunner(model_dir, num_threads=1)
    return [runner(batch) for batch in batches]


def _relative_error(expected: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    """The squared error over all outputs and batches, over the squared size."""
    error = size = 0.0
    for wanted, given in zip(expected, found, strict=True):
        for name, values in wanted.items():
            error += float(np.square(values - given[name], dtype=np.float64).sum())
            size += float(np.square(values, dtype=np.float64).sum())
    return error / max(size, 1e-30)
