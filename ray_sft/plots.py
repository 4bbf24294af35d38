"""Plots as SVG that a page can hold."""

import io
import warnings
from typing import Any

import matplotlib
from matplotlib.figure import Figure

__all__ = ["new_axes", "svg"]

matplotlib.use("svg")
matplotlib.rcParams["svg.fonttype"] = "none"  # the browser has the letters of every language

_WIDTH = 8.0


def new_axes(*, height: float) -> tuple[Figure, Any]:
    """An empty figure of a page's width, ``height`` in inches, and its axes."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure) -> str:
    """The figure as an element of HTML."""
    out = io.StringIO()
    with warnings.catch_warnings():  # about letters that matplotlib's own font lacks
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(out, format="svg")
    text = out.getvalue()
    return text[text.index("<svg") :]
