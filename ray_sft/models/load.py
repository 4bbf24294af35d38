"""Loading a model and its processor from any of the places that a recipe may name.

A reference is ``embedded/...``, a folder in transformers' layout, a bundle, or a hub id. Remote
code is never run and only safetensors are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from ray_sft.bundle import Bundle
from ray_sft.bundle.manifest import MANIFEST
from ray_sft.core import BundleError, ConfigError, reason_of
from ray_sft.models.embedded import MINILM, minilm_dir
from ray_sft.models.from_scratch import FROM_SCRATCH, TINY_LLAMA, TINY_PEGASUS
from ray_sft.models.heads import HeadedEncoder, uses_heads
from ray_sft.tasks import Processor, Task

__all__ = [
    "ModelSource",
    "check_model",
    "empty_model",
    "load_as_saved",
    "load_model",
    "load_processor",
    "load_tasks",
    "locate",
    "model_config",
    "opened_bundle",
]

_UNREADABLE = (OSError, ValueError, KeyError, ImportError, SafetensorError)

_AUTO_CLASSES: dict[str, Any] = {
    "sequence_classification": AutoModelForSequenceClassification,
    "token_classification": AutoModelForTokenClassification,
    "masked_lm": AutoModelForMaskedLM,
    "causal_lm": AutoModelForCausalLM,
    "seq2seq_lm": AutoModelForSeq2SeqLM,
}
_EMBEDDED = ", ".join(f"'{name}'" for name in (MINILM, *FROM_SCRATCH))


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
    if reference in FROM_SCRATCH:
        raise ConfigError(
            f"model '{reference}' has no weights of its own: it is built from the run's text. "
            "Use it as the model of a recipe, not of a single step."
        )
    path = Path(reference).expanduser()
    if path.exists():
        path = path.resolve()  # workers run in other folders
    if reference.startswith("embedded/") and not path.exists():
        raise ConfigError(f"model '{reference}' does not exist: {_EMBEDDED} are embedded.")
    if bundle := opened_bundle(reference):
        if bundle.manifest.format != "torch":
            raise BundleError(
                f"bundle '{path}' holds an ONNX graph, which cannot be trained. "
                "Start from the bundle it was made from ('trained')."
            )
        return ModelSource(str(bundle.model_dir), str(bundle.processor_dir))
    if reference and path.is_dir():
        return ModelSource(str(path), str(path))
    if path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") != 1:
        raise ConfigError(
            f"model '{reference}' does not exist. Give a folder, a bundle, a hub id "
            f"(owner/name), or one of {_EMBEDDED}."
        )
    return ModelSource(reference, reference)


def opened_bundle(reference: str) -> Bundle | None:
    """The bundle that a reference stands for, if it is one.

    Raises:
        BundleError: it is damaged.
    """
    path = Path(reference).expanduser()
    return Bundle.open(path.resolve()) if (path / MANIFEST).is_file() else None


def load_processor(reference: str | Path) -> Processor:
    """The tokenizer at a folder or hub id; padding is on the right.

    Raises:
        ConfigError: there is none, or it has no token to pad with.
    """
    try:
        processor = AutoTokenizer.from_pretrained(str(reference), trust_remote_code=False)
    except _UNREADABLE as error:
        raise ConfigError(_cannot_load("tokenizer", str(reference), error)) from None
    if processor.pad_token_id is None:
        if processor.eos_token_id is None:
            raise ConfigError(f"the tokenizer of '{reference}' has neither a pad nor an eos token.")
        # only the position of padding matters: masks come from lengths, never from ids
        processor.pad_token = processor.eos_token
    processor.padding_side = "right"
    return processor


def check_model(source: ModelSource) -> None:
    """Raises ConfigError where the processor or the model's configuration cannot be loaded."""
    load_processor(source.processor)
    model_config(source.model)


