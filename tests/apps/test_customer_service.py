"""The customer-service page in a real browser, served as the command serves it."""

import pytest

from tests.apps.foreign_assistant import DELIVERY, NOTHING, ForeignAssistant
from tests.waiting import wait_until


@pytest.fixture
def assistant(service):
    service.assistant = ForeignAssistant()
    return service.assistant


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_an_approved_answer_opens_to_its_passage_and_its_document(
    service, assistant, visit, width, height
):
    del assistant
    with service.running():
        guest = visit(width=width, height=height)
        guest.see("#header", "talking to an AI")
        guest.see("#header", "To reach a person at any time")
        guest.ask("How much is delivery?")
        guest.see("#chat .answered", "Approved answer · 92% sure")
        guest.see("#chat .text", DELIVERY.split(" <b>")[0])
        guest.see("#intent", "delivery cost")
        guest.see("#intent", "<b>invoice</b>")  # escaped, so it is read and not obeyed
        guest.miss("#chat .passage")
        guest.page.locator("#chat summary").click()
        guest.see("#chat summary", "Delivery and its cost")
        guest.see("#chat summary", "fit 92%")
        guest.see("#chat .passage mark", DELIVERY.split(" <b>")[0])
        guest.press("Show the whole document", within="#chat")
        guest.see("#chat .passage", DELIVERY)
        guest.see("#chat .passage mark", DELIVERY.split(" <b>")[0])
        guest.press("Show the passage only", within="#chat")
        guest.see_count("#chat .passage.whole", 0)
        assert guest.page.locator("#chat details[open]").count() == 1
        assert guest.is_still
        assert guest.page.locator("#banner").is_hidden()


def test_a_page_drawn_anew_keeps_the_answer_that_is_on_its_way(service, assistant, visit):
    assistant.seconds = 3.0
    with service.running():
        guest = visit()
        guest.see("#mode", "Approved answers")
        guest.ask("How much is delivery?")
        guest.see_count("#chat .typing", 1)
        guest.choose("中文", within="#language")
        guest.see("#header", "人工智能")
        guest.see_count("#chat .typing", 1)
        guest.see("#chat .answered", "92%")
        guest.choose("English", within="#language")
        guest.see("#chat .answered", "Approved answer · 92% sure")


def test_a_number_in_the_answer_opens_the_source_of_that_number(service, assistant, visit):
    del assistant
    with service.running():
        guest = visit()
        guest.ask("How do I return this?")
        guest.see("#chat .answered", "From the documents · 64% sure")
        guest.press("2", within="#chat .text")
        guest.see("#chat details[open]", "Delivery is free from 30 pounds.")
        assert guest.page.locator("#chat details[open]").count() == 1


def test_what_is_not_known_is_said_with_what_to_do_next(service, assistant, visit):
    del assistant
    with service.running():
        guest = visit()
        guest.ask("Why is the sky blue?")
        guest.see("#chat .answered", "I do not know")
        guest.see("#chat .text", NOTHING["en"])
        guest.see("#intent", "Not sure")
        guest.press("Let the model write an answer", within="#chat")
        guest.see("#chat", "Written by a model, not checked")
        guest.see("#chat", service.answer)
        guest.press("Talk to a person", within="#under")
        guest.see("#chat .asked >> nth=2", "talk to a real person")
        guest.press("How do I return an item?", within="#chat .next")
        guest.see("#chat .asked >> nth=3", "How do I return an item?")
        guest.see("#chat", "From the documents")


def test_a_verdict_reaches_the_service_with_its_reason(service, assistant, visit):
    with service.running():
        guest = visit()
        guest.ask("How much is delivery?")
        guest.press("No, this did not help", within="#chat")
        guest.see("#chat .rating", "What was wrong?")
        guest.press("Something is missing", within="#chat")
        guest.see("#chat .rating", "Thank you")
        guest.ask("Return?")
        guest.press("Yes, this helped", within="#chat .answered >> nth=1")
        guest.see("#chat .rating >> nth=1", "Thank you")
    told = [(one["verdict"], one.get("reason")) for one in assistant.feedback]
    assert told == [("down", None), ("down", "incomplete"), ("up", None)]
    assert [one["answer_id"][-1] for one in assistant.feedback] == ["1", "1", "2"]


def test_the_model_can_be_switched_to_and_streams(service, assistant, visit):
    del assistant
    service.answer, service.seconds_a_word = " ".join(f"word{i}" for i in range(300)), 0.05
    left = service.left
    with service.running():
        guest = visit()
        guest.choose("Model writes", within="#mode")
        guest.ask("Tell me everything")
        guest.see("#chat", "word5")
        assert "word299" not in guest.page.locator("#chat").inner_text()
        guest.press("Stop", within="#question")
        guest.see("#chat", "(stopped)")
        wait_until(lambda: service.left == left + 1)
        guest.page.wait_for_timeout(1000)  # Gradio cancels what runs a moment after the click
        guest.choose("Approved answers", within="#mode")
        guest.ask("How much is delivery?")
        guest.see("#chat", "Approved answer")


def test_without_an_assistant_the_model_writes(service, visit):
    with service.running():
        guest = visit()
        guest.see("#status", "Service is ready")
        guest.miss("#mode")
        guest.ask("What does delivery cost?")
        guest.see("#chat", service.answer)
        guest.see("#intent", "87%")


def test_it_goes_on_when_the_service_is_back(service, visit):
    with service.running():
        guest = visit()
        guest.see("#status", "Service is ready")
    guest.see("#banner", "The service is away")
    guest.see("#status", "Service is away")
    guest.ask("Is anybody there?")
    guest.see("#chat", "cannot be reached")
    with service.running():
        guest.see("#status", "Service is ready")
        guest.miss("#banner")
        guest.ask("And now?")
        guest.see("#chat", service.answer)
    shown = [body["messages"] for body in service.seen if "messages" in body][-1]
    assert [turn["content"] for turn in shown] == ["And now?"]  # failed turns are not shown


def test_a_long_conversation_loses_its_oldest_turns(service, visit):
    service.max_turns = 3
    with service.running():
        guest = visit()
        for number in range(3):
            guest.ask(f"Question {number}")
            guest.see_count("#chat .answered .text", number + 1)
            guest.see(f"#chat .answered .text >> nth={number}", service.answer)
    last = [body["messages"] for body in service.seen if "messages" in body][-1]
    assert [turn["content"] for turn in last[::2]] == ["Question 1", "Question 2"]


@pytest.mark.parametrize(
    ("kept", "selector", "text"),
    [(0, "#chat", "No chat model is served here"), (1, "#intent", "No classifier is served")],
)
def test_half_a_service_shows_what_is_there(service, visit, kept, selector, text):
    service.models = [service.models[kept]]
    with service.running():
        guest = visit()
        guest.ask("What does delivery cost?")
        guest.see(selector, text)


def test_chinese_examples_and_a_new_conversation(service, assistant, visit):
    del assistant
    with service.running():
        guest = visit()
        guest.choose("中文", within="#language")
        guest.see("#header", "人工智能")
        guest.press("运费怎么算？", within="#chat")
        guest.see("#chat .answered", "已审核的回答 · 把握 92%")
        guest.page.locator("#chat summary").click()
        guest.press("查看全文", within="#chat")
        guest.see("#chat .passage", DELIVERY)
        guest.ask("天为什么是蓝的")
        guest.see("#chat", "我不知道")
        guest.see("#chat", NOTHING["zh"])
        guest.press("新对话")
        guest.see("#chat", "请问有什么可以帮您")
        guest.see("#intent", "提问后")
