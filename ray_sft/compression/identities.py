"""What must not make a difference to a model's answers: neighbours in a batch, and a cache.

Both are told as the largest difference of a logit over samples. Dynamic int8 shares the scale of
its activations among the rows of a batch, so neighbours do make a small one there.
"""

from collections.abc import Sequence

import numpy as np

from ray_sft.inference import OnnxRunner, Predictor, Seq2SeqRunner, SlotDecoder
from ray_sft.tasks import IGNORED, Array, Example

__all__ = ["batching_difference", "caching_difference", "logits_of"]

_TEXTS = 8
_CACHED_TEXTS, _CACHED_TOKENS = 3, 48


def batching_difference(predictor: Predictor, examples: Sequence[Example]) -> float:
    """How far the answers to examples differ that are asked together or each alone."""
    chosen = _spread(examples, _TEXTS)
    together = logits_of(predictor, chosen)
    largest = 0.0
    for example, found in zip(chosen, together, strict=True):
        (alone,) = logits_of(predictor, [example])
        # an output for each token ends with the text, behind which there is padding
        kept = found[: len(alone)] if alone.ndim > 1 else found
        largest = max(largest, float(np.abs(kept - alone).max()))
    return largest


def caching_difference(predictor: Predictor, examples: Sequence[Example]) -> float:
    """How far a decoder's logits differ that is given a text token by token, or at once.

    Half of the text is read first, the rest one by one, several texts side by side. Of an
    encoder-decoder it is the translation that is given so.
    """
    if isinstance(predictor.model, Seq2SeqRunner):
        return _cached_translation(predictor, predictor.model, _spread(examples, _CACHED_TEXTS))
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


def _cached_translation(
    predictor: Predictor, model: Seq2SeqRunner, examples: Sequence[Example]
) -> float:
    wholes = np.stack(logits_of(predictor, examples))
    batch = predictor.task.collate(examples, predictor.processor)
    labels = np.asarray(batch["labels"], dtype=np.int64)
    reading = model.read(batch["input_ids"], batch["attention_mask"])
    ids = np.full((len(labels), 1), model.start, dtype=np.int64)
    largest = 0.0
    for place in range(labels.shape[1]):
        found = model.step(reading, ids)[:, -1]
        is_text = labels[:, place] != IGNORED
        differences = np.abs(found - wholes[:, place])[is_text]
        largest = max(largest, float(differences.max(initial=0.0)))
        ids = np.where(is_text, labels[:, place], 0)[:, None]
    return largest


def logits_of(predictor: Predictor, examples: Sequence[Example]) -> list[Array]:
    """A model's raw answer to each of some examples in a batch, with its padding."""
    batch = predictor.task.collate(examples, predictor.processor)
    names = ["input_ids", "attention_mask"]
    if predictor.task.head == "seq2seq_lm":
        names.append("labels")  # which the decoder reads
    return list(predictor.runner({name: batch[name] for name in names})["logits"])


def _whole(predictor: Predictor, ids: Array) -> Array:
    batch = {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
    (logits,) = predictor.runner(batch)["logits"]
    found: Array = logits
    return found


def _spread(examples: Sequence[Example], count: int) -> list[Example]:
    """Up to ``count`` examples from the shortest to the longest."""
    ordered = sorted(examples, key=lambda example: example.length)
    kept = min(len(ordered), count)
    return [ordered[number * (len(ordered) - 1) // max(1, kept - 1)] for number in range(kept)]