def model_config(reference: str) -> Any:
    """The transformers configuration of a model, without its weights.

    Raises:
        ConfigError: it cannot be loaded.
    """
    try:
        return AutoConfig.from_pretrained(reference, trust_remote_code=False)
    except _UNREADABLE as error:
        raise ConfigError(_cannot_load("model", reference, error)) from None


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
        _check_kind(reference, config, task)
        model = _AUTO_CLASSES[task.head].from_pretrained(
            reference,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except _UNREADABLE as error:
        raise ConfigError(_cannot_load("model", reference, error)) from None
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise ConfigError(
            f"the weights of model '{reference}' do not have the shapes that its configuration "
            f"and the task ask for ({_head_size(options)}). A classifier that was trained on "
            "another number of labels can be continued by 'continual', which adds labels to it; "
            "else start from the model it came from."
        ) from None
    _freeze_constants(model)
    _check_fit(model, reference, {"": task}, processor)
    return model  # type: ignore[no-any-return]


def _freeze_constants(model: Any) -> None:
    """Keeps what a new model of this class does not train, such as sinusoidal positions.

    Loading makes all of it trainable, and without a gradient it would still decay.
    """
    with torch.device("meta"):
        new = type(model)(model.config)
    fixed = {name for name, parameter in new.named_parameters() if not parameter.requires_grad}
    for name, parameter in model.named_parameters():
        if name in fixed:
            parameter.requires_grad_(False)


def load_tasks(
    reference: str, tasks: Mapping[str, Task], *, processor: Processor
) -> torch.nn.Module:
    """One model for all of ``tasks``, in fp32: transformers' own, or a `HeadedEncoder`.

    Heads that ``reference`` was saved with are taken over where name and shape agree.

    Raises:
        ConfigError: as `load_model`, or a task cannot share a model.
    """
    if not uses_heads(tasks):
        (task,) = tasks.values()
        return load_model(reference, task, processor=processor)
    backbone = _load(AutoModel, reference)
    model = HeadedEncoder(backbone, tasks)
    if Path(reference).is_dir():
        model.load_heads(Path(reference))
    _check_fit(model, reference, tasks, processor)
    return model


def load_as_saved(reference: str) -> Any:
    """A model with the head that its configuration names, whichever task it is for, in fp32.

    Raises:
        ConfigError: it cannot be loaded.
    """
    (name, *_) = model_config(reference).architectures or [""]
    return _load(getattr(transformers, name, AutoModel), reference)


def _load(kind: Any, reference: str) -> Any:
    """What a class of transformers reads."""
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        return kind.from_pretrained(
            reference, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    except _UNREADABLE as error:
        raise ConfigError(_cannot_load("model", reference, error)) from None


def empty_model(reference: str, tasks: Mapping[str, Task]) -> torch.nn.Module:
    """What `load_tasks` would give, on torch's meta device: shapes without weights or memory.

    Raises:
        ConfigError: the configuration cannot be loaded.
    """
    with torch.device("meta"):
        if uses_heads(tasks):
            return HeadedEncoder(AutoModel.from_config(model_config(reference)), tasks)
        (task,) = tasks.values()
        config = model_config(reference)
        for name, value in task.model_options().items():
            setattr(config, name, value)
        model: torch.nn.Module = _AUTO_CLASSES[task.head].from_config(config)
    return model


def _check_fit(model: Any, reference: str, tasks: Mapping[str, Task], processor: Processor) -> None:
    """Raises ConfigError where the tokenizer or a text is too large for the model."""
    num_rows = model.get_input_embeddings().num_embeddings
    if len(processor) > num_rows:
        raise ConfigError(
            f"the tokenizer has {len(processor)} ids, the model '{reference}' only {num_rows} "
            "embeddings. They do not belong together."
        )
    if all(task.head != "causal_lm" for task in tasks.values()):
        model.config.pad_token_id = processor.pad_token_id
    limit = getattr(model.config, "max_position_embeddings", None)
    max_length = max(getattr(task, "max_length", 0) for task in tasks.values())
    if limit is not None and max_length > limit:
        raise ConfigError(
            f"tasks.*.max_length is {max_length}, but '{reference}' takes {limit} positions. "
            f"Set max_length: {limit} or less."
        )


def _check_kind(reference: str, config: Any, task: Task) -> None:
    """Refuses an encoder: transformers would load it as a model that sees what it predicts.

    And a model of one side where a text is translated.
    """
    is_encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if task.head == "causal_lm" and is_encoder and getattr(config, "is_decoder", None) is False:
        raise ConfigError(
            f"model '{reference}' is an encoder ({config.model_type}): it cannot generate text. "
            f"Start from a decoder, such as '{TINY_LLAMA}'."
        )
    if task.head == "seq2seq_lm" and type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        raise ConfigError(
            f"model '{reference}' ({config.model_type}) is no encoder-decoder: it cannot "
            f"translate. Start from one, such as '{TINY_PEGASUS}'."
        )


def _head_size(options: dict[str, Any]) -> str:
    return f"{options['num_labels']} labels" if "num_labels" in options else "a language model"


def _cannot_load(what: str, reference: str, error: Exception) -> str:
    reason = reason_of(error).rstrip(". :")
    return (
        f"cannot load the {what} '{reference}': {reason}. Give a folder, a bundle, a hub id that "
        f"this machine can reach, or one of {_EMBEDDED}."
    )
