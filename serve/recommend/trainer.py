"""Which ranker ranks, and the training of the next one: one at a time, on a thread of its own."""

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from serve.errors import ApiError
from serve.outcomes import StoppedError
from serve.recommend.args import RecommendArgs
from serve.recommend.memory import Snapshot
from serve.recommend.ranker import FixedWeights, Scorer, TrainedRanker
from serve.recommend.ranker_store import StoredRanker
from serve.recommend.replies import figure_of
from serve.recommend.retrain import Outcome, retrain
from serve.recommend.schema import TrainReply
from serve.recommend.settings import features_of
from serve.recommend.store import Store
from serve.recommend.training import PairScores

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)

_DAY_S = 86_400.0


class Trainer:
    """Holds the scorer in use. `load` belongs to the database's thread, the rest to the loop."""

    def __init__(self, args: RecommendArgs, store: Store) -> None:
        """Ranks by the fixed weights until `load` finds something better."""
        self.scorer: Scorer = FixedWeights()
        self.problem: str | None = None
        self.last: StoredRanker | None = None
        self._args = args
        self._store = store
        self._version = -1
        self._stopping = threading.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recommend-train")
        self._task: asyncio.Task[TrainReply] | None = None

    @property
    def is_training(self) -> bool:
        """Whether a training runs."""
        return self._task is not None and not self._task.done()

    def load(self, version: int) -> None:
        """Takes the latest stored ranker where ``version`` of the counter is not the one known.

        A ranker of another version of this software is left aside, with a warning.

        Raises:
            ServeError: the ranker is damaged.
        """
        if version == self._version:
            return
        stored = self._store.rankers.latest()
        scorer: Scorer = FixedWeights()
        problem = None
        if stored is not None and stored.text is not None:
            ranker = TrainedRanker(stored.text, sha256=stored.sha256 or "")
            problem = ranker.mismatch
            if problem is None:
                scorer = ranker
            else:
                logger.warning("%s The fixed weights rank until then.", problem)
        self.scorer, self.problem, self.last, self._version = scorer, problem, stored, version

    async def train(self, snapshot: Snapshot, pair_scores: PairScores | None) -> TrainReply:
        """Trains a ranker and stores it, if it is better than the fixed weights.

        The training goes on where the caller is cancelled; `load` finds what came of it.

        Raises:
            ApiError: 409 while another training runs.
            StoppedError: the service is stopping.
        """
        if self.is_training:
            raise ApiError(
                409,
                "a training runs already. GET /v1/recommend/status tells when it is done.",
                code="training",
            )
        self._task = asyncio.create_task(self._train(snapshot, pair_scores))
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """Ends a training that runs at its next query."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._executor.shutdown)

    async def _train(self, snapshot: Snapshot, pair_scores: PairScores | None) -> TrainReply:
        loop = asyncio.get_running_loop()
        reply = await loop.run_in_executor(self._executor, self._train_now, snapshot, pair_scores)
        logger.info("recommendations are ranked by %s", reply.reason)
        return reply

    def _train_now(self, snapshot: Snapshot, pair_scores: PairScores | None) -> TrainReply:
        start = time.perf_counter()
        outcome = retrain(
            snapshot,
            self._store.events.answered_rankings(limit=self._args.max_queries),
            args=self._args,
            features=features_of(self._args),
            pair_scores=pair_scores,
            check=self._check,
        )
        reply = _reply(outcome, seconds=time.perf_counter() - start)
        ranker = outcome.ranker
        now = time.time()
        self._store.events.delete_rankings(before=now - self._args.ranking_days * _DAY_S)
        self._store.rankers.add(
            StoredRanker(
                time=now,
                text=ranker.text if ranker else None,
                sha256=ranker.sha256 if ranker else None,
                figures=reply.model_dump(mode="json"),
            )
        )
        return reply

    def _check(self) -> None:
        if self._stopping.is_set():
            raise StoppedError("the service is stopping.")


def _reply(outcome: Outcome, *, seconds: float) -> TrainReply:
    return TrainReply(
        ranker="weights" if outcome.ranker is None else outcome.ranker.kind,
        reason=outcome.reason,
        num_queries=outcome.num_queries,
        num_users=max((figures.num_users for figures in outcome.figures.values()), default=0),
        figures={name: figure_of(figures) for name, figures in outcome.figures.items()},
        seconds=seconds,
    )
