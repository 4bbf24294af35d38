"""The arguments about replicas, and what Ray is told of them."""

import pytest
from pydantic import ValidationError

from serve.args import ServiceArgs
from serve.proxy import proxy_settings
from serve.scaling import Autoscaling


def args(**more: object) -> ServiceArgs:
    return ServiceArgs.model_validate({"bundles": {"intents": "a"}, "num_cpus": 2} | more)


@pytest.mark.parametrize(
    ("more", "most", "surge"),
    [
        ({}, 1, 1),
        ({"max_surge_percent": 0}, 1, 0),
        ({"replicas": 4, "max_surge_percent": 30}, 4, 2),  # Ray rounds up
        ({"autoscaling": {"min_replicas": 0, "max_replicas": 3}}, 3, 3),
    ],
)
def test_how_many_replicas_there_may_be(more, most, surge):
    found = args(**more)
    assert (found.most_replicas, found.surge_replicas) == (most, surge)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "less than min_replicas"),
        ({"autoscaling": {}, "replicas": 2}, "both given"),
        ({"releases": {"other": {"bundle": "b", "percent": 1}}}, "releases names 'other'"),
        ({"releases": {"intents": {"bundle": "b"}}}, "the candidate does nothing"),
        ({"fingerprints": {"other": "0"}}, "fingerprints names 'other'"),
        ({"releases": {"intents": {"bundle": "b", "percent": 101}}}, "less than or equal to 100"),
    ],
)
def test_what_makes_no_sense_is_an_error(more, reason):
    with pytest.raises(ValidationError, match=reason):
        args(**more)


def test_the_interactive_profile_asks_for_replicas_within_fifteen_seconds():
    timing = Autoscaling().timing
    until_asked = timing.metrics_interval_s + timing.upscale_delay_s
    assert until_asked < 15
    assert timing.aggregation == "max"  # a mean would wait for the window to fill
    assert timing.look_back_period_s > timing.metrics_interval_s
    steady = Autoscaling(profile="steady").timing
    assert steady.metrics_interval_s + steady.upscale_delay_s > 30


def test_ray_is_told_all_of_it():
    from serve.app import _autoscaling, bind_app
    from serve.keys import KeyRing

    scaling = Autoscaling(min_replicas=0, max_replicas=3, target_ongoing_requests=7)
    config = _autoscaling(scaling)
    assert (config.min_replicas, config.max_replicas) == (0, 3)
    assert config.target_ongoing_requests == 7
    assert config.upscale_delay_s == scaling.timing.upscale_delay_s
    service = args(request_timeout_s=90, release=3)
    deployment = bind_app(service, KeyRing(()))._bound_deployment
    found = deployment._deployment_config
    assert found.max_surge_percent == 100
    assert found.graceful_shutdown_timeout_s > 90
    assert found.user_config == service.wanted.model_dump(mode="json")
    same = bind_app(service.model_copy(update={"release": 4}), KeyRing(()))._bound_deployment
    assert same._version == deployment._version


def test_a_proxy_lets_the_longest_stream_end(tmp_path):
    settings = proxy_settings(args(request_timeout_s=600), tmp_path)
    assert float(settings["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > 600
    drains_s = float(settings["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"])
    hears_within_s = float(settings["RAY_SERVE_HAPROXY_BROADCAST_COALESCE_S"])
    assert drains_s >= 2 * hears_within_s
