"""Conversations between a customer and the support team, from phrasings and approved answers."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from ray_sft.samples.material_reader import Language, Phrasing, Split, read_sections
from ray_sft.samples.support import CONTEXTS, QuestionWriter
from ray_sft.samples.wording import choose

__all__ = ["DIALOGUES_PER_INTENT", "Dialogue", "Message", "dialogues"]

DIALOGUES_PER_INTENT: dict[Split, dict[Language, int]] = {
    "train": {"en": 28, "zh": 10},
    "test": {"en": 5, "zh": 2},
}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation of 1 to 4 user turns that ends with the assistant."""

    id: str
    language: Language
    intent: str
    messages: tuple[Message, ...]
    phrasing: Phrasing


def dialogues(split: Split, *, seed: int) -> list[Dialogue]:
    """Shuffled conversations of one split; their opening questions use its phrasings only."""
    rng = Random(f"{seed}/dialogues/{split}")
    drafts: list[tuple[Language, Phrasing, tuple[Message, ...]]] = []
    for language, count in DIALOGUES_PER_INTENT[split].items():
        writer = QuestionWriter(language)
        partner = _Partner(language)
        for intent in CONTEXTS:
            for question, phrasing in writer.write(intent, split, count, rng):
                drafts.append((language, phrasing, partner.talk(question, intent, rng)))
    rng.shuffle(drafts)
    return [
        Dialogue(f"dialogue-{split}-{i:04d}", language, phrasing.section, messages, phrasing)
        for i, (language, phrasing, messages) in enumerate(drafts, start=1)
    ]


class _Partner:
    """Answers questions of one language and lets the customer go on."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._answers = read_sections(f"answers_{language}")
        self._wrappers = read_sections(f"wrappers_{language}")

    def talk(self, question: str, intent: str, rng: Random) -> tuple[Message, ...]:
        pairs = [(question, self._answer(intent, rng))]
        if rng.random() < 0.15:
            pairs.insert(0, self._pair("user_hello", "assistant_hello", rng))
        follow_ups = [line[3:] for line in self._answers[intent] if line.startswith("F: ")]
        for follow_up in rng.sample(follow_ups, k=rng.choice([0, 0, 1, 1, 2])):
            asked, answer = follow_up.split(" => ")
            pairs.append((self._casual(choose(asked, rng), rng), answer))
        if len(pairs) < 4 and rng.random() < 0.4:
            pairs.append(self._pair("thanks", "farewell", rng))
        return tuple(
            message
            for user, assistant in pairs
            for message in (Message("user", user), Message("assistant", assistant))
        )

    def _answer(self, intent: str, rng: Random) -> str:
        answer = rng.choice([line for line in self._answers[intent] if line[0] in "A="])
        answer = answer.removeprefix("A: ").removeprefix("= ")
        if rng.random() < 0.3 and not _has_own_opening(answer):
            between = " " if self._language == "en" else ""
            return rng.choice(self._wrappers["lead"]) + between + answer
        return answer

    def _pair(self, user: str, assistant: str, rng: Random) -> tuple[str, str]:
        return rng.choice(self._wrappers[user]), rng.choice(self._wrappers[assistant])

    def _casual(self, text: str, rng: Random) -> str:
        if self._language == "en" and rng.random() < 0.3:
            return text.lower().rstrip(".") if rng.random() < 0.5 else f"OK. {text}"
        return text


_OPENINGS = (
    "Of course", "I understand", "Happy to", "Sorry", "We are sorry", "Our apologies",
    "Apologies", "That ", "No problem", "Let us", "Do not worry", "Act quickly", "This protects",
    "非常抱歉", "真对不起", "很抱歉", "抱歉", "对不起", "是我们", "没问题", "我来", "好的", "理解",
    "马上", "请放心", "让您", "很遗憾", "别着急", "越快", "可以的", "一分钟", "这是", "这笔",
)  # fmt: skip


def _has_own_opening(answer: str) -> bool:
    return answer.startswith(_OPENINGS)
