"""8-bit weights and activations of encoders, with scales that are found beforehand.

Dynamic int8 (`quantize_int8`) finds the scale of its activations anew for each batch, so an answer
depends a little on its neighbours. Here the scales are those of training rows: answers do not
depend on neighbours at all, and lose more where a text is unlike those. ONNX Runtime's own tools
calibrate, by one of three rules for the range of a tensor:

- ``percentile``: all but its 0.001 % largest values.
- ``entropy``: what loses the least information (KL divergence of the histograms).
- ``minmax``: all of them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from pydantic import Field

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.compression.graph import save_graph
from ray_sft.compression.integer_graph import quantizer_options, without_advice
from ray_sft.compression.sensitivity import most_sensitive, spread
from ray_sft.core import CompressionError
from ray_sft.inference import OnnxRunner
from ray_sft.models import load_processor
from ray_sft.tasks import Array, Example

__all__ = ["QuantizeStatic"]

_METHODS = {
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
    "minmax": CalibrationMethod.MinMax,
}
_BATCH_SIZE = 8


class QuantizeStatic(Pass):
    """Matrix products of an encoder on 8-bit integers, by scales that no neighbour changes."""

    consumes: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    precision: ClassVar[Precision] = "int8"
    variant: ClassVar[str] = "int8_static"

    kind: Literal["quantize_static"] = "quantize_static"
    calibration: Literal["percentile", "entropy", "minmax"] = "percentile"
    """Which range of an activation has 256 values."""
    rows: int = Field(default=128, ge=_BATCH_SIZE)
    """How many training rows the ranges are found on."""
    embeddings: bool = True
    """Also the word embeddings: no faster, but often half of its size."""
    units_in_fp32: int = Field(default=0, ge=0)
    """How many units of products that read the same values (queries, keys and values are one) stay
    in fp32: those whose rounding changes the answers to training rows the most."""

    @property
    def needs_examples(self) -> bool:
        """See `Pass.needs_examples`."""
        return True

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: encoders only."""
        if source.is_decoder:
            raise CompressionError(
                f"quantize_static is for encoders; '{source.manifest.name}' is a decoder, whose "
                "quantize_int8 already scales every row by itself. Use that."
            )

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        self.check(source)
        feeds = _feeds(source, context.examples, self.rows)
        if not feeds:
            raise CompressionError(
                f"quantize_static needs {_BATCH_SIZE} training rows or more to find ranges on."
            )

        def quantize(folder: Path, others: Collection[str]) -> None:
            self._quantize(source.model_dir, folder, feeds, others)

        others = most_sensitive(source, self.units_in_fp32, context.examples, quantize)
        quantize(out.model_dir, others)
        return PassResult({"calibration": self.calibration, "in_fp32": others})

    def _quantize(
        self,
        source_dir: Path,
        model_dir: Path,
        feeds: Sequence[Mapping[str, Array]],
        others: Collection[str],
    ) -> None:
        name = "model.onnx"
        options = quantizer_options(
            source_dir, name=name, others=others, embeddings=self.embeddings
        )
        with without_advice(), redirect_stdout(StringIO()):  # what calibration is at
            quantize_static(
                onnx.load(source_dir / name),  # of a path it would write beside it
                model_dir / name,
                _Rows(feeds),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                calibrate_method=_METHODS[self.calibration],
                **options,
            )
        save_graph(onnx.load(model_dir / name), model_dir)


def _feeds(
    source: Bundle, examples: Mapping[str, Sequence[Example]], count: int
) -> list[dict[str, Array]]:
    """Batches of training rows of one shape, as histograms over them have to be."""
    processor = load_processor(source.processor_dir)
    runner = OnnxRunner(source.model_dir, num_threads=1)
    found: list[dict[str, Array]] = []
    for name, task in source.manifest.tasks.items():
        every = examples.get(name, ())
        kept = min(len(every), count) // _BATCH_SIZE * _BATCH_SIZE
        if rows := spread(every, kept):
            whole = runner.feeds(task.collate(rows, processor))
            found += [
                {key: array[start : start + _BATCH_SIZE] for key, array in whole.items()}
                for start in range(0, kept, _BATCH_SIZE)
            ]
    widest = max((feed["input_ids"].shape[1] for feed in found), default=0)
    return [{key: _widened(array, widest) for key, array in feed.items()} for feed in found]


def _widened(array: Array, width: int) -> Array:
    """With padding, which the mask says is none of the text, up to ``width``."""
    missing = width - array.shape[1]
    return np.pad(array, [(0, 0), (0, missing)]) if missing else array


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # it has no types
    """Feeds, one after another."""

    def __init__(self, feeds: Sequence[Mapping[str, Array]]) -> None:
        self._feeds: Iterator[Mapping[str, Array]] = iter(feeds)

    def get_next(self) -> Mapping[str, Array] | None:
        """The next feed; None behind the last."""
        return next(self._feeds, None)
