import pytest

from ray_sft.bundle import BundleWriter, Manifest
from ray_sft.compression import (
    Compress,
    Distil,
    DropLayers,
    ExportOnnx,
    PassContext,
    PruneFeedForward,
    QuantizeInt8,
    QuantizeStatic,
)
from ray_sft.compression.rules import check_passes, meets_budget_from
from ray_sft.core import CompressionError
from ray_sft.tasks import Translation

DROP, PRUNE, DISTIL = DropLayers(keep=1), PruneFeedForward(), Distil()
EXPORT, INT8 = ExportOnnx(), QuantizeInt8()


def never(*_args, **_options):
    raise AssertionError("nothing is trained before the chain is checked")


@pytest.fixture
def context(intents) -> PassContext:
    return PassContext(intents, never)


def test_a_kind_that_stands_twice_gets_a_number():
    passes = (DropLayers(keep=4), DISTIL, DropLayers(keep=2), DISTIL, DISTIL, EXPORT)
    assert Compress(passes=passes).variants() == [
        "drop_layers",
        "distil",
        "drop_layers_2",
        "distil_2",
        "distil_3",
        "onnx",
    ]


@pytest.mark.parametrize(
    ("passes", "expected"),
    [
        ((EXPORT, INT8), [True, True]),
        ((DROP, DISTIL), [False, True]),
        ((DROP, EXPORT), [True, True]),
        ((DROP,), [True]),
        ((DROP, DISTIL, PRUNE, DISTIL, EXPORT, INT8), [False, True, False, True, True, True]),
    ],
)
def test_the_budget_counts_where_no_pass_on_torch_follows_and_after_training(passes, expected):
    assert meets_budget_from(passes) == expected


@pytest.mark.parametrize(
    "passes", [(DROP, PRUNE, DISTIL), (DROP, DISTIL, EXPORT, INT8), (PRUNE, EXPORT), (DROP,)]
)
def test_passes_on_torch_may_follow_each_other(classifier, context, passes):
    check_passes(passes, classifier, context)


@pytest.mark.parametrize(
    ("passes", "match"),
    [
        ((EXPORT, DROP), r"drop_layers needs a bundle in torch format.*onnx.*prune and distil"),
        ((EXPORT, DISTIL), "distil needs a bundle in torch format"),
        ((DISTIL, EXPORT), "distil is the first pass.*such as drop_layers"),
        ((DropLayers(keep=2), DISTIL), "keep is 2.*only 2 layers"),
    ],
)
def test_an_order_that_cannot_work_is_refused(classifier, context, passes, match):
    with pytest.raises(CompressionError, match=match):
        check_passes(passes, classifier, context)


def test_of_an_encoder_decoder_what_cannot_work_is_refused_before_work(context, tmp_path):
    with BundleWriter(tmp_path / "trained") as out:
        (out.model_dir / "config.json").write_text("{}")
        (out.processor_dir / "tokenizer.json").write_text("{}")
        out.write_samples([{"request": {}, "response": {}}])
        tasks = {"en_zh": Translation()}
        bundle = out.finish(Manifest(name="x", variant="y", format="torch", tasks=tasks))
    for passes in ((DROP, EXPORT), (EXPORT, QuantizeStatic())):
        with pytest.raises(CompressionError, match=r"cannot work on the encoder-decoder 'x' yet"):
            check_passes(passes, bundle, context)
    check_passes((EXPORT, INT8), bundle, context)
    with pytest.raises(CompressionError, match="no units can be chosen"):
        QuantizeInt8(units_in_fp32=1).check(bundle)


def test_what_a_pass_needs_beside_the_bundle_is_asked_for_before_work(classifier, intents):
    with pytest.raises(CompressionError, match=r"distil trains, but nothing here can.*recipe"):
        check_passes((DROP, DISTIL), classifier, PassContext(intents))
    with pytest.raises(CompressionError, match="training rows, but task 'intent' has none"):
        check_passes((PRUNE,), classifier, PassContext())
