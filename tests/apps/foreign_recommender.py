"""A recommender in memory: it goes by category and popularity, and by what is liked and hidden."""

from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, HTTPException

__all__ = ["ForeignRecommender", "recommender_routes"]

ITEMS = [
    ("kettle", "Stovetop Kettle", "kitchen"),
    ("grinder", "Coffee Grinder", "kitchen"),
    ("skillet", "Cast Iron Skillet", "kitchen"),
    ("tent", "Two-Person Tent", "outdoor"),
    ("lamp", "Camping <i>Lamp</i>", "outdoor"),
    ("bottle", "Steel Bottle", "outdoor"),
    ("novel", "A Long Novel", "books"),
    ("atlas", "World Atlas", "books"),
]
LIKES = [
    ("ann", "kettle"),
    ("bob", "tent"),
    ("bob", "kettle"),
    ("cat", "tent"),
    ("cat", "novel"),
    ("dan", "tent"),
    ("dan", "bottle"),
]


@dataclass
class ForeignRecommender:
    """The items, and every event so far."""

    items: list[tuple[str, str, str]] = field(default_factory=lambda: list(ITEMS))
    events: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"user": user, "item": item, "kind": "like"} for user, item in LIKES
        ]
    )
    tells_history: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)

    def users(self) -> list[dict[str, Any]]:
        names = sorted({event["user"] for event in self.events})
        counts = {name: sum(e["user"] == name for e in self.events) for name in names}
        return [{"user": name, "num_events": count} for name, count in counts.items()]

    def rank(self, user: str, top_k: int, diversity: float) -> dict[str, Any]:
        """The best first; what the user liked or hid is left out."""
        done = [event for event in self.events if event["user"] == user]
        liked = [event["item"] for event in done if event["kind"] == "like"]
        tastes = [category for item, _, category in self.items if item in liked]
        left = [row for row in self.items if row[0] not in {event["item"] for event in done}]
        votes = {row[0]: sum(e["item"] == row[0] for e in self.events) for row in left}
        scores = {row[0]: tastes.count(row[2]) + 0.1 * votes[row[0]] for row in left}
        popular = sorted(left, key=lambda row: -votes[row[0]])
        by_fit = sorted(left, key=lambda row: -scores[row[0]])
        ordered = _spread(by_fit, scores, diversity)[:top_k]
        return {
            "ranking_id": f"ranking-{len(self.events)}",
            "user": user,
            "cold_start": not liked,
            "ranker": "weights",
            "items": [
                {
                    "id": item,
                    "title": title,
                    "category": category,
                    "score": scores[item],
                    "rank": place,
                    "rank_by_popularity": [row[0] for row in popular].index(item) + 1,
                    "text_score": 0.0,
                    "reasons": self._reasons(category, tastes),
                    "features": {},
                }
                for place, (item, title, category) in enumerate(ordered, start=1)
            ],
            "intra_list_diversity": _variety(ordered[:4]),
            "baseline_diversity": _variety(by_fit[:4]),
        }

    def _reasons(self, category: str, tastes: list[str]) -> list[dict[str, str]]:
        if category not in tastes:
            return []
        count = tastes.count(category)
        text = f"{count} of {len(tastes)} liked items are '{category}' too."
        return [{"kind": "category", "text": text}]


def recommender_routes(recommender: ForeignRecommender) -> APIRouter:
    router = APIRouter(prefix="/v1/recommend")

    @router.get("/users")
    async def users(limit: int) -> dict[str, Any]:
        return {"users": recommender.users()[:limit]}

    @router.get("/users/{user}/events")
    async def history(user: str, limit: int) -> dict[str, Any]:
        if not recommender.tells_history:
            raise HTTPException(404)
        titles = {item: title for item, title, _ in recommender.items}
        done = [e for e in reversed(recommender.events) if e["user"] == user]
        return {"events": [e | {"title": titles.get(e["item"], "")} for e in done][:limit]}

    @router.post("/rank")
    async def rank(body: dict[str, Any]) -> dict[str, Any]:
        recommender.asked.append(body)
        return recommender.rank(body["user"], body["top_k"], body["diversity"])

    @router.post("/events")
    async def events(body: dict[str, Any]) -> dict[str, Any]:
        known = {item for item, _, _ in recommender.items}
        taken = [event for event in body["events"] if event["item"] in known]
        recommender.events += taken
        rejected = [
            {"index": index, "reason": f"item '{event['item']}' is not known."}
            for index, event in enumerate(body["events"])
            if event["item"] not in known
        ]
        return {"accepted": len(taken), "duplicates": 0, "rejected": rejected}

    return router


def _spread(
    by_fit: list[tuple[str, str, str]], scores: dict[str, float], diversity: float
) -> list[tuple[str, str, str]]:
    """Each next item is less wanted for every item of its category before it."""
    left, chosen = list(by_fit), []
    while left:
        seen = [row[2] for row in chosen]
        best = max(
            left,
            key=lambda row: (1 - diversity) * scores[row[0]] - 3 * diversity * seen.count(row[2]),
        )
        left.remove(best)
        chosen.append(best)
    return chosen


def _variety(rows: list[tuple[str, str, str]]) -> float:
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i]]
    return sum(a[2] != b[2] for a, b in pairs) / len(pairs) if pairs else 0.0
