"""HTML that people can act on: a click on `fragments.action` becomes an event of the page."""

import json
from typing import Any

import gradio as gr

from apps.theme import read_asset

__all__ = ["acting_html", "event_value"]

_LONGEST = 4000


def acting_html(value: str, *events: str, elem_id: str, scripts: tuple[str, ...] = ()) -> Any:
    """A `gr.HTML` with one event for each name in ``events``.

    Args:
        value: its first content.
        events: names of actions; the component has a listener of each name.
        elem_id: its id in the page.
        scripts: names of further scripts in the assets.
    """
    # Gradio offers a listener for every name that the script mentions in quotes
    names = f"const actions = {json.dumps(events)};\n"
    code = "\n".join(read_asset(name) for name in ("actions.js", *scripts))
    return gr.HTML(value, elem_id=elem_id, js_on_load=names + code, apply_default_css=False)


def event_value(event: gr.EventData, name: str) -> str:
    """What an action tells under ``name``; empty where it tells nothing.

    It comes from a browser, so it is a text of limited length and nothing more is known of it.
    """
    data = event._data
    value = data.get(name) if isinstance(data, dict) else None
    return value[:_LONGEST] if isinstance(value, str) else ""
