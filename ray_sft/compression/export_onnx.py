"""From torch to ONNX: encoders by transformers' exporter, decoders by the genai builder.

Encoder-decoders become two graphs, see `ray_sft.compression.export_seq2seq`.

The builder writes attention as GroupQueryAttention, whose keys and values stay in place, which is
what the generation engine needs. For CUDA it writes PagedAttention, whose keys and values lie in
pages, which is what onnxruntime-genai's Engine needs. It runs in a process of its own, since it
installs modules of very general names.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import onnx
import torch
import transformers
from pydantic import Field, model_validator
from transformers.exporters import OnnxConfig, OnnxExporter

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.attention import split_heads_inside
from ray_sft.compression.attention_heads import cut_silent_heads
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.compression.export_seq2seq import export_seq2seq
from ray_sft.compression.graph import fold_transposes, save_graph
from ray_sft.core import CompressionError
from ray_sft.inference import missing_for_cuda
from ray_sft.models import load_processor, load_tasks, uses_heads
from ray_sft.tasks import Example

__all__ = ["ExportOnnx"]

DECODERS = (
    "Gemma2ForCausalLM",
    "GemmaForCausalLM",
    "GraniteForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "OlmoForCausalLM",
    "Phi3ForCausalLM",
    "PhiForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "SmolLM3ForCausalLM",
)
"""Text-only architectures of the onnxruntime-genai 0.18 builder."""

_ENCODERS = ("BERT", "MiniLM", "RoBERTa", "DistilBERT", "ELECTRA")
_ENCODER_DECODERS = ("T5", "Marian", "BART")
"""Families that the tests export; others are tried."""
_PRECISIONS: dict[str, Precision] = {
    "fp32": "fp32",
    "bf16": "half",
    "fp16": "half",
    "int4": "int4",
}
_OPSET = 23
"""The first with attention as one operator."""


class ExportOnnx(Pass):
    """The same model as an ONNX graph: in fp32, or a decoder for CUDA in fewer bits."""

    consumes: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "onnx"
    precision: ClassVar[Precision] = "fp32"
    variant: ClassVar[str] = "onnx"
    is_exact: ClassVar[bool] = True
    takes_encoder_decoders: ClassVar[bool] = True

    kind: Literal["export_onnx"] = "export_onnx"
    device: Literal["cpu", "cuda"] = "cpu"
    """What the graph is for. One for ``cuda`` runs there only: a decoder with paged attention."""
    dtype: Literal["fp32", "bf16", "fp16", "int4"] = "fp32"
    """Of the weights: fp32 on the CPU, where passes of their own quantize; on CUDA one of the
    others. ``int4`` computes in fp16."""
    time_limit_s: float = Field(default=1800.0, gt=0.0)
    """How long the export of a decoder may take."""

    @model_validator(mode="after")
    def _check_dtype(self) -> Self:
        if self.device == "cuda" and self.dtype == "fp32":
            raise ValueError(
                "dtype is fp32, but paged attention on CUDA computes in 16 bits. Set dtype to "
                "bf16, fp16 or int4"
            )
        if self.device == "cpu" and self.dtype != "fp32":
            raise ValueError(
                f"dtype is {self.dtype}, but for the device cpu weights are exported in fp32. "
                "Leave dtype out and put a pass quantize_... behind it"
            )
        return self

    @property
    def made_precision(self) -> Precision:
        """See `Pass.made_precision`."""
        return _PRECISIONS[self.dtype]

    @property
    def keeps_outputs(self) -> bool:
        """See `Pass.keeps_outputs`."""
        return self.dtype == "fp32"

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: decoders must be of an architecture that the builder knows.

        What is made for CUDA is measured there, too, before it is kept.
        """
        if self.device == "cuda":
            _check_cuda(source)
        if not source.is_decoder:
            return
        path = source.model_dir / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        architecture = next(iter(config.get("architectures") or ["unknown"]))
        if architecture not in DECODERS:
            raise CompressionError(
                f"export_onnx cannot export a decoder of architecture '{architecture}'. "
                f"Supported: {', '.join(DECODERS)}. Train one of these."
            )
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        if size % 16:
            raise CompressionError(
                f"export_onnx: the attention heads have size {size}; ONNX Runtime's attention "
                "needs a multiple of 16. Choose hidden_size / num_attention_heads accordingly."
            )

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        del context
        if source.is_decoder:
            self._build_decoder(source, out.model_dir)
        else:
            _export_encoder(source, out.model_dir)
        return PassResult({"device": self.device, "dtype": self.dtype})

    def _build_decoder(self, source: Bundle, model_dir: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            inputs, outputs = Path(folder) / "inputs", Path(folder) / "outputs"
            inputs.mkdir()
            for file in (*source.processor_dir.iterdir(), *source.model_dir.iterdir()):
                (inputs / file.name).symlink_to(file.resolve())
            self._run_builder(inputs, outputs, cache_dir=Path(folder) / "cache")
            save_graph(onnx.load(outputs / "model.onnx"), model_dir)
            shutil.copy(outputs / "genai_config.json", model_dir)

    def _run_builder(self, inputs: Path, outputs: Path, *, cache_dir: Path) -> None:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        command += ["-i", str(inputs), "-o", str(outputs), "-p", self.dtype, "-e", self.device]
        command += ["-c", str(cache_dir)]
        if self.device == "cuda":
            command += ["--extra_options", "use_paged_attention=true"]
        offline = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=self.time_limit_s,
                env=os.environ | offline,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CompressionError(
                f"export_onnx did not finish within {self.time_limit_s:g} s. "
                "Raise time_limit_s of the pass."
            ) from None
        if done.returncode != 0 or not (outputs / "model.onnx").is_file():
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CompressionError(f"export_onnx: the onnxruntime-genai builder failed: {reason}")


def _check_cuda(source: Bundle) -> None:
    if not source.is_decoder:
        raise CompressionError(
            f"export_onnx with device: cuda is for decoders; '{source.manifest.name}' is a "
            f"{source.task.head} model. Leave device out."
        )
    if missing := missing_for_cuda():
        raise CompressionError(
            "export_onnx with device: cuda makes a graph for CUDA, which has to be measured before "
            f"it is kept, but cannot run here: {missing} Or leave device out."
        )


def _export_encoder(source: Bundle, model_dir: Path) -> None:
    processor = load_processor(source.processor_dir)
    tasks = source.manifest.tasks
    model = load_tasks(str(source.model_dir), tasks, processor=processor).eval()
    inputs = _trace_inputs(source, processor)
    if source.is_encoder_decoder:
        with _quiet(), _traced(model, _ENCODER_DECODERS):
            export_seq2seq(model, inputs, model_dir, opset=_OPSET)
        return
    cut_silent_heads(model)
    axes = {name: {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO} for name in inputs}
    options = OnnxConfig(dynamic=True, dynamic_shapes=axes, opset_version=_OPSET)
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        with _traced(model, _ENCODERS):
            OnnxExporter().export(model, inputs, options).save_pretrained(folder)
        graph = split_heads_inside(onnx.load(Path(folder) / "model.onnx"))
    fold_transposes(graph)
    wanted = set(tasks) if uses_heads(tasks) else {"logits"}
    names = {value.name for value in graph.graph.output}
    if missing := sorted(wanted - names):
        raise CompressionError(f"export_onnx: the graph has no output '{missing[0]}' but {names}.")
    save_graph(graph, model_dir)


def _trace_inputs(source: Bundle, processor: Any) -> dict[str, torch.Tensor]:
    """Two samples of at least 11 tokens: tracing takes an axis of length 0 or 1 for a constant."""
    name, task = next(iter(source.manifest.tasks.items()))
    encoded = task.encode([pair["request"] for pair in source.samples(name)], processor)
    examples = [item for item in encoded if isinstance(item, Example)]
    if not examples:
        raise CompressionError(f"bundle '{source.path}' has no usable sample to trace with.")
    batch = task.collate([examples[0], examples[-1]], processor)
    missing = max(0, 11 - batch["input_ids"].shape[1])
    fill = {"input_ids": processor.pad_token_id, "attention_mask": 0}
    return {
        name: torch.nn.functional.pad(torch.from_numpy(batch[name]), (0, missing), value=value)
        for name, value in fill.items()
    }


@contextmanager
def _traced(model: Any, families: Sequence[str]) -> Iterator[None]:
    """Raises CompressionError where ``model`` cannot be traced, naming ``families`` that can."""
    try:
        yield
    except CompressionError:
        raise
    except Exception as error:  # torch.export raises many kinds; all mean the same here
        raise CompressionError(
            f"export_onnx cannot trace {type(model).__name__}: {error}\nFamilies that it can: "
            f"{', '.join(families)}. Train one of these, or serve the model in torch."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's progress, notes on versions and deprecations to itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    former = [logger.level for logger in loggers]
    verbosity = transformers.logging.get_verbosity()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        for logger, level in zip(loggers, former, strict=True):
            logger.setLevel(level)
