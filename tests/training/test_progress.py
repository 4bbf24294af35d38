"""Records reach the driver once each, also where the log does not answer for a while."""

import json
import time

import pytest
import ray

from ray_sft.training import progress
from ray_sft.training.progress import ProgressReader, RecordLog
from ray_sft.training.trackers import Followers, TrackedRun

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray"), pytest.mark.timeout(200)]


def test_a_log_that_does_not_answer_in_time_loses_nothing(tmp_path, monkeypatch):
    log = RecordLog.remote()
    assert ray.get(log.since.remote(0)) == []
    monkeypatch.setattr(progress, "_ANSWER_S", 0.0005)  # less than an answer takes, most often
    seen = []
    run = TrackedRun("run", "run", tmp_path, {})
    with (
        Followers([], run) as followers,
        ProgressReader(log, out_dir=tmp_path, followers=followers, on_record=seen.append),
    ):
        for step in range(1, 201):
            log.append.remote({"event": "step", "step": step, "loss": 1.0 / step})
        time.sleep(3)
        monkeypatch.setattr(progress, "_ANSWER_S", 20.0)
    assert [record["step"] for record in seen] == list(range(1, 201))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == seen
