import asyncio
import re

import numpy as np
import pytest
import torch

from ray_sft.core import BundleError, DataError, ServeError
from ray_sft.inference import (
    Constraint,
    EngineBusy,
    GenerationEngine,
    GenerationRequest,
    generate,
    torch_threads,
)
from ray_sft.models import load_model
from ray_sft.tasks.causal_language_model import Message, encode_prompt
from tests.waiting import wait_until

NUM_TOKENS = 40


@pytest.fixture(scope="module")
def prompts(processor):
    """Ragged prompts; two are longer than the engine reads at once."""
    rng = np.random.default_rng(1)
    sizes = [5, 300, 12, 31, 400, 8, 60, 17, 3, 44]
    return [tuple(rng.integers(6, len(processor), size=size).tolist()) for size in sizes]


@pytest.fixture
def engine(onnx_decoder):
    engine = GenerationEngine(onnx_decoder, num_slots=4)
    yield engine
    engine.close()


def read(stream) -> str:
    return "".join(chunk.text for chunk in stream)


def reply(engine, prompt, **options) -> str:
    return read(engine.submit(GenerationRequest(prompt, NUM_TOKENS, **options)))


def test_greedy_text_is_that_of_transformers(decoder, engine, processor, prompts):
    model = load_model(str(decoder.model_dir), decoder.task, processor=processor).eval()
    for prompt in prompts[:6]:
        ids = torch.tensor([prompt])
        with torch_threads(1):
            tokens = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NUM_TOKENS, do_sample=False
            )
        expected = processor.decode(tokens[0, len(prompt) :], skip_special_tokens=True)
        assert reply(engine, prompt) == expected


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "seed": 7}]
)
def test_a_reply_does_not_depend_on_its_neighbours(engine, prompts, options):
    alone = [reply(engine, prompt, **options) for prompt in prompts]
    streams = [
        engine.submit(GenerationRequest(prompt, NUM_TOKENS, **options)) for prompt in prompts
    ]
    assert [read(stream) for stream in streams] == alone
    assert len(set(alone)) == len(alone)


def test_another_seed_gives_another_reply(engine, prompts):
    found = {reply(engine, prompts[0], temperature=1.0, seed=seed) for seed in range(4)}
    assert len(found) == 4


def test_awaited_chunks_are_those_of_a_thread(engine, prompts):
    async def collect(prompt):
        stream = engine.submit(GenerationRequest(prompt, NUM_TOKENS))
        return [chunk async for chunk in stream]

    async def collect_all():
        return await asyncio.gather(*(collect(prompt) for prompt in prompts))

    for prompt, chunks in zip(prompts, asyncio.run(collect_all()), strict=True):
        assert "".join(chunk.text for chunk in chunks) == reply(engine, prompt)
        assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        counts = [chunk.num_tokens for chunk in chunks]
        assert counts == sorted(counts)
        if chunks[-1].finish_reason == "length":
            assert counts[-1] == NUM_TOKENS


def test_a_stop_string_ends_the_reply_before_it(engine, prompts):
    whole = reply(engine, prompts[0])
    stop = whole[len(whole) // 2 :][:3]
    chunks = list(engine.submit(GenerationRequest(prompts[0], NUM_TOKENS, stop=(stop,))))
    assert "".join(chunk.text for chunk in chunks) == whole[: whole.index(stop)]
    assert chunks[-1].finish_reason == "stop"


def test_the_end_of_sequence_ends_the_reply(engine, processor, prompts):
    """Sampling at a high temperature reaches the end token soon."""
    for seed in range(200):
        request = GenerationRequest(prompts[8], 450, temperature=3.0, seed=seed)
        chunks = list(engine.submit(request))
        if chunks[-1].finish_reason == "stop":
            assert processor.eos_token not in "".join(chunk.text for chunk in chunks)
            return
    pytest.fail("no reply ended by itself")


def test_prompt_and_reply_share_the_context(onnx_decoder, prompts):
    engine = GenerationEngine(onnx_decoder, num_slots=2, max_length=20)
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
        ({"prompt_ids": ()}, "0 tokens"),
        ({"prompt_ids": (5, 100_000)}, "outside 0 to"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"top_scores": 100_000}, "top_scores is 100000"),
        ({"constraint": Constraint("regex", "(")}, "regular expression"),
        ({"stop": ("x", "")}, "stop string is empty"),
    ],
)
def test_a_malformed_request_is_refused_at_the_door(engine, options, match):
    with pytest.raises(DataError, match=match):
        engine.submit(GenerationRequest(**({"prompt_ids": (7,), "max_tokens": 4} | options)))


