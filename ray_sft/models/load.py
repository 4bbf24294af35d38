"""Loading a model and its processor from any of the places that a recipe may name.

A reference is ``embedded/...``, a folder in transformers' layout, a bundle, or a hub id. Remote
code is never run and only safetensors are read.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from ray_sft.bundle import Bundle
from ray_sft.bundle.manifest import MANIFEST
from ray_sft.core import BundleError, ConfigError
from ray_sft.models.embedded import MINILM, TINY_LLAMA, minilm_dir
from ray_sft.tasks import Processor, Task

__all__ = ["ModelSource", "load_model", "load_processor", "locate"]

logger = logging.getLogger(__name__)

_AUTO_CLASSES: dict[str, Any] = {
    "sequence_classification": AutoModelForSequenceClassification,
    "causal_lm": AutoModelForCausalLM,
}


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's weights and processor are; both may also be one hub id."""

    model: str
    processor: str


def locate(reference: str) -> ModelSource:
    """The places that a reference stands for.

    Raises:
        ConfigError: nothing is there, or `embedded/tiny-llama` is asked for before it was made.
        BundleError: a bundle that holds no torch weights, or is damaged.
    """
    if reference == MINILM:
        return ModelSource(str(minilm_dir()), str(minilm_dir()))
    if reference == TINY_LLAMA:
        raise ConfigError(
            f"model '{TINY_LLAMA}' has no weights of its own: it is built from the run's text. "
            "Use it as the model of a recipe, not of a single step."
        )
    path = Path(reference).expanduser()
    if (path / MANIFEST).is_file():
        bundle = Bundle.open(path)
        if bundle.manifest.format != "torch":
            raise BundleError(
                f"bundle '{path}' holds an ONNX graph, which cannot be trained. "
                "Start from the bundle it was made from ('trained')."
            )
        return ModelSource(str(bundle.model_dir), str(bundle.processor_dir))
    if path.is_dir():
        return ModelSource(str(path), str(path))
    if path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") != 1:
        raise ConfigError(
            f"model '{reference}' does not exist. Give a folder, a bundle, a hub id "
            f"(owner/name), '{MINILM}' or '{TINY_LLAMA}'."
        )
    return ModelSource(reference, reference)


def load_processor(reference: str | Path) -> Processor:
    """The tokenizer at a folder or hub id; padding is on the right.

    Raises:
        ConfigError: there is none, or it has no token to pad with.
    """
    try:
        processor = AutoTokenizer.from_pretrained(str(reference), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(_cannot_load("tokenizer", str(reference), error)) from None
    if processor.pad_token_id is None:
        if processor.eos_token_id is None:
            raise ConfigError(f"the tokenizer of '{reference}' has neither a pad nor an eos token.")
        # only the position of padding matters: masks come from lengths, never from ids
        processor.pad_token = processor.eos_token
    processor.padding_side = "right"
    return processor


def load_model(reference: str, task: Task, *, processor: Processor) -> torch.nn.Module:
    """The model with the head that ``task`` needs, in fp32.

    Raises:
        ConfigError: nothing can be loaded, or the tokenizer has more ids than the model rows.
    """
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()  # a new head is no news
    options = task.model_options()
    try:
        config = AutoConfig.from_pretrained(reference, trust_remote_code=False, **options)
        model = _AUTO_CLASSES[task.head].from_pretrained(
            reference,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(_cannot_load("model", reference, error)) from None
    num_rows = model.get_input_embeddings().num_embeddings
    if len(processor) > num_rows:
        raise ConfigError(
            f"the tokenizer has {len(processor)} ids, the model '{reference}' only {num_rows} "
            "embeddings. They do not belong together."
        )
    if task.head != "causal_lm":
        model.config.pad_token_id = processor.pad_token_id
    limit = getattr(model.config, "max_position_embeddings", None)
    max_length = getattr(task, "max_length", 0)
    if limit is not None and max_length > limit:
        raise ConfigError(
            f"tasks.*.max_length is {max_length}, but '{reference}' takes {limit} positions. "
            f"Set max_length: {limit} or less."
        )
    return model  # type: ignore[no-any-return]


def _cannot_load(what: str, reference: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0]
    return (
        f"cannot load the {what} '{reference}': {reason} Give a folder, a bundle, a hub id that "
        f"this machine can reach, '{MINILM}' or '{TINY_LLAMA}'."
    )
