"""Grouping examples into batches by a budget of padded tokens.

What a batch costs is its longest example times its number of examples, padding included; a fixed
number of examples would make short batches too small and long ones too large.
"""

from collections.abc import Sequence

__all__ = ["plan_batches"]


def plan_batches(lengths: Sequence[int], *, max_batch_tokens: int) -> list[list[int]]:
    """Positions of examples, grouped; shortest first, each position in exactly one group.

    A group's longest length times its size stays within ``max_batch_tokens``, except for a group
    of one example that alone is longer.
    """
    assert max_batch_tokens > 0, max_batch_tokens
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        # sorted, so the newcomer is the longest of its group
        if groups and lengths[position] * (len(groups[-1]) + 1) <= max_batch_tokens:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups
