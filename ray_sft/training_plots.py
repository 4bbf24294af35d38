"""Plots of a training: how it went, and what lies behind its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ray_sft.plots import new_axes, svg

__all__ = [
    "calibration_plot",
    "confusion_plot",
    "learning_rate_plot",
    "loss_plot",
    "trainings_plot",
]

_MOST_NAMES = 40


def loss_plot(records: Sequence[Mapping[str, Any]]) -> str:
    """Loss by step as SVG; where a resumed run repeats a step, the later record counts."""
    figure, axes = new_axes(height=3.2)
    for event, style in (("step", "-"), ("evaluation", "o")):
        losses = {r["step"]: r["loss"] for r in records if r["event"] == event}
        axes.plot(sorted(losses), [losses[step] for step in sorted(losses)], style, label=event)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats)")
    axes.legend()
    return svg(figure)


def trainings_plot(trainings: Sequence[Mapping[str, Any]]) -> str:
    """The main figure on the rows of each training, from that training to the last one."""
    figure, axes = new_axes(height=3.2)
    longest = max(len(training["figures"]) for training in trainings)
    for training in trainings:
        figures = training["figures"]
        after = [longest - len(figures) + number + 1 for number in range(len(figures))]
        label = f"{training['name']} {training['task']}"
        axes.plot(after, figures, "o-", label=label)
    axes.set_xticks(range(1, longest + 1))
    axes.set_xlabel("after training")
    axes.set_ylabel("main figure")
    axes.legend(fontsize="small")
    return svg(figure)


def confusion_plot(confusion: Mapping[str, Mapping[str, int]]) -> str:
    """Shares of each right answer's rows by the model's answer, as a map of squares."""
    labels = sorted({*confusion, *(answer for row in confusion.values() for answer in row)})
    counts = np.array([[confusion.get(one, {}).get(two, 0) for two in labels] for one in labels])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    figure, axes = new_axes(height=min(9.0, 2.0 + 0.22 * len(labels)))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the row")
    if len(labels) <= _MOST_NAMES:
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize="x-small")
        axes.set_yticks(range(len(labels)), labels, fontsize="x-small")
    axes.set_xlabel("the model's answer")
    axes.set_ylabel("right answer")
    return svg(figure)


def calibration_plot(bins: Sequence[Mapping[str, Any]]) -> str:
    """How often answers of a score are right; on the diagonal where scores mean what they say."""
    figure, axes = new_axes(height=3.4)
    axes.plot([0, 1], [0, 1], "--", color="0.7", label="as sure as right")
    confidences = [one["confidence"] for one in bins]
    axes.plot(confidences, [one["accuracy"] for one in bins], "o-", label="the model")
    for one in bins:
        place = (one["confidence"], one["accuracy"])
        axes.annotate(
            one["count"], place, xytext=(4, -10), textcoords="offset points", fontsize="x-small"
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("score")
    axes.set_ylabel("share that is right")
    axes.legend(fontsize="small")
    return svg(figure)


def learning_rate_plot(records: Sequence[Mapping[str, Any]]) -> str:
    """Learning rate and length of the gradient by step."""
    steps = {int(one["step"]): one for one in records if one["event"] == "step"}
    figure, axes = new_axes(height=2.4)
    axes.plot(list(steps), [one["learning_rate"] for one in steps.values()], color="C1")
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate", color="C1")
    other = axes.twinx()
    norms = [one["gradient_norm"] for one in steps.values()]
    other.plot(list(steps), norms, color="C2", linewidth=0.8)
    other.set_ylabel("gradient norm", color="C2")
    return svg(figure)