def test_a_full_queue_refuses_and_cancelling_makes_room(onnx_decoder, prompts):
    engine = GenerationEngine(onnx_decoder, num_slots=1, max_queued=2)
    try:
        running = engine.submit(GenerationRequest(prompts[0], 480))
        next(iter(running))
        waiting = [engine.submit(GenerationRequest(prompts[0], 480)) for _ in range(2)]
        with pytest.raises(EngineBusy, match="2 requests wait"):
            engine.submit(GenerationRequest(prompts[0], 1))
        for stream in (running, *waiting):
            stream.cancel()
        wait_until(lambda: engine.num_active == engine.num_queued == 0)
        list(running)  # what had arrived, then the end; it does not hang
        *_, last = engine.submit(GenerationRequest(prompts[0], 3))
        assert last.num_tokens == 3
    finally:
        engine.close()


def test_a_reader_that_is_cancelled_frees_its_slot(engine, prompts):
    async def leave_early():
        async def read_on():
            async for _ in engine.submit(GenerationRequest(prompts[0], 490)):
                first.set()

        first = asyncio.Event()
        reader = asyncio.create_task(read_on())
        await first.wait()
        assert engine.num_active == 1
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    asyncio.run(leave_early())
    wait_until(lambda: engine.num_active == 0)


def test_a_failure_of_the_engine_reaches_every_reader(onnx_decoder, prompts):
    engine = GenerationEngine(onnx_decoder, num_slots=1)
    streams = [engine.submit(GenerationRequest(prompts[0], 490)) for _ in range(3)]
    next(iter(streams[0]))
    engine._decoder.session = None  # the machine room burns
    for stream in streams:
        with pytest.raises(ServeError, match="engine failed"):
            list(stream)
    with pytest.raises(ServeError, match="closed"):
        engine.submit(GenerationRequest(prompts[0], 1))
    engine.close()


def test_closing_ends_the_replies_under_way(onnx_decoder, prompts):
    engine = GenerationEngine(onnx_decoder, num_slots=1)
    streams = [engine.submit(GenerationRequest(prompts[0], 490)) for _ in range(2)]
    engine.close()
    for stream in streams:
        with pytest.raises(ServeError, match="closed"):
            list(stream)
    engine.close()  # twice is fine


def test_a_torch_bundle_cannot_generate(decoder):
    with pytest.raises(BundleError, match="export_onnx"):
        GenerationEngine(decoder)


def test_generate_answers_a_conversation(onnx_decoder, engine):
    messages = [Message(role="user", content="Where is my parcel?")]
    prompt = tuple(encode_prompt(messages, engine.processor))
    assert generate(onnx_decoder, messages, max_tokens=NUM_TOKENS) == reply(engine, prompt)


def test_a_shared_beginning_is_read_once_and_changes_nothing(onnx_decoder, prompts):
    system = prompts[1][:100]
    asked = [(*system, *prompt[:20]) for prompt in prompts]
    cold = GenerationEngine(onnx_decoder, num_slots=2, max_cached_tokens=0)
    warm = GenerationEngine(onnx_decoder, num_slots=2)
    try:
        expected = [reply(cold, prompt) for prompt in asked]
        first = warm.submit(GenerationRequest(asked[0], NUM_TOKENS))
        assert read(first) == expected[0]
        assert first.num_cached == 0
        streams = [warm.submit(GenerationRequest(prompt, NUM_TOKENS)) for prompt in asked]
        assert [read(stream) for stream in streams] == expected
        assert all(stream.num_cached >= len(system) for stream in streams)
        assert warm.num_cached_tokens > len(system)
        assert cold.num_cached_tokens == 0
    finally:
        cold.close()
        warm.close()


