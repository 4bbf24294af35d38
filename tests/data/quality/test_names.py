"""Names that a model of entities finds are masked, wherever they stand."""

import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from ray_sft.bundle import BundleWriter, Manifest
from ray_sft.core import BundleError, ConfigError
from ray_sft.data.quality import Quality, RowCheck
from ray_sft.data.rows import iterate_rows
from ray_sft.data.sources import Jsonl
from ray_sft.inference import Predictor, record_samples
from ray_sft.models import train_wordpiece
from ray_sft.tasks import Rejected, SequenceClassification, TokenClassification

NAMES = ("anna", "bob", "carla", "dan")
WORDS = ("where", "is", "my", "card", "please", "ask", "today", "and", "from", "to")
STEPS = 80
LENGTH = 16


@pytest.fixture(scope="module")
def finder(tmp_path_factory):
    """A bundle that knows four names."""
    processor = train_wordpiece([" ".join((*NAMES, *WORDS))] * 20, vocab_size=120)
    task = TokenClassification(labels=("PER",), max_length=LENGTH)
    config = BertConfig(
        vocab_size=len(processor),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        **task.model_options(),
    )
    torch.manual_seed(0)
    model = BertForTokenClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    vocabulary = (*NAMES, *WORDS)
    for _ in range(STEPS):
        picks = torch.randint(len(vocabulary), (16, 7), generator=generator).tolist()
        rows = [[vocabulary[pick] for pick in row] for row in picks]
        tagged = [
            {"tokens": row, "tags": ["B-PER" if word in NAMES else "O" for word in row]}
            for row in rows
        ]
        batch = task.collate(task.encode(tagged, processor), processor)
        loss = task.loss(model, {name: torch.from_numpy(array) for name, array in batch.items()})
        (loss.loss_sum / loss.num_targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    path = tmp_path_factory.mktemp("bundles") / "names"
    return write(path, task, model.eval(), processor, [{"text": "ask anna"}])


def write(path, task, model, processor, rows):
    with BundleWriter(path) as out:
        model.save_pretrained(out.model_dir)
        processor.save_pretrained(out.processor_dir)
        manifest = Manifest(name="names", variant="trained", format="torch", tasks={"it": task})
        out.write_samples(record_samples(Predictor(out.draft(manifest)), rows))
        return out.finish(manifest)


@pytest.fixture
def check(finder):
    return RowCheck(Quality(names=str(finder.path), repair=False))


def test_every_text_of_a_row_loses_its_names_and_labels_stay(check):
    row = {
        "text": "where is anna today",
        "label": "anna",
        "history": ["ask bob", "ask my card"],
        "messages": [{"role": "user", "content": "please ask carla and dan"}],
    }
    assert check(row) == {
        "text": "where is [NAME] today",
        "label": "anna",
        "history": ["ask [NAME]", "ask my card"],
        "messages": [{"role": "user", "content": "please ask [NAME] and [NAME]"}],
    }


def test_words_stay_as_many_as_they_were(check):
    row = {"tokens": ["ask", "anna", "and", "my", "dan"], "tags": ["O", "B-X", "O", "O", "O"]}
    assert check(row) == row | {"tokens": ["ask", "[NAME]", "and", "my", "[NAME]"]}
    odd = {"tokens": ["ask", 3], "text": None}
    assert check(odd) == odd


def test_a_text_longer_than_the_model_takes_is_searched_to_its_end(check):
    text = "please ask my card and " * 40 + "bob today " + "is my card " * 40 + "carla"
    assert check({"text": text})["text"] == text.replace("bob", "[NAME]").replace("carla", "[NAME]")


def test_rows_do_not_depend_on_each_other(check):
    texts = [
        f"{word} is my {name} " * (1 + n % 5)
        for n, (word, name) in enumerate((word, name) for word in WORDS for name in NAMES)
    ]
    rows = [{"text": text} for text in [*texts, "", "ask"]]
    together = check.check_rows(rows)
    assert together == [check(row) for row in rows]
    assert all("[NAME]" in row["text"] for row in together[: len(texts)])


def test_masked_rows_are_what_a_tokenizer_learns_and_what_is_measured(finder, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "ask anna"}\n{"text": "ask my card please"}\n' * 100)
    quality = Quality(names=str(finder.path), max_chars=12)
    found = [row["text"] for row in iterate_rows(Jsonl(path=str(path)), quality)]
    assert found == ["ask [NAME]"] * 100
    check = RowCheck(quality)
    assert isinstance(check({"text": "ask anna and anna"}), Rejected)


def test_other_weights_are_other_rows(finder):
    plain = Quality()
    assert plain.fingerprint() == Quality().fingerprint()
    assert plain.fingerprint() != Quality(min_chars=3).fingerprint()
    named = Quality(names=str(finder.path))
    assert named.fingerprint() != plain.fingerprint()


def test_a_model_that_finds_no_names_is_refused_before_work(finder, tmp_path):
    Quality(names=str(finder.path)).check()
    Quality().check()
    with pytest.raises(ConfigError, match=r"finds PER, and none of street\. Say which"):
        Quality(names=str(finder.path), name_labels=("street",)).check()
    with pytest.raises(BundleError):
        Quality(names=str(tmp_path / "nothing")).check()
    with BundleWriter(tmp_path / "intents") as out:
        (out.model_dir / "config.json").write_text("{}")
        (out.processor_dir / "tokenizer.json").write_text("{}")
        out.write_samples([{"request": {}, "response": {}}])
        tasks = {"intent": SequenceClassification(labels=("a", "b"))}
        out.finish(Manifest(name="x", variant="y", format="torch", tasks=tasks))
    with pytest.raises(ConfigError, match="has 0 tasks of the kind token_classification"):
        Quality(names=str(tmp_path / "intents")).check()
