"""Cloze classification: the frame around a text, and scores against the logits themselves."""

import numpy as np
import pytest
import torch

from ray_sft.core import ConfigError, DataError, validate
from ray_sft.tasks import ClozeClassification, Example, Rejected
from tests.factories import TASKS, tiny_processor, tiny_wordpiece
from tests.objectives.zero_world import tensors

LABELS = ("card", "refund_wanted")


def task(**settings) -> ClozeClassification:
    return ClozeClassification(labels=LABELS, **settings)


def words(example: Example) -> list[str]:
    return tiny_wordpiece().convert_ids_to_tokens(example.arrays["input_ids"])


def test_the_gap_stands_where_the_pattern_says_and_fits_the_longest_label():
    processor = tiny_wordpiece()
    num_masks = max(len(processor.tokenize(word)) for word in ("card", "refund wanted"))
    assert num_masks > 1
    (example,) = task(pattern="my {mask}: {text}").encode(
        [{"text": "refund", "label": "card"}], processor
    )
    spelled = words(example)
    gap = int(example.arrays["gap"])
    assert spelled[gap : gap + num_masks] == ["[MASK]"] * num_masks
    assert spelled.count("[MASK]") == num_masks
    assert spelled == [
        "[CLS]",
        *processor.tokenize("my"),
        *["[MASK]"] * num_masks,
        *processor.tokenize(":"),
        *processor.tokenize("refund"),
        "[SEP]",
    ]
    assert example.arrays["labels"] == 0


def test_a_text_is_cut_and_the_pattern_stays_whole():
    long, short = task(max_length=16).encode(
        [{"text": "card " * 40}, {"text": "card"}], tiny_wordpiece()
    )
    assert long.length == 16
    assert long.truncated == 40 * len(tiny_wordpiece().tokenize("card")) - (16 - short.length + 1)
    assert words(long)[-3:] == words(short)[-3:]


def test_a_mask_that_a_person_writes_is_no_gap():
    (example, bare) = task().encode([{"text": "[MASK] card"}, {"text": "card"}], tiny_wordpiece())
    assert words(example) == words(bare)
    (nothing,) = task().encode([{"text": "[MASK]"}], tiny_wordpiece())
    assert nothing == Rejected("text holds nothing that the tokenizer knows")


def test_scores_are_the_mean_logits_of_a_labels_tokens_at_the_gap():
    case = TASKS[ClozeClassification]()
    examples = case.task.encode(case.rows, case.processor)
    batch = tensors(case.task.collate(examples, case.processor))
    with torch.no_grad():
        logits = case.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits
        found = case.task.loss(case.model, batch).logits
    for row, example in enumerate(examples):
        for label, name in enumerate(case.task.labels):
            ids = case.processor(case.task.words.get(name, name), add_special_tokens=False)
            gap = int(example.arrays["gap"])
            each = [logits[row, gap + place, one] for place, one in enumerate(ids["input_ids"])]
            assert found[row, label].item() == pytest.approx(np.mean(each), abs=1e-5)


def test_a_pattern_needs_a_text_and_a_gap():
    tree = {"pattern": "{text} {text} {mask}", "labels": LABELS}
    with pytest.raises(ConfigError, match=r"it needs \{text\} and \{mask\}, each once"):
        validate(ClozeClassification, tree, what="task")


def test_what_cannot_work_says_so_before_training():
    with pytest.raises(DataError, match=r"leave no room for a text in max_length 8"):
        task(max_length=8).encode([{"text": "card"}], tiny_wordpiece())
    with pytest.raises(DataError, match="has no mask token"):
        task().encode([{"text": "card"}], tiny_processor())
    with pytest.raises(DataError, match="label 'card' has no token of this tokenizer"):
        task(words={"card": " "}).encode([{"text": "card"}], tiny_wordpiece())
