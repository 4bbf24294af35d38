import gc
import threading
import weakref

import pytest

from ray_sft.compression import Compress, ExportOnnx, compress
from ray_sft.compression.paged_workload import PagedWorkload
from ray_sft.inference import decoder_device


def test_tokens_are_timed_and_the_engine_goes_with_the_workload(exported_decoder):
    workload = PagedWorkload(exported_decoder, [[7, 8, 9]] * 4, num_tokens=16, num_threads=1)
    assert "generation" in {thread.name for thread in threading.enumerate()}
    assert len(workload.single()) == 2
    assert all(0.0 < seconds < 5.0 for seconds in workload.single())
    assert workload.batch() > 1.0
    engine = weakref.ref(workload._engine)
    del workload
    gc.collect()
    assert engine() is None or engine()._jobs._is_closed


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "int4"])
def test_a_decoder_for_cuda_is_exported_measured_and_kept(decoder, tmp_path, dtype):
    config = Compress(passes=(ExportOnnx(device="cuda", dtype=dtype),), min_speedup=0.0)
    reports = compress(
        config, decoder, examples={}, out_dir=tmp_path, num_threads=1, progress=lambda _: None
    )
    assert reports[-1].throughput > 0.0
    assert reports[-1].operators["PagedAttention"] == 2
    assert decoder_device(tmp_path / "onnx" / "model") == "cuda"
