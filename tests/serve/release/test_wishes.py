"""What a command is to bring about, said in terms of what is served."""

import pytest

from ray_sft.core import ConfigError
from serve.args import ServiceArgs
from serve.release.history import History
from serve.release.target import Serving
from serve.release.wishes import Abort, Candidates, Configure, GoBack, Promote, Replace
from tests.serve.release.conftest import args_of


@pytest.fixture
def serving(first):
    return Serving(
        args_of(first, release=4, keys_file="/etc/keys.json"), {"intents": first.manifest}
    )


def test_a_configuration_keeps_what_only_a_restart_changes(serving, second):
    wished = ServiceArgs(bundles={"intents": str(second.path)}, port=9000)
    found, notes = Configure(wished).resolve(serving)
    assert (found.port, found.num_cpus) == (8000, 1)
    assert found.keys_file == serving.args.keys_file
    assert notes == ["port stays 8000: it was given when Ray Serve was started"]
    assert found.bundles["intents"] == str(second.path)


def test_bundles_take_the_places_of_their_names(serving, second):
    found, _ = Replace({"intents": str(second.path)}).resolve(serving)
    assert found.bundles == {"intents": str(second.path)}
    assert found.fingerprints == {}
    with pytest.raises(ConfigError, match="no model 'unheard'"):
        Replace({"unheard": str(second.path)}).resolve(serving)
    with pytest.raises(ConfigError, match="no service is running"):
        Replace({}).resolve(None)


def test_candidates_come_go_and_take_over(serving, second):
    wish = Candidates(Replace({"intents": str(second.path)}), percent=10, shadow=0)
    with_canary, _ = wish.resolve(serving)
    release = with_canary.releases["intents"]
    assert (release.bundle, release.percent) == (str(second.path), 10)
    assert with_canary.bundles == serving.args.bundles
    known = release.model_copy(update={"fingerprint": second.fingerprint})
    now = Serving(
        with_canary.model_copy(update={"releases": {"intents": known}}), serving.manifests
    )
    promoted, _ = Promote().resolve(now)
    assert promoted.bundles == {"intents": str(second.path)}
    assert promoted.fingerprints == {"intents": second.fingerprint}
    assert promoted.releases == {}
    aborted, _ = Abort().resolve(now)
    assert (aborted.bundles, aborted.releases) == (serving.args.bundles, {})


def test_candidates_that_make_no_sense_are_errors(serving, first):
    same = Candidates(Replace({"intents": str(first.path)}), percent=10, shadow=0)
    with pytest.raises(ConfigError, match="is served already"):
        same.resolve(serving)
    settings = serving.args.model_copy(update={"max_tokens": 3})
    with pytest.raises(ConfigError, match="another max_tokens"):
        Candidates(Configure(settings), percent=10, shadow=0).resolve(serving)
    for wish in (Promote(), Abort()):
        with pytest.raises(ConfigError, match="no candidate"):
            wish.resolve(serving)


def test_going_back_means_the_last_other_release(serving, second, tmp_path):
    history = History(tmp_path)
    wish = GoBack(history)
    with pytest.raises(ConfigError, match="no other release"):
        wish.resolve(serving)
    before = history.begin(args_of(second), kind="deploy", way="swap")
    history.end(before, "served")
    found, notes = wish.resolve(serving)
    assert found.fingerprints == {"intents": second.fingerprint}
    assert notes[0].startswith("going back to release 1 of ")
