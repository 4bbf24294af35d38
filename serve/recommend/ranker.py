"""What turns features into scores: LightGBM trained by LambdaRank, or fixed weights before that.

A trained ranker is kept as LightGBM's own text with its SHA-256; nothing is pickled.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import lightgbm
import numpy as np
from numpy.typing import NDArray

from ray_sft.core import ServeError
from serve.recommend.features import FEATURES, FeatureTable

__all__ = ["WEIGHTS", "FixedWeights", "RankerKind", "Scorer", "TrainedRanker", "fit_ranker"]

RankerKind: TypeAlias = Literal["lightgbm", "weights"]

WEIGHTS = {
    "likely": 0.50,
    "text_profile": 0.10,
    "text_max": 0.10,
    "category_share": 0.05,
    "popularity": 0.10,
    "newness": 0.05,
    "model_score": 0.30,
    "text_disliked": -0.10,
    "shown": -0.05,
}
"""Of features scaled to [0, 1] over the candidates; ``newness`` halves every 30 days of age."""

_PARAMETERS = {
    "objective": "lambdarank",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "lambdarank_truncation_level": 10,
    "label_gain": [0, 1, 2, 3],
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
_NUM_TREES = 200


class Scorer(Protocol):
    """Turns a table of features into scores."""

    @property
    def kind(self) -> RankerKind:
        """How it came to be."""

    def score(self, table: FeatureTable) -> NDArray[np.float64]:
        """(candidates,) the higher the better; comparable within one table only."""

    def contributions(
        self, table: FeatureTable, rows: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float64]]:
        """What each feature adds to the scores of ``rows``, (rows,) by name."""


class FixedWeights:
    """A weighted sum that anyone can check; see `WEIGHTS`."""

    kind: RankerKind = "weights"

    def score(self, table: FeatureTable) -> NDArray[np.float64]:
        """(candidates,) the sum."""
        terms = [weight * _scaled(_column(table, name)) for name, weight in WEIGHTS.items()]
        return np.asarray(np.sum(terms, axis=0))

    def contributions(
        self, table: FeatureTable, rows: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float64]]:
        """(rows,) the terms of the sum, by name."""
        return {
            name: weight * _scaled(_column(table, name))[rows] for name, weight in WEIGHTS.items()
        }


class TrainedRanker:
    """A LightGBM model."""

    kind: RankerKind = "lightgbm"

    def __init__(self, text: str, *, sha256: str) -> None:
        """Reads LightGBM's text format.

        Raises:
            ServeError: the text is not the one of ``sha256``.
        """
        found = hashlib.sha256(text.encode()).hexdigest()
        if found != sha256:
            raise ServeError(
                f"the stored ranker is damaged: its SHA-256 is {found[:12]}..., not "
                f"{sha256[:12]}... as when it was stored. Delete its row from the table 'rankers' "
                "and train again."
            )
        self.text = text
        self.sha256 = sha256
        self._booster = lightgbm.Booster(model_str=text)

    @property
    def mismatch(self) -> str | None:
        """Why this version of the software cannot use the ranker; None: it can."""
        names = tuple(self._booster.feature_name())
        if names == FEATURES:
            return None
        return (
            f"the stored ranker reads other features ({', '.join(names)}) than this version "
            f"computes ({', '.join(FEATURES)}). Train again."
        )

    def score(self, table: FeatureTable) -> NDArray[np.float64]:
        """(candidates,) LightGBM's raw scores, without a unit."""
        if not len(table):
            return np.empty(0)
        return np.asarray(self._booster.predict(table, num_threads=1), np.float64)

    def contributions(
        self, table: FeatureTable, rows: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float64]]:
        """(rows,) the Shapley values of the features (Lundberg et al. 2018), by name."""
        if not len(rows):
            return {name: np.empty(0) for name in FEATURES}
        values = np.asarray(self._booster.predict(table[rows], pred_contrib=True, num_threads=1))
        return {name: values[:, column] for column, name in enumerate(FEATURES)}


def fit_ranker(
    tables: Sequence[FeatureTable],
    grades: Sequence[NDArray[np.int8]],
    *,
    num_threads: int,
    seed: int,
) -> TrainedRanker:
    """A ranker of ``tables``, one per query, whose rows have ``grades`` 0 to 3.

    Equal data and seed give the same text, whatever the number of threads.
    """
    rows = np.concatenate(tables)
    data = lightgbm.Dataset(
        rows,
        label=np.concatenate(grades),
        group=[len(table) for table in tables],
        feature_name=list(FEATURES),
    )
    parameters = _PARAMETERS | {"num_threads": num_threads, "seed": seed}
    booster = lightgbm.train(parameters, data, num_boost_round=_NUM_TREES)
    text: str = booster.model_to_string()
    return TrainedRanker(text, sha256=hashlib.sha256(text.encode()).hexdigest())


def _column(table: FeatureTable, name: str) -> NDArray[np.float64]:
    if name == "newness":
        return np.asarray(np.exp2(-np.maximum(0.0, _column(table, "age_days")) / 30.0))
    return table[:, FEATURES.index(name)].astype(np.float64)


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """To [0, 1] over the candidates; unknown and equal values give 0."""
    known = values[np.isfinite(values)]
    if not len(known) or known.max() <= known.min():
        return np.zeros(len(values))
    return np.asarray(np.nan_to_num((values - known.min()) / (known.max() - known.min())))
