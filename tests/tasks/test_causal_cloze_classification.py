"""Cloze classification by decoders: the pattern before the gap, and the logits behind it."""

import numpy as np
import pytest
import torch

from ray_sft.core import ConfigError, DataError, validate
from ray_sft.inference import TorchRunner
from ray_sft.tasks import CausalClozeClassification
from tests.factories import TASKS, tiny_processor
from tests.objectives.zero_world import tensors

LABELS = ("card", "refund_wanted")


def task(**settings) -> CausalClozeClassification:
    return CausalClozeClassification(labels=LABELS, **settings)


def test_the_input_ends_where_the_word_begins():
    processor = tiny_processor()
    (example,) = task(pattern="I say: {text} So {mask}").encode(
        [{"text": "refund", "label": "card"}], processor
    )
    spelled = [
        processor.bos_token_id,
        *processor("I say:", add_special_tokens=False)["input_ids"],
        *processor(" refund", add_special_tokens=False)["input_ids"],
        *processor(" So", add_special_tokens=False)["input_ids"],
    ]
    assert example.arrays["input_ids"].tolist() == spelled
    assert example.arrays["gap"] == len(spelled)
    assert example.arrays["labels"] == 0


def test_scores_are_the_mean_logits_of_a_labels_tokens_at_the_last_token():
    """By transformers, row by row without padding; and the same where all logits are computed."""
    case = TASKS[CausalClozeClassification]()
    examples = case.task.encode(case.rows, case.processor)
    batch = case.task.collate(examples, case.processor)
    with torch.no_grad():
        found = case.task.loss(case.model, tensors(batch)).logits
    probabilities = case.task.predict(TorchRunner(case.model), batch)["probabilities"]
    torch.testing.assert_close(torch.from_numpy(probabilities), found.softmax(dim=1))
    for row, example in enumerate(examples):
        ids = torch.from_numpy(example.arrays["input_ids"]).long()[None]
        with torch.no_grad():
            logits = case.model(input_ids=ids).logits[0, -1]
        for label, name in enumerate(case.task.labels):
            words = " " + case.task.words.get(name, name)
            tokens = case.processor(words, add_special_tokens=False)["input_ids"]
            expected = np.mean(logits[tokens].numpy())
            assert found[row, label].item() == pytest.approx(expected, abs=1e-4)


def test_a_pattern_has_its_gap_at_the_end():
    tree = {"pattern": "{text} is {mask}.", "labels": LABELS}
    with pytest.raises(ConfigError, match=r"so \{mask\} has to be at its end"):
        validate(CausalClozeClassification, tree, what="task")
    with pytest.raises(ConfigError, match=r"it needs \{text\} and \{mask\}, each once"):
        validate(CausalClozeClassification, tree | {"pattern": "is {mask}"}, what="task")


def test_a_text_is_cut_and_the_pattern_stays_whole():
    long, short = task(max_length=24).encode(
        [{"text": "card " * 80}, {"text": "card"}], tiny_processor()
    )
    assert long.length == long.arrays["gap"] == 24
    assert long.truncated > 0
    assert long.arrays["input_ids"][-3:].tolist() == short.arrays["input_ids"][-3:].tolist()
    with pytest.raises(DataError, match="leave no room for a text in max_length 8"):
        task(max_length=8).encode([{"text": "card"}], tiny_processor())
