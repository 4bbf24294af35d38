"""What applications need of bundles, and which bundles can be exchanged under them."""

from ray_sft.tasks import Embedding
from serve.args import ServiceArgs
from serve.release.swappable import holders, why_not_swapped

APPLICATIONS = {
    "assistant": {"embedding_model": "knowledge", "knowledge": "k", "intent_model": "intents"},
    "monitor": {"model": "market", "database": "sqlite:///m.db"},
    "recommend": {
        "embedding_model": "items/vector",
        "ranking_model": "items/click",
        "database": "sqlite:///r.db",
    },
}


def test_applications_hold_their_models():
    names = ("knowledge", "intents", "market", "items", "free")
    args = ServiceArgs.model_validate({"bundles": {name: name for name in names}} | APPLICATIONS)
    held = holders(args)
    assert {name: one.application for name, one in held.items()} == {
        "knowledge": "assistant",
        "intents": "assistant",
        "market": "monitor",
        "items": "recommend",
    }
    assert [name for name, one in held.items() if one.labels_are_enough] == ["intents"]


def test_a_held_bundle_is_changed_by_a_rolling_update(first, second):
    held = holders(
        ServiceArgs.model_validate(
            {"bundles": {"intents": "a"}, "monitor": APPLICATIONS["monitor"] | {"model": "intents"}}
        )
    )
    assert why_not_swapped("intents", first.manifest, second.manifest, {}) is None
    reason = why_not_swapped("intents", first.manifest, second.manifest, held)
    assert reason == "'intents' is held by the application 'monitor'"
    other_task = first.manifest.model_copy(update={"tasks": {"intent": Embedding()}})
    assert "tasks" in why_not_swapped("intents", first.manifest, other_task, {})
