"""The opinion-monitor page: topics, a chart that follows the stream, alerts, and their items."""

from html import escape
from typing import Any

import gradio as gr

from apps.client import AsyncClient, ServiceError
from apps.desk import Desk, Span
from apps.figures import Figures, fetch_figures, fetch_items
from apps.layouts.opinion_monitor import (
    MonitorLayout,
    bucket_choices,
    lay_out_opinion_monitor,
    sentiment_choices,
)
from apps.layouts.shell import ShellLayout
from apps.phrases import Phrases
from apps.replay_box import connect_replay, replay_words
from apps.views.actions import event_value
from apps.views.chart import opinion_chart
from apps.views.fragments import explain, notice
from apps.views.opinions import alert_list, figures, item_list, items_heading, topic_list
from apps.watch import ServiceWatch

__all__ = ["place_opinion_monitor"]

_UPDATE = dict[Any, Any]


def place_opinion_monitor(
    shell: ShellLayout, phrases: dict[str, Phrases], client: AsyncClient, watch: ServiceWatch
) -> None:
    """Puts the page into the tab that is open in Gradio's context."""
    first = next(iter(phrases.values()))
    page = lay_out_opinion_monitor(first.opinion_monitor)
    _Events(page, shell, phrases, client, watch).connect()
    connect_replay(page.replay, shell, phrases, client)


