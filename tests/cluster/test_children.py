"""Children end with their parent, whatever they do against it."""

import sys
import time

import psutil
import pytest

from cluster import children as module
from cluster.children import Children
from ray_sft.core import ServeError

STUBBORN = """
import signal, subprocess, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], start_new_session=True)
print('ready', flush=True)
time.sleep(100)
"""


def _is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # an orphan, until init has read it
    except psutil.NoSuchProcess:
        return False


def _python(code):
    return [sys.executable, "-c", code]


def _start_and_wait(started, name, code, log):
    child = started.start(name, _python(code), log=log)
    while "ready" not in log.read_text():
        child.check_alive()
        time.sleep(0.01)
    return child


def test_a_stubborn_child_and_its_runaway_child_are_gone(tmp_path, monkeypatch):
    short = tuple((number, 0.3) for number, _ in module._PATIENCE_S)
    monkeypatch.setattr(module, "_PATIENCE_S", short)
    log = tmp_path / "log"
    with Children({}) as started:
        child = _start_and_wait(started, "stubborn", STUBBORN, log)
        family = psutil.Process(child.process.pid).children(recursive=True)
        assert len(family) == 1
    assert child.process.poll() is not None
    assert not any(_is_alive(process) for process in family)


def test_an_interrupted_child_may_clean_up(tmp_path):
    done = tmp_path / "done"
    code = (
        "import pathlib, sys, time\n"
        "try:\n    print('ready', flush=True); time.sleep(100)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(done)!r}).touch()\n"
    )
    log = tmp_path / "log"
    with Children({}) as started:
        _start_and_wait(started, "tidy", code, log)
    assert done.exists()


def test_a_child_that_died_is_named_with_the_end_of_its_log(tmp_path):
    code = "print('a first line'); raise SystemExit('no such model')"
    with Children({}) as started:
        child = started.start("the service", _python(code), log=tmp_path / "log")
        child.process.wait(timeout=20)
        with pytest.raises(ServeError, match=r"the service has ended with status 1(.|\n)*no such"):
            started.check_alive([child])
        with pytest.raises(ServeError, match="the service failed with status 1"):
            child.wait(timeout_s=1)


def test_a_child_that_takes_too_long_is_told(tmp_path):
    code = "import time; print('ready', flush=True); time.sleep(100)"
    with Children({}) as started:
        child = _start_and_wait(started, "the run", code, tmp_path / "log")
        with pytest.raises(ServeError, match=r"the run has not ended within 0\.1 s"):
            child.wait(timeout_s=0.1)


def test_a_child_gets_the_environment(tmp_path):
    with Children({"A_KEY": "secret"}) as started:
        code = "import os; print(os.environ['A_KEY'])"
        started.start("one", _python(code), log=tmp_path / "log").wait(timeout_s=20)
    assert (tmp_path / "log").read_text() == "secret\n"
