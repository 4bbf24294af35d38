"""A prompt before every text: told by the tokenizer, the same in every task, begun as words."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import processors
from transformers import AutoTokenizer

from ray_sft.core import ConfigError
from ray_sft.models import MINILM, ModelSource, load_processor, locate, save_with_tokens
from ray_sft.models.prompt import put_prompt, save_as_told, word_rows
from ray_sft.tasks import Rejected, Task, prompt_ids
from tests.factories import (
    TASKS,
    TEXTS,
    causal_language_model,
    sequence_classification,
    tiny_processor,
)

LENGTH = 3
EDGES = [("<|bos|>", 1), ("<|eos|>", 2)]
BEGINNINGS = {
    "nothing": None,
    "bytes": processors.ByteLevel(trim_offsets=False),
    "template": processors.TemplateProcessing("<|bos|> $A", "<|bos|> $A <|bos|>:1 $B:1", EDGES),
    "bert": processors.BertProcessing(EDGES[1], EDGES[0]),
    "roberta": processors.RobertaProcessing(EDGES[1], EDGES[0]),
    "several": processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing("<|bos|>:0 $A:0 <|eos|>:0", "$A $B", EDGES),
        ]
    ),
}


@pytest.fixture(params=BEGINNINGS)
def processor(request):
    """The tokenizer of tests with what families put around texts."""
    found = deepcopy(tiny_processor())
    if BEGINNINGS[request.param] is not None:
        found.backend_tokenizer.post_processor = BEGINNINGS[request.param]
    return found


def test_it_stands_before_the_text_and_behind_what_begins_one(processor, tmp_path: Path):
    before = deepcopy(processor)
    put_prompt(processor, LENGTH)
    prompt = prompt_ids(processor)
    assert prompt == list(range(len(before), len(before) + LENGTH))
    save_as_told(processor, tmp_path)
    read = (processor, load_processor(tmp_path), AutoTokenizer.from_pretrained(tmp_path))
    for text in TEXTS:
        plain = before(text, text_pair="a pair", return_token_type_ids=True)
        bare = before(text, add_special_tokens=False)["input_ids"]
        for one in read:
            start = plain["input_ids"].index(bare[0])
            found = one(text, text_pair="a pair", return_token_type_ids=True)
            ids = plain["input_ids"]
            assert found["input_ids"] == [*ids[:start], *prompt, *ids[start:]]
            kinds = plain["token_type_ids"]
            assert found["token_type_ids"] == [*kinds[:start], *[0] * LENGTH, *kinds[start:]]
            single = before(text)["input_ids"]
            start = single.index(bare[0])
            assert one(text)["input_ids"] == [*single[:start], *prompt, *single[start:]]
            assert one(text, add_special_tokens=False)["input_ids"] == bare
            assert one.decode(one(text)["input_ids"], skip_special_tokens=True) == before.decode(
                single, skip_special_tokens=True
            )


def test_a_familys_own_tokenizer_is_read_with_its_prompt(tmp_path: Path):
    """BERT's writes its special tokens anew where it is read; the file must win."""
    source = locate(MINILM)
    save_with_tokens(
        ModelSource(source.model, source.processor), (), tmp_path, prompt_length=LENGTH, seed=0
    )
    plain, found = load_processor(source.processor), load_processor(tmp_path)
    ids = plain("my card")["input_ids"]
    assert found("my card")["input_ids"] == [ids[0], *prompt_ids(found), *ids[1:]]
    assert found(["my", "card"], is_split_into_words=True).word_ids()[-3:] == [0, 1, None]


@pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.__name__)
def test_every_task_has_it_once_an_input_and_nothing_else_changes(kind: type[Task]):
    case = TASKS[kind]()
    prompted = deepcopy(case.processor)
    put_prompt(prompted, LENGTH)
    prompt = prompt_ids(prompted)
    task = case.task.model_copy(update={"max_length": 200})
    pairs = zip(
        task.encode(case.rows, case.processor), task.encode(case.rows, prompted), strict=True
    )
    checked = 0
    for plain, found in pairs:
        assert isinstance(plain, Rejected) == isinstance(found, Rejected)
        if isinstance(plain, Rejected) or isinstance(found, Rejected):
            continue
        inputs = found.arrays["input_ids"].tolist()
        place = inputs.index(prompt[0])
        assert inputs[place : place + LENGTH] == prompt
        rest = inputs[:place] + inputs[place + LENGTH :]
        assert place <= 1
        assert not set(prompt) & set(rest)
        assert len(rest) == len(plain.arrays["input_ids"])
        targets = found.arrays.get("labels")
        if targets is not None and targets.shape == found.arrays["input_ids"].shape:
            assert not np.isin(targets, prompt).any(), "a prompt is not learned to be written"
        checked += 1
    assert checked


def test_a_reply_is_asked_for_behind_it():
    case = causal_language_model()
    processor = deepcopy(case.processor)
    put_prompt(processor, LENGTH)
    plain, found = (
        case.task.encode(case.rows, case.processor),
        case.task.encode(case.rows, processor),
    )
    for one, two in zip(plain, found, strict=True):
        assert (
            two.arrays["input_ids"].tolist()
            == prompt_ids(processor) + one.arrays["input_ids"].tolist()
        )
        assert two.arrays["labels"].tolist() == [-100] * LENGTH + one.arrays["labels"].tolist()


def test_it_begins_as_words_by_the_seed_but_not_where_it_would_be_written(tmp_path: Path):
    for make, name, as_words in (
        (sequence_classification, "bert.embeddings.word_embeddings.weight", True),
        (causal_language_model, "model.embed_tokens.weight", False),
    ):
        case, tables = make(), []
        folder = tmp_path / make.__name__
        model = deepcopy(case.model)
        if not as_words:
            model.config.tie_word_embeddings = True
            model.tie_weights()
        model.save_pretrained(folder / "plain")
        case.processor.save_pretrained(folder / "plain")
        source = ModelSource(str(folder / "plain"), str(folder / "plain"))
        for number, seed in enumerate((3, 3, 4)):
            out_dir = folder / str(number)
            save_with_tokens(source, ("<order>",), out_dir, prompt_length=LENGTH, seed=seed)
            processor = load_processor(out_dir)
            tables.append(load_file(out_dir / "model.safetensors")[name])
        assert tables[0].equal(tables[1])
        assert not tables[0].equal(tables[2])
        prompt, count = prompt_ids(processor), len(case.processor)
        rows, words = tables[0][prompt], tables[0][:count]
        found = (rows[:, None] == words[None]).all(dim=2).any(dim=1)
        assert found.tolist() == [as_words] * LENGTH
        assert len({tuple(row.tolist()) for row in rows}) == LENGTH
        assert processor("<order>", add_special_tokens=False)["input_ids"] == [count]
        again = folder / "again"
        bundle = ModelSource(str(folder / "0"), str(folder / "0"))
        save_with_tokens(bundle, (), again, prompt_length=LENGTH, seed=9)
        assert load_file(again / "model.safetensors")[name].equal(tables[0]), "it is kept"
        assert load_processor(again)(TEXTS[0]) == load_processor(folder / "0")(TEXTS[0])


def test_rows_of_words_are_drawn_without_repetition_while_there_are_some():
    drawn = word_rows(tiny_processor(), 40, seed=0)
    assert len(set(drawn)) == 40
    words = tiny_processor().convert_ids_to_tokens(drawn)
    assert all(word.strip("\u0120").isalpha() and len(word.strip("\u0120")) > 1 for word in words)
    more = word_rows(tiny_processor(), len(tiny_processor()), seed=0)
    assert torch.bincount(torch.tensor(more)).max() > 1
    minilm = load_processor(locate(MINILM).processor)
    words = minilm.convert_ids_to_tokens(word_rows(minilm, 500, seed=0))
    assert not [word for word in words if "unused" in word]


def test_a_prompt_of_another_length_is_refused():
    processor = deepcopy(tiny_processor())
    put_prompt(processor, LENGTH)
    with pytest.raises(ConfigError, match=r"has a prompt of 3 tokens already.*num_tokens: 3"):
        put_prompt(processor, LENGTH + 1)
