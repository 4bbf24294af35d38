"""A replica whose models do not answer as they did is ill; one that is busy is not."""

import asyncio
import shutil

import pytest

from ray_sft.core import ServeError
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models
from serve.outcomes import Answer, ItemFailedError, QueueFullError, Timing
from serve.probe import Probe
from tests.serve.conftest import TEXTS


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def probe(models: Models, clock: Clock) -> Probe:
    return Probe(models, interval_s=30, clock=clock)


class Broken:
    """A queue in the place of a classifier's."""

    num_queued = 0
    is_full = False
    is_idle = True

    def __init__(self, outcome) -> None:
        self.outcome = outcome
        self.num_asked = 0

    async def submit(self, rows, *, cut=False):
        del cut
        self.num_asked += 1
        if isinstance(self.outcome, QueueFullError):
            raise self.outcome
        return [self.outcome for _ in rows]

    def close(self) -> None:
        """Nothing runs."""


@pytest.fixture
def broken(models: Models, monkeypatch):
    """Puts a queue of a given outcome behind ``intents``."""

    def put(outcome) -> Broken:
        queue = Broken(outcome)
        monkeypatch.setattr(type(models.bundles["intents"].models["intents"]), "submit", _submit)
        queues.append(queue)
        return queue

    queues: list[Broken] = []

    async def _submit(_, rows):
        return await queues[-1].submit(rows)

    return put


@pytest.mark.asyncio
async def test_models_that_answer_their_samples_are_well(probe, clock, metrics):
    before = metrics.render().decode()
    await probe.check()  # they were checked a moment ago, when they were loaded
    assert metrics.render().decode() == before
    clock.now = 31
    await probe.check()
    assert metrics.render().decode() != before


@pytest.mark.asyncio
async def test_samples_are_not_asked_more_often_than_that(probe, clock, broken, models):
    (sample, *_) = models.bundles["intents"].bundle.samples()
    response = models.bundles["intents"].bundle.task.Response.model_validate(sample["response"])
    queue = broken(Answer(response, 1, Timing(0, 0, 0, 1)))
    for second in range(100):
        clock.now = second
        await probe.check()
    assert queue.num_asked == 3


@pytest.mark.asyncio
async def test_another_answer_is_an_illness_that_is_looked_at_every_time(
    probe, clock, broken, models
):
    (sample, *_) = models.bundles["intents"].bundle.samples()
    wrong = sample["response"] | {"score": sample["response"]["score"] + 0.2}
    response = models.bundles["intents"].bundle.task.Response.model_validate(wrong)
    queue = broken(Answer(response, 1, Timing(0, 0, 0, 1)))
    clock.now = 31
    for _ in range(3):  # Ray replaces a replica after three times
        with pytest.raises(
            ServeError, match=r"answers its own sample differently: response\.score"
        ):
            await probe.check()
    assert queue.num_asked == 3


@pytest.mark.asyncio
async def test_a_model_that_fails_is_ill(probe, clock, broken):
    broken(ItemFailedError("the model failed on this text."))
    clock.now = 31
    with pytest.raises(ServeError, match="fails on its own sample"):
        await probe.check()


@pytest.mark.asyncio
async def test_a_full_queue_is_no_illness(probe, clock, broken):
    broken(QueueFullError(512, max_queued=512, retry_after_s=1))
    clock.now = 31
    await probe.check()


@pytest.mark.asyncio
async def test_a_generator_that_has_failed_is_ill(probe, clock, models, monkeypatch):
    engine = models.bundles["replies"].models["replies"].engine

    def submit(_):
        raise ServeError("the generation engine failed: out of memory")

    monkeypatch.setattr(engine, "submit", submit)
    clock.now = 31
    with pytest.raises(ServeError, match="out of memory"):
        await probe.check()


@pytest.mark.asyncio
async def test_a_probe_waits_in_the_queue_like_everybody(probe, clock, models):
    clock.now = 31
    _, model = models.labeller("intents")
    clients = [asyncio.create_task(model.submit([{"text": text}])) for text in TEXTS * 20]
    await asyncio.sleep(0)
    await probe.check()
    assert all(isinstance(answer, Answer) for (answer,) in await asyncio.gather(*clients))


@pytest.mark.asyncio
async def test_a_folder_that_is_written_anew_makes_nobody_ill(
    classifier_bundle, service_args, tmp_path, clock
):
    """A run that is repeated puts another bundle into the place of the one that is served."""
    folder = tmp_path / "intents"
    shutil.copytree(classifier_bundle.path, folder)
    args = service_args.model_copy(update={"bundles": {"intents": str(folder)}})
    models = load_models(args, num_threads=1, metrics=ServiceMetrics())
    (folder / "samples.jsonl").write_text("")
    probe = Probe(models, interval_s=30, clock=clock)
    clock.now = 31
    await probe.check()
    models.close()
