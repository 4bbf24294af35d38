"""Asking or measuring a single bundle from the command line."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError, Config, ConfigError, DataError, Tree, validate
from ray_sft.data import AnySource, check_columns, iterate_rows
from ray_sft.evaluation import evaluate
from ray_sft.inference import GenerationRequest, Predictor, open_engine
from ray_sft.tasks import CausalLanguageModel, Example, Rejected, Row
from ray_sft.tasks.causal_language_model import Message, encode_prompt

__all__ = ["evaluate_file", "predict_lines"]

_KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
}
_ROWS_AT_ONCE = 256


def evaluate_file(path: Path, data: str, columns: Mapping[str, str]) -> dict[str, Any]:
    """The task's figures on a file of rows with labels, with the number of rows left out.

    Raises:
        RaySFTError: the bundle or the file cannot be used.
    """
    bundle = Bundle.open(path)
    source = _source(data, columns)
    check_columns(data, source, bundle.task)
    predictor = Predictor(bundle, num_threads=os.cpu_count() or 1)
    encoded = predictor.encode(list(iterate_rows(source)))
    examples = [item for item in encoded if isinstance(item, Example)]
    if not examples:
        reasons = [item.reason for item in encoded if isinstance(item, Rejected)]
        raise DataError(f"no row of '{data}' can be used: {reasons[0] if reasons else 'no rows'}.")
    figures = evaluate(bundle.task, predictor.runner, predictor.processor, examples)
    return dict(figures) | {"num_rejected": len(encoded) - len(examples)}


def predict_lines(
    path: Path, texts: Sequence[str], file: str, columns: Mapping[str, str], max_tokens: int
) -> Iterator[str]:
    """One JSON object per answer, in order.

    Raises:
        RaySFTError: nothing was asked, or the bundle or the file cannot be used.
    """
    if bool(texts) == bool(file):
        raise ConfigError("ask either with --text (as often as you like) or with --file.")
    bundle = Bundle.open(path)
    is_chat = isinstance(bundle.task, CausalLanguageModel)
    if texts:
        rows: Iterator[Row] = ({"text": text} for text in texts)
    else:
        rows = iterate_rows(_source(file, columns))
    answers = _replies(bundle, rows, max_tokens) if is_chat else _predictions(bundle, rows)
    for answer in answers:
        yield json.dumps(answer, ensure_ascii=False)


def _predictions(bundle: Bundle, rows: Iterator[Row]) -> Iterator[dict[str, Any]]:
    predictor = Predictor(bundle, num_threads=os.cpu_count() or 1)
    while chunk := [row for _, row in zip(range(_ROWS_AT_ONCE), rows, strict=False)]:
        for answer in predictor.predict(chunk):
            if isinstance(answer, Rejected):
                yield {"error": answer.reason}
            else:
                yield answer.model_dump(mode="json")


def _replies(bundle: Bundle, rows: Iterator[Row], max_tokens: int) -> Iterator[dict[str, Any]]:
    if bundle.manifest.format != "onnx":
        raise BundleError(
            f"bundle '{bundle.path}' holds torch weights; replies are written by an ONNX graph. "
            "Give the bundle 'onnx' or 'int8' of the run."
        )
    processor = Predictor(bundle).processor
    engine = open_engine(bundle, num_threads=os.cpu_count() or 1)
    try:
        for row in rows:
            prompt = tuple(encode_prompt(_conversation(row), processor))
            stream = engine.submit(GenerationRequest(prompt, max_tokens=max_tokens))
            chunks = list(stream)
            yield {
                "text": "".join(chunk.text for chunk in chunks),
                "finish_reason": chunks[-1].finish_reason,
            }
    finally:
        engine.close()


def _conversation(row: Row) -> list[Message]:
    """The turns before the reply: a row's messages up to the last question, or its text."""
    if row.get("messages"):
        messages = [Message.model_validate(turn) for turn in row["messages"]]
        while messages and messages[-1].role == "assistant":
            messages.pop()
        return messages
    return [Message(role="user", content=str(row.get("text", "")))]


def _source(path: str, columns: Mapping[str, str]) -> Any:
    kind = _KINDS.get(Path(path).suffix.lower())
    if kind is None:
        raise ConfigError(f"'{path}' ends in none of {', '.join(_KINDS)}.")
    tree: Tree = {"source": kind, "path": path, "columns": {**columns}}
    return validate(_File, {"source": tree}, what=f"data '{path}'").source


class _File(Config):
    """Wraps the union of sources, so that it can be validated."""

    source: AnySource
