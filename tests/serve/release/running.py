"""A running service as releases meet it: clients that ask all the time, a command that deploys."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from ray_sft.bundle import Bundle
from tests.serve.conftest import TEXTS
from tests.serve.test_run import Running

__all__ = ["Deployer", "Load", "deployer", "label_of", "load", "replicas"]

ASKED = TEXTS[2]
"""What the bundles of the two seeds disagree about."""
PROGRAM = """
import json, sys
from pathlib import Path
from rich.console import Console
from ray_sft.core import RaySFTError
from serve.release.command import Options, run_command

for line in sys.stdin:
    given = json.loads(line)
    given["targets"] = tuple(Path(target) for target in given.pop("targets", ()))
    given["releases_dir"] = Path(given["releases_dir"])
    try:
        code = run_command(Console(width=200), Options(**given))
    except RaySFTError as error:
        print(f"error: {error}")
        code = 1
    print(f"EXIT {code}", flush=True)
"""


@dataclass
class Deployer:
    """A process that deploys, so that its imports are paid for once."""

    process: subprocess.Popen
    running: Running
    releases_dir: Path

    def deploy(self, *targets: Path, wait: bool = True, **more: object) -> tuple[int, str]:
        """Exit status and output of ``ray-sft deploy``."""
        options = {
            "targets": [str(target) for target in targets],
            "wait": wait,
            "port": int(self.running.url.rsplit(":", 1)[1]),
            "api_key": self.running.key,
            "timeout_s": 120,
            "releases_dir": str(self.releases_dir),
        }
        self.process.stdin.write(json.dumps(options | more) + "\n")
        self.process.stdin.flush()
        said = []
        for line in self.process.stdout:
            if line.startswith("EXIT"):
                return int(line.split()[1]), "".join(said)
            said.append(line)
        raise AssertionError("".join(said))


@contextmanager
def deployer(running: Running, folder: Path) -> Iterator[Deployer]:
    environment = {name: value for name, value in os.environ.items() if "RAY" not in name}
    with (folder / "deployer.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
    try:
        yield Deployer(process, running, folder / "releases")
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


@dataclass
class Load:
    """Clients that ask all the time; what they were answered."""

    running: Running
    retries: int = 0
    pause_s: float = 0.01
    labels: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    is_over: bool = False

    def ask(self) -> None:
        headers = {"authorization": f"Bearer {self.running.key}"}
        with httpx.Client(
            base_url=self.running.url, headers=headers, timeout=60, trust_env=False
        ) as client:
            while not self.is_over:
                start = time.monotonic()
                self._ask_once(client)
                self.seconds.append(time.monotonic() - start)
                time.sleep(self.pause_s)

    def _ask_once(self, client: httpx.Client) -> None:
        for attempt in range(self.retries + 1):
            try:
                reply = client.post("/v1/classify", json={"input": ASKED, "model": "intents"})
            except httpx.HTTPError as error:
                problem = repr(error)
            else:
                if reply.status_code == 200:
                    self.labels.append(reply.json()["data"][0]["label"])
                    return
                problem = f"{reply.status_code}: {reply.text[:200]}"
            time.sleep(min(2.0, 0.1 * 2**attempt))
        self.failures.append(problem)


@contextmanager
def load(
    running: Running, *, num_clients: int = 4, retries: int = 0, pause_s: float = 0.01
) -> Iterator[Load]:
    found = Load(running, retries, pause_s)
    threads = [threading.Thread(target=found.ask) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.is_over = True
        for thread in threads:
            thread.join(timeout=90)


def label_of(bundle: Bundle) -> str:
    """What a bundle says of the text that is asked all the time."""
    samples = {one["request"]["text"]: one["response"] for one in bundle.samples()}
    return str(samples[ASKED]["label"])


def replicas(running: Running) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(running.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "ServeReplica:ray-sft:service" in " ".join(process.cmdline()):
                found.append(process)
    return found
