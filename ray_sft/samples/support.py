"""Customer questions with their intent, and the approved answers of the invented shop."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from random import Random

from ray_sft.samples.material_reader import (
    Language,
    Phrasing,
    Split,
    read_phrasings,
    read_sections,
)
from ray_sft.samples.wording import Slots, choose, fill, normalized, slot_names, with_typo

__all__ = [
    "CONTEXTS",
    "ROWS_PER_INTENT",
    "AnswerRow",
    "QuestionRow",
    "QuestionWriter",
    "answer_rows",
    "question_rows",
    "support_phrasings",
]

ROWS_PER_INTENT: dict[Split, dict[Language, int]] = {
    "train": {"en": 55, "zh": 24},
    "test": {"en": 14, "zh": 6},
}

CONTEXTS: dict[str, str] = {
    **dict.fromkeys(
        ("track_order", "cancel_order", "change_address", "return_item", "refund_status"), "order"
    ),
    **dict.fromkeys(("item_damaged", "wrong_item", "double_charge", "invoice_copy"), "order"),
    **dict.fromkeys(("delivery_cost", "stock_availability", "opening_hours"), "shop"),
    **dict.fromkeys(("warranty_claim", "discount_code", "talk_to_human", "payment_failed"), "shop"),
    **dict.fromkeys(("reset_password", "account_locked", "update_phone"), "account"),
    **dict.fromkeys(("close_account", "change_plan", "cancel_subscription"), "account"),
    **dict.fromkeys(("card_arrival", "card_lost"), "card"),
}
"""Kind of background that fits an intent; several intents share one, so it does not tell them."""

_KEEPS_CAPITAL = re.compile(r"I\b|[A-Z]{2}|PayPal|Norvale|\{")

_TONES = ("plain", "plain", "plain", "polite", "polite", "angry", "terse", "chatty", "chatty")


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """One customer question and the phrasing it was made from."""

    id: str
    text: str
    intent: str
    language: Language
    phrasing: Phrasing


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """The approved answer to one intent in one language."""

    id: str
    intent: str
    language: Language
    question: str
    answer: str


def support_phrasings(language: Language) -> list[Phrasing]:
    """All core phrasings of one language; the section is the intent."""
    return [
        *read_phrasings(f"support_orders_{language}"),
        *read_phrasings(f"support_account_{language}"),
    ]


def question_rows(split: Split, *, seed: int) -> list[QuestionRow]:
    """Shuffled questions of one split; no two are equal but for digits and punctuation."""
    rng = Random(f"{seed}/questions/{split}")
    drafts: list[tuple[str, Phrasing, Language]] = []
    for language, count in ROWS_PER_INTENT[split].items():
        writer = QuestionWriter(language)
        for intent in CONTEXTS:
            drafts += [(text, p, language) for text, p in writer.write(intent, split, count, rng)]
    rng.shuffle(drafts)
    return [
        QuestionRow(f"{split}-{i:04d}", text, phrasing.section, language, phrasing)
        for i, (text, phrasing, language) in enumerate(drafts, start=1)
    ]


def answer_rows() -> list[AnswerRow]:
    """Approved answers, English first."""
    languages: tuple[Language, ...] = ("en", "zh")
    rows: list[AnswerRow] = []
    for language in languages:
        for intent, lines in read_sections(f"answers_{language}").items():
            question, answer = (
                next(line[3:] for line in lines if line.startswith(mark)) for mark in ("Q: ", "A: ")
            )
            rows.append(AnswerRow(f"{intent}-{language}", intent, language, question, answer))
    return rows


class QuestionWriter:
    """Writes questions of one language, using every phrasing about equally often."""

    def __init__(self, language: Language) -> None:
        """Reads the phrasings and wrappers of `language`."""
        self.language = language
        self._slots = Slots(language)
        self._wrappers = read_sections(f"wrappers_{language}")
        self._phrasings = support_phrasings(language)

    def write(
        self, intent: str, split: Split, count: int, rng: Random
    ) -> Iterator[tuple[str, Phrasing]]:
        """Yields `count` different questions with their phrasings."""
        of_intent = [p for p in self._phrasings if p.section == intent and p.split == split]
        rng.shuffle(of_intent)
        seen: set[str] = set()
        for phrasing in cycle(of_intent):
            if len(seen) == count:
                return
            text = self.one(phrasing, rng)
            if normalized(text) not in seen:
                seen.add(normalized(text))
                yield text, phrasing

    def one(self, phrasing: Phrasing, rng: Random) -> str:
        """One question from a phrasing, in a random tone."""
        core = choose(phrasing.template, rng)
        if rng.random() < (0.15 if self.language == "en" else 0.08):
            core = with_typo(core, rng, language=self.language)
        tone = rng.choice(_TONES)
        values = self._slots.draw(rng)
        if tone == "terse":
            return fill(self._terse(core, rng), values)
        parts = self._around(core, CONTEXTS[phrasing.section], tone, rng)
        text = fill(self._join(parts), values)
        return _with_casing(text, tone, rng) if self.language == "en" else text

    def _around(self, core: str, context: str, tone: str, rng: Random) -> list[str]:
        parts = [core]
        if tone == "chatty":
            open_slots = slot_names(core)
            fitting = [
                line
                for line in self._wrappers[f"context_{context}"]
                if not slot_names(line) & open_slots
            ]
            parts.insert(rng.choice([0, 0, 1]), rng.choice(fitting))
        if tone == "polite" or (tone == "chatty" and rng.random() < 0.4):
            parts.insert(0, rng.choice(self._wrappers["greeting"]))
        if tone in ("polite", "angry") and rng.random() < 0.75:
            parts.append(rng.choice(self._wrappers[f"closing_{tone}"]))
        return parts

    def _terse(self, core: str, rng: Random) -> str:
        if self.language == "zh":
            return core.rstrip("。？！")
        core = core.rstrip(".?!")
        return core[0].lower() + core[1:] if rng.random() < 0.8 else core

    def _join(self, parts: list[str]) -> str:
        if self.language == "zh":
            return "".join(parts)
        if len(parts) > 1 and parts[0].endswith(",") and not _KEEPS_CAPITAL.match(parts[1]):
            parts = [parts[0], parts[1][0].lower() + parts[1][1:], *parts[2:]]
        return " ".join(parts)


def _with_casing(text: str, tone: str, rng: Random) -> str:
    if tone == "angry" and rng.random() < 0.25:
        return text.upper()
    if rng.random() < 0.08:
        return text.lower()
    return text
