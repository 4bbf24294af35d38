from pathlib import Path

import lancedb
import pytest

from serve.assistant.feedback import Feedback, mask
from serve.assistant.schema import AssistantAnswer, FeedbackRequest

pytestmark = pytest.mark.asyncio


def verdict(number: int, said: str, reason: str = "") -> FeedbackRequest:
    return FeedbackRequest(answer_id=f"answer-{number:032x}", verdict=said, reason=reason)


async def test_a_later_verdict_takes_the_place_of_the_earlier(tmp_path: Path) -> None:
    connection = await lancedb.connect_async(tmp_path)
    feedback = Feedback()
    await feedback.open(connection)
    for said in ("up", "down", "down"):
        await feedback.record(verdict(1, said, "too long"))
    await feedback.record(verdict(2, "up"))
    rows = {row["answer_id"]: (row["verdict"], row["reason"]) for row in await feedback.all()}
    assert rows == {
        verdict(1, "up").answer_id: ("down", "too long"),
        verdict(2, "up").answer_id: ("up", ""),
    }
    feedback.close()
    again = Feedback()
    await again.open(connection)
    assert len(await again.all()) == 2
    again.close()
    connection.close()


async def test_a_verdict_is_stored_with_what_it_is_about(tmp_path: Path) -> None:
    connection = await lancedb.connect_async(tmp_path)
    feedback = Feedback()
    await feedback.open(connection)
    request = verdict(1, "down", "call me at +86 138 1234 5678")
    answer = AssistantAnswer(
        id=request.answer_id,
        kind="unknown",
        answer="I have no answer.",
        language="en",
        confidence=0.1,
        intent=None,
        citations=[],
        suggestions=[],
    )
    feedback.remember("I am ann@example.org and order 12345678?", answer)
    await feedback.record(request)
    (row,) = await feedback.all()
    assert row["question"] == "I am [address] and order [number]?"
    assert row["reason"] == "call me at +[number]"
    assert (row["kind"], row["document_ids"]) == ("unknown", [])
    feedback.close()
    connection.close()


async def test_masking_leaves_short_numbers() -> None:
    assert mask("5 to 7 days, $49.90, 2024") == "5 to 7 days, $49.90, 2024"
    assert mask("card 4111 1111 1111 1111, mail a.b+c@d.co") == "card [number], mail [address]"
