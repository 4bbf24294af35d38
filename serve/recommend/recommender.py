"""The recommender: a catalogue, what users did, and rankings made of both.

Everything that blocks runs on threads of its own: one for the database and the rankings, one for
training. What the models say is awaited on the event loop, between two visits to the thread.
"""

import time
import uuid
from collections.abc import Callable, Sequence

import numpy as np

from serve.recommend.args import RecommendArgs
from serve.recommend.event_store import Ranking
from serve.recommend.intake import check_size, numbers_of, read_events, read_items
from serve.recommend.memory import Memory, Snapshot
from serve.recommend.pairs import PairReader, ScorePairs
from serve.recommend.ranking import Draft, Question, draft_ranking, finish_ranking
from serve.recommend.replies import event_out, item_out, moment_of, rank_reply, user_out
from serve.recommend.requests import EventsRequest, ItemsRequest, RankRequest
from serve.recommend.schema import (
    EventsReply,
    ItemsPage,
    ItemsReply,
    RankReply,
    StatusReply,
    TrainReply,
    UserDeleted,
    UserEvents,
    UsersPage,
)
from serve.recommend.settings import features_of, tastes_of
from serve.recommend.stock import Embed, Stock
from serve.recommend.store import Store
from serve.recommend.trainer import Trainer
from serve.recommend.work import Worker

__all__ = ["Recommender"]

_DAY_S = 86_400.0


