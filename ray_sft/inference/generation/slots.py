"""A decoder whose keys and values stay in fixed slots, so that requests come and go freely.

The graph of the onnxruntime-genai builder computes attention with GroupQueryAttention, which
writes new keys and values in place when past and present are one buffer. One buffer holds all
slots: a prompt is read into one slot by its address while the others wait untouched, and one call
then advances all slots by a token, each at a position of its own.
"""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from ray_sft.core import BundleError
from ray_sft.inference.cuda import decoder_device
from ray_sft.inference.runners import open_session, read_decoder_settings
from ray_sft.tasks import Array

__all__ = ["SlotDecoder"]


class SlotDecoder:
    """A decoder graph with ``num_slots`` slots of ``max_length`` positions."""

    def __init__(
        self, model_dir: Path, *, num_slots: int, num_threads: int, spinning: bool, max_length: int
    ) -> None:
        """Loads the graph; ``max_length`` is cut to what the model takes.

        Raises:
            BundleError: the folder holds no decoder graph of the export pass, or one for CUDA.
        """
        if decoder_device(model_dir) == "cuda":
            raise BundleError(f"the graph in '{model_dir}' is for CUDA: PagedEngine runs it.")
        settings = read_decoder_settings(model_dir)
        decoder = settings["decoder"]
        self.session = open_session(model_dir, num_threads=num_threads, spinning=spinning)
        self.num_slots = num_slots
        self.max_length = min(max_length, int(settings["context_length"]))
        self.vocab_size = int(settings["vocab_size"])
        eos = settings["eos_token_id"]
        self.eos_token_ids = frozenset(eos if isinstance(eos, list) else [eos])
        self.lengths = np.zeros(num_slots, dtype=np.int64)
        self._num_layers = int(decoder["num_hidden_layers"])
        self._slot_shape = (
            int(decoder["num_key_value_heads"]),
            self.max_length,
            int(decoder["head_size"]),
        )
        # the system gives pages to np.zeros on first use: idle slots cost addresses, not memory
        self._cache = {
            f"{layer}.{part}": np.zeros((num_slots, *self._slot_shape), dtype=np.float32)
            for layer in range(self._num_layers)
            for part in ("key", "value")
        }
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}

    def prefill(self, slot: int, tokens: Array) -> Array:
        """Appends ``tokens`` (tokens,) to a slot; logits (vocabulary,) after the last of them."""
        length = int(self.lengths[slot]) + len(tokens)
        assert length <= self.max_length, (length, self.max_length)
        mask = np.ones((1, length), dtype=np.int64)
        logits = self._run(slot, tokens[None].astype(np.int64), mask)
        self.lengths[slot] = length
        last: Array = logits[0, -1]
        return last

    def decode(self, tokens: Array, live: Array) -> Array:
        """One step of slots 0 to n-1: logits (n, vocabulary) after ``tokens`` (n,).

        A slot that is not ``live`` (n,) runs along: what it writes behind its end is overwritten
        by its next token, and its row of logits means nothing.
        """
        num = len(tokens)
        ends = np.minimum(self.lengths[:num] + 1, self.max_length)
        mask = (np.arange(ends.max())[None] < ends[:, None]).astype(np.int64)
        logits = self._run(0, tokens[:, None].astype(np.int64), mask)
        self.lengths[:num] += live
        step: Array = logits[:, -1]
        return step

    def release(self, slot: int) -> None:
        """Empties a slot."""
        self.lengths[slot] = 0

    def copy_out(self, slot: int, num_tokens: int) -> tuple[Array, ...]:
        """Keys and values of a slot's first tokens, each (heads, tokens, head_size)."""
        assert num_tokens <= self.lengths[slot]
        return tuple(array[slot, :, :num_tokens].copy() for array in self._cache.values())

    def copy_in(self, slot: int, state: tuple[Array, ...], num_tokens: int) -> None:
        """Fills an empty slot with the first ``num_tokens`` of what `copy_out` gave."""
        assert self.lengths[slot] == 0
        for array, part in zip(self._cache.values(), state, strict=True):
            array[slot, :, :num_tokens] = part[:, :num_tokens]
        self.lengths[slot] = num_tokens

    def _run(self, first_slot: int, ids: Array, mask: Array) -> Array:
        logits = np.empty((*ids.shape, self.vocab_size), dtype=np.float32)
        binding = self._binding(first_slot, len(ids))
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("attention_mask", mask)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self.session.run_with_iobinding(binding)
        return logits

    def _binding(self, first_slot: int, num: int) -> ort.IOBinding:
        """Past and present bound to the same memory, from ``first_slot`` on for ``num`` slots."""
        if (first_slot, num) not in self._bindings:
            binding = self.session.io_binding()
            shape = (num, *self._slot_shape)
            for name, array in self._cache.items():
                address = array.ctypes.data + first_slot * array.strides[0]
                past, present = f"past_key_values.{name}", f"present.{name}"
                binding.bind_input(past, "cpu", 0, np.float32, shape, address)
                binding.bind_output(present, "cpu", 0, np.float32, shape, address)
            self._bindings[first_slot, num] = binding
        return self._bindings[first_slot, num]
