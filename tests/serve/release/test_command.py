"""The command line: what contradicts itself, what is shown, what a status asks."""

from io import StringIO

import httpx
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from ray_sft.cli import app
from ray_sft.core import ConfigError, ServeError
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.release.command import Options, read_reports, run_command
from serve.release.history import History
from serve.release.settings import Release
from serve.release.show import history_table, status_tables
from tests.apps.serving import free_port, serving
from tests.serve.conftest import TEXTS, TOKEN

KEY = {"api_key": "k" * 20}


def shown(table) -> str:
    console = Console(width=220, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "nothing to deploy"),
        ({"promote": True, "abort": True}, "--promote and --abort are given"),
        ({"promote": True, "targets": ["a"]}, "--promote and a configuration or bundles"),
        ({"rollback": True, "canary": 5.0}, "need a configuration or bundles"),
        ({"rollback": True, "wait": True}, "takes an API key"),
        ({"rollback": True}, "no service of yours runs on port"),
        ({"targets": ["a.yaml", "b.yaml"]}, "give one configuration"),
        ({"targets": ["a.yaml"]}, "'a.yaml' does not exist"),
    ],
)
def test_options_that_make_no_sense_are_explained(options, reason, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    targets = tuple(
        tmp_path.joinpath(name).relative_to(tmp_path) for name in options.pop("targets", ())
    )
    with pytest.raises(ConfigError, match=reason):
        run_command(Console(), Options(targets=targets, port=free_port(), **options))


def test_a_configuration_that_is_not_valid_is_explained(tmp_path):
    path = tmp_path / "service.yaml"
    path.write_text(yaml.safe_dump({"bundles": {"a": "b"}, "replicsa": 2}))
    with pytest.raises(ConfigError, match=r"replicsa: unknown key. Did you mean 'replicas'"):
        run_command(Console(), Options(targets=(path,), port=free_port()))


def test_the_history_is_listed_without_a_service(tmp_path):
    history = History(tmp_path)
    args = ServiceArgs(bundles={"intents": "a"}, fingerprints={"intents": "abcdef0123" * 6})
    record = history.begin(args, kind="deploy", way="swap", overridden=("worse",))
    history.end(record, "returned", "it did not answer")
    result = CliRunner().invoke(
        app, ["deploy", "--history", "--releases-dir", str(tmp_path)], env={"COLUMNS": "220"}
    )
    assert result.exit_code == 0, result.output
    text = shown(history_table(history.records()))
    for part in ("returned", "it did not answer", "by force: worse", "intents abcdef01", "swap"):
        assert part in text


def test_a_status_shows_candidates_and_problems(
    make_changing, first, second, keys, drifted_bundle, classifier_bundle
):
    releases = {"intents": Release(bundle=str(second.path), percent=50, shadow=100)}
    changing = make_changing({"intents": first.path}, releases=releases)
    web = create_app(changing.args, models=changing.models, keys=keys, metrics=changing.metrics)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with serving(web, port):
        headers = {"authorization": f"Bearer {TOKEN}"}
        for _ in range(6):
            reply = httpx.post(f"{url}/v1/classify", json={"input": list(TEXTS)}, headers=headers)
            assert reply.status_code == 200
        reports = read_reports(url, TOKEN)
        text = shown(status_tables(reports))
        with pytest.raises(ServeError, match="answered 401"):
            read_reports(url, "wrong-wrong-wrong-wrong")
    assert reports[0].candidates["intents"].fingerprint == second.fingerprint
    for part in ("steady", "intents: seed-2", "50 % of requests", "median / p95", "compared"):
        assert part in text
    with pytest.raises(ServeError, match="does not answer"):
        read_reports(url, TOKEN)
    broken = make_changing(
        {"intents": classifier_bundle.path},
        releases={"intents": Release(bundle=str(drifted_bundle), percent=50)},
    )
    assert "answered differently" in shown(status_tables([broken.swapper.report()]))
