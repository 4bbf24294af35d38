"""The page in a real browser, served as the command serves it."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")
needs_browser = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="no chromium; 'make system-deps' installs it"
)

LAUNCH = (
    "import sys; from apps.main import launch; "
    "launch(service_url=sys.argv[1], api_key=sys.argv[2], port=int(sys.argv[3]))"
)


def _launch(service, port):
    command = [sys.executable, "-c", LAUNCH, service.url, service.api_key, str(port)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=options)
        yield started
        started.close()


@pytest.fixture(scope="module")
def served(make_service):
    """One page for all tests of the file, with the service that it asks."""
    service, port = make_service(), make_service().port
    process = _launch(service, port)
    url = f"http://127.0.0.1:{port}/"
    service.wait_until(lambda: process.poll() is not None or _answers(url), timeout_s=60)
    assert process.poll() is None, process.stderr.read()
    yield service, url
    process.send_signal(signal.SIGINT)
    process.wait(timeout=15)
    process.stderr.close()


def _answers(url):
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


class Visit:
    """A person on the page, who notes what the browser asks for."""

    def __init__(self, browser, url, width, height=900):
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(20_000)
        self.asked: list[str] = []
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(url)
        self.page.get_by_placeholder(re.compile("question|问题")).wait_for()

    def ask(self, text):
        box = self.page.get_by_placeholder(re.compile("question|问题"))
        self.page.get_by_role("button", name="Send").wait_for()
        box.fill(text)
        box.press("Enter")

    def see(self, selector, text):
        sync_api.expect(self.page.locator(selector)).to_contain_text(text, timeout=20_000)

    def is_horizontally_still(self):
        return self.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )

    def close(self):
        hosts = {urlsplit(url).hostname for url in self.asked if url.startswith("http")}
        assert hosts <= {"127.0.0.1"}
        assert self.problems == []
        self.page.close()


@pytest.fixture
def visit(browser, served):
    visits = []

    def go(width=1280, height=900):
        visits.append(Visit(browser, served[1], width, height))
        return visits[-1]

    yield go
    for one in visits:
        one.close()


@needs_browser
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_a_question_is_answered_and_its_intent_shown(served, visit, tmp_path, width, height):
    service, _ = served
    with service.running():
        guest = visit(width, height)
        guest.see("#status", "Service is ready")
        guest.see("#header", "talking to an AI")
        guest.page.screenshot(path=tmp_path / f"empty-{width}.png")
        guest.ask("What does delivery cost?")
        guest.see("#chat", service.answer)
        guest.see("#intent", "delivery cost")
        guest.see("#intent", "87%")
        guest.see("#intent", "<b>invoice</b>")  # escaped, so it is read and not obeyed
        guest.page.screenshot(path=tmp_path / f"answered-{width}.png")
        assert guest.is_horizontally_still()
        assert guest.page.locator("#banner").is_hidden()


@needs_browser
def test_the_answer_streams_and_can_be_stopped(served, visit):
    service, _ = served
    service.answer, service.seconds_a_word = " ".join(f"word{i}" for i in range(300)), 0.05
    left = service.left
    try:
        with service.running():
            guest = visit()
            guest.ask("Tell me everything")
            guest.see("#chat", "word5")
            assert "word299" not in guest.page.locator("#chat").inner_text()
            guest.page.get_by_role("button", name="Stop").click()
            guest.see("#chat", "(stopped)")
            service.wait_until(lambda: service.left == left + 1)
            guest.page.get_by_role("button", name="Send").wait_for()
    finally:
        service.reset()


@needs_browser
def test_it_says_when_the_service_is_away_and_goes_on_when_it_is_back(served, visit, tmp_path):
    service, _ = served
    with service.running():
        guest = visit()
        guest.see("#status", "Service is ready")
    guest.see("#banner", "The service is away")
    guest.see("#status", "Service is away")
    guest.ask("Is anybody there?")
    guest.see("#chat", "cannot be reached")
    guest.page.screenshot(path=tmp_path / "away.png")
    with service.running():
        guest.see("#status", "Service is ready")
        sync_api.expect(guest.page.locator("#banner")).to_be_hidden(timeout=20_000)
        guest.ask("And now?")
        guest.see("#chat", service.answer)
    shown = [body["messages"] for body in service.seen if "messages" in body][-1]
    assert [turn["content"] for turn in shown] == ["And now?"]  # failed turns are not shown


@needs_browser
def test_a_refusal_is_told_in_the_words_of_the_service(served, visit):
    service, _ = served
    service.refusal = (429, "the queue is full.", {"retry-after": "2"})
    try:
        with service.running():
            guest = visit()
            guest.see("#banner", "the queue is full. Try again in 2 s.")
            guest.see("#status", "Service refuses")
    finally:
        service.reset()


@needs_browser
def test_a_long_conversation_loses_its_oldest_turns(served, visit):
    service, _ = served
    service.max_turns = 3
    try:
        with service.running():
            guest = visit()
            for number in range(3):
                guest.ask(f"Question {number}")
                answers = guest.page.get_by_text(service.answer)
                sync_api.expect(answers).to_have_count(number + 1, timeout=20_000)
    finally:
        service.reset()
    last = [body["messages"] for body in service.seen if "messages" in body][-1]
    assert [turn["content"] for turn in last[::2]] == ["Question 1", "Question 2"]


@needs_browser
@pytest.mark.parametrize(
    ("kept", "selector", "text"),
    [(0, "#chat", "No chat model is served here"), (1, "#intent", "No classifier is served")],
)
def test_half_a_service_shows_what_is_there(served, visit, kept, selector, text):
    service, _ = served
    service.models = [service.models[kept]]
    guest = visit()
    guest.see("#status", "Service is away")  # what an earlier service offered is forgotten
    try:
        with service.running():
            guest.see("#status", "Service is ready")
            guest.ask("What does delivery cost?")
            guest.see(selector, text)
    finally:
        service.reset()


@needs_browser
def test_chinese_examples_and_clear(served, visit, tmp_path):
    service, _ = served
    service.answer = "满 30 镑包邮，不满收 3.90 镑运费。"
    try:
        with service.running():
            guest = visit()
            guest.page.get_by_text("中文").click()
            guest.see("#header", "人工智能")
            guest.page.get_by_role("button", name="怎么重置密码？").click()
            guest.see("#chat", service.answer)
            guest.page.screenshot(path=tmp_path / "chinese.png")
            guest.page.get_by_role("button", name="Clear").click()
            guest.see("#chat", "请问有什么可以帮您")
            guest.see("#intent", "提问后")
    finally:
        service.reset()


def test_a_port_in_use_is_told_at_once(make_service):
    service = make_service()
    with service.running():
        process = _launch(service, service.port)
        assert process.wait(timeout=20) == 1
        message = process.stderr.read()
        process.stderr.close()
    assert f"cannot listen on 127.0.0.1:{service.port}" in message
    assert "choose another with --port" in message


@needs_browser
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_though_a_page_is_open(make_service, browser, number):
    service, port = make_service(), make_service().port
    process = _launch(service, port)
    children = psutil.Process(process.pid).children
    try:
        service.wait_until(lambda: _answers(f"http://127.0.0.1:{port}/"), timeout_s=60)
        guest = Visit(browser, f"http://127.0.0.1:{port}/", 800)
        family = children(recursive=True)
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
