"""Room for new labels in a trained model: its heads get rows, everything else stays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ray_sft.models.heads import HeadedEncoder
from ray_sft.models.load import load_tasks
from ray_sft.tasks import Processor, Task

__all__ = ["save_grown"]


def save_grown(
    reference: str,
    former: Mapping[str, Task],
    tasks: Mapping[str, Task],
    out_dir: Path,
    *,
    processor: Processor,
    seed: int,
) -> None:
    """Writes the model for ``tasks``, which answers like the one for ``former`` where both can.

    Args:
        reference: a folder with the weights for ``former``.
        former: what the model was trained for, resolved.
        tasks: what it is trained for next, resolved; their first labels are those of ``former``.
        out_dir: where the model is written as transformers reads it.
        processor: of the model.
        seed: of the weights of new labels, and of the heads of new tasks.
    """
    model: Any = load_tasks(reference, former, processor=processor)
    torch.manual_seed(seed)
    grown = _new_model(model, tasks)
    state = model.state_dict()
    for name, own in grown.state_dict().items():
        if name in state:
            own[tuple(slice(size) for size in state[name].shape)] = state[name]
    grown.save_pretrained(out_dir)


def _new_model(model: Any, tasks: Mapping[str, Task]) -> Any:
    """A model of the same architecture with new weights, and with the heads of ``tasks``."""
    if isinstance(model, HeadedEncoder):
        return HeadedEncoder(model.backbone, tasks)
    (task,) = tasks.values()
    config = type(model.config).from_dict(model.config.to_dict() | task.model_options())
    return type(model)(config)
