"""What breaks under steady load: requests through the client as it is by default do not fail.

One service of two replicas behind its proxy meets every disturbance in turn, while classifications
and streams go on. Each is counted by how its requests ended; the table is printed at the end.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from apps.client import Client
from ray_sft.bundle import Bundle
from serve.args import ServiceArgs
from tests.serve.release.running import ASKED, Deployer, deployer, replicas
from tests.serve.release.traffic import CONVERSATION, Ends, Traffic, table, traffic
from tests.serve.test_run import Running, service

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_REPLICAS, NUM_SLOTS = 2, 2
AWAY = {"none broken_off", "503 unavailable"}
"""How a stream may end that had begun when what served it was killed: nothing brings that back."""


@dataclass
class Chaos:
    """The service, what deploys to it, and what has been counted."""

    running: Running
    deploying: Deployer
    bundles: dict[str, Bundle]
    counted: dict[str, Ends] = field(default_factory=dict)


@pytest.fixture(scope="module")
def chaos(
    tmp_path_factory: pytest.TempPathFactory,
    first: Bundle,
    second: Bundle,
    generator_bundle: Bundle,
    torch_generator_bundle: Bundle,
) -> Iterator[Chaos]:
    folder = tmp_path_factory.mktemp("chaos")
    args = ServiceArgs(
        bundles={"intents": str(first.path), "replies": str(generator_bundle.path)},
        num_cpus=1,
        replicas=NUM_REPLICAS,
        num_slots=NUM_SLOTS,
        request_timeout_s=20.0,
    )
    bundles = {"second": second, "refused": torch_generator_bundle}
    with service(args, folder) as running, deployer(running, folder) as deploying:
        found = Chaos(running, deploying, bundles)
        yield found
        print("\n" + table(found.counted))


def processes(running: Running, name: str) -> list[psutil.Process]:
    """Those of the service's own whose command line begins with, or whose program is, ``name``."""
    found = []
    for process in psutil.Process(running.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            words = process.cmdline()
            if words and (words[0].startswith(name) or Path(words[0]).name == name):
                found.append(process)
    return found


def away_s(running: Running) -> float:
    """Seconds until the port takes connections and the service answers behind it."""
    began = time.monotonic()
    while time.monotonic() < began + 90:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{running.url}/readyz", trust_env=False, timeout=5).is_success:
                return time.monotonic() - began
        time.sleep(0.01)
    raise AssertionError("the service did not come back")


def kill_a_replica(chaos: Chaos, traffic: Traffic) -> None:
    """The other one serves until Ray has started a third."""
    del traffic
    before = {process.pid for process in replicas(chaos.running)}
    assert len(before) == NUM_REPLICAS
    os.kill(min(before), signal.SIGKILL)
    ends_at = time.monotonic() + 120
    while len(ports := open_ports(chaos.running)) < NUM_REPLICAS:
        assert time.monotonic() < ends_at, ports
        time.sleep(0.2)


def kill_another_replica(chaos: Chaos, traffic: Traffic) -> None:
    """A proxy that took another's place must hear of replicas as the first one did."""
    kill_a_replica(chaos, traffic)


def kill_the_proxy(chaos: Chaos, traffic: Traffic) -> None:
    """Its place is taken within the same actor of Ray, which keeps its routes."""
    del traffic
    (actor,) = processes(chaos.running, "ray::HAProxyManager")
    for process in processes(chaos.running, "haproxy"):
        process.kill()
    assert away_s(chaos.running) < 5
    assert processes(chaos.running, "ray::HAProxyManager") == [actor]


def kill_the_proxys_actor(chaos: Chaos, traffic: Traffic) -> None:
    """HAProxy dies with it; Ray starts another one, which learns the routes anew."""
    del traffic
    (actor,) = processes(chaos.running, "ray::HAProxyManager")
    actor.kill()
    assert away_s(chaos.running) < 20  # as long as the client waits
    assert processes(chaos.running, "ray::HAProxyManager") != [actor]


def swap_a_bundle(chaos: Chaos, traffic: Traffic) -> None:
    del traffic
    code, said = chaos.deploying.deploy(chaos.bundles["second"].path)
    assert code == 0, said


def roll_out_a_bad_bundle(chaos: Chaos, traffic: Traffic) -> None:
    del traffic
    code, said = chaos.deploying.deploy(chaos.bundles["refused"].path)
    assert code == 1, said
    assert "serves again" in said


def disconnect_half_of_the_streams(chaos: Chaos, traffic: Traffic) -> None:
    del chaos
    traffic.share_that_leaves = 0.5
    time.sleep(6)
    traffic.share_that_leaves = 0.0
    assert traffic.ends.streams["left"] >= 20
    assert traffic.ends.streams["200"] >= 20


@pytest.mark.parametrize(
    ("disturb", "may_break_streams"),
    [
        (disconnect_half_of_the_streams, False),
        (kill_the_proxy, True),
        (kill_a_replica, True),
        (swap_a_bundle, False),
        (roll_out_a_bad_bundle, False),
        (kill_the_proxys_actor, True),
        (kill_another_replica, True),
    ],
)
def test_no_request_of_the_client_fails(
    chaos: Chaos, disturb: Callable[[Chaos, Traffic], None], may_break_streams: bool
) -> None:
    with traffic(chaos.running) as going:
        chaos.counted[disturb.__name__] = going.ends
        time.sleep(2)
        disturb(chaos, going)
        before = going.ends.calls["200"], going.ends.streams["200"]
        time.sleep(2)
        assert going.ends.calls["200"] > before[0] + 20
        assert going.ends.streams["200"] > before[1] + 5
    ends = going.ends
    assert set(ends.calls) == {"200"}, (table(chaos.counted), ends.failures)
    allowed = {"200", "left"} | (AWAY if may_break_streams else set())
    assert set(ends.streams) <= allowed, (table(chaos.counted), ends.failures)
    check_idle(chaos.running)
    check_every_slot_is_free(chaos.running)


def check_idle(running: Running) -> None:
    """Nothing waits and no slot is taken, in any replica."""
    ends_at = time.monotonic() + 10
    while (busy := [line for one in replicas(running) for line in busy_gauges(running, one)]) != []:
        assert time.monotonic() < ends_at, busy
        time.sleep(0.1)


def busy_gauges(running: Running, replica: psutil.Process) -> list[str]:
    """The gauges of a replica that are not zero, from its own port, past the proxy."""
    (port,) = ports_of(replica)
    headers = {"authorization": f"Bearer {running.key}"}
    reply = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers, trust_env=False)
    gauges = re.findall(r"^ray_sft_(?:queued|active_slots)\{.*", reply.text, re.MULTILINE)
    assert len(gauges) == 3, reply.text[:500]  # queues of both models, slots of one
    return [line for line in gauges if float(line.rsplit(" ", 1)[1]) != 0]


def open_ports(running: Running) -> list[int]:
    return [port for one in replicas(running) for port in ports_of(one)]


def ports_of(replica: psutil.Process) -> list[int]:
    """Where it takes requests; nothing while it loads its models."""
    try:
        connections = replica.net_connections("tcp")
    except psutil.Error:  # it has just ended
        return []
    listening = {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
    return [port for port in listening if 30000 <= port < 31000]


def check_every_slot_is_free(running: Running) -> None:
    """A request is answered at once, and so are as many streams as there are slots."""
    with Client(running.url, api_key=running.key, timeout_s=15) as client:
        began = time.monotonic()
        assert client.classify(ASKED, model="intents").label

        def write(seed: int) -> str:
            with client.stream_chat(
                CONVERSATION, model="replies", max_tokens=64, temperature=1.0, seed=seed
            ) as stream:
                return "".join(piece.text for piece in stream)

        with ThreadPoolExecutor(NUM_REPLICAS * NUM_SLOTS) as pool:
            texts = list(pool.map(write, range(NUM_REPLICAS * NUM_SLOTS)))
        assert all(texts)
        assert time.monotonic() - began < 10
