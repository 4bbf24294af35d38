"""The Grafana dashboard: it draws what the service tells, and nothing that it does not."""

import json
import re
from pathlib import Path

import pytest

import cluster
from serve.metrics import ServiceMetrics
from serve.release.counters import ReleaseCounters

DASHBOARD = Path(cluster.__file__).parent / "grafana" / "service.json"


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """Every series of the service with its labels."""
    metrics = ServiceMetrics()
    ReleaseCounters(metrics.registry)
    found = {}
    for collector in metrics.registry._collector_to_names:
        labels = set(collector._labelnames)
        for suffix in ("", "_total", "_bucket", "_sum", "_count"):
            found[collector._name + suffix] = labels | {"le", "instance"}
    return found


def test_every_panel_asks_for_series_and_labels_that_there_are(told):
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(expressions) >= 15
    for expression in expressions:
        names = set(re.findall(r"ray_sft_\w+", expression))
        assert names <= told.keys(), expression
        used = set(re.findall(r"(\w+)=~?\"", expression))
        for labels in re.findall(r"by \(([^)]*)\)", expression):
            used |= {label.strip() for label in labels.split(",")}
        for name in names:
            assert used <= told[name], expression


def test_panels_do_not_overlap():
    taken = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
