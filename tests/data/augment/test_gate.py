"""Copies that no longer mean what their row means are dropped, with the reason."""

import json

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from ray_sft.bundle import BundleWriter, Manifest
from ray_sft.core import BundleError, ConfigError
from ray_sft.data import Jsonl, SampleStore, Splits, prepare, write_augmented
from ray_sft.data.augment import Gate, TemplateFilling, copies_of
from ray_sft.data.quality import Quality
from ray_sft.inference import Predictor, record_samples
from ray_sft.models import MINILM, train_wordpiece
from ray_sft.tasks import SequenceClassification, TokenClassification

LABELS = ("colour", "animal")
WORDS = {"colour": ("red", "green", "blue"), "animal": ("cat", "dog", "horse")}
ROWS = [
    {"text": f"I like {word} a lot", "label": label}
    for label, words in WORDS.items()
    for word in words
]
SWAP = TemplateFilling(slots={"thing": ("red", "cat")})
"""Makes an animal of the colour red, and a colour of the cat: a change of the label."""
ENOUGH_STEPS = 60


def write_bundle(path, task, model, processor, rows):
    with BundleWriter(path) as out:
        model.save_pretrained(out.model_dir)
        processor.save_pretrained(out.processor_dir)
        manifest = Manifest(name="gate", variant="trained", format="torch", tasks={"kind": task})
        predictor = Predictor(out.draft(manifest))
        out.write_samples(record_samples(predictor, rows))
        return out.finish(manifest)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A bundle that tells colours from animals."""
    processor = train_wordpiece([row["text"] for row in ROWS] * 5, vocab_size=200)
    task = SequenceClassification(labels=LABELS, max_length=16)
    config = BertConfig(
        vocab_size=len(processor),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        **task.model_options(),
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = processor([row["text"] for row in ROWS], return_tensors="pt")
    labels = torch.tensor([LABELS.index(row["label"]) for row in ROWS])
    for _ in range(ENOUGH_STEPS):
        loss = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("gate") / "classifier"
    return write_bundle(path, task, model, processor, ROWS)


def test_a_copy_with_another_label_is_dropped_and_others_pass(classifier):
    gate = Gate(classifier=str(classifier.path))
    gate.check()
    red, green = ROWS[0], ROWS[1]
    reasons = gate.reasons(
        [red, red, red],
        [red | {"text": "I like cat a lot"}, red | {"text": green["text"]}, red],
    )
    assert reasons == ["the copy changed the label to 'animal'", "", ""]


def test_a_copy_that_gets_the_label_of_its_row_passes_whatever_the_row_gets(classifier):
    gate = Gate(classifier=str(classifier.path))
    misjudged = {"text": "I like cat a lot", "label": "colour"}
    assert gate.reasons([misjudged], [ROWS[0]]) == [""]
    assert gate.reasons([misjudged], [misjudged | {"text": "I like dog a lot"}]) == [""]


def test_a_copy_that_drifts_in_meaning_is_dropped():
    gate = Gate(embedder=MINILM, min_similarity=0.6)
    gate.check()
    row = {"text": "Where is my parcel? It should have been here on Monday."}
    copies = [
        {"text": "Where's my package? It was supposed to arrive on Monday."},
        {"text": "The weather in the mountains is lovely in spring."},
    ]
    kept, dropped = gate.reasons([row, row], copies)
    assert kept == ""
    assert dropped.startswith("the copy drifted from its row (similarity 0.")


def test_without_models_everything_passes():
    assert Gate().reasons([{"text": "a"}], [{"text": "b"}]) == [""]
    Gate().check()


def test_wrong_models_are_refused_before_work(tmp_path, classifier):
    with pytest.raises(BundleError):
        Gate(classifier=str(tmp_path)).check()
    with pytest.raises(ConfigError, match="does not exist"):
        Gate(embedder=str(tmp_path / "gone")).check()
    tagger = classifier.manifest.model_copy(
        update={"tasks": {"entity": TokenClassification(labels=("PER",))}}
    )
    with BundleWriter(tmp_path / "tagger") as out:
        (out.model_dir / "empty").write_text("")
        out.write_samples(record_samples(Predictor(classifier), ROWS))
        out.finish(tagger)
    with pytest.raises(ConfigError, match="0 tasks of the kind sequence_classification"):
        Gate(classifier=str(tmp_path / "tagger")).check()


def test_copies_say_why_they_are_dropped(classifier):
    gate = Gate(classifier=str(classifier.path))
    (red,), (dog,) = copies_of([ROWS[0], ROWS[4]], [0, 1], [SWAP], seed=0, gate=gate)
    assert red.row["text"] == "I like cat a lot"
    assert "animal" in red.dropped
    assert dog.dropped == ""


@pytest.mark.ray
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("local_ray")
def test_dropped_copies_are_rejected_with_their_lineage(classifier, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    gate, source = Gate(classifier=str(classifier.path)), Jsonl(path=str(path))
    summary = prepare(
        SequenceClassification(labels=LABELS, max_length=16),
        Splits(train=source, eval=source),
        processor_dir=classifier.processor_dir,
        out_dir=tmp_path / "data",
        num_tasks=1,
        augment=[SWAP],
        gate=gate,
    )
    assert summary.splits["train"].num_rejected_copies == 2
    assert summary.splits["eval"].num_rejected_copies == 0
    rejected = SampleStore(tmp_path / "data" / "train").rejected.to_pylist()
    assert {line["lineage"] for line in rejected} == {"template_filling#1"}
    assert all("the copy changed the label" in line["reason"] for line in rejected)

    written = write_augmented(source, [SWAP], Quality(), tmp_path / "out.jsonl", seed=0, gate=gate)
    assert (written.num_rows, written.num_copies, written.num_dropped) == (6, 0, 2)
    assert written.num_unchanged == 4


def test_the_fingerprint_follows_the_bundle_and_the_settings(classifier):
    prints = {
        gate.fingerprint()
        for gate in (
            Gate(),
            Gate(classifier=str(classifier.path)),
            Gate(embedder=MINILM),
            Gate(embedder=MINILM, min_similarity=0.5),
        )
    }
    assert len(prints) == 4
