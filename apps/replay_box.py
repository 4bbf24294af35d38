"""The box that plays items into the monitor: a file, a text, or the sample."""

from collections.abc import AsyncIterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from apps.client import AsyncClient, ServiceError
from apps.item_files import ReadItems, market_sample, read_items
from apps.layouts.opinion_monitor import ReplayLayout, source_choices, speed_choices
from apps.layouts.shell import ShellLayout
from apps.phrases import MonitorPhrases, Phrases
from apps.replay import Progress, replay
from apps.turn import Turn
from apps.views.fragments import explain
from apps.views.replay import found_items, progress_line

__all__ = ["connect_replay", "replay_words"]

_UPDATE = dict[Any, Any]


def connect_replay(
    box: ReplayLayout, shell: ShellLayout, phrases: dict[str, Phrases], client: AsyncClient
) -> None:
    """Attaches everything to the box; nothing of it is a public endpoint."""
    events = _Events(box, phrases, client)
    shown = {"show_progress": "hidden", "api_visibility": "private"}
    quiet = {**shown, "queue": False}
    found = [box.items, box.found, box.start]
    chosen = [box.source, box.file, box.paste, *found]
    box.source.input(events.choose, [box.source, shell.language], chosen, **quiet)
    box.file.upload(events.read_file, [box.file, shell.language], found, **quiet)
    box.paste.change(events.read_paste, [box.source, box.paste, shell.language], found, **quiet)
    running = [box.start, box.stop, box.progress, box.played]
    playing = box.start.click(
        events.play, [box.source, box.items, box.speed, box.turn, shell.language], running, **shown
    )
    box.stop.click(
        events.halt, [box.played, box.turn, shell.language], running, cancels=[playing], **quiet
    )
    for changes in (shell.language.change, shell.offer_key.change):
        changes(events.translate, [box.source, box.items, shell.language], box.found, **quiet)


def replay_words(box: ReplayLayout, phrases: MonitorPhrases) -> _UPDATE:
    """What is written on the box."""
    title = f"<h2>{escape(phrases.replay)}</h2><p>{escape(phrases.replay_hint)}</p>"
    return {
        box.title: title,
        box.source: gr.update(choices=source_choices(phrases), label=phrases.source),
        box.file: gr.update(label=phrases.choose_file),
        box.paste: gr.update(placeholder=phrases.paste, label=phrases.paste),
        box.speed: gr.update(choices=speed_choices(phrases), label=phrases.speed),
        box.start: gr.update(value=phrases.start),
        box.stop: gr.update(value=phrases.stop),
    }


class _Events:
    """What happens when someone chooses items, plays them, or stops."""

    def __init__(self, box: ReplayLayout, phrases: dict[str, Phrases], client: AsyncClient) -> None:
        self._box = box
        self._phrases = phrases
        self._client = client

    async def choose(self, source: str, language: str) -> _UPDATE:
        """Another source; what was read before is forgotten."""
        box = self._box
        return {
            box.file: gr.update(visible=source == "file", value=None),
            box.paste: gr.update(visible=source == "paste", value=""),
            **self._found(None, source, language),
        }

    def read_file(self, path: str | None, language: str) -> _UPDATE:
        """The items of a file, which is then deleted."""
        if path is None:
            return dict(gr.skip())
        file = Path(path)
        text = file.read_text(encoding="utf-8", errors="replace")
        file.unlink(missing_ok=True)
        return self._found(read_items(text), "file", language)

    def read_paste(self, source: str, text: str, language: str) -> _UPDATE:
        """The items of a text."""
        if source != "paste":  # it was emptied, not written in
            return dict(gr.skip())
        return self._found(read_items(text) if text.strip() else None, "paste", language)

    async def play(
        self, source: str, read: ReadItems | None, speed: str, turn: Turn, language: str
    ) -> AsyncIterator[_UPDATE]:
        """Sends the items as their time comes."""
        box, words = self._box, self._phrases[language].opinion_monitor
        if source == "sample":
            read = market_sample()
        if read is None or not read.items:
            yield {box.progress: progress_line(None, words, note=words.nothing_found)}
            return
        yield {box.start: gr.update(interactive=False), box.stop: gr.update(interactive=True)}
        progress, mine = Progress(len(read.items)), turn.take()
        # a replay is more patient than the client, and must not multiply its attempts
        send = self._client.with_options(max_attempts=1).monitor.post
        note = words.done
        try:
            async for progress in replay(read.items, send, speed=float(speed)):
                if turn.is_over(mine):
                    break
                yield {box.progress: progress_line(progress, words), box.played: progress}
        except ServiceError as error:
            note = f"{words.broken} {explain(error, self._phrases[language].shell)}"
        if turn.is_over(mine):
            yield gr.skip()
            return
        turn.give_back()
        yield self._ended(progress_line(progress, words, note=note))

    async def halt(self, played: Progress | None, turn: Turn, language: str) -> _UPDATE:
        """Sends no more; what was sent stays."""
        turn.give_back()
        words = self._phrases[language].opinion_monitor
        return self._ended(progress_line(played, words, note=words.halted))

    async def translate(self, source: str, read: ReadItems | None, language: str) -> str:
        """What was found, in another language."""
        return found_items(_shown(read, source), self._phrases[language].opinion_monitor)

    def _found(self, read: ReadItems | None, source: str, language: str) -> _UPDATE:
        shown = found_items(_shown(read, source), self._phrases[language].opinion_monitor)
        return {self._box.items: read, self._box.found: shown}

    def _ended(self, shown: str) -> _UPDATE:
        return {
            self._box.start: gr.update(interactive=True),
            self._box.stop: gr.update(interactive=False),
            self._box.progress: shown,
        }


def _shown(read: ReadItems | None, source: str) -> ReadItems | None:
    return market_sample() if source == "sample" else read
