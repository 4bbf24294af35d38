import shutil
import subprocess

import onnx
import pytest
from pydantic import ValidationError

from ray_sft.bundle import Bundle, Manifest
from ray_sft.bundle.manifest import MANIFEST, FileEntry, hash_file
from ray_sft.compression import Compress, StepReport, compress
from ray_sft.core import BundleError, CompressionError, DataError
from ray_sft.evaluation import evaluate
from ray_sft.inference import GenerationEngine, GenerationRequest, Predictor, check_samples
from tests.compression.conftest import LABELS, TEXTS, run_chain


def run(passes, source, examples, out_dir, **options) -> list[StepReport]:
    options = {"min_speedup": 0.0} | options
    config = Compress.model_validate({"passes": [{"kind": kind} for kind in passes], **options})
    return compress(
        config,
        source,
        examples=examples,
        out_dir=out_dir,
        num_threads=1,
        progress=lambda _: None,
    )


@pytest.fixture(scope="session")
def compressed_classifier(tmp_path_factory, classifier, intents):
    out_dir = tmp_path_factory.mktemp("compressed")
    return out_dir, run(["export_onnx", "quantize_int8"], classifier, intents, out_dir)


@pytest.fixture(scope="session")
def compressed_decoder(tmp_path_factory, decoder, own_words):
    out_dir = tmp_path_factory.mktemp("compressed")
    return out_dir, run(["export_onnx", "quantize_int8"], decoder, own_words, out_dir)


@pytest.fixture(params=["classifier", "decoder"])
def compressed(request):
    names = {"classifier": "intents", "decoder": "own_words"}
    source = request.getfixturevalue(request.param)
    examples = request.getfixturevalue(names[request.param])
    out_dir, reports = request.getfixturevalue(f"compressed_{request.param}")
    return source, examples, out_dir, reports


def test_every_step_is_reported_with_figures_that_hold(compressed):
    source, examples, out_dir, reports = compressed
    assert [report.variant for report in reports] == ["trained", "onnx", "int8"]
    assert {path.name for path in out_dir.iterdir()} == {"onnx", "int8"}
    (name,) = examples
    for report in reports:
        predictor = Predictor(Bundle.open(report.path))
        found = evaluate(predictor.task, predictor.runner, predictor.processor, examples[name])
        assert report.metrics == pytest.approx(
            {f"{name}/{metric}": value for metric, value in found.items()}
        )
        assert report.num_bytes == predictor.bundle.num_bytes
        assert report.p50_ms > 0
        assert report.throughput > 0
    assert source.fingerprint == Bundle.open(reports[1].path).manifest.parent


def test_the_export_computes_the_same_and_the_quantized_model_nearly(compressed):
    _, _, _, (_, exported, quantized) = compressed
    assert exported.parity <= 1e-4
    assert exported.parity < quantized.parity < 1.0
    assert exported.metrics == pytest.approx(compressed[3][0].metrics, abs=1e-4)
    assert quantized.num_bytes < 0.6 * exported.num_bytes


def test_the_manifest_tells_what_was_measured(compressed):
    *_, report = compressed[3]
    bundle = Bundle.open(report.path)
    properties = bundle.manifest.properties
    assert properties["precision"] == "int8"
    assert properties["made_by"] == "quantize_int8"
    for name in ("p50_ms", "throughput", "speedup_over_source", "operators", "num_bytes"):
        assert properties[name] == getattr(report, name)
    assert bundle.manifest.metrics == report.metrics
    card = (bundle.path / "README.md").read_text(encoding="utf-8")
    assert "| trained |" in card
    assert "| int8 |" in card


def test_samples_are_answered_by_the_very_bundle(compressed):
    for report in compressed[3][1:]:
        bundle = Bundle.open(report.path)
        assert len(list(bundle.samples())) == 16
        check_samples(Predictor(bundle))


