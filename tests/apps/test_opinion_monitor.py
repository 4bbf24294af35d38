"""The opinion-monitor page in a real browser."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.apps.foreign_monitor import ForeignMonitor

START = datetime(2025, 3, 3, 9, tzinfo=UTC)


def items(topic, days, *, text="<b>news</b> without a mood", per_day=2, start=START):
    return [
        {
            "id": f"{topic}-{text}-{day}-{number}",
            "time": (start + timedelta(days=day, minutes=number)).isoformat(),
            "text": f"{text} {day}-{number}",
            "topics": [topic],
        }
        for day in days
        for number in range(per_day)
    ]


@pytest.fixture
def monitor(service):
    """Thirty days of two topics; chips have a bad day, the 20th of March."""
    service.monitor = ForeignMonitor()
    service.monitor.add(items("chips", range(30)))
    service.monitor.add(items("airlines", range(15), text="good", per_day=1))
    service.monitor.add(items("chips", [17], text="bad", per_day=10))
    return service.monitor


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_an_alert_leads_to_its_items_and_is_acknowledged(service, monitor, visit, width, height):
    with service.running():
        guest = visit("?tab=monitor", width=width, height=height)
        guest.see("#topics [aria-pressed='true']", "chips701")  # name, items, open alerts
        guest.see("#figures", "1 Apr 09:01")
        guest.see("#chart", "Net sentiment (share positive − share negative)")
        guest.see("#items", "<b>news</b> without a mood 29-1")  # escaped, so it is read
        guest.see_count("#items .item", 10)
        guest.see("#alerts", "10 of 12 items negative. 83% negative, 28% is usual.")
        guest.page.locator("#alerts .show").click()
        guest.see("#items-title", "chips, 20 Mar")
        guest.see("#items", "bad 17-9")
        guest.choose("Negative", within="#sentiment")
        guest.see_count("#items .feeling.negative", 10)
        guest.press("Acknowledge", within="#alerts")
        guest.see("#alerts", "Acknowledged")
        guest.see_count("#topics .badge", 0)
        guest.see_count("#chart .flag.known", 1)
        assert monitor.acknowledged == {
            f"chips/{datetime(2025, 3, 20, tzinfo=UTC).timestamp():.0f}"
        }
        assert guest.is_still


def test_a_window_is_drilled_into_and_left_again(service, monitor, visit):
    del monitor
    with service.running():
        guest = visit("?tab=monitor")
        guest.see_count("#chart .column", 30)
        columns = guest.page.locator("#chart .column")
        columns.nth(0).focus()
        guest.page.keyboard.press("ArrowRight")  # as a person without a mouse does it
        guest.page.keyboard.press("Enter")
        guest.see("#items-title", "chips, 4 Mar")
        guest.see_count("#items .item", 2)
        guest.see_count("#chart .selected", 1)
        guest.press("Show the latest")
        guest.see("#items-title", "Latest items: chips")
        guest.press("Show more", within="#page-monitor")
        guest.see_count("#items .item", 20)
        guest.choose("1 week", within="#bucket")
        guest.see_count("#chart .column", 5)
        guest.page.locator("#topics .topic", has_text="airlines").click()
        guest.see("#items-title", "Latest items: airlines")
        guest.see("#figures .positive", "+1.00")


def test_the_page_follows_the_stream_and_the_service(service, monitor, visit):
    with service.running():
        guest = visit("?tab=monitor")
        guest.see("#figures", "70")
        monitor.add(items("chips", [30], per_day=3))
        guest.see("#figures", "73")
        guest.see("#items", "30-2")
    guest.see("#banner", "The service is away")
    guest.see("#figures", "73")  # what was seen stays
    monitor.add(items("chips", [31], per_day=2))
    with service.running():
        guest.miss("#banner")
        guest.see("#figures", "75")


def test_the_sample_is_played_in_faster_than_it_happened(service, visit):
    service.monitor = ForeignMonitor(busy_for=2)
    with service.running():
        guest = visit("?tab=monitor")
        guest.see("#chart", "Nothing has come in yet.")
        guest.see("#found", "Items found: 1500, 3 Mar 02:49 - 1 May 23:29")
        guest.press("Start")
        guest.see("#progress", " of 1500 sent")
        guest.see("#topics", "chips")  # the chart follows while it plays
        guest.press("Stop", within="#replay")
        guest.see("#progress", "Stopped. What was sent stays.")
        played = len(service.monitor.items)
        assert 0 < played < 1500
        guest.page.locator("#speed input").click()
        guest.page.get_by_role("option", name="As fast as it goes").click()
        guest.press("Start")
        guest.see("#progress", f"1500 of 1500 sent: {1500 - played} new, {played} known, 0 refused")
        guest.see("#progress", "Done.")


def test_a_file_and_a_text_are_played_in(service, visit, tmp_path):
    service.monitor = ForeignMonitor()
    rows = [{"id": f"{n}", "time": "2026-01-05T10:00:00Z", "text": f"good {n}"} for n in range(3)]
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    with service.running():
        guest = visit("?tab=monitor", width=390, height=844)
        guest.choose("File", within="#source")
        with guest.page.expect_file_chooser() as chooser:
            guest.press("Choose a JSONL or CSV file")
        chooser.value.set_files(file)
        guest.see("#found", "Items found: 3, 5 Jan 10:00")
        guest.press("Start")
        guest.see("#progress", "3 of 3 sent: 3 new, 0 known, 0 refused")
        guest.choose("Paste", within="#source")
        guest.page.locator("#paste textarea").fill(
            "id,time,text,topics\nx,2026-01-05T11:00:00Z,refuse <b>this</b>,a;b\n,,no id,\n"
        )
        guest.see("#found", "Items found: 1")
        guest.see("#found", "1 left out: line 3: 'id': Field required")
        guest.press("Start")
        guest.see("#progress", "1 of 1 sent: 0 new, 0 known, 1 refused")
        guest.see("#progress", "text: cannot be read.")
        guest.see("#topics", "other")
        assert guest.is_still


def test_the_page_speaks_chinese(service, monitor, visit):
    del monitor
    with service.running():
        guest = visit("?tab=monitor")
        guest.see("#topics", "chips")
        guest.choose("中文", within="#language")
        guest.see("#header", "舆情监测")
        guest.see("#figures", "未处理警报")
        guest.see("#chart", "净情绪（正面占比 − 负面占比）")
        guest.see("#alerts", "负面声音激增")
        guest.see("#alerts", "12 条中有 10 条负面。 负面占 83%，平常为 28%。")
        guest.see("#items", "中性")
        guest.see("#replay", "回放数据")
        guest.press("确认", within="#alerts")
        guest.see("#alerts", "已确认")
