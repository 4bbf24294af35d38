"""onnxruntime-genai's Engine on a bundle, and what it is configured with.

It belongs to the thread that made it, and all that is done with it has to be done there.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError
from ray_sft.inference.cuda import import_genai
from ray_sft.inference.runners import read_decoder_settings

__all__ = ["GenaiEngine", "is_paged"]


def is_paged(settings: Mapping[str, Any]) -> bool:
    """Whether a decoder of these settings keeps keys and values in pages."""
    return "block_table" in settings["decoder"]["inputs"]


class GenaiEngine:
    """The Engine and the events that it tells."""

    def __init__(
        self, bundle: Bundle, *, num_slots: int, num_threads: int, eos_token_ids: Collection[int]
    ) -> None:
        """Loads the graph.

        Raises:
            BundleError: onnxruntime-genai cannot.
        """
        self.genai = import_genai()
        overlay = _overlay(bundle, num_slots=num_slots, num_threads=num_threads, eos=eos_token_ids)
        try:
            config = self.genai.Config(str(bundle.model_dir))
            config.overlay(json.dumps(overlay))
            self.engine = self.genai.Engine(self.genai.Model(config))
            self._room = int(self.engine.get_capabilities().max_request_length)
        except RuntimeError as error:
            raise BundleError(f"onnxruntime-genai cannot load '{bundle.path}': {error}") from error
        self._buffer = self.engine.create_event_buffer(2 * num_slots)

    def room(self, length: int) -> int:
        """``length``, or the tokens of one request that memory has room for if that is less."""
        return min(length, self._room) if self._room else length

    def step(self) -> list[Any]:
        """Brings its requests on; what there is to tell of them."""
        return list(self.engine.run(self._buffer))

    def close(self) -> None:
        """Frees everything; its requests are closed before."""
        self.engine = self._buffer = None


def _overlay(
    bundle: Bundle, *, num_slots: int, num_threads: int, eos: Collection[int]
) -> dict[str, Any]:
    """What is decided here, whatever the configuration in the bundle says."""
    batching: dict[str, Any] = {"static_batching": {"max_batch_size": num_slots}}
    if is_paged(read_decoder_settings(bundle.model_dir)):
        places = {"max_batch_size": num_slots, "prefix_caching": False}
        batching = {"dynamic_batching": places}
    threads = {"intra_op_num_threads": num_threads}
    return {
        "model": {"eos_token_id": sorted(eos), "decoder": {"session_options": threads}},
        "search": {"num_beams": 1, "min_length": 0, "random_seed": 0},
        "engine": batching,
    }
