"""What must not make a difference to a model's answers: neighbours in a batch, and a cache.

Both are told as the largest difference of a logit over samples. Dynamic int8 shares the scale of
its activations among the rows of a batch, so neighbours do make a small one there.
"""

from collections.abc import Sequence

import numpy as np

from ray_sft.inference import OnnxRunner, Predictor, SlotDecoder
from ray_sft.tasks import Array, Example

__all__ = ["batching_difference", "caching_difference"]

_TEXTS = 8
_CACHED_TEXTS, _CACHED_TOKENS = 3, 48


def batching_difference(predictor: Predictor, examples: Sequence[Example]) -> float:
    """How far the answers to examples differ that are asked together or each alone."""
    chosen = _spread(examples, _TEXTS)
    together = _logits(predictor, chosen)
    largest = 0.0
    for example, found in zip(chosen, together, strict=True):
        (alone,) = _logits(predictor, [example])
        # an output for each token ends with the text, behind which there is padding
        kept = found[: len(alone)] if alone.ndim > 1 else found
        largest = max(largest, float(np.abs(kept - alone).max()))
    return largest


def caching_difference(predictor: Predictor, examples: Sequence[Example]) -> float:
    """How far a decoder's logits differ that is given a text token by token, or at once.

    Half of the text is read first, the rest one by one, several texts side by side.
    """
    assert isinstance(predictor.model, OnnxRunner), "a torch decoder has no slots"
    texts = [one.arrays["input_ids"][:_CACHED_TOKENS] for one in _spread(examples, _CACHED_TEXTS)]
    decoder = SlotDecoder(
        predictor.bundle.model_dir,
        num_slots=len(texts),
        num_threads=1,
        spinning=False,
        max_length=_CACHED_TOKENS + 1,
    )
    wholes = [_whole(predictor, ids) for ids in texts]
    places = np.asarray([max(1, len(ids) // 2) for ids in texts])
    largest = 0.0
    for slot, (ids, whole, place) in enumerate(zip(texts, wholes, places, strict=True)):
        found = decoder.prefill(slot, ids[:place])
        largest = max(largest, float(np.abs(found - whole[place - 1]).max()))
    while any(place < len(ids) for place, ids in zip(places, texts, strict=True)):
        live = np.asarray([place < len(ids) for place, ids in zip(places, texts, strict=True)])
        tokens = np.asarray(
            [ids[min(p, len(ids) - 1)] for p, ids in zip(places, texts, strict=True)]
        )
        found = decoder.decode(tokens, live)
        for slot in live.nonzero()[0].tolist():
            difference = np.abs(found[slot] - wholes[slot][places[slot]]).max()
            largest = max(largest, float(difference))
        places = places + live
    return largest


def _whole(predictor: Predictor, ids: Array) -> Array:
    batch = {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
    (logits,) = predictor.runner(batch)["logits"]
    found: Array = logits
    return found


def _logits(predictor: Predictor, examples: Sequence[Example]) -> list[Array]:
    batch = predictor.task.collate(examples, predictor.processor)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return list(predictor.runner(inputs)["logits"])


def _spread(examples: Sequence[Example], count: int) -> list[Example]:
    """Up to ``count`` examples from the shortest to the longest."""
    ordered = sorted(examples, key=lambda example: example.length)
    kept = min(len(ordered), count)
    return [ordered[number * (len(ordered) - 1) // max(1, kept - 1)] for number in range(kept)]
