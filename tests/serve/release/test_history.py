"""Records of releases: whole or not there, one number each, readable by their owner alone."""

import multiprocessing
import os
from pathlib import Path

import pytest
import yaml

from ray_sft.core import ConfigError, ServeError
from serve.args import ServiceArgs
from serve.release.history import History, default_releases_dir

ARGS = ServiceArgs(bundles={"intents": "runs/intents"}, fingerprints={"intents": "a" * 64})


def another(fingerprint: str, **more: object) -> ServiceArgs:
    return ARGS.model_copy(update={"fingerprints": {"intents": fingerprint * 64}} | more)


def served(history: History, args: ServiceArgs, *, kind="deploy"):
    return history.end(history.begin(args, kind=kind, way="swap"), "served")


def test_a_record_comes_back_as_it_was_written(tmp_path):
    history = History(tmp_path / "releases")
    begun = history.begin(ARGS, kind="deploy", way="swap", overridden=("worse",))
    assert (begun.number, begun.args.release, begun.outcome) == (1, 1, "deploying")
    assert history.records() == [begun]
    ended = history.end(begun, "returned", "it failed")
    assert history.records() == [ended]
    assert ended.reason == "it failed"
    assert not ended.is_good
    tree = yaml.safe_load((tmp_path / "releases" / "0001.yaml").read_text())
    assert tree["args"]["fingerprints"] == {"intents": "a" * 64}
    assert tree["by"].count("@") == 1


def test_numbers_go_on_from_the_service_and_from_the_folder(tmp_path):
    history = History(tmp_path)
    assert history.begin(ARGS, kind="deploy", way="swap").number == 1
    from_elsewhere = another("b", release=7)
    assert history.begin(from_elsewhere, kind="deploy", way="swap").number == 8
    assert history.begin(ARGS, kind="deploy", way="swap").number == 9


def _begin_twenty(folder: Path) -> None:
    for _ in range(20):
        History(folder).begin(ARGS, kind="deploy", way="swap")


def test_processes_at_the_same_time_share_no_number(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_begin_twenty, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [record.number for record in History(tmp_path).records()] == list(range(1, 61))
    assert not list(tmp_path.glob(".*draft"))


def test_nobody_else_may_read_a_configuration(tmp_path):
    history = History(tmp_path / "releases")
    history.begin(ARGS, kind="deploy", way="swap")
    assert (tmp_path / "releases").stat().st_mode & 0o077 == 0
    assert (tmp_path / "releases" / "0001.yaml").stat().st_mode & 0o077 == 0


def test_a_write_that_fails_leaves_the_former_record(tmp_path, monkeypatch):
    history = History(tmp_path)
    record = history.begin(ARGS, kind="deploy", way="swap")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        history.end(record, "served")
    assert history.records() == [record]


def test_a_damaged_file_is_named(tmp_path):
    history = History(tmp_path)
    history.begin(ARGS, kind="deploy", way="swap")
    (tmp_path / "0001.yaml").write_text("number: one")
    with pytest.raises(ConfigError, match=r"release file '.*0001.yaml' is damaged"):
        history.records()


def test_two_commands_cannot_deploy_at_once(tmp_path):
    with (
        History(tmp_path).locked(),
        pytest.raises(ServeError, match="another command is deploying"),
        History(tmp_path).locked(),
    ):
        pass
    with History(tmp_path).locked():
        pass


def test_the_way_back_leads_to_another_good_release(tmp_path):
    history = History(tmp_path)
    first = served(history, another("a"))
    second = served(history, another("b", release=1))
    history.end(history.begin(another("c", release=2), kind="deploy", way="swap"), "returned")
    third = served(history, another("b", release=3), kind="canary")
    assert history.one_before(second.args) == first
    assert history.one_before(third.args) == first  # the second is what is served
    back = served(history, another("a", release=4), kind="rollback")
    assert history.one_before(back.args) == second
    with pytest.raises(ConfigError, match="no other release before 1"):
        history.one_before(first.args)


def test_what_something_else_has_started_is_written_down_once(tmp_path):
    history = History(tmp_path)
    found = history.adopt(another("a"))
    assert (found.number, found.kind, found.outcome) == (1, "found", "served")
    assert history.adopt(another("a")) is None
    served(history, another("b", release=1))
    assert history.adopt(another("a")) is None
    assert history.adopt(another("c")).number == 3


def test_a_service_has_a_folder_of_its_own():
    assert default_releases_dir("port-8000") != default_releases_dir("port-8001")
    assert default_releases_dir("10.0.0.1:6379").name == "10.0.0.1-6379"
    assert default_releases_dir("../../etc").parent == Path.home() / ".ray-sft" / "releases"