def test_nothing_of_the_machine_is_in_the_graph(compressed):
    for report in compressed[3][1:]:
        for file in Bundle.open(report.path).model_dir.iterdir():
            assert b"site-packages" not in file.read_bytes()


def test_an_int8_classifier_computes_on_integers(compressed_classifier):
    _, (_, exported, quantized) = compressed_classifier
    assert exported.operators["MatMul"] > 0
    on_integers = quantized.operators.get("DynamicQuantizeMatMul", 0) + quantized.operators.get(
        "MatMulIntegerToFloat", 0
    )
    assert on_integers == 2 * 6 + 2  # six linear layers a block, pooler and classifier
    assert quantized.operators["DequantizeLinear"] == 1  # the table of words, and no weights
    assert "MatMulInteger" not in quantized.operators


def test_an_int8_decoder_computes_in_blocks(compressed_decoder):
    _, (_, exported, quantized) = compressed_decoder
    assert exported.operators["GroupQueryAttention"] == 2
    assert quantized.operators["MatMulNBits"] == exported.operators["MatMul"]
    assert "MatMul" not in quantized.operators


@pytest.mark.parametrize("variant", ["onnx", "int8"])
def test_text_is_the_same_alone_and_in_a_batch(compressed_decoder, variant):
    out_dir, _ = compressed_decoder
    engine = GenerationEngine(Bundle.open(out_dir / variant), num_slots=8)
    try:
        requests = [GenerationRequest(tuple(range(6 + i, 14 + 2 * i)), 30) for i in range(8)]
        alone = ["".join(chunk.text for chunk in engine.submit(item)) for item in requests]
        streams = [engine.submit(item) for item in requests]
        assert ["".join(chunk.text for chunk in stream) for stream in streams] == alone
    finally:
        engine.close()


def test_a_decoder_that_chooses_labels_is_compressed_and_timed_by_its_rows(
    choosing_decoder, processor, tmp_path
):
    rows = [{"text": text, "label": LABELS[i % 4]} for i, text in enumerate(TEXTS)]
    examples = {"intent": choosing_decoder.task.encode(rows, processor)}
    _, exported, quantized = run(
        ["export_onnx", "quantize_int8"], choosing_decoder, examples, tmp_path
    )
    assert exported.parity <= 1e-4
    assert exported.throughput_unit == quantized.throughput_unit == "rows/s"
    asked = [{"text": text} for text in TEXTS]
    expected = Predictor(choosing_decoder).predict(asked)
    found = Predictor(Bundle.open(exported.path)).predict(asked)
    for one, two in zip(found, expected, strict=True):
        assert (one.label, one.score) == (two.label, pytest.approx(two.score, abs=1e-4))


def test_int4_of_an_exported_decoder_is_smaller_still(compressed_decoder, own_words, tmp_path):
    out_dir, (_, _, int8) = compressed_decoder
    _, int4 = run(["quantize_int4"], Bundle.open(out_dir / "onnx"), own_words, tmp_path)
    assert int4.num_bytes < int8.num_bytes
    assert int4.operators["MatMulNBits"] == int8.operators["MatMulNBits"]
    assert Bundle.open(int4.path).manifest.properties["block_size"] == 32


