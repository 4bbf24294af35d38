"""The recommendation page: a ranked list with its reasons, which acts on every like and hide."""

import asyncio
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from uuid import uuid4

import gradio as gr

from apps.client import AsyncClient, ServiceError
from apps.client.recommend import EventKind
from apps.layouts.recommendation import RecommendLayout, lay_out_recommendation
from apps.layouts.shell import ShellLayout
from apps.phrases import Phrases, RecommendPhrases
from apps.replies.recommend import PastEvent, User
from apps.views.actions import event_value
from apps.views.fragments import explain, notice
from apps.views.ranking import history_list, ranking_facts, ranking_list
from apps.watch import ServiceWatch

__all__ = ["place_recommendation"]

_TOP_K = 12
_NUM_USERS = 200
_NUM_PAST = 12
_UPDATE = dict[Any, Any]
_Done = Mapping[str, tuple[PastEvent, ...]]


def place_recommendation(
    shell: ShellLayout, phrases: dict[str, Phrases], client: AsyncClient, watch: ServiceWatch
) -> None:
    """Puts the page into the tab that is open in Gradio's context."""
    first = next(iter(phrases.values()))
    page = lay_out_recommendation(first.recommendation)
    _Events(page, shell, phrases, client, watch).connect()


class _Events:
    """What happens when someone picks a user, moves the slider, likes or hides."""

    def __init__(
        self,
        page: RecommendLayout,
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
        asked = [page.user, page.guest, page.diversity, page.done, shell.language]
        page.user.input(self.rank, asked, page.ranked, **quiet)
        page.diversity.change(self.rank, asked, page.ranked, trigger_mode="always_last", **quiet)
        acted = [page.shown, *asked]
        page.ranking.like(self.acting("like"), acted, page.ranked, **quiet)
        page.ranking.hide(self.acting("hide"), acted, page.ranked, **quiet)
        shown = [*page.worded, *page.ranked]
        for changes in (shell.page.change, shell.offer_key.change, shell.language.change):
            changes(self.show, [shell.page, *asked], shown, **quiet)

    async def rank(
        self, user: str | None, guest: str, diversity: float, done: _Done, language: str
    ) -> _UPDATE:
        """The list for a user."""
        words = self._phrases[language].recommendation
        name = user or guest
        try:
            ranking, past = await asyncio.gather(
                self._client.recommend.rank(name, top_k=_TOP_K, diversity=diversity),
                self._client.recommend.history(name, limit=_NUM_PAST),
            )
        except ServiceError as error:
            return self._failed(error, language)
        here = done.get(name, ())
        events = here[:_NUM_PAST] if past is None else past
        is_whole = past is not None or not user
        return {
            self._page.problem: "",
            self._page.ranking: ranking_list(ranking, words),
            self._page.facts: ranking_facts(ranking, words),
            self._page.history: history_list(events, words, is_whole=is_whole),
            self._page.shown: ranking.ranking_id,
        }

    def acting(self, kind: EventKind) -> Any:
        """What tells that the user likes or hides an item, and ranks again."""

        async def act(
            shown: str,
            user: str | None,
            guest: str,
            diversity: float,
            done: _Done,
            language: str,
            event: gr.EventData,
        ) -> _UPDATE:
            name, item = user or guest, event_value(event, "item")
            position = event_value(event, "position")
            place = int(position) if position.isdigit() else 0
            try:
                await self._client.recommend.tell(
                    name, item, kind, ranking_id=shown, position=place
                )
            except ServiceError as error:
                return self._failed(error, language)
            past = PastEvent(item=item, title=event_value(event, "title"), kind=kind)
            noted = {**done, name: (past, *done.get(name, ()))}
            ranked = await self.rank(user, guest, diversity, noted, language)
            return ranked | {self._page.done: noted}

        return act

    async def show(
        self,
        opened: str,
        user: str | None,
        guest: str,
        diversity: float,
        done: _Done,
        language: str,
    ) -> _UPDATE:
        """The page in its language and for what the service offers; ranks where it is open."""
        page, words = self._page, self._phrases[language].recommendation
        offer = await self._watch.look()
        there = offer.has_recommender or not offer.is_available
        guest = guest or f"guest-{uuid4().hex[:12]}"
        worded = {
            page.absent: gr.update(
                value=notice(words.absent, words.absent_hint, kind="absent"), visible=not there
            ),
            page.content: gr.update(visible=there),
            page.diversity: gr.update(label=words.diversity, info=words.diversity_hint),
            page.title: f"<h2>{escape(words.ranking)}</h2>",
            page.guest: guest,
        }
        if opened != "recommend" or not offer.has_recommender:
            return worded
        try:
            users = await self._client.recommend.users(limit=_NUM_USERS)
        except ServiceError as error:
            return worded | self._failed(error, language)
        known = [one for one in users if one.user != guest]
        picked = _picked(user, known)
        ranked = await self.rank(picked, guest, diversity, done, language)
        return worded | ranked | {page.user: _choices(known, picked, words)}

    def _failed(self, error: ServiceError, language: str) -> _UPDATE:
        self._watch.forget()
        shown = explain(error, self._phrases[language].shell)
        return {self._page.problem: f'<p class="failed">{escape(shown)}</p>'}


def _picked(user: str | None, known: Sequence[User]) -> str:
    """Whom to rank for: who was picked, else the first there is; empty: somebody new."""
    names = [one.user for one in known]
    if user == "" or user in names or not names:
        return user or ""
    return names[0]


def _choices(known: Sequence[User], picked: str, words: RecommendPhrases) -> Any:
    named = [
        (f"{one.user} ({words.num_events.format(count=one.num_events)})", one.user) for one in known
    ]
    choices = [(words.somebody_new, ""), *named]
    return gr.update(choices=choices, value=picked, label=words.user)
