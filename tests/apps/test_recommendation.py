"""The recommendation page in a real browser."""

import pytest

from tests.apps.foreign_recommender import ForeignRecommender


@pytest.fixture
def recommender(service):
    service.recommender = ForeignRecommender()
    return service.recommender


def titles(guest):
    return guest.page.locator("#ranking .name b").all_inner_texts()


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_likes_and_hides_act_at_once(service, recommender, visit, width, height):
    with service.running():
        guest = visit("?tab=recommend", width=width, height=height)
        guest.see("#history", "Stovetop Kettle")
        guest.see("#ranking .place >> nth=0", "Coffee Grinder")
        guest.see("#ranking .place >> nth=0", "1 of 1 liked items are 'kitchen' too.")
        guest.see("#ranking .place >> nth=0", "above its popularity")
        guest.see("#ranking", "Camping <i>Lamp</i>")  # escaped, so it is read
        guest.press("Hide: Coffee Grinder", within="#ranking")
        guest.see("#history li >> nth=0", "hidden")
        guest.see("#ranking .place >> nth=0", "Cast Iron Skillet")
        assert "Coffee Grinder" not in titles(guest)
        guest.press("Like: Two-Person Tent", within="#ranking")
        guest.see("#history li >> nth=0", "Two-Person Tent")
        guest.see("#ranking", "1 of 2 liked items are 'outdoor' too.")
        assert "Two-Person Tent" not in titles(guest)
        assert guest.is_still
    told = [(e["user"], e["item"], e["kind"], e["position"]) for e in recommender.events[-2:]]
    assert told[0] == ("ann", "grinder", "hide", 0)
    assert told[1][:3] == ("ann", "tent", "like")
    assert len({event["id"] for event in recommender.events[-2:]}) == 2
    assert all(event["ranking_id"] for event in recommender.events[-2:])


def test_the_slider_spreads_the_list(service, recommender, visit):
    with service.running():
        guest = visit("?tab=recommend")
        guest.see("#ranking", "Coffee Grinder")
        slider = guest.page.locator("#diversity input[type=range]")
        slider.fill("0")
        guest.see("#ranking .place >> nth=1", "Cast Iron Skillet")
        slider.fill("1")
        guest.see("#facts .now", "0.83")
        guest.see("#facts .before", "0.67")
    assert [body["diversity"] for body in recommender.asked][-1] == 1
    assert all(body["explain"] for body in recommender.asked)


def test_somebody_new_is_told_so_until_the_first_like(service, recommender, visit):
    recommender.tells_history = False
    with service.running():
        guest = visit("?tab=recommend")
        guest.see("#history", "the service does not tell the earlier history")
        guest.page.locator("#user input").click()
        guest.page.get_by_role("option", name="Somebody new").click()
        guest.see("#facts", "Nothing is known of this person yet.")
        guest.see("#history", "Nothing yet.")
        guest.press("Like: Steel Bottle", within="#ranking")
        guest.see("#history", "Steel Bottle")
        guest.see_count("#facts .cold", 0)
        guest.see("#ranking .place >> nth=0", "Two-Person Tent")
        guest.page.locator("#user input").click()
        guest.page.get_by_role("option", name="bob (2 events)").click()
        guest.see("#ranking", "Steel Bottle")
    assert recommender.events[-1]["user"].startswith("guest-")


def test_the_page_speaks_chinese_and_goes_on_when_the_service_is_back(service, recommender, visit):
    del recommender
    guest = visit("?tab=recommend")
    guest.see("#banner", "The service is away")
    guest.choose("中文", within="#language")
    guest.see("#banner", "服务暂时不可用")
    with service.running():
        guest.see("#ranking", "Coffee Grinder")
        guest.see("#ranking", "比热门排名高")
        guest.see("#facts", "列表的多样性")
        guest.press("隐藏: Coffee Grinder", within="#ranking")
        guest.see("#history", "隐藏")
    guest.see("#status", "服务不可用")
    guest.press("喜欢: Cast Iron Skillet", within="#ranking")
    guest.see("#recommend-problem", "cannot be reached")
