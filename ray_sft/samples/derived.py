"""Rows for other tasks, derived from the samples: entities, rankings, and pairs of texts.

Nothing new is written here. What a market text names, what a shopper took to next, and which
approved question a customer's question belongs to is known, since the samples were made.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ray_sft.samples.market import company_names, market_rows
from ray_sft.samples.material_reader import Split
from ray_sft.samples.shop import interactions, items
from ray_sft.samples.support import answer_rows, question_rows

__all__ = [
    "EntityRow",
    "PairRow",
    "RankingRow",
    "entity_rows",
    "item_pairs",
    "question_pairs",
    "ranking_rows",
]

_NUM_ENTITY_ROWS: dict[Split, int] = {"train": 440, "test": 120}
_NUM_PAIRS: dict[Split, int] = {"train": 400, "test": 120}
_NUM_NEGATIVES = 2
_MAX_HISTORY = 4
_TEST_SHARE = 0.2

_MONEY = r"\$\d[\d,.]*(?: (?:million|billion))?|\d+(?:\.\d+)?亿元"
_SHARE = r"\d+(?:\.\d+)?%"
_TOKEN = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|\d+(?:[.,]\d+)*|[^\sA-Za-z\d]")


@dataclass(frozen=True, slots=True)
class EntityRow:
    """A market text as words with BIO tags: company, money, share."""

    id: str
    tokens: list[str]
    tags: list[str]


@dataclass(frozen=True, slots=True)
class RankingRow:
    """What a shopper liked before, an item, and whether it was liked next."""

    user: str
    history: list[str]
    candidate: str
    label: int


@dataclass(frozen=True, slots=True)
class PairRow:
    """A text, one that belongs to it, and some that do not."""

    text: str
    positive: str
    negatives: list[str]


def entity_rows(split: Split, *, seed: int) -> list[EntityRow]:
    """Market texts that name something, evenly drawn."""
    names = sorted(company_names(), key=len, reverse=True)
    patterns = {
        "company": re.compile("|".join(re.escape(name) for name in names), re.IGNORECASE),
        "money": re.compile(_MONEY),
        "share": re.compile(_SHARE),
    }
    rows = market_rows(split, seed=seed)
    tagged = [_tagged(row.id, row.text, patterns) for row in rows]
    step = max(1, len(tagged) // _NUM_ENTITY_ROWS[split])
    return tagged[::step][: _NUM_ENTITY_ROWS[split]]


def _tagged(row_id: str, text: str, patterns: dict[str, re.Pattern[str]]) -> EntityRow:
    spans = [
        (found.start(), found.end(), label)
        for label, pattern in patterns.items()
        for found in pattern.finditer(text)
    ]
    tokens, tags, former = [], [], None
    for token in _TOKEN.finditer(text):
        span = next((s for s in spans if s[0] <= token.start() < s[1]), None)
        tokens.append(token.group())
        tags.append("O" if span is None else f"{'I' if span == former else 'B'}-{span[2]}")
        former = span
    return EntityRow(row_id, tokens, tags)


def ranking_rows(split: Split, *, seed: int) -> list[RankingRow]:
    """One liked and one other item for every like or purchase, the last fifth for testing."""
    rng = Random(f"{seed}/ranking")
    texts = {item.item_id: f"{item.title} ({item.category})" for item in items()}
    events = interactions(seed=seed)
    border = events[int(len(events) * (1 - _TEST_SHARE))].time
    liked: dict[str, list[str]] = {}
    rows: list[RankingRow] = []
    for event in events:
        history = liked.setdefault(event.user_id, [])
        if event.event not in ("like", "purchase"):
            continue
        if (event.time >= border) == (split == "test"):
            shown = [texts[item] for item in history[-_MAX_HISTORY:]]
            other = rng.choice([item for item in texts if item not in (*history, event.item_id)])
            for item, label in ((event.item_id, 1), (other, 0)):
                rows.append(RankingRow(event.user_id, shown, texts[item], label))
        history.append(event.item_id)
    return rows


def question_pairs(split: Split, *, seed: int) -> Iterator[PairRow]:
    """Questions with the approved one and the approved ones of two other intents."""
    rng = Random(f"{seed}/pairs/{split}")
    approved = {(row.intent, row.language): row.question for row in answer_rows()}
    for row in rng.sample(question_rows(split, seed=seed), k=_NUM_PAIRS[split]):
        others = [
            question
            for (intent, language), question in approved.items()
            if language == row.language and intent != row.intent
        ]
        negatives = rng.sample(others, k=_NUM_NEGATIVES)
        yield PairRow(row.text, approved[row.intent, row.language], negatives)


def item_pairs(split: Split, *, seed: int) -> Iterator[PairRow]:
    """Items by name with their own description and those of two others; a fifth is for testing."""
    rng = Random(f"{seed}/items/{split}")
    every = items()
    for number, item in enumerate(every):
        if (number % 5 == 0) == (split == "test"):
            others = [other.description for other in every if other.item_id != item.item_id]
            negatives = rng.sample(others, k=_NUM_NEGATIVES)
            yield PairRow(f"{item.title} ({item.category})", item.description, negatives)
