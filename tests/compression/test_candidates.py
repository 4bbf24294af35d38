import pytest

from ray_sft.bundle import Bundle
from ray_sft.compression import Candidate, KernelTiming, PruneHeads, Space
from ray_sft.compression.candidates import EIGHTHS
from ray_sft.compression.rules import check_passes
from ray_sft.core import CompressionError

SETTINGS = {"epochs": 3, "steps": 0}


def timing(kernel: str, single_ms: float, batch_ms: float, *, block_size: int = 0) -> KernelTiming:
    return KernelTiming(
        kernel=kernel,
        block_size=block_size,
        num_threads=1,
        single_ms=single_ms,
        batch_ms=batch_ms,
    )


OF_ENCODERS = (timing("fp32", 2, 20), timing("int8", 1, 10))
OF_DECODERS = (
    timing("fp32", 8, 20),
    timing("int8", 4, 15, block_size=32),
    timing("int8", 5, 10, block_size=64),
    timing("int4", 3, 16, block_size=32),
    timing("int4", 2, 25, block_size=128),
)


def space_of(source: Bundle, timings=(), target="size") -> Space:
    given = timings or (OF_DECODERS if source.is_decoder else OF_ENCODERS)
    return Space.of(source, given, target)


def kinds(candidate: Candidate) -> list[str]:
    return [step.kind for step in candidate.passes(**SETTINGS)]


def test_what_is_cut_is_distilled_and_the_rest_is_only_written_otherwise():
    assert kinds(Candidate()) == ["export_onnx", "quantize_int8"]
    assert kinds(Candidate(precision="fp32")) == ["export_onnx"]
    assert kinds(Candidate(tokens=8000, precision="int8_static")) == [
        *("prune_vocabulary", "export_onnx", "quantize_static")
    ]
    whole = Candidate(layers=3, heads_cut=2, neurons_cut=4, precision="int4", units_kept=2)
    assert kinds(whole) == [
        *("drop_layers", "prune_heads", "prune_feed_forward", "distil"),
        *("export_onnx", "quantize_int4"),
    ]
    layers, heads, neurons, distil, _, last = whole.passes(epochs=0 + 3, steps=7)
    assert (layers.keep, heads.ratio, neurons.ratio) == (3, 0.25, 0.5)
    assert (distil.epochs, distil.steps, last.units_in_int8) == (3, 7, 2)


def test_a_student_is_a_part_of_those_that_lose_nothing_more():
    three = Candidate(layers=3, heads_cut=2)
    assert Candidate(layers=2, heads_cut=2, precision="fp32").is_part_of(three)
    assert three.is_part_of(three)
    assert three.is_part_of(Candidate())
    assert not Candidate().is_part_of(three)
    assert not Candidate(layers=2).is_part_of(three)
    assert not Candidate(layers=4, heads_cut=4).is_part_of(three)


def test_candidates_are_known_by_what_they_are():
    assert Candidate(layers=3).key == Candidate(layers=3).key
    assert Candidate(layers=3).key != Candidate(layers=2).key
    assert str(Candidate(layers=1, heads_cut=2, units_kept=2)) == (
        "1 layer, 6/8 heads, int8, 2 units kept"
    )


@pytest.mark.parametrize("name", ["classifier", "decoder"])
def test_every_candidate_of_a_space_is_a_possible_chain(request, name):
    source: Bundle = request.getfixturevalue(name)
    space = space_of(source)
    for field, values in space.searched.items():
        for place in range(len(values)):
            candidate = space.candidate({field: place})
            for step in candidate.passes(**SETTINGS):
                step.check(source)
            is_canonical = candidate.precision != "fp32" or field not in (
                "units_kept",
                "block_size",
            )
            assert not is_canonical or space.places(candidate)[field] == place
    assert all(one.passes(**SETTINGS) for one in space.anchors())


def test_the_space_follows_from_the_model(classifier, decoder, make_encoder):
    encoder, writer = space_of(classifier).values, space_of(decoder).values
    assert encoder["layers"] == (0, 1)
    assert space_of(make_encoder(num_layers=4)).values["layers"] == (0, 3, 2, 1)
    assert encoder["precision"] == ("fp32", "int8", "int8_static")
    assert writer["precision"] == ("fp32", "int8", "int4")
    assert encoder["tokens"] == (0,)
    assert "tokens" not in space_of(classifier).searched
    # two groups of heads: an eighth of them is none
    assert all(PruneHeads(ratio=n / EIGHTHS)._kept(2) == 1 for n in writer["heads_cut"][1:])
    assert 1 not in writer["heads_cut"]


def test_the_first_candidates_cut_nothing_then_half(make_encoder):
    whole, half, less = space_of(make_encoder(num_layers=4)).anchors()
    assert whole == Candidate()
    assert half == Candidate(layers=2)
    assert (less.layers, less.heads_cut, less.neurons_cut) == (2, 2, 3)


def test_fp32_weights_have_no_exceptions(classifier):
    space = space_of(classifier)
    assert space.candidate({"precision": 0, "units_kept": 2}) == Candidate(precision="fp32")


def test_what_is_exported_already_is_refused(classifier):
    manifest = classifier.manifest.model_copy(update={"format": "onnx"})
    with pytest.raises(CompressionError, match="export_onnx needs a bundle in torch format"):
        check_passes(Candidate().passes(**SETTINGS), Bundle(classifier.path, manifest), None)


def test_precisions_and_blocks_are_those_that_this_machine_is_fast_in(decoder, classifier):
    for target, blocks in (("latency", (32, 128)), ("throughput", (32, 64))):
        values = space_of(decoder, target=target).values
        assert values["block_size"] == blocks
        assert values["precision"] == ("fp32", "int8", "int4")
    slow = (timing("fp32", 2, 20), timing("int8", 1, 30))
    assert space_of(classifier, slow, "latency").values["precision"][1:] == ("int8", "int8_static")
    in_batches = space_of(classifier, slow, "throughput")
    assert in_batches.values["precision"] == ("fp32",)
    assert in_batches.anchors()[0] == Candidate(precision="fp32")
    assert space_of(classifier, slow, "size").values["precision"][1:] == ("int8", "int8_static")


def test_what_another_target_has_tried_may_be_no_choice_here(classifier, make_encoder):
    slow = (timing("fp32", 2, 20), timing("int8", 1, 30))
    by_time, by_size = (space_of(classifier, slow, target) for target in ("throughput", "size"))
    for candidate, held in ((Candidate(), False), (Candidate(precision="fp32", layers=1), True)):
        assert by_size.holds(candidate)
        assert by_time.holds(candidate) == held
    assert not by_size.holds(Candidate(layers=3))
    assert space_of(make_encoder(num_layers=4)).holds(Candidate(layers=3))


def test_blocks_reach_the_pass():
    for precision in ("int8", "int4"):
        *_, last = Candidate(precision=precision, block_size=128).passes(**SETTINGS)
        assert last.block_size == 128
    assert str(Candidate(precision="int4", block_size=128)) == "all layers, int4 in blocks of 128"
