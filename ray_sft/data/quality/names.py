"""Names in texts replaced, as a model of entities finds them."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ray_sft.bundle import Bundle
from ray_sft.core import ConfigError
from ray_sft.data.references import only_task
from ray_sft.data.texts import map_texts
from ray_sft.inference import Predictor
from ray_sft.tasks import Example, Rejected, Row, TokenClassification

__all__ = ["NameMasker", "check_names"]

_MASK = "[NAME]"


def check_names(path: str, labels: Sequence[str]) -> None:
    """Loads no weights.

    Raises:
        BundleError: there is no whole bundle.
        ConfigError: the bundle finds no entities, or none that are called so.
    """
    bundle = Bundle.open(Path(path))
    task = bundle.manifest.tasks[_finding_task(bundle)]
    assert isinstance(task, TokenClassification)
    known = {label.casefold() for label in task.labels}
    if not known & {label.casefold() for label in labels}:
        raise ConfigError(
            f"quality.name_labels: bundle '{path}' finds {', '.join(sorted(task.labels))}, and "
            f"none of {', '.join(labels)}. Say which of them are names."
        )


class NameMasker:
    """Replaces names in rows; the bundle is loaded where that happens."""

    def __init__(self, path: str, labels: Sequence[str]) -> None:
        """With the bundle at ``path``, of whose entities those called ``labels`` are names."""
        self._path = path
        self._labels = frozenset(label.casefold() for label in labels)

    def __call__(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The rows with ``[NAME]`` in place of every name.

        In a list of tokens it takes the place of every word of a name, so that tags stay right.
        """
        model = _load(self._path)
        texts: dict[str, str] = {}
        for row in rows:
            map_texts(_without_tokens(row), lambda text: texts.setdefault(text, text))
        words = [row["tokens"] for row in rows if _has_words(row)]
        found = model.find([*texts, *(" ".join(tokens) for tokens in words)], self._labels)
        masked = {
            text: _masked(text, spans)
            for text, spans in zip(texts, found[: len(texts)], strict=True)
        }
        tokens = iter(
            _masked_words(one, spans) for one, spans in zip(words, found[len(texts) :], strict=True)
        )
        return [
            dict(row)
            | map_texts(_without_tokens(row), masked.__getitem__)
            | ({"tokens": next(tokens)} if _has_words(row) else {})
            for row in rows
        ]


def _without_tokens(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "tokens"}


def _has_words(row: Row) -> bool:
    tokens = row.get("tokens")
    return isinstance(tokens, list) and all(isinstance(word, str) for word in tokens)


def _masked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        text = text[:start] + _MASK + text[end:]
    return text


def _masked_words(tokens: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[str]:
    masked, start = [], 0
    for word in tokens:
        end = start + len(word)
        is_name = any(first < end and start < last for first, last in spans)
        masked.append(_MASK if is_name else word)
        start = end + 1
    return masked


class _NameModel:
    """A model of entities, for texts of any length."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def find(self, texts: Sequence[str], labels: frozenset[str]) -> list[list[tuple[int, int]]]:
        """Of each text the characters where names begin and end, in order."""
        pieces = [
            (number, start, piece)
            for number, text in enumerate(texts)
            for start, piece in self._pieces(text, 0)
        ]
        answers = self._predictor.predict([{"text": piece} for _, _, piece in pieces])
        found: list[list[tuple[int, int]]] = [[] for _ in texts]
        for (number, start, _), answer in zip(pieces, answers, strict=True):
            if isinstance(answer, Rejected):
                continue
            found[number] += [
                (start + entity.start, start + entity.end)
                for entity in answer.entities  # type: ignore[attr-defined]  # the task was checked
                if entity.label.casefold() in labels
            ]
        return found

    def _pieces(self, text: str, start: int) -> Iterator[tuple[int, str]]:
        """Parts of a text that the model sees whole, each with where it begins."""
        (encoded,) = self._predictor.encode([{"text": text}])
        if not isinstance(encoded, Example) or not encoded.truncated:
            yield start, text
            return
        cut = _middle(text)
        yield from self._pieces(text[:cut], start)
        yield from self._pieces(text[cut:], start + cut)


def _middle(text: str) -> int:
    """Where to cut: at the white space next to the middle, or there where there is none."""
    half = len(text) // 2
    before, after = text.rfind(" ", 1, half), text.find(" ", half, len(text) - 1)
    near = [place for place in (before, after) if place > 0]
    return min(near, key=lambda place: abs(place - half)) if near else half


@lru_cache(maxsize=1)
def _load(path: str) -> _NameModel:
    bundle = Bundle.open(Path(path))
    return _NameModel(Predictor.each(bundle)[_finding_task(bundle)])


def _finding_task(bundle: Bundle) -> str:
    return only_task(bundle, TokenClassification, field="quality.names")
