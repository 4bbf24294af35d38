"""The engine with paged attention where it is meant to run: what only a CUDA device can show."""

import time

import numpy as np
import pytest
import torch

from ray_sft.bundle import BundleWriter
from ray_sft.compression import ExportOnnx
from ray_sft.inference import (
    GenerationRequest,
    PagedEngine,
    Predictor,
    check_samples,
    open_engine,
    record_samples,
)
from ray_sft.models import load_model

pytestmark = pytest.mark.gpu

NUM_TOKENS = 32
_CLOSE = 0.05
"""Logits nearer than this, of a standard deviation of about 3, may change places in 16 bits."""


@pytest.fixture(scope="module")
def bundle(decoder, tmp_path_factory):
    """The decoder in fp16 for CUDA, with samples answered there."""
    path = tmp_path_factory.mktemp("bundles") / "cuda"
    manifest = decoder.manifest.model_copy(
        update={"format": "onnx", "variant": "onnx", "files": {}}
    )
    with BundleWriter(path) as out:
        out.copy_processor(decoder)
        ExportOnnx(device="cuda", dtype="fp16").apply(decoder, out)
        requests = [sample["request"] for sample in decoder.samples()]
        out.write_samples(record_samples(Predictor(out.draft(manifest)), requests))
        return out.finish(manifest)


@pytest.fixture(scope="module")
def engine(bundle):
    engine = open_engine(bundle, num_slots=16, max_cached_tokens=0)
    assert isinstance(engine, PagedEngine)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts(processor):
    rng = np.random.default_rng(1)
    sizes = [5, 300, 12, 31, 400, 8, 60, 17, 3, 44] * 3
    return [tuple(rng.integers(6, len(processor), size=size).tolist()) for size in sizes]


@pytest.fixture(scope="module")
def model(decoder, processor):
    model = load_model(str(decoder.model_dir), decoder.task, processor=processor)
    return model.eval().half().to("cuda")


def read(stream) -> str:
    return "".join(chunk.text for chunk in stream)


def test_logits_are_those_of_transformers_in_the_same_precision(bundle, model, prompts):
    predictor = Predictor(bundle)
    for prompt in prompts[:5]:
        ids = np.asarray([prompt])
        found = predictor.runner({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        with torch.no_grad():
            expected = model(torch.tensor(ids, device="cuda")).logits.float().cpu().numpy()
        np.testing.assert_allclose(found["logits"], expected, atol=_CLOSE)
    check_samples(predictor)


def test_greedy_replies_side_by_side_are_those_of_transformers(engine, model, processor, prompts):
    """But for places where two tokens are as good as equal, from which on texts may differ."""
    streams = [engine.submit(GenerationRequest(prompt, NUM_TOKENS)) for prompt in prompts]
    num_equal = 0
    for prompt, stream in zip(prompts, streams, strict=True):
        found = read(stream)
        ids = torch.tensor([prompt], device="cuda")
        done = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NUM_TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = done.sequences[0, len(prompt) :]
        if found == processor.decode(tokens, skip_special_tokens=True):
            num_equal += 1
            continue
        best = torch.cat(done.logits).float().topk(2).values
        assert float((best[:, 0] - best[:, 1]).min()) < _CLOSE, (found, prompt)
    assert num_equal > 0.8 * len(prompts)


def test_equal_seeds_give_equal_replies_whatever_runs_beside_them(engine, prompts):
    drawn = {"temperature": 0.9, "top_k": 50, "top_p": 0.95}
    requests = [
        GenerationRequest(prompt, NUM_TOKENS, seed=seed, **drawn)
        for seed, prompt in enumerate([prompts[0]] * 4 + prompts[1:5])
    ]
    alone = [read(engine.submit(request)) for request in requests]
    assert len(set(alone)) == len(alone)
    streams = [engine.submit(request) for request in reversed(requests)]
    assert [read(stream) for stream in reversed(streams)] == alone


def test_a_latecomer_has_its_first_token_while_others_run(engine, prompts):
    early = [engine.submit(GenerationRequest(prompt, 110)) for prompt in [prompts[1]] * 8]
    for stream in early:
        next(iter(stream))
    late = engine.submit(GenerationRequest(prompts[2], 4))
    next(iter(late))
    for stream in (*early, late):
        read(stream)
    assert late.first_token < min(stream.last_token for stream in early)


def test_a_cancelled_request_makes_room_at_once(bundle, prompts):
    engine = PagedEngine(bundle, num_slots=1)
    try:
        running = engine.submit(GenerationRequest(prompts[0], 480))
        next(iter(running))
        running.cancel()
        start = time.perf_counter()
        assert read(engine.submit(GenerationRequest(prompts[2], 2)))
        assert time.perf_counter() - start < 2.0
    finally:
        engine.close()
