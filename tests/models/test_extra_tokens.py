"""Words that become single tokens, in models of every kind of head."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ray_sft.core import ConfigError
from ray_sft.models import ModelSource, load_processor, load_tasks, save_with_tokens
from tests.factories import (
    TEXTS,
    causal_language_model,
    cloze_classification,
    masked_language_model,
    sequence_classification,
    tiny_headed,
    token_classification,
    translation,
)

TOKENS = ("<order>", "IBAN-NR", "\u5feb\u9012")
CASES = (
    causal_language_model,
    masked_language_model,
    sequence_classification,
    token_classification,
    translation,
    cloze_classification,
)


def extend(case, folder: Path, *, model=None, tokens=TOKENS, seed=3) -> ModelSource:
    """The model of a case written to disk, and with more tokens beside it."""
    (model or case.model).save_pretrained(folder / "plain")
    case.processor.save_pretrained(folder / "plain")
    source = ModelSource(str(folder / "plain"), str(folder / "plain"))
    save_with_tokens(source, tokens, folder / "more", seed=seed)
    return source


def logits(folder: Path, tasks, ids):
    model = load_tasks(str(folder), tasks, processor=load_processor(folder)).eval()
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids
    with torch.no_grad():
        return next(iter(model(**inputs).values()))


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_each_is_one_token_and_nothing_else_changes(make, tmp_path):
    case = make()
    extend(case, tmp_path)
    before, after = case.processor, load_processor(tmp_path / "more")
    assert len(after) == len(before) + len(TOKENS)
    for number, token in enumerate(TOKENS):
        ids = after(f"a {token} b", add_special_tokens=False)["input_ids"]
        assert ids.count(len(before) + number) == 1
        assert token in after.decode(ids, skip_special_tokens=True)
    for text in TEXTS:
        assert after(text)["input_ids"] == before(text)["input_ids"]
    ids = torch.tensor([before(TEXTS[0])["input_ids"]])
    tasks = {"it": case.task}
    old, new = (logits(tmp_path / name, tasks, ids) for name in ("plain", "more"))
    torch.testing.assert_close(new[..., : old.shape[-1]], old)


def test_new_rows_are_drawn_around_the_others_by_the_seed(tmp_path):
    case, tables = causal_language_model(), []
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(number)
        extend(case, tmp_path / str(number), seed=seed)
        weights = load_file(tmp_path / str(number) / "more" / "model.safetensors")
        tables.append(weights["model.embed_tokens.weight"])
    assert tables[0].equal(tables[1])
    assert not tables[0].equal(tables[2])
    count = len(case.processor)
    old, new = tables[0][:count], tables[0][count:]
    assert (new - old.mean(dim=0)).abs().max() < 6 * old.std()
    assert len({tuple(row.tolist()) for row in new}) == len(TOKENS)


def test_heads_beside_a_backbone_come_along(tmp_path):
    case = sequence_classification()
    tasks = {"intent": case.task, "again": case.task}
    extend(case, tmp_path, model=tiny_headed(tasks))
    ids = torch.tensor([case.processor(TEXTS[0])["input_ids"]])
    old, new = (logits(tmp_path / name, tasks, ids) for name in ("plain", "more"))
    torch.testing.assert_close(new, old)


def test_a_model_with_rows_to_spare_keeps_its_size(tmp_path):
    case = causal_language_model()
    case.model.resize_token_embeddings(len(case.processor) + 8)
    extend(case, tmp_path)
    old, new = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "more"))
    assert old.keys() == new.keys()
    assert all(old[name].equal(new[name]) for name in old)


def test_weights_that_cannot_be_read_are_told(tmp_path):
    source = extend(causal_language_model(), tmp_path)
    (Path(source.model) / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot load the model"):
        save_with_tokens(source, TOKENS, tmp_path / "again", seed=3)


def test_a_control_token_is_no_word(tmp_path):
    case = causal_language_model()
    with pytest.raises(ConfigError, match=r"'<\|eos\|>' is a control token"):
        extend(case, tmp_path, tokens=("<a>", case.processor.eos_token))
    assert not (tmp_path / "more").exists()
