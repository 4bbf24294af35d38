"""Signals that stop a service, also where Python loses the exception that one raises."""

import os
import signal
import threading
import time

import pytest

from serve.signals import Signals, deaf_to_signals

BOTH = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])


def send(signum: signal.Signals) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(5)


def nothing(*_: object) -> None:
    """A handler that does not stop."""


def lose(signum: signal.Signals) -> None:
    """Sends a signal whose exception ends in a finaliser, as those of `logging` around a fork."""

    class Lost:
        def __del__(self) -> None:
            os.kill(os.getpid(), signum)
            for _ in range(1000):
                pass

    Lost()


@BOTH
def test_a_signal_interrupts(signum: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), Signals():
        send(signum)


@BOTH
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_got_lost_is_found(signum: signal.Signals) -> None:
    with Signals() as signals:
        signals.check()
        lose(signum)
        with pytest.raises(KeyboardInterrupt):
            signals.check()
        signals.check()  # once told, once raised


@BOTH
def test_a_signal_that_a_library_took_is_found(signum: signal.Signals) -> None:
    with Signals() as signals:
        signal.signal(signum, nothing)
        os.kill(os.getpid(), signum)
        with pytest.raises(KeyboardInterrupt):
            signals.check()


@BOTH
def test_waiting_ends_with_a_signal(signum: signal.Signals) -> None:
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signum))
    with Signals() as signals:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            signals.wait()
    timer.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_waiting_does_not_begin_after_a_lost_signal() -> None:
    with Signals() as signals:
        lose(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signals.wait()


def test_another_signal_does_not_stop() -> None:
    former = signal.signal(signal.SIGUSR1, nothing)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            signals.check()
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_handlers_and_the_wakeup_descriptor_are_put_back() -> None:
    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with Signals():
        pass
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_deaf_process_goes_on() -> None:
    with Signals() as signals, deaf_to_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        signals.check()
