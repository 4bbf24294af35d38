import numpy as np
import pytest
import torch

from ray_sft.inference import TorchRunner
from ray_sft.tasks import IGNORED, CausalLanguageModel, Example, Rejected
from tests.factories import TEXTS, causal_language_model, conversation, tiny_processor

CASE = causal_language_model()


def test_predict_is_the_cross_entropy_of_torch():
    examples = CASE.task.encode(CASE.rows, CASE.processor)
    batch = CASE.task.collate(examples, CASE.processor)
    outputs = CASE.task.predict(TorchRunner(CASE.model), batch)
    inputs = {k: torch.from_numpy(v) for k, v in batch.items() if k != "labels"}
    with torch.no_grad():
        logits = CASE.model(**inputs).logits
    for row, labels in enumerate(torch.from_numpy(batch["labels"])):
        expected = torch.nn.functional.cross_entropy(
            logits[row, :-1], labels[1:], ignore_index=IGNORED, reduction="sum"
        )
        assert outputs["loss_sum"][row] == pytest.approx(expected.item(), rel=1e-4)
        assert outputs["num_targets"][row] == (labels[1:] != IGNORED).sum()


def test_loss_and_perplexity_in_closed_form():
    """Uniform logits over V tokens cost log V a token."""
    vocab, examples = 11, CASE.task.encode(CASE.rows, CASE.processor)
    small = [Example({k: v % vocab for k, v in e.arrays.items()}, e.length) for e in examples]
    for new, old in zip(small, examples, strict=True):
        new.arrays["labels"][old.arrays["labels"] == IGNORED] = IGNORED
    batch = CASE.task.collate(small, CASE.processor)
    outputs = CASE.task.predict(
        lambda b: {"logits": np.zeros((*b["input_ids"].shape, vocab), dtype=np.float32)}, batch
    )
    metrics = CASE.task.metrics()
    metrics.update(CASE.task.decode(outputs, small, None), small)
    figures = metrics.compute()
    assert figures["loss"] == pytest.approx(np.log(vocab))
    assert figures["perplexity"] == pytest.approx(vocab)
    assert figures["num_targets"] == CASE.task.num_targets(batch)


def test_raw_text_has_one_bos_one_eos_and_every_token_is_learned():
    task = CausalLanguageModel(format="text")
    processor = tiny_processor()
    for text, example in zip(
        TEXTS, task.encode([{"text": t} for t in TEXTS], processor), strict=True
    ):
        ids = example.arrays["input_ids"].tolist()
        assert ids[0] == processor.bos_token_id
        assert ids[-1] == processor.eos_token_id
        assert processor.decode(ids[1:-1]) == text
        assert example.arrays["labels"].tolist() == ids


def test_raw_text_falls_back_to_the_contents_of_messages():
    task = CausalLanguageModel(format="text")
    (example,) = task.encode([conversation("Hello", "Hi")], tiny_processor())
    assert tiny_processor().decode(example.arrays["input_ids"][1:-1]) == "Hello\nHi"


@pytest.mark.parametrize(("format_", "row"), [("text", {"text": TEXTS[2]}), ("chat", CASE.rows[3])])
def test_truncation_is_counted(format_, row):
    (whole,) = CausalLanguageModel(format=format_).encode([row], CASE.processor)
    limit = whole.length - 3
    (cut,) = CausalLanguageModel(format=format_, max_length=limit).encode([row], CASE.processor)
    assert (cut.length, cut.truncated, whole.truncated) == (limit, 3, 0)
    np.testing.assert_array_equal(cut.arrays["labels"], whole.arrays["labels"][:limit])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "messages are missing or empty"),
        ({"messages": []}, "messages are missing or empty"),
        ({"messages": "Hello"}, "messages are no list of turns but str"),
        ({"messages": 7}, "messages are no list of turns but int"),
        ({"messages": ["Hello"]}, "messages are malformed"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages are malformed: role"),
        ({"messages": [{"role": "user"}]}, "messages are malformed: content"),
        (conversation("Hello"), "messages have no assistant turn"),
        (conversation("Hello " * 200, "Hi"), "messages have no assistant turn within the first 32"),
    ],
)
def test_a_row_that_cannot_be_learned_is_rejected_with_its_reason(row, reason):
    task = CausalLanguageModel(max_length=32)
    (result,) = task.encode([row], tiny_processor())
    assert isinstance(result, Rejected)
    assert result.reason.startswith(reason)


def test_columns_that_a_columnar_file_adds_are_no_error():
    row = {"messages": [{**m, "name": None} for m in conversation("Hello", "Hi")["messages"]]}
    (example,) = CausalLanguageModel().encode([row], tiny_processor())
    assert isinstance(example, Example)
