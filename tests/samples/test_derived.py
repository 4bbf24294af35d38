"""Derived rows say what the samples they come from say, and splits stay apart."""

import pytest

from ray_sft.samples.derived import entity_rows, item_pairs, question_pairs, ranking_rows
from ray_sft.samples.generate import SEED
from ray_sft.samples.market import company_names
from ray_sft.samples.shop import interactions, items
from ray_sft.samples.support import answer_rows

SPLITS = ("train", "test")


@pytest.mark.parametrize("split", SPLITS)
def test_tags_are_bio_and_companies_are_companies(split):
    names = {name.lower().replace(" ", "") for name in company_names()}
    found = set()
    for row in entity_rows(split, seed=SEED):
        assert len(row.tokens) == len(row.tags)
        former = "O"
        name = ""
        for token, tag in zip([*row.tokens, ""], [*row.tags, "O"], strict=True):
            if tag.startswith("I-"):
                assert former[2:] == tag[2:]
                name += token
            else:
                if former.endswith("company"):
                    assert name.lower() in names
                found.add(former[2:])
                name = token
            former = tag
    assert found == {"", "company", "money", "share"}


def test_a_ranking_row_knows_nothing_of_what_came_later():
    titles = {item.item_id: f"{item.title} ({item.category})" for item in items()}
    liked: dict[str, list[str]] = {}
    for event in interactions(seed=SEED):
        if event.event in ("like", "purchase"):
            liked.setdefault(event.user_id, []).append(titles[event.item_id])
    seen: dict[str, int] = {}
    rows = [row for split in SPLITS for row in ranking_rows(split, seed=SEED)]
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert (one.label, other.label) == (1, 0)
        place = seen.get(one.user, 0)
        assert one.candidate == liked[one.user][place]
        assert one.history == other.history == liked[one.user][max(0, place - 4) : place]
        assert other.candidate not in liked[one.user][: place + 1]
        seen[one.user] = place + 1


@pytest.mark.parametrize("split", SPLITS)
def test_a_question_belongs_to_its_own_approved_one(split):
    approved = {row.question for row in answer_rows()}
    for row in question_pairs(split, seed=SEED):
        assert row.positive in approved
        assert len(set(row.negatives) | {row.positive}) == 3
        assert approved.issuperset(row.negatives)


def test_items_are_split_once():
    texts = [[row.text for row in item_pairs(split, seed=SEED)] for split in SPLITS]
    assert len(texts[0]) + len(texts[1]) == len(items())
    assert not set(texts[0]) & set(texts[1])
