"""The look of the pages: one accent, and only fonts that the machine has."""

from pathlib import Path
from typing import Any

import gradio as gr

__all__ = ["build_theme", "page_css", "read_asset"]

_SHEETS = ("shell.css", "conversation.css", "monitor.css", "recommendation.css")

_FONTS = (
    "system-ui",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "sans-serif",
)
_MONOSPACE = ("ui-monospace", "Consolas", "monospace")


def build_theme() -> Any:
    """A Gradio theme; names of fonts are plain strings, so nothing is fetched for them."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=_FONTS,
        font_mono=_MONOSPACE,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_600",  # the default is too pale to read on white
        body_text_color_subdued_dark="*neutral_400",
        background_fill_secondary="*neutral_100",
        background_fill_secondary_dark="*neutral_800",
        block_radius="14px",
    )


def page_css() -> str:
    """The style sheet of the pages."""
    return "\n".join(read_asset(name) for name in _SHEETS)


def read_asset(name: str) -> str:
    """A text that comes with the pages."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")
