"""What holds for every page: the tabs, the state of the service, the port, and the end."""

import signal
import time

import psutil
import pytest

from tests.apps.conftest import answers
from tests.apps.foreign_monitor import ForeignMonitor
from tests.apps.visit import Visit
from tests.waiting import wait_until

TABS = ("Customer service", "Opinion monitor", "Recommendations")


def test_each_page_has_an_address(service, visit):
    service.monitor = ForeignMonitor()
    with service.running():
        guest = visit("?tab=monitor")
        guest.see("#header h1", "Opinion monitor")
        guest.page.get_by_role("tab", name="Recommendations").click()
        guest.see("#header h1", "Recommendations")
        assert guest.page.url.endswith("?tab=recommend")
        guest.choose("中文", within="#language")
        guest.see("#header h1", "推荐")
        guest.page.get_by_role("tab", name="舆情监测").click()
        guest.see("#header h1", "舆情监测")


def test_a_page_says_what_the_service_does_not_offer(service, visit):
    with service.running():
        guest = visit("?tab=monitor", width=390, height=844)
        guest.see("#page-monitor .missing .note", "This service does not watch opinions.")
        guest.page.get_by_role("tab", name="Recommendations").click()
        guest.see("#page-recommend .missing .note", "This service does not recommend.")
        assert guest.is_still


def test_a_service_without_a_conversation_is_still_good_for_the_others(service, visit):
    service.models, service.monitor = [], ForeignMonitor()
    with service.running():
        guest = visit()
        guest.see("#page-service .missing .note", "This service does not answer questions.")
        guest.see("#status", "Service is ready")
        guest.page.get_by_role("tab", name="Opinion monitor").click()
        guest.see("#chart", "Nothing has come in yet.")


def test_a_refusal_is_told_in_the_words_of_the_service(service, visit):
    service.refusal = (429, "the queue is <b>full</b>.", {"retry-after": "2"})
    with service.running():
        guest = visit()
        guest.see("#banner", "the queue is <b>full</b>. Try again in 2 s.")
        guest.see("#status", "Service refuses")


def test_all_tabs_fit_on_a_small_phone(visit):
    width = 360
    guest = visit(width=width, height=800)
    for name in TABS:
        tab = guest.page.get_by_role("tab", name=name)
        assert tab.evaluate("tab => tab.scrollWidth <= tab.clientWidth"), name
        box = tab.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width


def test_a_port_in_use_is_told_at_once(make_service, launch):
    service = make_service()
    with service.running():
        process = launch(service, service.port)
        assert process.wait(timeout=20) == 1
        message = process.stderr.read()
        process.stderr.close()
    assert f"cannot listen on 127.0.0.1:{service.port}" in message
    assert "choose another with --port" in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_though_a_page_is_open(make_service, launch, browser, number):
    service, port = make_service(), make_service().port
    process = launch(service, port)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/"), timeout_s=60)
        guest = Visit(browser, f"http://127.0.0.1:{port}/", 800, 600)
        family = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        process.send_signal(number)
        process.wait(timeout=15)
        assert time.monotonic() - began < 10
        assert not any(child.is_running() for child in family)
        guest.page.close()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
