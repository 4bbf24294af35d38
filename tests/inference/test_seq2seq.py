"""A translation model in ONNX writes what the same model writes in transformers."""

import pytest
import torch

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError
from ray_sft.inference import Predictor, Seq2SeqRunner, check_samples
from ray_sft.inference.translator import Sampling, Translator
from tests.compression.conftest import run_chain, write_bundle
from tests.factories import TEXTS, tiny_processor, tiny_translation_model, translation

MANY = [f"{text} {number}" for number in range(4) for text in TEXTS]
SEEDS = list(range(len(MANY)))
PAIRS = translation()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Bundle]:
    """The model in torch, in ONNX, and in int8."""
    folder = tmp_path_factory.mktemp("translator")
    source = write_bundle(
        folder / "trained",
        name="pairs",
        task=PAIRS.task,
        model=Translator.load(str(tiny_translation_model())).model,
        processor=tiny_processor(),
        rows=PAIRS.rows,
    )
    examples = {"pairs": PAIRS.task.encode(PAIRS.rows, tiny_processor())}
    kinds = ({"kind": "export_onnx"}, {"kind": "quantize_int8"})
    reports = run_chain(kinds, source, examples, folder)
    assert [report.throughput_unit for report in reports] == ["tokens/s"] * 3
    exported = reports[1]
    assert max(exported.parity, exported.batching, exported.caching) <= 1e-4
    assert exported.metrics == pytest.approx(reports[0].metrics, abs=1e-4)
    return {report.variant: Bundle.open(report.path) for report in reports}


@pytest.mark.parametrize("sampling", [None, Sampling(0.7), Sampling(1.5, top_k=3)])
def test_translations_are_those_of_the_model_in_torch(bundles, sampling):
    ours, theirs = (
        Translator.load(str(bundles[variant].path)).translate(MANY, sampling=sampling, seeds=SEEDS)
        for variant in ("onnx", "trained")
    )
    assert ours == theirs
    assert any(ours) or sampling is None  # it has not learned to end


def test_tokens_are_those_that_transformers_generates(bundles):
    model = Translator.load(str(bundles["trained"].path)).model
    batch = PAIRS.task.collate(
        PAIRS.task.encode([{"text": text} for text in MANY[:6]], tiny_processor()),
        tiny_processor(),
    )
    runner = Seq2SeqRunner(bundles["onnx"].model_dir, num_threads=1)
    for bad, first in ((None, None), ([[7], [9, 11]], None), (None, 12)):
        model.generation_config.bad_words_ids = bad
        model.generation_config.forced_bos_token_id = first
        runner._generation |= {"bad_words_ids": bad, "forced_bos_token_id": first}
        end = tiny_processor().eos_token_id
        ours = runner.generate(
            batch["input_ids"], batch["attention_mask"], max_new_tokens=20, eos_token_id=end
        )
        theirs = model.generate(
            input_ids=torch.from_numpy(batch["input_ids"]).long(),
            attention_mask=torch.from_numpy(batch["attention_mask"]),
            max_new_tokens=20,
            do_sample=False,
            num_beams=1,
        )
        assert ours.tolist() == theirs.tolist()


def test_a_text_alone_and_among_others(bundles):
    translator = Translator.load(str(bundles["onnx"].path))
    assert translator.translate(MANY) == [translator.translate([text])[0] for text in MANY]


def test_samples_are_answered_and_int8_computes_on_integers(bundles):
    for variant in ("onnx", "int8"):
        check_samples(Predictor(bundles[variant]))
    operators = bundles["int8"].manifest.properties["operators"]
    on_integers = operators["DynamicQuantizeMatMul"] + operators["MatMulIntegerToFloat"]
    # two layers of the encoder; of one of the decoder, keys and values of the text; the rest of it,
    # and the last product, whose weights are the embeddings
    assert on_integers == 2 * 6 + 2 + 8 + 1
    assert "MatMul" not in operators
    assert bundles["int8"].num_bytes < 0.6 * bundles["onnx"].num_bytes
    names = {path.name for path in bundles["int8"].model_dir.iterdir()}
    assert names == {"encoder.onnx", "decoder.onnx", "config.json", "generation_config.json"}


def test_a_graph_that_is_missing_is_told(tmp_path):
    with pytest.raises(BundleError, match=r"holds no encoder\.onnx"):
        Seq2SeqRunner(tmp_path, num_threads=1)