@pytest.mark.parametrize(
    ("passes", "match"),
    [
        (["quantize_int8"], r"quantize_int8 needs a bundle in onnx format.*torch"),
        (["export_onnx", "export_onnx"], r"export_onnx needs a bundle in torch format.*onnx"),
        (["export_onnx", "quantize_int8", "quantize_int8"], "needs fp32 weights.*int8"),
        (["export_onnx", "quantize_int4"], "is for decoders.*Use quantize_int8"),
    ],
)
def test_a_chain_that_cannot_work_is_refused_before_work(
    classifier, intents, tmp_path, passes, match
):
    with pytest.raises(CompressionError, match=match):
        run(passes, classifier, intents, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_quantized_bundle_is_not_quantized_again(compressed_classifier, intents, tmp_path):
    source = Bundle.open(compressed_classifier[0] / "int8")
    with pytest.raises(CompressionError, match="needs fp32 weights"):
        run(["quantize_int8"], source, intents, tmp_path / "out")


@pytest.mark.parametrize(
    ("budget", "empty", "match"),
    [
        ({"acuracy": -0.01}, False, r"'acuracy'.*accuracy"),
        ({"accuracy": -0.01}, True, "needs evaluation data"),
    ],
)
def test_a_budget_that_cannot_be_checked_is_refused(
    classifier, intents, tmp_path, budget, empty, match
):
    with pytest.raises(CompressionError, match=match):
        run(["export_onnx"], classifier, {} if empty else intents, tmp_path / "out", budget=budget)
    assert not (tmp_path / "out").exists()


def test_parity_beyond_the_tolerance_is_refused_and_leaves_nothing(classifier, intents, tmp_path):
    with pytest.raises(CompressionError, match=r"export_onnx: a logit differs.*1e-12"):
        run(["export_onnx"], classifier, intents, tmp_path, parity_tolerance=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_a_missed_budget_is_refused_and_leaves_nothing(compressed_decoder, own_words, tmp_path):
    source = Bundle.open(compressed_decoder[0] / "onnx")
    with pytest.raises(CompressionError, match=r"quantize_int4: reply/loss went from .*\+1e-05"):
        run(["quantize_int4"], source, own_words, tmp_path, budget={"loss": 1e-5})
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_faster_is_refused_and_leaves_nothing(
    compressed_classifier, intents, tmp_path
):
    source = Bundle.open(compressed_classifier[0] / "onnx")
    with pytest.raises(CompressionError, match=r"times the throughput.*min_speedup is 1000"):
        run(["quantize_int8"], source, intents, tmp_path, min_speedup=1000)
    assert list(tmp_path.iterdir()) == []


def test_without_evaluation_data_the_samples_are_timed(classifier, tmp_path):
    source, exported = run(["export_onnx"], classifier, {}, tmp_path)
    assert source.metrics == exported.metrics == {}
    assert exported.throughput > 0


@pytest.mark.parametrize(
    "passes", [["drop_layers"], ["export_onnx"], ["export_onnx", "quantize_int8"]]
)
def test_a_disk_that_fills_up_is_told_and_keeps_what_was_there(
    classifier, intents, small_disk, passes
):
    chain = [{"kind": kind} | ({"keep": 1} if kind == "drop_layers" else {}) for kind in passes]
    config = Compress.model_validate({"passes": chain, "min_speedup": 0.0})

    def run_it(config) -> list[StepReport]:
        return compress(
            config,
            classifier,
            examples=intents,
            out_dir=small_disk,
            num_threads=1,
            progress=lambda _: None,
        )

    before = chain[:-1]
    if before:
        run_it(Compress.model_validate({"passes": before, "min_speedup": 0.0}))
    there = sorted(path.name for path in small_disk.iterdir())
    size = shutil.disk_usage(small_disk).used + 40_000
    subprocess.run(["mount", "-o", f"remount,size={size}", small_disk], check=True)
    with pytest.raises(DataError, match=r"cannot write to .*: No space left on device"):
        run_it(config)
    assert sorted(path.name for path in small_disk.iterdir()) == there
    for name in there:
        Bundle.open(small_disk / name)


def test_an_unknown_pass_is_an_error_of_the_recipe():
    with pytest.raises(ValidationError, match="quantize_int2"):
        Compress.model_validate({"passes": [{"kind": "quantize_int2"}]})


def test_a_chain_goes_on_where_it_stopped(classifier, intents, tmp_path):
    first = run(["export_onnx"], classifier, intents, tmp_path)
    written = Bundle.open(tmp_path / "onnx").fingerprint
    again = run(["export_onnx", "quantize_int8"], classifier, intents, tmp_path)
    assert Bundle.open(tmp_path / "onnx").fingerprint == written
    assert again[1] == first[1]
    assert Bundle.open(tmp_path / "int8").manifest.parent == written
    assert run(["export_onnx", "quantize_int8"], classifier, intents, tmp_path)[1:] == again[1:]


def test_what_was_made_of_another_source_or_is_damaged_is_made_again(
    classifier, make_encoder, intents, tmp_path
):
    run(["export_onnx"], make_encoder(num_layers=3), intents, tmp_path)
    other = Bundle.open(tmp_path / "onnx").fingerprint
    run(["export_onnx"], classifier, intents, tmp_path)
    written = Bundle.open(tmp_path / "onnx")
    assert written.manifest.parent == classifier.fingerprint
    assert written.fingerprint != other
    (written.model_dir / "config.json").write_text("{}")
    run(["export_onnx"], classifier, intents, tmp_path)
    again = Bundle.open(tmp_path / "onnx")
    assert again.weights_fingerprint == written.weights_fingerprint


def test_what_is_there_already_must_keep_the_budget_and_the_speed_too(
    compressed_decoder, own_words, tmp_path
):
    source = Bundle.open(compressed_decoder[0] / "onnx")
    run(["quantize_int4"], source, own_words, tmp_path)
    with pytest.raises(CompressionError, match=r"quantize_int4: reply/loss went from .*\+1e-05"):
        run(["quantize_int4"], source, own_words, tmp_path, budget={"loss": 1e-5})
    with pytest.raises(CompressionError, match="min_speedup is 1000"):
        run(["quantize_int4"], source, own_words, tmp_path, min_speedup=1000)


def test_a_chain_ends_where_it_is_told_to(classifier, intents, tmp_path):
    reports = compress(
        Compress.model_validate({"min_speedup": 0.0}),
        classifier,
        examples=intents,
        out_dir=tmp_path,
        num_threads=1,
        progress=lambda _: None,
        folders=["one", "two"],
        on_step=lambda report: report.name != "export_onnx",
    )
    assert [report.variant for report in reports] == ["trained", "one"]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_pass_does_not_write_into_the_bundle_that_it_is_given(
    compressed_classifier, intents, tmp_path
):
    """Else a kill in the middle would leave a file that damages it."""
    source = tmp_path / "source"
    shutil.copytree(compressed_classifier[0] / "onnx", source)
    before = {path: path.stat().st_mtime_ns for path in (source, source / "model")}
    for kind in ("quantize_int8", "quantize_static"):
        step = {"kind": kind, "rows": 16} if kind == "quantize_static" else {"kind": kind}
        run_chain([step], Bundle.open(source), intents, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_graph_that_was_tampered_with_is_not_compressed_or_run(
    compressed_classifier, intents, tmp_path
):
    path = tmp_path / "onnx"
    shutil.copytree(compressed_classifier[0] / "onnx", path)
    graph = path / "model" / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged: 'model/model.onnx' does not have the hash"):
        Bundle.open(path)
    # an attacker who rewrites the hash, too: the graph still reads nothing outside its folder
    model = onnx.load(compressed_classifier[0] / "onnx" / "model" / "model.onnx")
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    (tmp_path / "secret").write_bytes(tensor.raw_data)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../../secret"), ("length", str(len(tensor.raw_data)))):
        tensor.external_data.add(key=key, value=value)
    tensor.ClearField("raw_data")
    graph.write_bytes(model.SerializeToString())
    manifest = Manifest.model_validate_json((path / MANIFEST).read_text())
    entry = FileEntry(sha256=hash_file(graph), num_bytes=graph.stat().st_size)
    files = manifest.files | {"model/model.onnx": entry}
    forged = manifest.model_copy(update={"files": files})
    (path / MANIFEST).write_text(forged.model_dump_json())
    source = Bundle.open(path)
    with pytest.raises(BundleError, match="ONNX Runtime cannot load"):
        Predictor(source)
    with pytest.raises(BundleError, match="ONNX Runtime cannot load"):
        run(["quantize_int8"], source, intents, tmp_path / "out")
