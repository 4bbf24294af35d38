"""Running a decoder with paged attention forward on CUDA: whole texts, nothing kept of them.

What judges a model (evaluation, the gates of compression, the samples of a bundle) asks for logits
of whole texts, which onnxruntime-genai does not give. The graph takes the tokens of all texts one
behind the other, without padding, and a table of the pages in which each has its keys and values.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ray_sft.inference.cuda import check_device
from ray_sft.inference.runners import open_session, read_genai_config
from ray_sft.tasks import Array, Batch, Outputs

__all__ = ["PackedTexts", "PagedRunner", "pack_texts"]

_CACHE_TYPES = {"tensor(float16)": 10, "tensor(bfloat16)": 16}
"""The numbers of ONNX's TensorProto.DataType; numpy has no name for the second."""


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """Texts as the operator PagedAttention takes them; tables are int32."""

    input_ids: Array
    """All tokens, (num_tokens,), int64."""
    cumulative_sequence_lengths: Array
    """Where each text begins, and the end, (texts + 1,)."""
    past_sequence_lengths: Array
    """Of nothing read before, (texts,)."""
    block_table: Array
    """The pages of each text, (texts, most pages), -1 behind its last."""
    attention_metadata: Array
    """Bounds of new and of all tokens of a text, and nothing known of the least, (3,)."""
    num_blocks: int
    """Pages in all."""


def pack_texts(input_ids: Array, attention_mask: Array, *, block_size: int) -> PackedTexts:
    """Padded texts (texts, tokens), whose mask is 1 where there is text, without the padding."""
    is_text = attention_mask.astype(np.bool_)
    lengths = is_text.sum(axis=1)
    pages = -(-lengths // block_size)
    ends = np.cumsum(pages)
    places = np.arange(pages.max())
    table = np.where(places < pages[:, None], (ends - pages)[:, None] + places, -1)
    longest = int(lengths.max())
    return PackedTexts(
        input_ids=input_ids[is_text].astype(np.int64),
        cumulative_sequence_lengths=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        past_sequence_lengths=np.zeros(len(lengths), dtype=np.int32),
        block_table=table.astype(np.int32),
        attention_metadata=np.asarray([longest, longest, 0], dtype=np.int32),
        num_blocks=int(ends[-1]),
    )


class PagedRunner:
    """Runs ``model.onnx`` of a folder on CUDA; see `OnnxRunner`."""

    def __init__(self, model_dir: Path) -> None:
        """Loads the graph.

        Raises:
            BundleError: there is no graph, or no CUDA to run it on.
        """
        check_device(model_dir)
        self.session: ort.InferenceSession | None = open_session(
            model_dir, num_threads=1, spinning=False, device="cuda"
        )
        self._types = {entry.name: entry.type for entry in self.session.get_inputs()}
        config = read_genai_config(model_dir)
        decoder = config["model"]["decoder"]
        self._block_size = int(config["engine"]["dynamic_batching"]["block_size"])
        self._num_layers = int(decoder["num_hidden_layers"])
        self._page = (
            self._block_size,
            int(decoder["num_key_value_heads"]),
            int(decoder["head_size"]),
        )

    def __call__(self, batch: Batch) -> Outputs:
        """``logits`` (texts, tokens, vocabulary), zero where there is padding."""
        assert self.session is not None, "released"
        mask = batch["attention_mask"]
        packed = pack_texts(batch["input_ids"], mask, block_size=self._block_size)
        binding = self.session.io_binding()
        for name in (
            "input_ids",
            "cumulative_sequence_lengths",
            "past_sequence_lengths",
            "block_table",
            "attention_metadata",
        ):
            binding.bind_cpu_input(name, np.ascontiguousarray(getattr(packed, name)))
        binding.bind_output("logits", "cpu")
        caches = self._bind_caches(binding, packed.num_blocks)
        self.session.run_with_iobinding(binding)
        # not copy_outputs_to_cpu, which brings the caches along, and cannot where they are in bf16
        found = binding.get_outputs()[0].numpy().astype(np.float32)
        del caches  # the binding knows their addresses only
        logits = np.zeros((*mask.shape, found.shape[-1]), dtype=np.float32)
        logits[mask.astype(np.bool_)] = found
        return {"logits": logits}

    def release(self) -> None:
        """Frees the device's memory; the runner is of no use afterwards."""
        self.session = None

    def _bind_caches(self, binding: Any, num_blocks: int) -> list[ort.OrtValue]:
        """Past and present in the same memory, which the operator writes in place."""
        caches = []
        for layer in range(self._num_layers):
            for part in ("key", "value"):
                name = f"{layer}.{part}"
                kind = _CACHE_TYPES[self._types[f"past_key_values.{name}"]]
                shape = [num_blocks, *self._page]
                cache = ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, "cuda", 0)
                binding.bind_ortvalue_input(f"past_key_values.{name}", cache)
                binding.bind_ortvalue_output(f"present.{name}", cache)
                caches.append(cache)
        return caches
