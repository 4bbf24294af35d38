"""Running a model forward: named numpy arrays in, named numpy arrays out.

Both runners satisfy `ray_sft.tasks.Runner`, so a task's ``predict`` does not know which one it
has. Nothing here batches, tokenises or interprets.
"""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnxruntime as ort
import torch

from ray_sft.core import BundleError
from ray_sft.tasks import Array, Batch, Outputs, Runner

__all__ = [
    "Device",
    "HeadRunner",
    "OnnxRunner",
    "TorchRunner",
    "open_session",
    "read_decoder_settings",
    "read_genai_config",
    "torch_threads",
]

Device: TypeAlias = Literal["cpu", "cuda"]
"""What a graph was made for."""

_PAST = "past_key_values."
_PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
}
_DTYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}

# ONNX Runtime 1.32's fused kernel for Add + LayerNormalization is scalar on x86: on MiniLM in int8
# it takes 30 % of the time, the two separate kernels 5 % (25.5 -> 19.0 ms for 32 x 13 tokens).
_SLOW_FUSIONS = ["SkipLayerNormFusion"]


class TorchRunner:
    """Runs a torch module without gradients, in evaluation mode."""

    def __init__(
        self, module: torch.nn.Module, *, device: str = "cpu", num_threads: int | None = None
    ) -> None:
        """Runs ``module``, which lies on ``device``; ``num_threads`` None: as the process has."""
        self.module = module
        self.device = torch.device(device)
        self.num_threads = num_threads
        self._options: dict[str, Any] = (
            {"use_cache": False}
            if "use_cache" in inspect.signature(module.forward).parameters
            else {}
        )

    def __call__(self, batch: Batch) -> Outputs:
        """The model's outputs that are tensors, floating ones as float32."""
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        was_training = self.module.training
        if was_training:
            self.module.eval()
        try:
            with torch.no_grad(), torch_threads(self.num_threads):
                outputs = self.module(
                    **{name: tensor.to(self.device) for name, tensor in tensors.items()},
                    **self._options,
                )
        finally:
            if was_training:
                self.module.train()
        return {
            name: _to_numpy(value)
            for name, value in outputs.items()
            if isinstance(value, torch.Tensor)
        }

    def release(self) -> None:
        """Frees the weights; the runner is of no use afterwards.

        A module of transformers refers to itself, so that without this its memory would be held
        until the collector comes by - and under Ray Serve, which exempts what a replica has loaded
        at its start, for ever.
        """
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            tensor.data = torch.empty(0)


class OnnxRunner:
    """Runs ``model.onnx`` of a folder on the CPU.

    Feeds what the graph asks for: token types are zeros, and a decoder's past keys and values
    are empty, so that one call scores whole sequences.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        num_threads: int,
        spinning: bool = True,
        optimized_path: Path | None = None,
    ) -> None:
        """Loads the graph; ``optimized_path`` also writes it as optimised for this machine.

        Raises:
            BundleError: there is no graph, or ONNX Runtime cannot load it.
        """
        self.session = open_session(
            model_dir, num_threads=num_threads, spinning=spinning, optimized_path=optimized_path
        )
        self._inputs = self.session.get_inputs()
        is_decoder = any(entry.name.startswith(_PAST) for entry in self._inputs)
        self._past_shape = _empty_past_shape(model_dir) if is_decoder else ()
        names = [output.name for output in self.session.get_outputs()]
        self._outputs = [name for name in names if not name.startswith("present")]

    def __call__(self, batch: Batch) -> Outputs:
        """The graph's outputs without keys and values."""
        values = self.session.run(self._outputs, self.feeds(batch))
        return dict(zip(self._outputs, values, strict=True))

    def feeds(self, batch: Batch) -> dict[str, Array]:
        """What the graph is given for a batch, by input; of a decoder with an empty past."""
        return {entry.name: self._feed(entry, batch) for entry in self._inputs}

    def _feed(self, entry: Any, batch: Batch) -> Array:
        dtype = _DTYPES[entry.type]
        if entry.name in batch:
            return np.ascontiguousarray(batch[entry.name], dtype=dtype)
        if entry.name == "token_type_ids":
            return np.zeros(batch["input_ids"].shape, dtype=dtype)
        if entry.name.startswith(_PAST):
            return np.zeros((len(batch["input_ids"]), *self._past_shape), dtype=dtype)
        raise BundleError(
            f"the ONNX graph asks for '{entry.name}', which the task does not provide "
            f"(it has: {', '.join(sorted(batch))}). Export the model again."
        )


class HeadRunner:
    """One head of a model of several: its output under the name that its task asks for."""

    def __init__(self, runner: Runner, name: str) -> None:
        """The head ``name`` of what ``runner`` runs."""
        self._runner = runner
        self._name = name

    def __call__(self, batch: Batch) -> Outputs:
        """``logits``, whatever the head."""
        return {"logits": self._runner(batch)[self._name]}


def open_session(
    model_dir: Path,
    *,
    num_threads: int,
    spinning: bool,
    optimized_path: Path | None = None,
    name: str = "model.onnx",
    device: Device = "cpu",
) -> ort.InferenceSession:
    """A session for a graph in a folder.

    ONNX Runtime heeds neither OMP_NUM_THREADS nor a container's CPU limit, so the threads are
    given. Idle threads that spin answer a little faster alone, and slow down their neighbours.

    Raises:
        BundleError: there is no graph, or ONNX Runtime cannot load it.
    """
    path = model_dir / name
    if not path.is_file():
        raise BundleError(f"'{model_dir}' holds no {name}. Make the bundle again.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    try:
        return ort.InferenceSession(
            str(path),
            options,
            providers=_PROVIDERS[device],
            disabled_optimizers=_SLOW_FUSIONS,
        )
    except Exception as error:  # pybind11 exceptions of ONNX Runtime share no other base
        raise BundleError(f"ONNX Runtime cannot load '{path}': {error}") from error


def read_decoder_settings(model_dir: Path) -> dict[str, Any]:
    """What the onnxruntime-genai builder has written about a decoder's graph.

    Raises:
        BundleError: the folder holds no decoder graph of the export pass.
    """
    settings: dict[str, Any] = read_genai_config(model_dir)["model"]
    return settings


def read_genai_config(model_dir: Path) -> dict[str, Any]:
    """The same with how it is searched and batched.

    Raises:
        BundleError: the folder holds no decoder graph of the export pass.
    """
    path = model_dir / "genai_config.json"
    if not path.is_file():
        raise BundleError(
            f"'{model_dir}' holds no {path.name}, so it cannot generate text. "
            "Compress a causal language model with the pass export_onnx."
        )
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


@contextmanager
def torch_threads(num_threads: int | None) -> Iterator[None]:
    """Runs torch's operators on ``num_threads`` threads; None leaves them as they are."""
    former = torch.get_num_threads()
    if num_threads is None or num_threads == former:
        yield
        return
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def _to_numpy(tensor: torch.Tensor) -> Array:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()


def _empty_past_shape(model_dir: Path) -> tuple[int, int, int]:
    decoder = read_decoder_settings(model_dir)["decoder"]
    return int(decoder["num_key_value_heads"]), 0, int(decoder["head_size"])
