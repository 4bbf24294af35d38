"""The three pages at one address, as tabs under one header.

The pages hold no model and no key that a browser could see; everything they show comes from the
service over HTTP. They keep looking for the service and say so when it is away.
"""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from apps.client import AsyncClient
from apps.customer_service import place_customer_service
from apps.layouts.shell import PAGE_IDS, ShellLayout, lay_out_shell, page_words
from apps.opinion_monitor import place_opinion_monitor
from apps.phrases import Phrases, load_phrases
from apps.recommendation import place_recommendation
from apps.views.fragments import banner, header, status_pill
from apps.watch import ServiceWatch

__all__ = ["build_pages"]

_LOOK_EVERY_S = 2.0
_ASKED = "(page, language) => [new URLSearchParams(location.search).get('tab') ?? page, language]"
"""The page that the address asks for; the parameter ``page`` is Gradio's own."""
_OPENED = """(page, language) => {
  const isFirst = !window.wasOpened;
  window.wasOpened = true;
  // Gradio selects its first tab before it selects the one that was asked for
  if (isFirst) return [new URLSearchParams(location.search).get('tab') ?? page, language];
  history.replaceState(null, '', '?tab=%s');
  return ['%s', language];
}"""
"""The page that was opened, which is put into the address for reloads and bookmarks."""
_UPDATE = dict[Any, Any]


def build_pages(client: AsyncClient) -> gr.Blocks:
    """The pages as Gradio blocks, not yet served; they ask the service of ``client``."""
    phrases = load_phrases()
    first = next(iter(phrases.values()))
    watch = ServiceWatch(client)
    with gr.Blocks(title="ray-sft", analytics_enabled=False, fill_width=True) as blocks:
        shell = lay_out_shell(phrases)
        places = (place_customer_service, place_opinion_monitor, place_recommendation)
        tabs = []
        with gr.Tabs(elem_id="pages", overflow_behavior="wrap") as group:
            for page, place in zip(PAGE_IDS, places, strict=True):
                title, _ = page_words(page, first)
                with gr.Tab(title, id=page, elem_id=f"page-{page}", render_children=True) as tab:
                    place(shell, phrases, client, watch)
                tabs.append(tab)
        _Events(shell, group, tabs, phrases, watch).connect(blocks)
    # every open page holds a slot only while it is answered; the rest wait, and then are refused
    blocks.queue(default_concurrency_limit=16, max_size=64, api_open=False)
    return blocks


class _Events:
    """What happens when someone opens a page, changes the language, or just waits."""

    def __init__(
        self,
        shell: ShellLayout,
        group: Any,
        tabs: Sequence[Any],
        phrases: dict[str, Phrases],
        watch: ServiceWatch,
    ) -> None:
        self._shell = shell
        self._group = group
        self._tabs = tabs
        self._phrases = phrases
        self._watch = watch

    def connect(self, blocks: gr.Blocks) -> None:
        """Attaches everything to the page; nothing of it is a public endpoint."""
        shell = self._shell
        quiet = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        looked_at = [shell.status, shell.banner, shell.offer_key]
        blocks.load(self.look, shell.language, looked_at, **quiet)
        known, opened = [shell.page, shell.language], [shell.page, shell.header]
        blocks.load(self.open_asked, known, self._group, js=_ASKED, **quiet)
        gr.Timer(_LOOK_EVERY_S).tick(self.look, shell.language, looked_at, **quiet)
        shell.language.change(
            self.translate,
            [shell.language, shell.page],
            [shell.header, *self._tabs, shell.status, shell.banner, shell.offer_key],
            **quiet,
        )
        for page, tab in zip(PAGE_IDS, self._tabs, strict=True):
            tab.select(self.open, known, opened, js=_OPENED % (page, page), **quiet)

    async def look(self, language: str) -> _UPDATE:
        """How the service is."""
        phrases = self._phrases[language].shell
        offer = await self._watch.look()
        return {
            self._shell.status: status_pill(offer, phrases),
            self._shell.banner: gr.update(
                value=banner(offer, phrases), visible=not offer.is_available
            ),
            self._shell.offer_key: offer.key,
        }

    def open_asked(self, asked: str, language: str) -> Any:
        """Selects the tab of the page that the address asks for."""
        del language
        return gr.update(selected=_known(asked))

    def open(self, asked: str, language: str) -> _UPDATE:
        """The header of the page whose tab was selected."""
        page = _known(asked)
        words = page_words(page, self._phrases[language])
        return {self._shell.page: page, self._shell.header: header(*words)}

    async def translate(self, language: str, page: str) -> _UPDATE:
        """The header and the tabs in another language."""
        phrases = self._phrases[language]
        labels = [page_words(name, phrases)[0] for name in PAGE_IDS]
        tabs = {tab: gr.update(label=label) for tab, label in zip(self._tabs, labels, strict=True)}
        shown = {self._shell.header: header(*page_words(page, phrases))}
        return {**shown, **tabs, **(await self.look(language))}


def _known(page: str) -> str:
    return page if page in PAGE_IDS else PAGE_IDS[0]
