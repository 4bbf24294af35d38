import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from ray_sft.evaluation import evaluate
from ray_sft.inference import TorchRunner
from ray_sft.models import train_tokenizer
from ray_sft.tasks import CausalLanguageModel, Example, SequenceClassification

TEXTS = [f"{'word ' * size}number {size} stands here" for size in (1, 9, 3, 30, 2, 17, 5, 5, 8, 1)]


@pytest.fixture(scope="module")
def processor():
    return train_tokenizer(TEXTS * 5, vocab_size=320)


@pytest.fixture(scope="module")
def classifier(processor):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(processor),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


@pytest.fixture(scope="module")
def decoder(processor):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(processor),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config)


def labelled(task, processor) -> list[Example]:
    rows = [{"text": text, "label": task.labels[i % 3]} for i, text in enumerate(TEXTS)]
    return task.encode(rows, processor)


@pytest.mark.parametrize("budget", [1, 50, 4096])
def test_classification_figures_are_those_of_one_row_at_a_time(classifier, processor, budget):
    task = SequenceClassification(labels=("a", "b", "c"))
    hits, losses = 0, []
    for index, text in enumerate(TEXTS):
        ids = torch.tensor([processor(text)["input_ids"]])
        with torch.no_grad():
            logits = classifier.eval()(ids).logits[0].double()
        hits += int(logits.argmax() == index % 3)
        losses.append(float(torch.logsumexp(logits, 0) - logits[index % 3]))
    found = evaluate(
        task,
        TorchRunner(classifier),
        processor,
        labelled(task, processor),
        max_batch_tokens=budget,
    )
    assert found["num_rows"] == len(TEXTS)
    assert found["accuracy"] == pytest.approx(hits / len(TEXTS))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("budget", [1, 80, 4096])
def test_loss_per_token_is_that_of_transformers(decoder, processor, budget):
    task = CausalLanguageModel(format="text", max_length=64)
    examples = task.encode([{"text": text} for text in TEXTS], processor)
    loss_sum, num_targets = 0.0, 0
    for example in examples:
        ids = torch.from_numpy(example.arrays["input_ids"][None].astype(np.int64))
        with torch.no_grad():
            loss = decoder.eval()(ids, labels=ids).loss  # the mean over the row's targets
        loss_sum += float(loss) * (example.length - 1)
        num_targets += example.length - 1
    found = evaluate(task, TorchRunner(decoder), processor, examples, max_batch_tokens=budget)
    assert found["num_targets"] == num_targets
    assert found["loss"] == pytest.approx(loss_sum / num_targets, rel=1e-5)


def test_the_order_of_rows_does_not_matter(classifier, processor):
    task = SequenceClassification(labels=("a", "b", "c"))
    examples, runner = labelled(task, processor), TorchRunner(classifier)
    forward = evaluate(task, runner, processor, examples)
    backward = evaluate(task, runner, processor, examples[::-1])
    assert backward == pytest.approx(forward, rel=1e-6)


def test_nothing_gives_nan(classifier, processor):
    task = SequenceClassification(labels=("a", "b", "c"))
    found = evaluate(task, TorchRunner(classifier), processor, [])
    assert np.isnan(found["accuracy"])
    assert found["num_rows"] == 0.0