class _Events:
    """What happens when someone picks a topic or a window, acknowledges, or just waits."""

    def __init__(
        self,
        page: MonitorLayout,
        shell: ShellLayout,
        phrases: dict[str, Phrases],
        client: AsyncClient,
        watch: ServiceWatch,
    ) -> None:
        self._page = page
        self._shell = shell
        self._phrases = phrases
        self._client = client
        self._watch = watch

    def connect(self) -> None:
        """Attaches everything to the page; nothing of it is a public endpoint."""
        page, shell = self._page, self._shell
        quiet = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        known = [page.desk, shell.language]
        for event, handle in (
            (page.topics.topic, self.pick_topic),
            (page.chart.window, self.pick_window),
            (page.chart.alert, self.pick_alert),
            (page.alerts.alert, self.pick_alert),
            (page.alerts.acknowledge, self.acknowledge),
            (page.items_title.back, self.back),
            (page.more.click, self.show_more),
        ):
            event(handle, known, page.drawn, **quiet)
        page.bucket.input(self.pick_bucket, [page.bucket, *known], page.drawn, **quiet)
        page.sentiment.input(self.pick_sentiment, [page.sentiment, *known], page.drawn, **quiet)
        page.timer.tick(self.refresh, known, page.drawn, trigger_mode="once", **quiet)
        shown = [*page.worded, *page.drawn]
        for changes in (shell.language.change, shell.offer_key.change):
            changes(self.show, known, shown, **quiet)
        shell.page.change(self.open, [shell.page, *known], [page.timer, *page.drawn], **quiet)

    async def open(self, opened: str, desk: Desk, language: str) -> _UPDATE:
        """Refreshes only while the page is open."""
        is_open = opened == "monitor"
        offer = await self._watch.look()
        drawn = await self._draw(desk, language) if is_open and offer.has_monitor else {}
        return {self._page.timer: gr.update(active=is_open), **drawn}

    async def refresh(self, desk: Desk, language: str) -> _UPDATE:
        """The figures, where they have changed."""
        offer = await self._watch.look()
        if not offer.has_monitor:
            return dict(gr.skip())
        return await self._draw(desk, language)

    async def pick_topic(self, desk: Desk, language: str, event: gr.EventData) -> _UPDATE:
        """Another topic, from its beginning."""
        desk.topic, desk.span = event_value(event, "topic"), None
        desk.renew()
        return await self._draw(desk, language)

    async def pick_bucket(self, bucket: str, desk: Desk, language: str) -> _UPDATE:
        """Windows of another length."""
        desk.bucket_s, desk.span = int(bucket), None
        desk.renew()
        return await self._draw(desk, language)

    async def pick_sentiment(self, sentiment: str, desk: Desk, language: str) -> _UPDATE:
        """Items of one sentiment only."""
        desk.sentiment = sentiment
        desk.renew()
        return await self._draw(desk, language)

    async def pick_window(self, desk: Desk, language: str, event: gr.EventData) -> _UPDATE:
        """The items of a window; pressed again, the latest ones."""
        picked = Span.parse(event_value(event, "start"), event_value(event, "end"))
        desk.span = None if picked == desk.span else picked
        desk.renew()
        return await self._draw(desk, language)

    async def pick_alert(self, desk: Desk, language: str, event: gr.EventData) -> _UPDATE:
        """The topic of an alert, and its items."""
        wanted = event_value(event, "id")
        try:
            alerts = await self._client.monitor.alerts()
        except ServiceError as error:
            return self._failed(error, language)
        for alert in alerts:
            if alert.id == wanted:
                desk.topic, desk.span = alert.topic, Span(alert.start, alert.end)
                desk.renew()
        return await self._draw(desk, language)

    async def acknowledge(self, desk: Desk, language: str, event: gr.EventData) -> _UPDATE:
        """Marks an alert as seen."""
        try:
            await self._client.monitor.acknowledge(event_value(event, "id"))
        except ServiceError as error:
            return self._failed(error, language)
        return await self._draw(desk, language)

    async def back(self, desk: Desk, language: str) -> _UPDATE:
        """The latest items again."""
        desk.span = None
        desk.renew()
        return await self._draw(desk, language)

    async def show_more(self, desk: Desk, language: str) -> _UPDATE:
        """The next page of items below those that are shown."""
        version = desk.version
        try:
            page = await fetch_items(self._client.monitor, desk)
        except ServiceError as error:
            return self._failed(error, language)
        if desk.version != version:
            return dict(gr.skip())
        desk.extend(page)
        return self._items_shown(desk, language)

    async def show(self, desk: Desk, language: str) -> _UPDATE:
        """The page in its language and for what the service offers."""
        page, words = self._page, self._phrases[language].opinion_monitor
        offer = await self._watch.look()
        there = offer.has_monitor or not offer.is_available
        desk.renew()
        drawn = await self._draw(desk, language) if offer.has_monitor else {}
        return {
            page.absent: gr.update(
                value=notice(words.absent, words.absent_hint, kind="absent"), visible=not there
            ),
            page.content: gr.update(visible=there),
            page.bucket: gr.update(choices=bucket_choices(words), label=words.bucket),
            page.sentiment: gr.update(choices=sentiment_choices(words)),
            page.alerts_title: f"<h2>{escape(words.alerts)}</h2>",
            page.disclaimer: f"<p>{escape(words.disclaimer)}</p>",
            **replay_words(page.replay, words),
            **drawn,
        }

    async def _draw(self, desk: Desk, language: str) -> _UPDATE:
        """The figures for what is looked at; nothing where they are as they were."""
        version = desk.version
        try:
            told = await fetch_figures(self._client.monitor, desk)
        except ServiceError as error:
            return self._failed(error, language)
        if told is None or desk.version != version:
            return {self._page.problem: ""}
        desk.drawn = (told.topics, told.alerts)
        if told.topic is not None:
            desk.topic = told.topic.topic
        if told.items is not None:
            desk.put(told.items)
        return self._drawn(told, desk, language)

    def _drawn(self, told: Figures, desk: Desk, language: str) -> _UPDATE:
        page, words = self._page, self._phrases[language].opinion_monitor
        common = {
            page.problem: "",
            page.topics: topic_list(told.topics, told.alerts, words, chosen=desk.topic),
            page.alerts: alert_list(told.alerts, words),
        }
        if told.topic is None or told.windows is None:
            empty = notice(words.nothing_yet, words.nothing_yet_hint, kind="absent")
            return common | {page.chart: empty, page.figures: ""}
        alerts = [alert for alert in told.alerts if alert.topic == desk.topic]
        return {
            **common,
            page.figures: figures(told.topic, alerts, words),
            page.chart: opinion_chart(told.windows, alerts, words, selected=desk.span),
            **self._items_shown(desk, language),
        }

    def _items_shown(self, desk: Desk, language: str) -> _UPDATE:
        page, words = self._page, self._phrases[language].opinion_monitor
        return {
            page.items_title: items_heading(desk, words),
            page.items: item_list(desk.items, words),
            page.more: gr.update(value=words.more, visible=desk.cursor is not None),
        }

    def _failed(self, error: ServiceError, language: str) -> _UPDATE:
        self._watch.forget()
        shown = explain(error, self._phrases[language].shell)
        return {self._page.problem: f'<p class="failed">{escape(shown)}</p>'}
