"""The laws of the queue, on a model whose every call can be watched and held."""

import asyncio
import math
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ray_sft.core import ServeError
from ray_sft.tasks import Encoded, Example, Rejected, Row
from serve.batcher import Batcher
from serve.outcomes import Answer, ItemFailedError, QueueFullError, RefusedError, StoppedError

pytestmark = pytest.mark.asyncio

LIMIT = 20


class Echo(BaseModel):
    text: str


class WordModel:
    """Answers a text with itself; a word is a token."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.encoded: list[str] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.is_running = threading.Event()

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        texts = [str(row["text"]) for row in rows]
        if any("untokenizable" in text for text in texts):
            raise ValueError("cannot tokenise")
        self.encoded += texts
        return [self._example(text) for text in texts]

    def _example(self, text: str) -> Encoded:
        words = text.split()
        if not words:
            return Rejected("text is missing or empty")
        kept = words[:LIMIT]
        ids = np.frombuffer(" ".join(kept).encode(), dtype=np.uint8)
        return Example({"input_ids": ids}, len(kept), len(words) - len(kept))

    def run(self, examples: Sequence[Example]) -> list[BaseModel]:
        self.is_running.set()
        assert self.may_run.wait(timeout=10)
        texts = [example.arrays["input_ids"].tobytes().decode() for example in examples]
        if any("poison" in text for text in texts):
            raise ValueError("a text that the model cannot bear")
        self.batches.append(texts)
        return [Echo(text=text) for text in texts]


class Held:
    """A batcher whose model is busy with a first text until `release`."""

    def __init__(
        self, *, max_batch_tokens: int = 64, max_queued: int = 100, max_wait_s: float = math.inf
    ) -> None:
        self.model = WordModel()
        self.batcher = Batcher(
            self.model,
            max_batch_tokens=max_batch_tokens,
            max_queued=max_queued,
            max_wait_s=max_wait_s,
        )

    async def __aenter__(self) -> "Held":
        self.model.may_run.clear()
        self.first = asyncio.create_task(ask(self.batcher, "first"))
        await asyncio.to_thread(self.model.is_running.wait, 10)
        return self

    async def release(self) -> None:
        self.model.may_run.set()
        await self.first
        del self.model.batches[:1], self.model.encoded[:1]

    async def __aexit__(self, *_: object) -> None:
        self.model.may_run.set()
        await self.first
        self.batcher.close()


async def ask(batcher: Batcher, *texts: str) -> list[Answer | ServeError]:
    return await asyncio.wait_for(batcher.submit([{"text": text} for text in texts]), 20)


def said(answers: list[Answer | ServeError]) -> list[str]:
    return [
        answer.response.text if isinstance(answer, Answer) else type(answer).__name__
        for answer in answers
    ]


async def settle(held: Held, num_queued: int) -> None:
    while held.batcher.num_queued < num_queued:
        await asyncio.sleep(0)


async def test_an_idle_model_is_asked_at_once_and_alone() -> None:
    model = WordModel()
    batcher = Batcher(model, max_batch_tokens=64, max_queued=8)
    for text in ("one", "two two", "three"):
        (answer,) = await ask(batcher, text)
        assert isinstance(answer, Answer)
        assert answer.timing.batch_size == 1
        assert answer.num_tokens == len(text.split())
    assert model.batches == [["one"], ["two two"], ["three"]]
    batcher.close()


async def test_texts_that_arrive_during_a_batch_are_the_next_one() -> None:
    async with Held() as held:
        tasks = [asyncio.create_task(ask(held.batcher, f"text {n}")) for n in range(5)]
        await settle(held, 5)
        await held.release()
        assert [said(await task) for task in tasks] == [[f"text {n}"] for n in range(5)]
        assert held.model.batches == [[f"text {n}" for n in range(5)]]


async def test_nobody_is_taken_who_would_wait_too_long() -> None:
    async with Held(max_wait_s=0.045) as held:  # at the 10 ms a text that are assumed at first
        tasks = [asyncio.create_task(ask(held.batcher, f"text {n}")) for n in range(4)]
        await settle(held, 4)
        with pytest.raises(QueueFullError, match="5 texts wait for the model and 4 may"):
            await ask(held.batcher, "one more")
        await held.release()
        assert [said(await task) for task in tasks] == [[f"text {n}"] for n in range(4)]
        for _ in range(60):  # the model is quicker than was assumed
            await ask(held.batcher, "one")
        await ask(held.batcher, *(f"text {n}" for n in range(90)))


async def test_a_large_request_waits_its_turn_however_short_waits_are() -> None:
    async with Held(max_wait_s=0.001) as held:
        task = asyncio.create_task(ask(held.batcher, *(f"text {n}" for n in range(50))))
        await settle(held, 50)
        with pytest.raises(QueueFullError, match="51 texts wait for the model and 1 may"):
            await ask(held.batcher, "one more")
        await held.release()
        assert len(await task) == 50


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, LIMIT), min_size=1, max_size=40), budget=st.integers(1, 80))
async def test_no_batch_exceeds_its_budget_and_only_the_next_32_may_overtake(
    lengths: list[int], budget: int
) -> None:
    texts = [" ".join([f"w{number}"] * length) for number, length in enumerate(lengths)]
    async with Held(max_batch_tokens=budget) as held:
        task = asyncio.create_task(ask(held.batcher, *texts))
        await settle(held, len(texts))
        await held.release()
        assert said(await task) == texts
        batches = held.model.batches
        for batch in batches:
            assert len(batch) == 1 or max(len(t.split()) for t in batch) * len(batch) <= budget
        for taken in (texts[:32], texts[32:]):
            run: list[str] = []
            while len(run) < len(taken):
                run += batches.pop(0)
            assert sorted(run) == sorted(taken)
            assert [len(text.split()) for text in run] == sorted(len(t.split()) for t in taken)
        assert not batches


async def test_no_batch_is_smaller_than_it_needs_to_be() -> None:
    async with Held(max_batch_tokens=8) as held:
        texts = ["a b", "c d e f", "g", "h i", "j k l", "m"]
        task = asyncio.create_task(ask(held.batcher, *texts))
        await settle(held, len(texts))
        await held.release()
        assert said(await task) == texts
        assert held.model.batches == [["g", "m", "a b", "h i"], ["j k l", "c d e f"]]


async def test_a_full_queue_refuses_before_any_work_is_done() -> None:
    async with Held(max_queued=3) as held:
        waiting = asyncio.create_task(ask(held.batcher, "a", "b"))
        await settle(held, 2)
        with pytest.raises(QueueFullError, match="2 texts wait for the model and 3 may") as caught:
            await ask(held.batcher, "c", "d")
        assert caught.value.retry_after_s >= 1
        assert held.batcher.num_queued == 2
        one = asyncio.create_task(ask(held.batcher, "e"))
        await settle(held, 3)
        assert held.batcher.is_full
        await held.release()
        assert said(await waiting) + said(await one) == ["a", "b", "e"]
        assert held.model.encoded == ["a", "b", "e"]


async def test_a_client_that_left_costs_nothing() -> None:
    async with Held() as held:
        stays = asyncio.create_task(ask(held.batcher, "stays"))
        leaves = asyncio.create_task(ask(held.batcher, "leaves", "as well"))
        await settle(held, 3)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        await held.release()
        assert said(await stays) == ["stays"]
        assert held.model.batches == [["stays"]]
        assert held.model.encoded == ["stays"]
        assert held.batcher.num_queued == 0


@pytest.mark.parametrize("word", ["poison", "untokenizable"])
@pytest.mark.parametrize("place", [0, 3, 6])
async def test_only_the_text_at_fault_fails(
    word: str, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text {number}" for number in range(7)]
    texts[place] = word
    async with Held() as held:
        task = asyncio.create_task(ask(held.batcher, *texts))
        await settle(held, 7)
        await held.release()
        answers = await task
    assert isinstance(answers[place], ItemFailedError)
    expected = [*texts]
    expected[place] = "ItemFailedError"
    assert said(answers) == expected
    assert "failed on a text" in caplog.text


async def test_texts_that_cannot_be_taken_are_told_apart() -> None:
    model = WordModel()
    batcher = Batcher(model, max_batch_tokens=64, max_queued=8)
    long = " ".join(["word"] * 25)
    fine, empty, too_long = await ask(batcher, "fine", "  ", long)
    assert said([fine]) == ["fine"]
    assert isinstance(empty, RefusedError)
    assert isinstance(too_long, RefusedError)
    assert "25 tokens; the model takes 20" in str(too_long)
    assert model.batches == [["fine"]]
    batcher.close()


async def test_a_text_that_may_be_cut_is_read_up_to_the_limit() -> None:
    batcher = Batcher(WordModel(), max_batch_tokens=64, max_queued=8)
    try:
        long = " ".join(f"w{number}" for number in range(25))
        (answer,) = await batcher.submit([{"text": long}], cut=True)
        assert isinstance(answer, Answer)
        assert answer.response.text == long[: long.index(" w20")]
        (refused,) = await batcher.submit([{"text": long}])
        assert isinstance(refused, RefusedError)
    finally:
        batcher.close()


async def test_the_event_loop_turns_while_the_model_runs() -> None:
    async with Held() as held:
        turns = 0
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        assert turns == 100
        assert not held.first.done()


async def test_closing_fails_what_waits_and_refuses_what_comes() -> None:
    async with Held() as held:
        waiting = asyncio.create_task(ask(held.batcher, "too late"))
        await settle(held, 1)
        closing = asyncio.create_task(asyncio.to_thread(held.batcher.close))
        while not held.batcher._stopped:
            await asyncio.sleep(0)
        held.model.may_run.set()
        await closing
        assert said(await waiting) == ["StoppedError"]
        with pytest.raises(StoppedError):
            await ask(held.batcher, "even later")
    assert not held.batcher._thread.is_alive()


async def test_one_batcher_serves_several_event_loops_in_turn() -> None:
    model = WordModel()
    batcher = Batcher(model, max_batch_tokens=64, max_queued=8)
    assert said(await ask(batcher, "here")) == ["here"]
    there = await asyncio.to_thread(asyncio.run, ask(batcher, "there"))
    assert said(there) == ["there"]
    batcher.close()