class Recommender:
    """Use it from one event loop: `open` first, `close` last."""

    def __init__(
        self,
        args: RecommendArgs,
        *,
        store: Store,
        embed: Embed,
        fingerprint: str,
        score: ScorePairs | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Holds what it is given; ``store`` is closed with it.

        ``fingerprint`` tells the embedding model from others: vectors of another one are made
        again. ``score`` is the ranking model, None where there is none.
        """
        self.args = args
        self._store = store
        self._clock = clock
        self._features = features_of(args)
        self._memory = Memory(store, fingerprint, tastes_of(args), args.max_events)
        self._trainer = Trainer(args, store)
        self._worker = Worker(max_waiting=args.max_waiting)
        self._reader = None if score is None else PairReader(score)
        self._stock = Stock(
            store.items,
            worker=self._worker,
            embed=embed,
            fingerprint=fingerprint,
            max_items=args.max_items,
        )

    async def open(self) -> None:
        """Reads the database into memory; vectors of another model are made in the background.

        Raises:
            ServeError: the stored ranker is damaged.
        """
        try:
            snapshot = await self._worker.run(self._refresh)
        except BaseException:
            await self.close()
            raise
        self._stock.renew(snapshot.catalogue.without_vector)

    async def close(self) -> None:
        """Ends what runs and closes the store."""
        await self._stock.close()
        await self._trainer.close()
        await self._worker.close()
        self._store.close()

    async def put_items(self, request: ItemsRequest) -> ItemsReply:
        """Adds or replaces items; see `Stock.put`."""
        check_size("items", len(request.items), self.args.max_per_request)
        return await self._stock.put(read_items(request.items))

    async def list_items(self, *, limit: int, cursor: str, query: str) -> ItemsPage:
        """A page of the catalogue in the order of ids; see `ItemStore.page`."""
        items = await self._worker.run(
            self._store.items.page, limit=limit + 1, cursor=cursor, query=query
        )
        return ItemsPage(
            items=[item_out(item) for item in items[:limit]],
            next_cursor=items[limit - 1].id if len(items) > limit else None,
        )

    async def list_users(self, *, limit: int) -> UsersPage:
        """The users of the latest events."""
        users = await self._worker.run(self._store.events.users, limit=limit)
        return UsersPage(users=[user_out(summary) for summary in users])

    async def list_events(self, user: str, *, limit: int) -> UserEvents:
        """The latest events of ``user``, the last one first."""
        rows = await self._worker.run(self._store.events.of_user, user, limit=limit)
        return UserEvents(user=user, events=[event_out(event, title) for event, title in rows])

    async def delete_user(self, user: str) -> UserDeleted:
        """Deletes the events and rankings of ``user``; a trained ranker keeps what it learnt."""
        events, rankings = await self._worker.run(self._store.events.delete_user, user)
        return UserDeleted(user=user, events=events, rankings=rankings)

    async def add_events(self, request: EventsRequest) -> EventsReply:
        """Keeps events; the next ranking knows them."""
        check_size("events", len(request.events), self.args.max_per_request)
        return await self._worker.run(self._add_events, request)

    async def rank(self, request: RankRequest) -> RankReply:
        """The best candidates for a user or a history.

        Raises:
            ApiError: 400 where an item is not known or the request is too long.
        """
        check_size("candidates", len(request.candidates or ()), self.args.max_per_request)
        draft = await self._worker.run(self._draft, request)
        model_scores = None
        if self._reader is not None and not draft.cold_start and len(draft.pool):
            model_scores = await self._reader.read(draft)
        return await self._worker.run(self._finish, request, draft, model_scores)

    async def train(self) -> TrainReply:
        """Trains a ranker from the stored events; it is used if it beats the fixed weights.

        Raises:
            ApiError: 409 while a training runs.
        """
        snapshot = await self._worker.run(self._refresh)
        reader = self._reader
        scores = None if reader is None else reader.from_thread(snapshot.catalogue)
        return await self._trainer.train(snapshot, scores)

    async def status(self) -> StatusReply:
        """What the recommender knows."""
        return await self._worker.run(self._status)

    def _refresh(self) -> Snapshot:
        snapshot = self._memory.refresh()
        self._trainer.load(snapshot.rankers_version)
        return snapshot

    def _add_events(self, request: EventsRequest) -> EventsReply:
        known = self._refresh().catalogue.numbers
        intake = read_events(request.events, known_items=known, now=self._clock())
        is_new = self._store.events.add(intake.events) if intake.events else []
        return EventsReply(
            accepted=sum(is_new),
            duplicates=len(is_new) - sum(is_new),
            rejected=intake.rejected,
        )

    def _draft(self, request: RankRequest) -> Draft:
        snapshot = self._refresh()
        history = numbers_of(snapshot.catalogue, request.history, param="history")
        candidates = None
        if request.candidates is not None:
            numbers = numbers_of(snapshot.catalogue, request.candidates, param="candidates")
            candidates = np.asarray(numbers, np.int64)
        question = Question(
            user=-1 if request.user is None else snapshot.users.get(request.user, -1),
            history=history,
            candidates=candidates,
            exclude_seen=request.exclude_seen,
            time=float(np.nextafter(self._clock(), np.inf)),  # what happens now is known
        )
        pool = self.args.pool if self._reader is None else self.args.score_pool
        return draft_ranking(
            snapshot,
            question,
            scorer=self._trainer.scorer,
            features=self._features,
            pool=max(pool, request.top_k),
        )

    def _finish(
        self, request: RankRequest, draft: Draft, model_scores: Sequence[float] | None
    ) -> RankReply:
        diversity = self.args.diversity if request.diversity is None else request.diversity
        ranked = finish_ranking(
            draft, model_scores=model_scores, top_k=request.top_k, diversity=diversity
        )
        reply = rank_reply(
            ranked,
            draft,
            ranking_id=uuid.uuid4().hex,
            user=request.user,
            explain=request.explain,
            args=self.args,
        )
        shown = tuple((item.id, item.score) for item in reply.items)
        now = self._clock()
        self._store.events.add_ranking(
            Ranking(reply.ranking_id, reply.user, now, reply.ranker, shown)
        )
        return reply

    def _status(self) -> StatusReply:
        snapshot = self._refresh()
        num_events, num_users = self._store.events.count()
        trainer = self._trainer
        return StatusReply(
            items=len(snapshot.catalogue),
            items_without_vector=len(snapshot.catalogue.without_vector),
            events=num_events,
            users=num_users,
            ranker=trainer.scorer.kind,
            ranker_problem=trainer.problem,
            trained=moment_of(trainer.last.time) if trainer.last else None,
            training=trainer.is_training,
            last_training=TrainReply.model_validate(trainer.last.figures) if trainer.last else None,
            embedding_model=self.args.embedding_model,
            ranking_model=self.args.ranking_model or None,
            database=self._store.kind,
        )
