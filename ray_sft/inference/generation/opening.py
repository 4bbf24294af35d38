"""The engine that a bundle's graph was made for."""

import logging

from ray_sft.bundle import Bundle
from ray_sft.inference.cuda import check_device
from ray_sft.inference.generation.engine import GenerationEngine
from ray_sft.inference.generation.paged_engine import PagedEngine
from ray_sft.inference.generation.text_engine import TextEngine

__all__ = ["open_engine"]

logger = logging.getLogger(__name__)


def open_engine(
    bundle: Bundle,
    *,
    num_slots: int = 8,
    num_threads: int = 1,
    max_queued: int = 64,
    max_length: int = 4096,
    max_cached_tokens: int = 4096,
    spinning: bool = True,
) -> TextEngine:
    """An engine for ``bundle``: with paged attention where it was exported for CUDA.

    The arguments are those of `GenerationEngine`. On CUDA ``max_cached_tokens`` and ``spinning``
    mean nothing: prompts that begin alike are read anew.

    Raises:
        BundleError: the bundle holds no decoder graph, or one for CUDA, which is not here.
    """
    if check_device(bundle.model_dir) == "cuda":
        if max_cached_tokens:
            logger.warning(
                "'%s' runs on CUDA, where prompts that begin alike are read anew: the %d tokens "
                "to keep of them are not used",
                bundle.path,
                max_cached_tokens,
            )
        return PagedEngine(
            bundle,
            num_slots=num_slots,
            num_threads=num_threads,
            max_queued=max_queued,
            max_length=max_length,
        )
    return GenerationEngine(
        bundle,
        num_slots=num_slots,
        num_threads=num_threads,
        max_queued=max_queued,
        max_length=max_length,
        max_cached_tokens=max_cached_tokens,
        spinning=spinning,
    )
