"""Where everything stands on the opinion-monitor page."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from apps.desk import Desk
from apps.phrases import MonitorPhrases
from apps.turn import Turn
from apps.views.actions import acting_html

__all__ = [
    "MonitorLayout",
    "ReplayLayout",
    "bucket_choices",
    "lay_out_opinion_monitor",
    "sentiment_choices",
    "source_choices",
    "speed_choices",
]

_REFRESH_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class ReplayLayout:
    """The box that plays items into the monitor."""

    title: Any
    source: Any
    file: Any
    paste: Any
    speed: Any
    found: Any
    start: Any
    stop: Any
    progress: Any
    items: Any
    """State: what was read of a file or a text."""
    played: Any
    """State: how far the replay is."""
    turn: Any
    """State: the `Turn` of this visitor's replays."""

    @property
    def worded(self) -> list[Any]:
        """What is written in the page's language."""
        return [self.title, self.source, self.file, self.paste, self.speed, self.start, self.stop]


@dataclass(frozen=True, slots=True)
class MonitorLayout:
    """The components that events read and change."""

    absent: Any
    content: Any
    topics: Any
    bucket: Any
    figures: Any
    chart: Any
    problem: Any
    items_title: Any
    sentiment: Any
    items: Any
    more: Any
    alerts_title: Any
    alerts: Any
    disclaimer: Any
    replay: ReplayLayout
    desk: Any
    """State: the `Desk` of this visitor, changed in place."""
    timer: Any

    @property
    def drawn(self) -> list[Any]:
        """What shows the service's figures."""
        shown = [self.topics, self.figures, self.chart, self.problem, self.items_title, self.items]
        return [*shown, self.more, self.alerts]

    @property
    def worded(self) -> list[Any]:
        """What is written in the page's language, or depends on what the service offers."""
        boxes = [self.absent, self.content, self.bucket, self.sentiment]
        return [*boxes, self.alerts_title, self.disclaimer, *self.replay.worded]


def lay_out_opinion_monitor(phrases: MonitorPhrases) -> MonitorLayout:
    """The components in place; to be called within the page's tab."""
    absent = gr.HTML(visible=False, elem_classes="missing")
    with gr.Column() as content:
        with gr.Row(elem_id="topic-row"):
            topics = acting_html("", "topic", elem_id="topics")
            bucket = gr.Radio(
                bucket_choices(phrases),
                value="86400",
                label=phrases.bucket,
                show_label=False,
                container=False,
                elem_id="bucket",
                elem_classes="segments",
            )
        problem = gr.HTML("", elem_id="monitor-problem")
        with gr.Row(elem_id="monitor-main"):
            with gr.Column(scale=7, min_width=320):
                figures = gr.HTML("", elem_id="figures")
                chart = acting_html("", "window", "alert", elem_id="chart")
                with gr.Row(elem_id="items-head"):
                    items_title = acting_html("", "back", elem_id="items-title")
                    sentiment = gr.Radio(
                        sentiment_choices(phrases),
                        value="",
                        show_label=False,
                        container=False,
                        elem_id="sentiment",
                        elem_classes="segments",
                    )
                items = gr.HTML("", elem_id="items", apply_default_css=False)
                more = gr.Button(phrases.more, size="sm", visible=False, elem_id="more")
            with gr.Column(scale=4, min_width=300):
                alerts_title = gr.HTML("", elem_classes="side-title")
                alerts = acting_html("", "alert", "acknowledge", elem_id="alerts")
                replay = _lay_out_replay(phrases)
                disclaimer = gr.HTML("", elem_id="disclaimer")
    desk, timer = gr.State(Desk()), gr.Timer(_REFRESH_EVERY_S, active=False)
    return MonitorLayout(
        absent,
        content,
        topics,
        bucket,
        figures,
        chart,
        problem,
        items_title,
        sentiment,
        items,
        more,
        alerts_title,
        alerts,
        disclaimer,
        replay,
        desk,
        timer,
    )


def _lay_out_replay(phrases: MonitorPhrases) -> ReplayLayout:
    with gr.Column(elem_id="replay"):
        title = gr.HTML("", elem_classes="side-title")
        source = gr.Radio(
            source_choices(phrases),
            value="sample",
            label=phrases.source,
            show_label=False,
            container=False,
            elem_id="source",
            elem_classes="segments",
        )
        file = gr.UploadButton(
            phrases.choose_file,
            file_types=[".jsonl", ".ndjson", ".json", ".csv", ".txt"],
            size="sm",
            visible=False,
            elem_id="file",
        )
        paste = gr.Textbox(
            placeholder=phrases.paste,
            label=phrases.paste,
            show_label=False,
            lines=4,
            max_lines=8,
            max_length=1_000_000,
            visible=False,
            elem_id="paste",
        )
        found = gr.HTML("", elem_id="found")
        speed = gr.Dropdown(
            speed_choices(phrases), value="86400", label=phrases.speed, elem_id="speed"
        )
        with gr.Row():
            start = gr.Button(phrases.start, size="sm", variant="primary", elem_id="start")
            stop = gr.Button(phrases.stop, size="sm", interactive=False, elem_id="stop")
        progress = gr.HTML("", elem_id="progress")
    items, played, turn = gr.State(None), gr.State(None), gr.State(Turn())
    return ReplayLayout(
        title, source, file, paste, speed, found, start, stop, progress, items, played, turn
    )


def bucket_choices(phrases: MonitorPhrases) -> list[tuple[str, str]]:
    """Lengths of a window."""
    return [(words, seconds) for seconds, words in phrases.buckets.items()]


def sentiment_choices(phrases: MonitorPhrases) -> list[tuple[str, str]]:
    """Which items are shown."""
    return [(phrases.all_items, ""), *((words, name) for name, words in phrases.sentiments.items())]


def source_choices(phrases: MonitorPhrases) -> list[tuple[str, str]]:
    """Where the items of a replay come from."""
    return [
        (phrases.source_sample, "sample"),
        (phrases.source_file, "file"),
        (phrases.source_paste, "paste"),
    ]


def speed_choices(phrases: MonitorPhrases) -> list[tuple[str, str]]:
    """How fast they are played."""
    return [(words, speed) for speed, words in phrases.speeds.items()]
