"""`/v1/recommend/...` as a client sees it."""

import httpx
import pytest

from serve.recommend.schema import RankReply

from .conftest import client_of, shop_items

pytestmark = pytest.mark.asyncio


async def rank(client: httpx.AsyncClient, **body) -> dict:
    reply = await client.post("/v1/recommend/rank", json=body)
    assert reply.status_code == 200, reply.text
    RankReply.model_validate(reply.json())
    return reply.json()


async def tell(client: httpx.AsyncClient, *events: dict) -> dict:
    reply = await client.post("/v1/recommend/events", json={"events": list(events)})
    assert reply.status_code == 200, reply.text
    return reply.json()


def ids(ranking: dict) -> list[str]:
    return [item["id"] for item in ranking["items"]]


async def test_a_ranking_is_whole(shop: httpx.AsyncClient):
    ranking = await rank(shop, user="user-064", top_k=5)
    assert not ranking["cold_start"]
    assert ranking["ranker"] == "weights"
    assert [item["rank"] for item in ranking["items"]] == [1, 2, 3, 4, 5]
    assert len(set(ids(ranking))) == 5
    for item in ranking["items"]:
        assert item["score"] == pytest.approx(sum(item["contributions"].values()))
        assert item["text_score"] == item["features"]["text_profile"]
        assert 1 <= item["rank_by_popularity"] <= ranking["num_candidates"]
    assert any(item["reasons"] for item in ranking["items"])
    short = await rank(shop, user="user-064", top_k=5, explain=False)
    assert ids(short) == ids(ranking)
    assert all(not item["reasons"] and not item["features"] for item in short["items"])


async def test_a_stranger_gets_what_is_popular_and_is_told_so(shop: httpx.AsyncClient):
    for body in ({}, {"user": "nobody"}):
        ranking = await rank(shop, **body, diversity=0.0)
        assert ranking["cold_start"]
        assert ranking["ranker"] == "weights"
        assert [item["rank_by_popularity"] for item in ranking["items"]] == list(range(1, 11))
        assert {r["kind"] for item in ranking["items"] for r in item["reasons"]} == {"popular"}


async def test_a_hide_acts_at_once_and_a_like_takes_it_back(shop: httpx.AsyncClient):
    before = await rank(shop, user="user-064")
    first = ids(before)[0]
    await tell(shop, {"id": "h1", "user": "user-064", "item": first, "kind": "hide"})
    for seen in (True, False):
        assert first not in ids(await rank(shop, user="user-064", exclude_seen=seen, top_k=100))
    only = await rank(shop, user="user-064", candidates=[first])
    assert only["items"] == []
    await tell(shop, {"id": "l1", "user": "user-064", "item": first, "kind": "like"})
    again = await rank(shop, user="user-064", candidates=[first], exclude_seen=False)
    assert ids(again) == [first]


async def test_a_like_changes_the_next_ranking(shop: httpx.AsyncClient):
    cold = await rank(shop, user="zoe")
    await tell(shop, {"id": "z1", "user": "zoe", "item": "item-001", "kind": "like"})
    warm = await rank(shop, user="zoe")
    assert cold["cold_start"]
    assert not warm["cold_start"]
    assert ids(warm) != ids(cold)
    assert "item-001" not in ids(warm)
    kinds = {reason["kind"] for item in warm["items"] for reason in item["reasons"]}
    assert kinds & {"category", "similar", "together"}


async def test_a_history_stands_for_a_user_who_is_not_stored(shop: httpx.AsyncClient):
    ranking = await rank(shop, history=["item-001"])
    assert not ranking["cold_start"]
    await tell(shop, {"id": "z1", "user": "zoe", "item": "item-001", "kind": "like"})
    stored = await rank(shop, user="zoe")
    assert set(ids(ranking)) & set(ids(stored))


async def test_candidates_and_seen_items_are_heeded(shop: httpx.AsyncClient):
    wanted = ["item-003", "item-001", "item-002"]
    ranking = await rank(shop, user="zoe", candidates=wanted)
    assert sorted(ids(ranking)) == sorted(wanted)
    assert ranking["num_candidates"] == 3
    await tell(shop, {"id": "z1", "user": "zoe", "item": "item-002", "kind": "click"})
    await tell(shop, {"id": "z2", "user": "zoe", "item": "item-003", "kind": "impression"})
    ranking = await rank(shop, user="zoe", candidates=wanted)
    assert sorted(ids(ranking)) == ["item-001", "item-003"]
    ranking = await rank(shop, user="zoe", candidates=wanted, exclude_seen=False)
    assert sorted(ids(ranking)) == sorted(wanted)
    assert (await rank(shop, candidates=[]))["items"] == []


async def test_diversity_makes_the_list_more_diverse(shop: httpx.AsyncClient):
    pure = await rank(shop, user="user-064", diversity=0.0)
    assert [item["rank_by_relevance"] for item in pure["items"]] == list(range(1, 11))
    assert pure["intra_list_diversity"] == pytest.approx(pure["baseline_diversity"])
    mixed = await rank(shop, user="user-064", diversity=0.9)
    assert mixed["baseline_diversity"] == pytest.approx(pure["baseline_diversity"])
    assert mixed["intra_list_diversity"] > pure["intra_list_diversity"]


