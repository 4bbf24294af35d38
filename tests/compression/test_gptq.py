"""GPTQ against its definition, and ONNX Runtime's product with what it has packed."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from ray_sft.compression import Compress, compress
from ray_sft.compression.gptq import gptq, pack
from ray_sft.compression.second_moments import second_moments
from ray_sft.core import CompressionError
from ray_sft.inference import OnnxRunner
from tests.compression.conftest import run_chain

RNG = np.random.default_rng(0)


def nearest(weights, block_size):
    """Rounding to the nearest alone: GPTQ with a Hessian that couples nothing."""
    return gptq(weights, np.eye(len(weights)), block_size=block_size)


def values(codes, scales, block_size):
    return (codes.astype(np.float64) - 8) * np.repeat(scales, block_size, axis=0)[: len(codes)]


def test_inputs_that_do_not_vary_together_are_rounded_to_the_nearest():
    weights = RNG.normal(size=(64, 5)).astype(np.float32)
    codes, scales = gptq(weights, np.diag(RNG.uniform(0.5, 2.0, 64)), block_size=16)
    blocks = weights.reshape(4, 16, 5)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(scales, largest / -8, rtol=1e-6)
    expected = np.clip(np.round(blocks / scales[:, None]), -8, 7) + 8
    np.testing.assert_array_equal(codes, expected.reshape(64, 5))
    np.testing.assert_array_equal(codes, nearest(weights, 16)[0])


def test_each_step_leaves_the_least_error_that_the_rest_can_make():
    """Eq. 2 and 3 by brute force: after a weight is rounded, the others solve least squares."""
    rows = RNG.normal(size=(200, 6)) @ RNG.normal(size=(6, 6))
    weights = RNG.normal(size=(6, 1))
    hessian = rows.T @ rows
    damped = hessian + 0.01 * np.trace(hessian) / 6 * np.eye(6)
    left, codes = weights.copy(), []
    scale = weights[np.abs(weights).argmax()] / -8
    for place in range(6):
        code = np.clip(np.round(left[place] / scale), -8, 7)
        codes.append(int(code[0]) + 8)
        error, left[place] = left[place] - code * scale, code * scale
        free = slice(place + 1, 6)
        # minimise the damped error of the output over the weights that are free
        left[free] += np.linalg.solve(damped[free, free], damped[free, place : place + 1]) * error
    found, _ = gptq(weights.astype(np.float32), hessian, block_size=6)
    assert found[:, 0].tolist() == codes


def test_outputs_change_less_than_by_rounding_to_the_nearest():
    rows = RNG.normal(size=(400, 128)) @ RNG.normal(size=(128, 128)) / 11
    weights = RNG.normal(size=(128, 40)).astype(np.float32)
    errors = []
    for hessian in (rows.T @ rows, np.eye(128)):
        codes, scales = gptq(weights, hessian, block_size=32)
        errors.append(np.square(rows @ (values(codes, scales, 32) - weights)).sum())
    assert errors[0] < 0.6 * errors[1]


def test_an_input_that_is_always_zero_does_no_harm():
    rows = RNG.normal(size=(50, 32))
    rows[:, 3] = 0
    codes, scales = gptq(RNG.normal(size=(32, 4)).astype(np.float32), rows.T @ rows, block_size=16)
    assert np.isfinite(scales).all()
    assert codes.max() <= 15


@pytest.mark.parametrize("num_inputs", [64, 72])
def test_the_kernel_reads_what_is_packed(num_inputs):
    weights = RNG.normal(size=(num_inputs, 24)).astype(np.float32)
    codes, scales = nearest(weights, 32)
    node = helper.make_node(
        "MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft",
        K=num_inputs, N=24, bits=4, block_size=32, accuracy_level=1,
    )  # fmt: skip
    tensors = [
        onnx.numpy_helper.from_array(pack(codes, block_size=32), "b"),
        onnx.numpy_helper.from_array(np.ascontiguousarray(scales.T).reshape(-1), "s"),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", size])
        for name, size in (("x", num_inputs), ("y", 24))
    ]
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = RNG.normal(size=(3, num_inputs)).astype(np.float32)
    (found,) = session.run(None, {"x": x})
    np.testing.assert_allclose(found, x @ values(codes, scales, 32), rtol=1e-3, atol=1e-3)


def test_a_decoder_loses_less_than_by_rounding_to_the_nearest(
    exported_decoder, own_words, tmp_path
):
    exported, losses = exported_decoder, {}
    for algorithm in ("rtn", "gptq"):
        passes = [{"kind": "quantize_int4", "algorithm": algorithm, "block_size": 16}]
        before, step = run_chain(passes, exported, own_words, tmp_path / algorithm)
        losses[algorithm] = step.metrics["reply/loss"] - before.metrics["reply/loss"]
    assert losses["gptq"] < 0.9 * losses["rtn"]
    passes = [{"kind": "quantize_int4", "algorithm": "gptq", "units_in_int8": 2}]
    *_, mixed = run_chain(passes, exported, own_words, tmp_path / "mixed")
    assert mixed.metrics["reply/loss"] - before.metrics["reply/loss"] < losses["gptq"]
    with pytest.raises(CompressionError, match="training rows"):
        compress(
            Compress(passes=passes, min_speedup=0.0),
            exported,
            examples=own_words,
            out_dir=tmp_path,
            num_threads=1,
            progress=lambda _: None,
        )


def test_the_hessian_is_of_the_tokens_alone(exported_decoder, own_words):
    folder = exported_decoder.model_dir
    graph = onnx.load(folder / "model.onnx").graph
    constants = {tensor.name: tensor.dims[0] for tensor in graph.initializer}
    sizes = {
        node.input[0]: constants[node.input[1]]
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in constants
    }
    ids = np.asarray([own_words["reply"][0].arrays["input_ids"][:9]])
    whole = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    padded = {
        "input_ids": np.pad(ids, [(0, 0), (0, 4)]),
        "attention_mask": np.pad(np.ones_like(ids), [(0, 0), (0, 4)]),
    }
    assert OnnxRunner(folder, num_threads=1)(whole)
    one, two = (dict(second_moments(folder, sizes, [batch])) for batch in (whole, padded))
    assert one.keys() == two.keys() == sizes.keys()
    for name, matrix in one.items():
        assert matrix.shape == (sizes[name], sizes[name])
        np.testing.assert_allclose(matrix, two[name], rtol=1e-3, atol=1e-4)
