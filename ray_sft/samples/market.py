"""Market news and posts over sixty days, with topic, sentiment and a few bad spells."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from random import Random
from typing import Literal, get_args

from ray_sft.samples.material_reader import (
    Language,
    Phrasing,
    Split,
    read_phrasings,
    read_sections,
)
from ray_sft.samples.wording import choose, fill, normalized

__all__ = [
    "NUM_DAYS",
    "START",
    "SURGES",
    "MarketRow",
    "Sentiment",
    "Surge",
    "company_names",
    "market_rows",
]

Sentiment = Literal["negative", "neutral", "positive"]

START = datetime(2025, 3, 3, tzinfo=UTC)
NUM_DAYS = 60


@dataclass(frozen=True, slots=True)
class Surge:
    """A spell of bad news about one topic; days count from `START`, the end is exclusive."""

    topic: str
    first_day: int
    last_day: int
    num_rows: dict[Split, int]


SURGES: tuple[Surge, ...] = (
    Surge("chips", 17, 20, {"train": 40, "test": 10}),
    Surge("airlines", 36, 38, {"train": 34, "test": 9}),
    Surge("crypto", 50, 52, {"train": 34, "test": 9}),
)

_BASE_ROWS: dict[Split, dict[Language, int]] = {
    "train": {"en": 820, "zh": 272},
    "test": {"en": 204, "zh": 68},
}
_SENTIMENT_SHARE: dict[Sentiment, int] = {"negative": 28, "neutral": 42, "positive": 30}


@dataclass(frozen=True, slots=True)
class MarketRow:
    """One text about one topic at one time (UTC)."""

    id: str
    time: datetime
    topic: str
    sentiment: Sentiment
    text: str
    phrasing: Phrasing


def market_rows(split: Split, *, seed: int) -> list[MarketRow]:
    """Rows of one split in the order of time; no two are equal but for digits."""
    rng = Random(f"{seed}/market/{split}")
    writers: dict[Language, _MarketWriter] = {
        "en": _MarketWriter("en", split, rng),
        "zh": _MarketWriter("zh", split, rng),
    }
    drafts: list[tuple[datetime, Phrasing, str]] = []
    for language, count in _BASE_ROWS[split].items():
        topics = sorted({section.split()[0] for section in read_sections(f"market_{language}")})
        for number in range(count):
            sentiment = rng.choices(get_args(Sentiment), [*_SENTIMENT_SHARE.values()])[0]
            phrasing, text = writers[language].write(topics[number % len(topics)], sentiment, rng)
            drafts.append((_time(rng, 0, NUM_DAYS), phrasing, text))
    for surge in SURGES:
        for number in range(surge.num_rows[split]):
            writer = writers["zh" if number % 4 == 3 else "en"]
            phrasing, text = writer.write(surge.topic, "negative", rng)
            drafts.append((_time(rng, surge.first_day, surge.last_day), phrasing, text))
    drafts.sort(key=lambda draft: draft[0])
    return [_row(f"market-{split}-{i:04d}", *draft) for i, draft in enumerate(drafts, start=1)]


def _row(row_id: str, time: datetime, phrasing: Phrasing, text: str) -> MarketRow:
    topic, label = phrasing.section.split()
    sentiment: Sentiment = next(s for s in get_args(Sentiment) if s == label)
    return MarketRow(row_id, time, topic, sentiment, text, phrasing)


def _time(rng: Random, first_day: int, last_day: int) -> datetime:
    day = rng.randrange(first_day, last_day)
    hour = rng.choices(range(24), [1] * 6 + [4] * 12 + [2] * 6)[0]
    return START + timedelta(days=day, hours=hour, seconds=rng.randrange(3600))


class _MarketWriter:
    """Writes texts of one language and split, using the phrasings of a cell in turn."""

    def __init__(self, language: Language, split: Split, rng: Random) -> None:
        self._language = language
        self._companies = _companies(language)
        wrappers = read_sections("market_wrappers")
        self._before = wrappers[f"before_{language}"]
        self._after = wrappers[f"after_{language}"]
        self._values = read_sections(f"market_slots_{language}")
        cells: dict[str, list[Phrasing]] = {}
        for phrasing in read_phrasings(f"market_{language}"):
            if phrasing.split == split:
                cells.setdefault(phrasing.section, []).append(phrasing)
        self._cells = {name: cycle(rng.sample(cell, k=len(cell))) for name, cell in cells.items()}
        self._seen: set[str] = set()

    def write(self, topic: str, sentiment: str, rng: Random) -> tuple[Phrasing, str]:
        while True:
            phrasing = next(self._cells[f"{topic} {sentiment}"])
            text = self._one(phrasing, topic, rng)
            if normalized(text) not in self._seen:
                self._seen.add(normalized(text))
                return phrasing, text

    def _one(self, phrasing: Phrasing, topic: str, rng: Random) -> str:
        values = {
            name: rng.choice([value.strip() for line in lines for value in line.split("|")])
            for name, lines in self._values.items()
        }
        values["company"] = rng.choice(self._companies[topic])
        values["pct"] = f"{rng.randrange(2, 29)}{rng.choice(['', '', '.5'])}%"
        values["rate"] = f"{rng.randrange(1, 4)}.{rng.choice([25, 50, 75])}%"
        values["num"] = str(rng.randrange(6, 90))
        values["jobs"] = str(rng.randrange(2, 40) * 50)
        values["units"] = self._units(rng)
        values["amount"] = self._amount(rng)
        core = fill(choose(phrasing.template, rng), values)
        return self._wrapped(core, rng)

    def _amount(self, rng: Random) -> str:
        if self._language == "zh":
            return f"{rng.randrange(2, 90)}亿元"
        return f"${rng.randrange(20, 950)} million"

    def _units(self, rng: Random) -> str:
        return (
            f"{rng.randrange(2, 60)}万"
            if self._language == "zh"
            else (f"{rng.randrange(12, 400)},000")
        )

    def _wrapped(self, core: str, rng: Random) -> str:
        before = rng.choice(self._before) if rng.random() < 0.3 else ""
        after = rng.choice(self._after) if rng.random() < 0.35 else ""
        if self._language == "zh":
            return before + core + (f"。{after}" if after else rng.choice(["", "。"]))
        dot = "" if after.startswith("#") or (not after and rng.random() < 0.6) else "."
        text = " ".join(part for part in (before, core + dot, after) if part)
        return text.lower() if rng.random() < 0.06 else text


def _companies(language: Language) -> dict[str, list[str]]:
    prefix = f"{language}: "
    return {
        topic: [
            company.strip()
            for line in lines
            if line.startswith(prefix)
            for company in line.removeprefix(prefix).split("|")
        ]
        for topic, lines in read_sections("market_companies").items()
    }


def company_names() -> list[str]:
    """Every invented company, in both languages."""
    languages: tuple[Language, ...] = ("en", "zh")
    return [
        company
        for language in languages
        for companies in _companies(language).values()
        for company in companies
    ]
