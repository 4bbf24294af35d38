"""Parts of packed rows: every token and every target once."""

import numpy as np
import pytest

from ray_sft.models import part_of
from ray_sft.tasks import IGNORED, CausalLanguageModel, Example

TASK = CausalLanguageModel()


class Padding:
    pad_token_id = 0


def packed(lengths: list[int]) -> dict[str, np.ndarray]:
    examples = [
        Example(
            {
                "input_ids": np.arange(n, dtype=np.int32) + 10 * n,
                "labels": np.where(np.arange(n) % 3 == 1, np.arange(n) + 10 * n, IGNORED),
            },
            n,
        )
        for n in lengths
    ]
    return TASK.pack([examples], Padding())


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("lengths", [[7], [5, 4, 2], [2, 2], [9, 1, 6, 3]])
def test_parts_hold_every_token_once_and_every_target_behind_what_predicts_it(size, lengths):
    batch = packed(lengths)
    width = sum(lengths)
    parts, positions = zip(
        *(part_of(batch, place=place, size=size) for place in range(size)), strict=True
    )
    assert all((one == positions[0]).all() for one in positions)
    assert len({part["input_ids"].shape for part in parts}) == 1
    for name in ("input_ids", "position_ids"):
        joined = np.concatenate([part[name] for part in parts], axis=1)
        assert (joined[:, :width] == batch[name]).all()
        assert joined.shape[1] - width < size
    assert positions[0][0, width:].tolist() == list(range(positions[0].shape[1] - width))
    assert sum(TASK.num_targets(part) for part in parts) == TASK.num_targets(batch)
    predicted = np.concatenate([part["labels"][:, 1:] for part in parts], axis=1)
    assert (predicted[:, : width - 1] == batch["labels"][:, 1:]).all()
    assert (predicted[:, width - 1 :] == IGNORED).all()
