"""What was computed, as the routes reply it."""

from datetime import UTC, datetime

from serve.recommend.args import RecommendArgs
from serve.recommend.catalogue import Item
from serve.recommend.evaluate import Figures
from serve.recommend.event_store import UserSummary
from serve.recommend.events import Event
from serve.recommend.ranking import Draft, Place, Ranked
from serve.recommend.reasons import reasons_for
from serve.recommend.schema import (
    Figure,
    ItemOut,
    RankedOut,
    RankReply,
    ReasonOut,
    UserEvent,
    UserOut,
)

__all__ = ["event_out", "figure_of", "item_out", "moment_of", "rank_reply", "user_out"]


def moment_of(time: float) -> datetime:
    """Seconds since 1970 as a date."""
    return datetime.fromtimestamp(time, UTC)


def item_out(item: Item) -> ItemOut:
    """An item of the catalogue."""
    return ItemOut(
        id=item.id,
        title=item.title,
        text=item.text,
        category=item.category,
        published=None if item.published is None else moment_of(item.published),
    )


def user_out(summary: UserSummary) -> UserOut:
    """A user who has events."""
    return UserOut(
        user=summary.user,
        num_events=summary.num_events,
        last_event=moment_of(summary.last_time),
    )


def event_out(event: Event, title: str) -> UserEvent:
    """Something a user did, with the title of the item."""
    return UserEvent(
        id=event.id,
        item=event.item,
        title=title,
        kind=event.kind,
        value=event.value,
        time=moment_of(event.time),
        ranking_id=event.ranking_id,
    )


def figure_of(figures: Figures) -> Figure:
    """How well one way of ranking does."""
    return Figure(
        ndcg_at_10=figures.ndcg.mean,
        ndcg_low=figures.ndcg.low,
        ndcg_high=figures.ndcg.high,
        recall_at_10=figures.recall.mean,
        coverage_at_10=figures.coverage,
    )


def rank_reply(
    ranked: Ranked,
    draft: Draft,
    *,
    ranking_id: str,
    user: str | None,
    explain: bool,
    args: RecommendArgs,
) -> RankReply:
    """A ranking with its reasons."""
    return RankReply(
        ranking_id=ranking_id,
        user=user,
        cold_start=draft.cold_start,
        ranker=draft.scorer.kind,
        items=[
            _ranked_out(place, draft, rank=rank, explain=explain, new_days=args.new_days)
            for rank, place in enumerate(ranked.places, start=1)
        ],
        num_candidates=len(draft.candidates),
        intra_list_diversity=ranked.intra_list_diversity,
        baseline_diversity=ranked.baseline_diversity,
    )


def _ranked_out(
    place: Place, draft: Draft, *, rank: int, explain: bool, new_days: float
) -> RankedOut:
    item = draft.catalogue.items[place.item]
    reasons = []
    if explain:
        reasons = reasons_for(
            place.item,
            catalogue=draft.catalogue,
            moment=draft.moment,
            history=draft.history,
            rank_by_popularity=place.rank_by_popularity,
            num_candidates=len(draft.candidates),
            new_days=new_days,
        )
    return RankedOut(
        id=item.id,
        title=item.title,
        category=item.category,
        score=place.score,
        rank=rank,
        rank_by_relevance=place.rank_by_relevance,
        rank_by_popularity=place.rank_by_popularity,
        text_score=place.features.get("text_profile", 0.0),
        reasons=[ReasonOut(kind=reason.kind, text=reason.text) for reason in reasons],
        features=dict(place.features) if explain else {},
        contributions=dict(place.contributions) if explain else {},
    )
