"""Several heads on one backbone: one pass for all, and a folder that transformers can read."""

import pytest
import torch
from transformers import AutoModel

from ray_sft.core import ConfigError
from ray_sft.models import HeadedEncoder, HeadView, load_tasks, uses_heads
from ray_sft.models.heads import split_last_text
from ray_sft.tasks import (
    Embedding,
    MaskedLanguageModel,
    Ranking,
    SequenceClassification,
    TokenClassification,
)
from tests.factories import tiny_encoder, tiny_headed, tiny_processor

TASKS = {
    "topic": SequenceClassification(labels=("a", "b", "c"), max_length=64),
    "names": TokenClassification(labels=("person",), max_length=64),
    "vector": Embedding(max_length=64),
}


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    ids = torch.randint(5, len(tiny_processor()), (3, 9))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_every_head_answers_in_its_shape(inputs):
    outputs = tiny_headed(TASKS)(**inputs)
    assert list(outputs) == list(TASKS)
    assert outputs["topic"].shape == (3, 3)
    assert outputs["names"].shape == (3, 9, 3)
    torch.testing.assert_close(outputs["vector"].norm(dim=-1), torch.ones(3))


def test_an_embedding_is_the_mean_of_the_tokens_that_are_there(inputs):
    model = tiny_headed(TASKS)
    with torch.no_grad():
        hidden = model.backbone(**inputs).last_hidden_state[0, :4]
        expected = hidden.mean(dim=0) / hidden.mean(dim=0).norm()
        torch.testing.assert_close(model(**inputs)["vector"][0], expected)


def test_the_last_text_is_what_follows_the_separator_before_the_last_one():
    ids = torch.tensor(
        [[1, 7, 9, 8, 8, 9, 6, 9], [1, 6, 9, 0, 0, 0, 0, 0], [1, 7, 9, 6, 9, 9, 0, 0]]
    )
    mask = torch.tensor([[1] * 8, [1] * 3 + [0] * 5, [1] * 5 + [0] * 3])
    former, last = split_last_text(ids, mask)
    assert last.tolist() == [
        [0, 0, 0, 0, 0, 0, 1, 1],
        [1, 1, 1, 0, 0, 0, 0, 0],  # nothing came before
        [0, 0, 0, 1, 1, 0, 0, 0],  # padding may look like anything
    ]
    torch.testing.assert_close(former + last, mask)


def test_a_new_matching_head_ranks_by_the_cosine_of_both_sides(inputs):
    model = tiny_headed({"click": Ranking(max_length=64)})
    end = 4
    inputs["input_ids"][:, [2, 5, 8]] = end
    inputs["input_ids"][0, 3] = end  # of four tokens
    with torch.no_grad():
        hidden = model.backbone(**inputs).last_hidden_state
        sides = [(hidden[0, :3], hidden[0, 3:4])] + [(row[:6], row[6:9]) for row in hidden[1:]]
        cosines = [torch.cosine_similarity(a.mean(0), b.mean(0), dim=0) for a, b in sides]
        logits = model(**inputs)["click"][:, 0]
    torch.testing.assert_close(logits, 5.0 * torch.stack(cosines) - 2.5)


def test_saved_and_loaded_gives_the_same_outputs(tmp_path, inputs):
    model = tiny_headed(TASKS)
    model.save_pretrained(tmp_path)
    again = load_tasks(str(tmp_path), TASKS, processor=tiny_processor()).eval()
    assert isinstance(again, HeadedEncoder)
    with torch.no_grad():
        for name, tensor in model(**inputs).items():
            torch.testing.assert_close(again(**inputs)[name], tensor)


def test_the_backbone_loads_in_plain_transformers(tmp_path, inputs):
    model = tiny_headed(TASKS)
    model.save_pretrained(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = model.backbone(**inputs).last_hidden_state
        torch.testing.assert_close(plain(**inputs).last_hidden_state, expected)


def test_a_head_of_another_shape_starts_anew(tmp_path):
    model = tiny_headed(TASKS)
    model.save_pretrained(tmp_path)
    other = TASKS | {"topic": SequenceClassification(labels=("a", "b"), max_length=64)}
    again = load_tasks(str(tmp_path), other, processor=tiny_processor())
    assert again.heads["topic"].linear.out_features == 2
    saved, kept = model.heads["names"], again.heads["names"]
    torch.testing.assert_close(kept.linear.weight, saved.linear.weight)


def test_a_classifier_gives_its_backbone(tmp_path, inputs):
    classifier = tiny_encoder(3)
    classifier.save_pretrained(tmp_path)
    model = load_tasks(str(tmp_path), TASKS, processor=tiny_processor()).eval()
    with torch.no_grad():
        expected = classifier.bert(**inputs).last_hidden_state
        torch.testing.assert_close(model.backbone(**inputs).last_hidden_state, expected)


def test_a_view_reaches_every_parameter_whatever_the_task(inputs):
    model = tiny_headed(TASKS)
    HeadView(model, "names")(**inputs).logits.sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert not gradients["heads.topic.linear.weight"].any()
    assert gradients["heads.names.linear.weight"].any()


def test_a_single_stock_head_needs_no_heads():
    assert not uses_heads({"topic": TASKS["topic"]})
    assert uses_heads({"vector": TASKS["vector"]})
    assert uses_heads({"topic": TASKS["topic"], "names": TASKS["names"]})


def test_a_head_tied_to_the_embeddings_cannot_be_shared():
    with pytest.raises(ConfigError, match=r"'words'.*stage of its own"):
        tiny_headed({"topic": TASKS["topic"], "words": MaskedLanguageModel()})