def test_the_next_turn_reads_only_what_is_new(engine, prompts):
    first = GenerationRequest(prompts[5], 30, temperature=1.0, seed=3, top_scores=0)
    chunks = list(engine.submit(first))
    reply_ids = [score.token for chunk in chunks for score in chunk.scores]
    second = (*prompts[5], *reply_ids, *prompts[0])
    stream = engine.submit(GenerationRequest(second, 4))
    read(stream)
    unread = 1 if chunks[-1].finish_reason == "length" else 0  # the last token drawn
    assert stream.num_cached == len(prompts[5]) + len(reply_ids) - unread


def test_a_beginning_is_not_shared_between_scopes(engine, prompts):
    found = []
    for scope in ("one", "other", "one"):
        stream = engine.submit(GenerationRequest(prompts[6], 2, scope=scope))
        read(stream)
        found.append(stream.num_cached)
    assert found == [0, 0, len(prompts[6]) - 1]


def test_the_memory_of_beginnings_is_bounded(onnx_decoder, prompts):
    engine = GenerationEngine(onnx_decoder, num_slots=2, max_cached_tokens=100)
    try:
        for prompt in prompts * 2:
            reply(engine, prompt)
            assert engine.num_cached_tokens <= 100
    finally:
        engine.close()


def test_scores_are_those_of_the_model_in_torch(decoder, engine, processor, prompts):
    prompt = prompts[2]
    chunks = list(engine.submit(GenerationRequest(prompt, 12, top_scores=3)))
    scores = [score for chunk in chunks for score in chunk.scores]
    tokens = [score.token for score in scores]
    model = load_model(str(decoder.model_dir), decoder.task, processor=processor).eval()
    with torch.no_grad(), torch_threads(1):
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits.float(), dim=-1)
    for score, row in zip(scores, expected, strict=True):
        assert score.log_probability == pytest.approx(float(row[score.token]), abs=1e-4)
        best = torch.topk(row, 3)
        assert [token for token, _ in score.top] == best.indices.tolist()
        assert score.top[0][0] == score.token  # greedy
    assert processor.decode(tokens) == "".join(chunk.text for chunk in chunks)


def test_a_penalty_keeps_tokens_from_coming_back(engine, prompts):
    free = list(engine.submit(GenerationRequest(prompts[0], NUM_TOKENS, top_scores=0)))
    held = list(
        engine.submit(
            GenerationRequest(prompts[0], NUM_TOKENS, top_scores=0, presence_penalty=1000.0)
        )
    )
    free_ids, held_ids = (
        [score.token for chunk in chunks for score in chunk.scores] for chunks in (free, held)
    )
    assert len(set(free_ids)) < len(free_ids)
    assert len(set(held_ids)) == len(held_ids)


def test_constrained_and_free_replies_run_together(engine, prompts):
    constraint = Constraint("regex", "[a-f]{3}-[0-9]{2}")
    alone = reply(engine, prompts[0])
    streams = [
        engine.submit(GenerationRequest(prompt, NUM_TOKENS, temperature=1.0, constraint=constraint))
        for prompt in prompts[:3]
    ]
    free = engine.submit(GenerationRequest(prompts[0], NUM_TOKENS))
    for stream in streams:
        chunks = list(stream)
        assert re.fullmatch("[a-f]{3}-[0-9]{2}", "".join(chunk.text for chunk in chunks))
        assert chunks[-1].finish_reason == "stop"
    assert read(free) == alone


def test_a_limit_may_cut_a_constrained_reply(engine, prompts):
    constraint = Constraint("regex", "[a-f]{30}")
    chunks = list(engine.submit(GenerationRequest(prompts[0], 3, constraint=constraint)))
    assert chunks[-1].finish_reason == "length"
