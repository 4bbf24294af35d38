"""The Fisher information of a former model, as a file that workers read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from ray_sft.bundle import Bundle
from ray_sft.core.whole_files import whole_file, writing_to
from ray_sft.data import SampleStore
from ray_sft.models import load_processor, load_tasks
from ray_sft.objectives import Ewc, fisher_information
from ray_sft.tasks import AnyTask, Example

__all__ = ["save_fisher"]


def save_fisher(
    ewc: Ewc,
    path: Path,
    *,
    former: Bundle,
    model: str,
    tasks: Mapping[str, AnyTask],
    data_dirs: Sequence[Mapping[str, Path]],
    seed: int,
) -> None:
    """Writes what each weight counts for the answers of ``former`` to earlier rows.

    Args:
        ewc: says how many rows of a task.
        path: the file.
        former: the bundle that training starts from.
        model: its weights with room for ``tasks``; weights that ``former`` lacks count nothing.
        tasks: that are trained next; their first labels are those of ``former``.
        data_dirs: of each earlier training, by task, the shards of its training rows.
        seed: of the answers that are drawn.
    """
    known = former.manifest.tasks
    processor = load_processor(former.processor_dir)
    module = load_tasks(str(former.model_dir), known, processor=processor).eval()
    found = fisher_information(
        module,
        known,
        {name: _spread([dirs[name] for dirs in data_dirs], ewc.rows) for name in known},
        processor=processor,
        seed=seed,
    )
    shapes = {
        name: parameter.shape
        for name, parameter in load_tasks(model, tasks, processor=processor).named_parameters()
    }
    grown = {name: _padded(fisher, shapes[name]) for name, fisher in found.items()}
    with writing_to(path.parent), whole_file(path) as draft:
        save_file(grown, draft)


def _spread(folders: Sequence[Path], count: int) -> list[Example]:
    """About ``count`` samples, as many from each folder, at even distances."""
    examples: list[Example] = []
    for folder in folders:
        store = SampleStore(folder)
        share = min(len(store), -(-count // len(folders)))
        examples += store.examples([len(store) * number // share for number in range(share)])
    return examples


def _padded(fisher: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    padded = torch.zeros(shape)
    padded[tuple(slice(size) for size in fisher.shape)] = fisher
    return padded
