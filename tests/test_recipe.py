"""What a recipe says of its stages together."""

import pytest

from ray_sft.core import ConfigError, validate
from ray_sft.data import Quality
from ray_sft.recipe import Recipe


def stages(**before):
    rows = {"source": "csv", "path": "rows.csv"}
    tree = {
        "name": "mine",
        "tasks": {"intent": {"kind": "sequence_classification"}},
        "data": {"intent": {"train": rows, "eval": rows}},
        "quality": {"mask": ["email"]},
        "before": [
            {"name": "adapted", "tasks": {"text": {"kind": "masked_language_model"}}, **before}
        ],
    }
    return validate(Recipe, tree, what="recipe").stages()


def test_a_stage_on_the_recipes_rows_masks_them_as_the_recipe_says():
    masked = Quality(mask=("email",))
    assert [stage.quality for stage in stages()] == [masked, masked]


def test_a_stage_with_rows_or_quality_of_its_own_goes_by_its_own():
    rows = {"source": "text", "path": "books"}
    adapted, trained = stages(data={"text": {"train": rows, "eval": rows}})
    assert adapted.quality == Quality()
    adapted, _ = stages(quality={"min_chars": 3})
    assert adapted.quality == Quality(min_chars=3)
    assert trained.quality == Quality(mask=("email",))


def test_a_translator_is_compressed_by_what_takes_it():
    rows = {"source": "csv", "path": "pairs.csv"}
    tree = {
        "name": "mine",
        "tasks": {"en_zh": {"kind": "translation"}},
        "data": {"en_zh": {"train": rows, "eval": rows}},
        "compress": {"passes": [{"kind": "drop_layers", "keep": 1}, {"kind": "export_onnx"}]},
    }
    with pytest.raises(ConfigError, match=r"drop_layers cannot work on the encoder-decoder of"):
        validate(Recipe, tree, what="recipe")
    assert validate(Recipe, tree | {"compress": {}}, what="recipe").compress.variants()
    assert validate(Recipe, tree | {"compress": None}, what="recipe")


def test_rows_are_mixed_only_where_each_has_one_label():
    rows = {"source": "csv", "path": "rows.csv"}

    def recipe(kind):
        tree = {
            "name": "mine",
            "tasks": {"it": {"kind": kind}},
            "data": {"it": {"train": rows, "eval": rows}},
            "objectives": [{"kind": "embedding_mixup"}],
        }
        return validate(Recipe, tree, what="recipe")

    assert recipe("sequence_classification").objectives
    with pytest.raises(ConfigError, match=r"embedding_mixup .* 'it' \(token_classification\)"):
        recipe("token_classification")


def prompted(**changes):
    rows = {"source": "csv", "path": "rows.csv"}
    tree = {
        "name": "mine",
        "tasks": {"intent": {"kind": "sequence_classification", "max_length": 64}},
        "data": {"intent": {"train": rows, "eval": rows}},
        "adapter": {"kind": "prompt_tuning", "num_tokens": 12},
    }
    return validate(Recipe, tree | changes, what="recipe")


def test_a_prompt_is_as_long_as_its_adapter_says():
    assert prompted().prompt_length == 12
    assert prompted(adapter={"kind": "lora"}).prompt_length == 0
    (stage,) = prompted(extra_tokens=["<order>"]).stages()
    assert stage.adapter.trained_tokens()[-2:] == ("<|prompt_11|>", "<order>")


def test_a_prompt_that_cannot_be_put_before_every_text_is_refused():
    adapter = {"kind": "prompt_tuning", "num_tokens": 33}
    with pytest.raises(ConfigError, match="33 tokens takes more than half of max_length 64"):
        prompted(adapter=adapter)
    with pytest.raises(ConfigError, match="prompts of different lengths"):
        prompted(before=[{"name": "first", "tasks": TEXT, "adapter": adapter}])
    with pytest.raises(ConfigError, match="continual cannot put a prompt"):
        prompted(continual={"replay": 0.5})


TEXT = {"text": {"kind": "masked_language_model"}}
