"""What ``ray-sft deploy`` and ``ray-sft release`` do, apart from reading their options."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console

from ray_sft.core import ConfigError, ServeError, load_tree, validate
from ray_sft.run_folder import served_bundles
from serve.args import ServiceArgs
from serve.release.address import find_service
from serve.release.deploy import Deployment
from serve.release.golden import ask_golden
from serve.release.history import History, Record, default_releases_dir
from serve.release.report import ReplicaReport
from serve.release.show import history_table
from serve.release.target import connected
from serve.release.watch import Watch
from serve.release.wishes import Abort, Candidates, Configure, GoBack, Promote, Replace, Wishes

__all__ = ["Options", "read_reports", "run_command"]

_ANSWERS_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line of ``ray-sft deploy`` says."""

    targets: tuple[Path, ...] = ()
    wait: bool = False
    canary: float = 0.0
    shadow: float = 0.0
    promote: bool = False
    abort: bool = False
    rollback: bool = False
    history: bool = False
    budget: Mapping[str, str] = field(default_factory=dict)
    force: bool = False
    address: str = ""
    url: str = ""
    port: int = 8000
    api_key: str = ""
    timeout_s: float = 600.0
    releases_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a service runs and where its releases are written down."""

    ray_address: str
    url: str
    history: History


def run_command(console: Console, options: Options) -> int:
    """Does what the options say; the exit status, 1 where the release does not serve.

    Raises:
        ConfigError: the options contradict each other, or what is served.
        ServeError: as `Deployment.run`.
        BundleError: as `Deployment.run`.
    """
    _check(options)
    if options.history:
        place = _place(options, None, must_run=False)
        console.print(history_table(place.history.records()))
        return 0
    base = _read(options.targets) if options.targets else None
    place = _place(options, base, must_run=True)
    record = _deploy(console, options, _wishes(options, base, place.history), place)
    if record is None:
        return 0
    console.print(history_table([record]))
    return 0 if record.is_good else 1


def read_reports(url: str, api_key: str) -> list[ReplicaReport]:
    """What every replica of the service at ``url`` tells.

    Raises:
        ServeError: it does not answer, or not with that.
    """
    try:
        with _client(url, api_key) as client:
            reply = client.get("/v1/releases")
    except httpx.HTTPError as error:
        raise ServeError(f"the service at {url} does not answer: {error}.") from None
    if reply.status_code != 200:
        raise ServeError(
            f"the service at {url} answered {reply.status_code}: {reply.text[:300]}. Its key is "
            "given by RAY_SFT_API_KEY."
        )
    return [ReplicaReport.model_validate(one) for one in reply.json()["data"]]


def _check(options: Options) -> None:
    wishes = {
        "--promote": options.promote,
        "--abort": options.abort,
        "--rollback": options.rollback,
        "--history": options.history,
        "a configuration or bundles": bool(options.targets),
    }
    given = [name for name, is_given in wishes.items() if is_given]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are given; say one at a time.")
    if not given:
        raise ConfigError(
            "there is nothing to deploy. Give a configuration, bundles, --promote, --abort, "
            "--rollback or --history."
        )
    if (options.canary or options.shadow) and not options.targets:
        raise ConfigError("--canary and --shadow need a configuration or bundles.")
    if options.wait and not options.api_key:
        raise ConfigError(
            "--wait asks the service the samples of its bundles, which takes an API key. Set "
            "RAY_SFT_API_KEY."
        )


def _read(targets: Sequence[Path]) -> Configure | Replace:
    """A configuration in a YAML file, or bundles and run folders for the names that they have."""
    files = [target for target in targets if not target.is_dir()]
    if not files:
        return Replace(served_bundles(targets))
    if len(targets) > 1:
        raise ConfigError("give one configuration, or bundles; not several, and not both.")
    return Configure(validate(ServiceArgs, load_tree(files[0]), what="the configuration"))


def _wishes(options: Options, base: Configure | Replace | None, history: History) -> Wishes:
    if base is None:
        if options.rollback:
            return GoBack(history)
        return Promote() if options.promote else Abort()
    if options.canary or options.shadow:
        return Candidates(base, options.canary, options.shadow)
    return base


def _place(options: Options, base: Configure | Replace | None, *, must_run: bool) -> _Place:
    """What is given, else RAY_ADDRESS, else the service of this user on a port."""
    args = base.args if isinstance(base, Configure) else None
    port = args.port if args and "port" in args.model_fields_set else options.port
    given = options.address or os.environ.get("RAY_ADDRESS", "")
    local = None if given else find_service(port)
    if not given and local is None and must_run:
        raise ConfigError(
            f"no service of yours runs on port {port} of this machine. Start one with 'ray-sft "
            "serve', or name a cluster with --address."
        )
    url = options.url or (local.url if local else f"http://127.0.0.1:{port}")
    folder = options.releases_dir or default_releases_dir(given or f"port-{port}")
    return _Place(local.ray_address if local else given, url, History(folder))


def _deploy(console: Console, options: Options, wishes: Wishes, place: _Place) -> Record | None:
    budget = {name: _number(name, value) for name, value in options.budget.items()}
    with (
        console.status("connecting") as status,
        _client(place.url, options.api_key) as client,
        connected(place.ray_address) as target,
    ):
        watch = None
        if options.wait:
            watch = Watch(partial(ask_golden, client), status.update, options.timeout_s)
        deployment = Deployment(
            target,
            place.history,
            watch,
            budget=budget,
            force=options.force,
            say=partial(console.print, highlight=False, markup=False),
        )
        return deployment.run(wishes)


def _client(url: str, api_key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=_ANSWERS_WITHIN_S, trust_env=False)


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"--budget {name}={value}: '{value}' is no number.") from None
