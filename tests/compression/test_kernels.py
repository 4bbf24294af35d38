from collections import Counter

import pytest

from ray_sft.compression import KernelTiming, fastest, products_of, time_kernels


def test_every_product_with_weights_is_counted(classifier, decoder, processor):
    # queries, keys, values, the output of attention; up and down; pooler and classifier
    assert products_of(classifier) == Counter(
        {(64, 64): 2 * 4 + 1, (64, 128): 2, (128, 64): 2, (64, 4): 1}
    )
    found = products_of(decoder)
    assert found[64, 64] == 2 * 2
    assert found[64, 32] == 2 * 2
    assert found[64, 128] == 2 * 2
    assert found[128, 64] == 2
    assert sum(found.values()) == 2 * 7 + 1
    assert found[64, len(processor)] == 1


@pytest.mark.parametrize("in_blocks", [False, True])
def test_each_precision_is_timed_on_each_number_of_threads(in_blocks):
    timings = time_kernels(
        Counter({(256, 256): 2, (256, 512): 1}),
        in_blocks=in_blocks,
        single_rows=1,
        batch_rows=64,
        max_threads=3,
    )
    forms = {(one.kernel, one.block_size) for one in timings}
    blocks = {(kernel, size) for kernel in ("int8", "int4") for size in (32, 64, 128)}
    assert forms == {("fp32", 0)} | (blocks if in_blocks else {("int8", 0)})
    for form in forms:
        threads = [one.num_threads for one in timings if (one.kernel, one.block_size) == form]
        assert threads == [1, 2, 3]
    for one in timings:
        assert 0 < one.single_ms < one.batch_ms


def test_time_grows_with_how_often_a_product_is_there_and_with_outputs_beyond_those_timed():
    def single_ms(products: Counter[tuple[int, int]]) -> float:
        timings = time_kernels(
            products, in_blocks=False, single_rows=4, batch_rows=4, max_threads=1
        )
        return fastest(timings, alone=True, kernel="fp32").single_ms

    once = single_ms(Counter({(64, 8192): 1}))
    assert 4 * once < single_ms(Counter({(64, 8192): 12})) < 36 * once
    assert 2 * once < single_ms(Counter({(64, 6 * 8192): 1})) < 18 * once


def test_the_fastest_is_of_the_asked_shape_and_kernel():
    def timing(kernel: str, size: int, single_ms: float, batch_ms: float) -> KernelTiming:
        return KernelTiming(
            kernel=kernel,
            block_size=size,
            num_threads=1,
            single_ms=single_ms,
            batch_ms=batch_ms,
        )

    fp32, int8, int4 = timing("fp32", 0, 4, 9), timing("int8", 32, 3, 5), timing("int4", 32, 2, 7)
    coarse = timing("int4", 128, 3, 6)
    timings = [fp32, int8, int4, coarse]
    assert fastest(timings, alone=True) == int4
    assert fastest(timings, alone=False) == int8
    assert fastest(timings, alone=False, kernel="int4") == coarse
