"""The engine on onnxruntime-genai, on a processor: all of it but the pages themselves."""

import asyncio
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ray_sft.core import BundleError, DataError, ServeError
from ray_sft.inference import (
    Constraint,
    EngineBusy,
    GenerationEngine,
    GenerationRequest,
    PagedEngine,
    TextEngine,
    open_engine,
)
from ray_sft.inference.generation.turn_options import check_possible, settings_of
from tests.waiting import wait_until

NUM_TOKENS = 40


@pytest.fixture(scope="module")
def prompts(processor):
    rng = np.random.default_rng(1)
    sizes = [5, 300, 12, 31, 400, 8, 60, 17, 3, 44]
    return [tuple(rng.integers(6, len(processor), size=size).tolist()) for size in sizes]


@pytest.fixture
def engine(onnx_decoder):
    engine = PagedEngine(onnx_decoder, num_slots=4)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def slots(onnx_decoder):
    engine = GenerationEngine(onnx_decoder, num_slots=4)
    yield engine
    engine.close()


def read(stream) -> str:
    return "".join(chunk.text for chunk in stream)


def reply(engine: TextEngine, prompt, **options) -> str:
    return read(engine.submit(GenerationRequest(prompt, NUM_TOKENS, **options)))


def ending(chunks) -> tuple[str, str | None, int]:
    return "".join(chunk.text for chunk in chunks), chunks[-1].finish_reason, chunks[-1].num_tokens


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_replies_side_by_side_are_those_of_the_engine_for_processors(
    engine, slots, prompts, penalty
):
    requests = [
        GenerationRequest(prompt, 5 + 7 * number, repetition_penalty=penalty)
        for number, prompt in enumerate(prompts)
    ]
    streams = [[one.submit(request) for request in requests] for one in (engine, slots)]
    found, expected = ([ending(list(stream)) for stream in group] for group in streams)
    assert found == expected
    assert len({text for text, _, _ in found}) == len(prompts)


def test_draws_depend_on_nothing_but_the_request(engine, prompts):
    drawn = {"temperature": 0.8, "top_k": 50, "top_p": 0.9}
    alone = [reply(engine, prompt, **drawn) for prompt in prompts]
    streams = [engine.submit(GenerationRequest(prompt, NUM_TOKENS, **drawn)) for prompt in prompts]
    assert [read(stream) for stream in streams] == alone
    assert alone != [reply(engine, prompt) for prompt in prompts]


def test_one_token_to_draw_from_is_the_most_probable(engine, prompts):
    assert reply(engine, prompts[0], temperature=2.0, top_k=1) == reply(engine, prompts[0])
    assert reply(engine, prompts[0], temperature=2.0, top_p=1e-6) == reply(engine, prompts[0])
    assert reply(engine, prompts[0], temperature=1e-4) == reply(engine, prompts[0])


def test_a_stop_string_ends_the_reply_before_it(engine, prompts):
    whole = reply(engine, prompts[0])
    stop = whole[len(whole) // 2 :][:3]
    chunks = list(engine.submit(GenerationRequest(prompts[0], NUM_TOKENS, stop=(stop,))))
    assert "".join(chunk.text for chunk in chunks) == whole[: whole.index(stop)]
    assert chunks[-1].finish_reason == "stop"
    wait_until(lambda: engine.num_active == 0)


def test_the_end_of_sequence_ends_the_reply(engine, processor, prompts):
    for prompt in prompts * 20:
        request = GenerationRequest(prompt, 450, temperature=4.0 + len(prompt) / 100)
        chunks = list(engine.submit(request))
        if chunks[-1].finish_reason == "stop":
            assert processor.eos_token not in "".join(chunk.text for chunk in chunks)
            assert chunks[-1].num_tokens < 450
            return
    pytest.fail("no reply ended by itself")


def test_prompt_and_reply_share_the_context(onnx_decoder, prompts):
    engine = PagedEngine(onnx_decoder, num_slots=2, max_length=20)
    try:
        assert engine.max_length == 20
        *_, last = engine.submit(GenerationRequest(prompts[2], 100))
        assert (last.finish_reason, last.num_tokens) == ("length", 8)
        *_, last = engine.submit(GenerationRequest(prompts[4][:19], 100))
        assert (last.finish_reason, last.num_tokens) == ("length", 1)
        with pytest.raises(DataError, match=r"20 tokens; this model takes 1 to 19"):
            engine.submit(GenerationRequest(prompts[4][:20], 1))
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"top_scores": 0}, r"log-probabilities cannot be had.*Leave out logprobs.*device: cpu"),
        ({"presence_penalty": 0.5}, "presence_penalty.*cannot be had.*repetition_penalty"),
        ({"frequency_penalty": -0.5}, "frequency_penalty.*cannot be had"),
        ({"temperature": 1.0, "seed": 3}, "seed is 3.*seed 0 only.*device: cuda"),
        ({"prompt_ids": ()}, "0 tokens"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"top_p": 0.0}, "top_p"),
        ({"constraint": Constraint("json_schema", "{}")}, r"given form \(json_schema\).*in words"),
        ({"stop": ("x", "")}, "stop string is empty"),
    ],
)
def test_what_cannot_be_answered_as_meant_is_refused_at_the_door(engine, options, match):
    with pytest.raises(DataError, match=match):
        engine.submit(GenerationRequest(**({"prompt_ids": (7,), "max_tokens": 4} | options)))


def test_a_full_queue_refuses_and_cancelling_makes_room(onnx_decoder, prompts):
    engine = PagedEngine(onnx_decoder, num_slots=1, max_queued=2)
    try:
        running = engine.submit(GenerationRequest(prompts[0], 480))
        next(iter(running))
        waiting = [engine.submit(GenerationRequest(prompts[0], 480)) for _ in range(2)]
        with pytest.raises(EngineBusy, match="2 requests wait"):
            engine.submit(GenerationRequest(prompts[0], 1))
        for stream in (running, *waiting):
            stream.cancel()
        wait_until(lambda: engine.num_active == engine.num_queued == 0)
        list(running)
        *_, last = engine.submit(GenerationRequest(prompts[0], 3))
        assert last.num_tokens == 3
    finally:
        engine.close()


def test_a_reader_that_is_cancelled_leaves_the_others_alone(engine, slots, prompts):
    async def leave_early():
        async def read_on():
            async for _ in engine.submit(GenerationRequest(prompts[0], 490)):
                first.set()

        first = asyncio.Event()
        reader = asyncio.create_task(read_on())
        await first.wait()
        assert engine.num_active >= 1
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    other = engine.submit(GenerationRequest(prompts[3], 300))
    asyncio.run(leave_early())
    assert read(other) == read(slots.submit(GenerationRequest(prompts[3], 300)))
    wait_until(lambda: engine.num_active == 0)


def test_a_failure_of_the_engine_reaches_every_reader(onnx_decoder, prompts):
    engine = PagedEngine(onnx_decoder, num_slots=1)
    streams = [engine.submit(GenerationRequest(prompts[0], 490)) for _ in range(3)]
    next(iter(streams[0]))
    engine._engine.step = None  # the machine room burns
    for stream in streams:
        with pytest.raises(ServeError, match="engine failed"):
            list(stream)
    with pytest.raises(ServeError, match="closed"):
        engine.submit(GenerationRequest(prompts[0], 1))
    engine.close()


def test_closing_ends_the_replies_under_way(onnx_decoder, prompts):
    engine = PagedEngine(onnx_decoder, num_slots=1)
    streams = [engine.submit(GenerationRequest(prompts[0], 490)) for _ in range(2)]
    engine.close()
    for stream in streams:
        with pytest.raises(ServeError, match="closed"):
            list(stream)
    engine.close()  # twice is fine


def test_times_and_counts_are_told_as_by_the_engine_for_processors(engine, prompts):
    stream = engine.submit(GenerationRequest(prompts[2], 6))
    chunks = list(stream)
    assert chunks[-1].num_tokens == 6
    assert stream.submitted <= stream.started <= stream.first_token <= stream.last_token
    assert (stream.num_cached, engine.num_cached_tokens) == (0, 0)


def test_a_torch_bundle_cannot_generate(decoder):
    with pytest.raises(BundleError, match="export_onnx"):
        PagedEngine(decoder)


def test_bundles_for_processors_are_answered_by_the_engine_for_them(onnx_decoder):
    engine = open_engine(onnx_decoder, num_slots=1)
    engine.close()
    assert isinstance(engine, GenerationEngine)


def test_both_engines_have_what_is_asked_of_an_engine(engine, slots):
    for name in vars(TextEngine):
        if not name.startswith("_"):
            assert hasattr(engine, name), name
            assert hasattr(slots, name), name


def test_a_damaged_graph_is_told_and_leaves_no_thread_waiting(onnx_decoder, tmp_path):
    shutil.copytree(onnx_decoder.path, tmp_path / "damaged")
    (tmp_path / "damaged" / "model" / "model.onnx").write_bytes(b"no graph")
    damaged = replace(onnx_decoder, path=tmp_path / "damaged")
    with pytest.raises(BundleError, match=r"onnxruntime-genai cannot load '.*damaged'"):
        PagedEngine(damaged)


def test_more_slots_than_there_are_is_refused(onnx_decoder):
    with pytest.raises(ServeError, match=r"num_slots is 300.*1 to 256"):
        PagedEngine(onnx_decoder, num_slots=300)


def test_what_is_asked_of_an_engine_with_pages():
    """Its seed is each request's own, and no default of the bundle is left standing."""
    request = GenerationRequest(
        (7,), 9, temperature=0.5, top_k=0, top_p=0.9, repetition_penalty=1.2, seed=5
    )
    settings = settings_of(request, max_tokens=9, vocab_size=100, takes_seeds=True)
    assert settings == {
        "max_generated_tokens": (9,),
        "min_generated_tokens": (0,),
        "no_repeat_ngram_size": (0,),
        "repetition_penalty": (1.2,),
        "do_sample": (True,),
        "temperature": (0.5,),
        "top_k": (0,),
        "top_p": (0.9,),
        "seed": (5,),
    }
    options = {name: values for name, values in settings.items() if name != "seed"}
    assert settings_of(request, max_tokens=9, vocab_size=100, takes_seeds=False) == options
    check_possible(request, takes_seeds=True)
