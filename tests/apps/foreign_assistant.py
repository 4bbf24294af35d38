"""An assistant in memory: approved answers, documents, and what people thought of the answers."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, HTTPException

__all__ = ["ForeignAssistant", "assistant_routes"]

DELIVERY = (
    "Delivery is free from 30 pounds. Below that it costs 3.90 pounds. "
    "<b>Express</b> takes one working day and costs 7.90 pounds."
)
RETURNS = "You can return any item within 30 days. Print the label and hand the parcel in."
NOTHING = {
    "en": "I do not have an answer to that. Please rephrase the question, or ask for a person.",
    "zh": "我暂时无法回答这个问题。请换一种问法，或联系人工客服。",
}


@dataclass
class ForeignAssistant:
    """What it knows and was told."""

    documents: dict[str, tuple[str, str]] = field(
        default_factory=lambda: {
            "delivery": ("Delivery and its cost", DELIVERY),
            "returns/en": ("Returns", RETURNS),
        }
    )
    feedback: list[dict[str, Any]] = field(default_factory=list)
    num_answers: int = 0
    seconds: float = 0.0
    """How long an answer takes."""

    def answer(self, question: str) -> dict[str, Any]:
        language = "zh" if any("\u4e00" <= char <= "\u9fff" for char in question) else "en"
        found = self._find(question)
        kind, answer, citations, confidence = found or ("unknown", NOTHING[language], [], 0.21)
        self.num_answers += 1
        intent = {
            "label": "delivery_cost" if found else "talk_to_human",
            "score": 0.87 if found else 0.34,
            "alternatives": [
                {"label": "track_order", "score": 0.06},
                {"label": "<b>invoice</b>", "score": 0.03},
            ],
        }
        return {
            "id": f"answer-{self.num_answers:032x}",
            "kind": kind,
            "answer": answer,
            "language": language,
            "confidence": confidence,
            "intent": intent,
            "citations": citations,
            "suggestions": ["How do I return an item?", "How much is delivery?"],
        }

    def _find(self, question: str) -> tuple[str, str, list[dict[str, Any]], float] | None:
        asked = question.lower()
        if any(word in asked for word in ("delivery", "运费")):
            first = self._citation(1, "delivery", DELIVERY.split(" <b>")[0], 0.92)
            return "approved", DELIVERY.split(" <b>")[0], [first], 0.92
        if any(word in asked for word in ("return", "退货")):
            first = self._citation(1, "returns/en", RETURNS.split(". ")[0] + ".", 0.71)
            second = self._citation(2, "delivery", "Delivery is free from 30 pounds.", 0.44)
            text = "You can return any item within 30 days. [1] Delivery is free. [2]"
            return "passages", text, [first, second], 0.64
        return None

    def _citation(self, number: int, document: str, text: str, score: float) -> dict[str, Any]:
        title, whole = self.documents[document]
        start = whole.index(text)
        return {
            "number": number,
            "document_id": document,
            "title": title,
            "text": text,
            "start": start,
            "end": start + len(text),
            "score": score,
        }


def assistant_routes(assistant: ForeignAssistant) -> APIRouter:
    router = APIRouter(prefix="/v1/assistant")

    @router.post("/answer")
    async def answer(body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(assistant.seconds)
        return assistant.answer(body["question"])

    @router.get("/knowledge/{document:path}")
    async def knowledge(document: str) -> dict[str, Any]:
        if document not in assistant.documents:
            raise HTTPException(404)
        title, text = assistant.documents[document]
        return {"id": document, "kind": "approved", "title": title, "text": text}

    @router.post("/feedback")
    async def feedback(body: dict[str, Any]) -> dict[str, Any]:
        assistant.feedback.append(body)
        return {"answer_id": body["answer_id"], "verdict": body["verdict"]}

    return router