async def test_events_are_kept_once_and_bad_ones_alone_are_refused(shop: httpx.AsyncClient):
    good = {"id": "g", "user": "zoe", "item": "item-001", "kind": "like"}
    bad = [
        good | {"id": "b1", "item": "nothing"},
        good | {"id": "b2", "kind": "love"},
        good | {"id": "b3", "kind": "rating"},
        good | {"id": "b4", "time": "2999-01-01T00:00:00Z"},
        good | {"id": "b5", "time": "2020-01-01T00:00:00"},
        good | {"id": "b6", "user": ""},
        good | {"id": "b7", "colour": "red"},
        good | {"id": "b\u0000"},
        {},
    ]
    reply = await tell(shop, *bad[:4], good, *bad[4:], good)
    assert (reply["accepted"], reply["duplicates"]) == (1, 1)
    assert [r["index"] for r in reply["rejected"]] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    said = " | ".join(r["reason"] for r in reply["rejected"])
    for part in ("'nothing' is not in", "'love'", "needs a value", "future", "timezone", "colour"):
        assert part in said
    assert await tell(shop, good) == {"accepted": 0, "duplicates": 1, "rejected": []}


async def test_users_are_listed_and_forgotten(shop: httpx.AsyncClient):
    event = {"user": "zoe/a b", "item": "item-001", "kind": "like"}
    await tell(shop, {"id": "1", **event}, {"id": "2", **event})
    await rank(shop, user="zoe/a b")
    reply = await shop.get("/v1/recommend/users", params={"limit": 1})
    (first,) = reply.json()["users"]
    assert (first["user"], first["num_events"]) == ("zoe/a b", 2)
    path = "/v1/recommend/users/zoe%2Fa%20b"
    (last,) = (await shop.get(f"{path}/events", params={"limit": 1})).json()["events"]
    assert (last["id"], last["item"], last["kind"]) == ("2", "item-001", "like")
    assert last["title"] == shop_items()[0]["title"]
    reply = await shop.delete(path)
    assert reply.json() == {"user": "zoe/a b", "events": 2, "rankings": 1}
    assert (await shop.get(f"{path}/events")).json()["events"] == []
    assert (await rank(shop, user="zoe/a b"))["cold_start"]
    users = (await shop.get("/v1/recommend/users", params={"limit": 1000})).json()["users"]
    assert "zoe/a b" not in [user["user"] for user in users]


async def test_items_are_listed_page_by_page(shop: httpx.AsyncClient):
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        params = {"limit": 40, "cursor": cursor}
        page = (await shop.get("/v1/recommend/items", params=params)).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == sorted(item["id"] for item in shop_items())
    params = {"query": "KETTLE"}
    page = (await shop.get("/v1/recommend/items", params=params)).json()
    assert page["items"]
    assert all("kettle" in item["title"].lower() for item in page["items"])


async def test_training_and_status_tell_the_figures(shop: httpx.AsyncClient):
    reply = await shop.post("/v1/recommend/train")
    assert reply.status_code == 200, reply.text
    outcome = reply.json()
    assert set(outcome["figures"]) == {"ranker", "weights", "popularity", "item_knn"}
    status = (await shop.get("/v1/recommend/status")).json()
    assert status["last_training"] == outcome
    assert status["ranker"] == outcome["ranker"]
    assert (status["items"], status["events"]) == (150, 2500)
    assert status["database"] == "sqlite"
    assert (await rank(shop, user="user-064"))["ranker"] == outcome["ranker"]
    assert (await rank(shop))["ranker"] == "weights"


async def test_nothing_is_asked_of_an_empty_recommender_in_vain(client: httpx.AsyncClient):
    ranking = await rank(client, user="zoe")
    assert ranking["items"] == []
    assert ranking["cold_start"]
    outcome = (await client.post("/v1/recommend/train")).json()
    assert outcome["ranker"] == "weights"
    assert "Send more events" in outcome["reason"]
    status = (await client.get("/v1/recommend/status")).json()
    assert (status["items"], status["events"], status["users"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("rank", {"candidates": ["x"]}, "unknown_item", "candidates"),
        ("rank", {"history": ["x"]}, "unknown_item", "history"),
        ("rank", {"top_k": 0}, "invalid_value", "top_k"),
        ("rank", {"diversity": 1.5}, "invalid_value", "diversity"),
        ("rank", {"k": 5}, "unsupported_parameter", "k"),
        ("rank", {"candidates": ["x"] * 1001}, "too_many_entries", "candidates"),
        ("events", {"events": []}, "invalid_value", "events"),
        ("events", {"events": [{}] * 1001}, "too_many_entries", "events"),
        ("items", {"items": [{"id": "a"}]}, "invalid_value", "items.0.title"),
        ("items", {"items": [{"id": "a", "title": " "}]}, "invalid_value", "items.0.title"),
        ("items", {"items": [{"id": "a\n", "title": "t"}]}, "invalid_value", "items.0.id"),
        ("items", {"items": [{"id": "a", "title": "t\u0000"}]}, "invalid_value", "items.0.title"),
    ],
)
async def test_a_bad_request_is_explained(client: httpx.AsyncClient, path, body, code, param):
    reply = await client.post(f"/v1/recommend/{path}", json=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == (code, param)


async def test_the_interface_is_described(opened):
    async with client_of(await opened()) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert set(paths["/v1/recommend/items"]) == {"get", "put", "post"}
    body = paths["/v1/recommend/events"]["post"]["requestBody"]["content"]["application/json"]
    assert "ranking_id" in body["schema"]["properties"]["events"]["items"]["properties"]
