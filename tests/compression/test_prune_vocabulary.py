"""Tokens that training rows do not use go, and are missed by no text that is made of the others."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from ray_sft.bundle import Bundle
from ray_sft.compression import (
    Compress,
    EncodedRows,
    PassContext,
    PruneVocabulary,
    compress,
)
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor
from ray_sft.models import load_processor
from ray_sft.tasks import ClozeClassification
from tests.compression.conftest import LABELS, TEXTS, apply, write_bundle
from tests.factories import TASKS, cloze_classification

FEW = TEXTS[:6]


def encoded(bundle: Bundle, texts, folder=None):
    processor = load_processor(folder or bundle.processor_dir)
    rows = [{"text": text, "label": LABELS[i % 4]} for i, text in enumerate(texts)]
    return {"intent": bundle.task.encode(rows, processor)}


def test_what_training_does_not_use_goes_and_is_not_missed(classifier, tmp_path):
    context = PassContext(encoded(classifier, FEW))
    step = PruneVocabulary(keep_first=0)
    bundle, properties = apply(step, classifier, tmp_path / "small", context)
    before, after = Predictor(classifier), Predictor(bundle)
    used = {n for one in context.examples["intent"] for n in one.arrays["input_ids"].tolist()}
    assert len(used) < properties["vocab_size"] < len(before.processor)
    assert properties["kept_share_of_text"] == 1.0
    model = AutoModelForSequenceClassification.from_pretrained(bundle.model_dir)
    assert model.config.vocab_size == properties["vocab_size"] == len(after.processor)
    assert model.config.pad_token_id == after.processor.pad_token_id
    requests = [{"text": text} for text in FEW]
    for one, two in zip(before.predict(requests), after.predict(requests), strict=True):
        assert one == two, "to the last bit"
    assert len(after.predict([{"text": text} for text in TEXTS])) == len(TEXTS)
    assert bundle.num_bytes < classifier.num_bytes


def test_rare_tokens_go_too_and_the_first_ones_stay(classifier, tmp_path):
    context = PassContext(encoded(classifier, TEXTS))
    sizes = {}
    for name, step in {
        "all": PruneVocabulary(characters=False, keep_first=0),
        "often": PruneVocabulary(characters=False, min_count=20, keep_first=0),
        "first": PruneVocabulary(characters=False, min_count=20, keep_first=350),
    }.items():
        bundle, properties = apply(step, classifier, tmp_path / name, context)
        sizes[name] = properties["vocab_size"]
        assert (properties["kept_share_of_text"] == 1.0) == (name == "all")
        assert len(Predictor(bundle).predict([{"text": text} for text in TEXTS])) == len(TEXTS)
    assert sizes["often"] < sizes["all"] < sizes["first"]


def test_every_task_says_which_tokens_its_examples_have():
    for kind, make in TASKS.items():
        case = make()
        for example in case.task.encode(case.rows, case.processor)[:3]:
            ids = case.task.tokens_in(example)
            assert ids.ndim == 1
            text = case.processor.decode(ids)
            wanted = case.task.texts(case.rows[0]) or [""]
            assert len(text) > len(wanted[0]) / 4, kind.__name__


def test_words_of_labels_stay_though_no_row_has_them(tmp_path):
    case = cloze_classification()
    task = ClozeClassification(labels=("card", "refund"), words={"card": "thanks twice"})
    rows = [{"text": text, "label": "card"} for text in TEXTS[:3]]
    source = write_bundle(
        tmp_path / "trained",
        name="intent",
        task=task,
        model=case.model,
        processor=case.processor,
        rows=rows,
    )
    context = PassContext({"intent": task.encode(rows, case.processor)})
    bundle, _ = apply(
        PruneVocabulary(characters=False, keep_first=0), source, tmp_path / "small", context
    )
    before, after = Predictor(source), Predictor(bundle)
    for one, two in zip(before.predict(rows), after.predict(rows), strict=True):
        assert one.label == two.label
        assert one.score == pytest.approx(two.score, abs=1e-5)


def chain(classifier, tmp_path, passes, *, texts=TEXTS, **context):
    return compress(
        Compress(passes=passes, min_speedup=0.0),
        classifier,
        examples=encoded(classifier, texts),
        out_dir=tmp_path,
        num_threads=1,
        progress=lambda _: None,
        context=PassContext(encoded(classifier, texts), **context),
    )


PRUNE = {"kind": "prune_vocabulary", "keep_first": 0}
PASSES = [PRUNE, {"kind": "export_onnx"}, {"kind": "quantize_int8"}]


def test_a_chain_goes_on_with_rows_of_the_new_tokens(classifier, tmp_path):
    folders = []

    def encode_anew(folder):
        folders.append(folder)
        rows = encoded(classifier, TEXTS, folder)
        return EncodedRows(rows, rows)

    steps = chain(classifier, tmp_path, PASSES, encode_anew=encode_anew)
    trained, pruned, exported, quantized = steps
    assert len(folders) == 1
    assert pruned.parity == 0.0
    assert pruned.metrics == trained.metrics
    assert 0 < exported.parity <= 1e-4
    assert exported.parity < quantized.parity < 1.0
    assert exported.metrics == pytest.approx(trained.metrics, abs=1e-4)
    assert quantized.num_bytes < exported.num_bytes < pruned.num_bytes * 1.2


def test_a_decoder_is_compared_by_the_tokens_that_are_left(decoder, tmp_path):
    def encode_anew(folder):
        rows = [sample["request"] for sample in decoder.samples()]
        again = {"reply": decoder.task.encode(rows, load_processor(folder))}
        return EncodedRows(again, again)

    rows = [sample["request"] for sample in decoder.samples()]
    examples = {"reply": decoder.task.encode(rows, load_processor(decoder.processor_dir))}
    _, pruned, exported = compress(
        Compress(passes=PASSES[:2], min_speedup=0.0),
        decoder,
        examples=examples,
        out_dir=tmp_path,
        num_threads=1,
        progress=lambda _: None,
        context=PassContext(examples, encode_anew=encode_anew),
    )
    assert pruned.parity <= 1e-5
    assert exported.parity <= 1e-4
    torch.testing.assert_close(
        pruned.metrics["reply/num_targets"], exported.metrics["reply/num_targets"]
    )


def test_it_comes_behind_what_trains_and_from_a_recipe(classifier, tmp_path):
    with pytest.raises(CompressionError, match="nothing here can encode the rows anew"):
        chain(classifier, tmp_path, PASSES)
    passes = [{"kind": "drop_layers", "keep": 1}, {"kind": "prune_vocabulary"}, {"kind": "distil"}]
    with pytest.raises(CompressionError, match="Put prune_vocabulary behind it"):
        chain(
            classifier,
            tmp_path,
            passes,
            encode_anew=lambda _: EncodedRows({}, {}),
            retrain=lambda *_, **__: tmp_path,
        )
    with pytest.raises(CompressionError, match="prune_vocabulary stands twice"):
        chain(classifier, tmp_path, [PRUNE, PRUNE], encode_anew=lambda _: EncodedRows({}, {}))
    assert not list(tmp_path.iterdir())


def test_without_training_rows_nothing_can_be_counted(classifier, tmp_path):
    with pytest.raises(CompressionError, match="needs training rows"):
        apply(PruneVocabulary(), classifier, tmp_path / "small")
