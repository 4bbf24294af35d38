"""The assistant: answers from the knowledge, and keeps the knowledge.

Answers are extractive, so no generator is asked: an approved answer is given word for word, a
document is quoted. What is heavy is awaited elsewhere: embedding in the model's thread, searching
in LanceDB's, cutting and comparing texts in a worker thread.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ray_sft.core import ServeError
from serve.assistant.answer import Found, Judgement, compose, judge
from serve.assistant.args import AssistantArgs
from serve.assistant.decide import Decision
from serve.assistant.documents import Document, Rejection, read_documents
from serve.assistant.feedback import Feedback
from serve.assistant.index import KnowledgeIndex
from serve.assistant.language import LANGUAGES, Language, clean, detect_language
from serve.assistant.rows import Prepared, prepare
from serve.assistant.schema import (
    AssistantAnswer,
    Intent,
    IntentScore,
    KnowledgeChanges,
    RejectedDocument,
)
from serve.assistant.search import Hit, Scope, dense_search, full_text_search, hybrid_search
from serve.outcomes import RefusedError

__all__ = ["Assistant", "Classify", "Embed", "IntentGuess"]

logger = logging.getLogger(__name__)

_PHRASINGS_COMPARED = 128
"""More than one answer can have, so that the next answer is among them and shows the margin."""
_TEXTS_AT_ONCE = 32
_DOCUMENTS_AT_ONCE = 4
"""Together at most 128 texts in the model's queue, so that questions still find a place in it."""
_DOCUMENTS_IN_A_COMMIT = 32
"""Each commit costs some 20 ms and a version on disk."""


@dataclass(frozen=True, slots=True)
class IntentGuess:
    """What a classifier makes of a question."""

    label: str
    score: float
    alternatives: tuple[tuple[str, float], ...] = ()
    """The next most probable labels and their scores."""


Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]
"""Vectors (texts, dim) of length 1. `RefusedError`: a text is too long; other errors of
`serve.outcomes` pass through to the route."""
Classify: TypeAlias = Callable[[str], Awaitable[IntentGuess | None]]


class Assistant:
    """Use it from one event loop, between `open` and `close`."""

    def __init__(
        self,
        args: AssistantArgs,
        *,
        embed: Embed,
        embedding_fingerprint: str,
        classify: Classify | None = None,
    ) -> None:
        """Touches no file yet; ``embedding_fingerprint`` is the SHA of the embedding bundle."""
        self.args = args
        self.feedback = Feedback()
        self._embed = embed
        self._classify = classify
        self._fingerprint = embedding_fingerprint

    async def open(self) -> None:
        """Opens the knowledge, or makes it; embeds it again where ``args.rebuild`` says so.

        Raises:
            ServeError: the knowledge was indexed with another model.
        """
        dim = (await self._embed(["ready"])).shape[1]
        self.index = KnowledgeIndex(self.args.knowledge, fingerprint=self._fingerprint, dim=dim)
        await self.index.open(with_foreign=self.args.rebuild)
        await self.feedback.open(self.index.connection)
        await self._rebuild()

    async def close(self) -> None:
        """Lets go of the files. What was acknowledged is on disk already."""
        self.feedback.close()
        self.index.close()

    async def answer(
        self, question: str, *, top_k: int = 4, language: Language | None = None
    ) -> AssistantAnswer:
        """The best answer that the knowledge has, with at most ``top_k`` citations.

        Knowledge in the question's language is asked first, then that in the other one.

        Raises:
            ServeError: the question could not be embedded; see `serve.outcomes`.
        """
        question = clean(question)
        spoken = language or detect_language(question)
        vector, intent = await asyncio.gather(
            self._vector(question, spoken), self._intent(question)
        )
        found, judgement = await self._look_up(question, spoken, spoken, vector, top_k)
        for other in LANGUAGES:
            if other != spoken and judgement.decision.kind == "unknown":
                elsewhere = await self._look_up(question, spoken, other, vector, top_k)
                if elsewhere[1].decision.kind != "unknown":
                    found, judgement = elsewhere
        approved_text = ""
        if judgement.decision.document_id is not None:
            document = await self.index.get(judgement.decision.document_id)
            if document is None:  # deleted a moment ago
                judgement = replace(judgement, decision=Decision("unknown", 0.0))
            else:
                approved_text = document.text
        answer = await asyncio.to_thread(
            compose, found, judgement, self.args, approved_text=approved_text, intent=intent
        )
        self.feedback.remember(question, answer)
        return answer

    async def put(self, items: Sequence[object]) -> KnowledgeChanges:
        """Adds or replaces documents; those that are not valid are rejected one by one.

        Documents are stored 32 at a time: where it is interrupted, some are stored and the
        rest are not, and sending all of them again finishes the work.

        Raises:
            ServeError: the texts could not be embedded; see `serve.outcomes`.
        """
        documents, rejections = await asyncio.to_thread(read_documents, items)
        return await self._store(documents, rejections)

    async def _store(
        self, documents: Mapping[int, Document], rejections: Sequence[Rejection] = ()
    ) -> KnowledgeChanges:
        prepared = await asyncio.to_thread(self._prepare, documents)
        known = await self.index.fingerprints([item.document.id for item in prepared.values()])
        changed = [
            (index, item)
            for index, item in prepared.items()
            if known.get(item.document.id) != item.fingerprint
        ]
        rejected = list(rejections)
        written: list[Prepared] = []
        for start in range(0, len(changed), _DOCUMENTS_IN_A_COMMIT):
            some = changed[start : start + _DOCUMENTS_IN_A_COMMIT]
            ready = await self._vectors_of(some, rejected)
            if ready:
                await self.index.write(ready)
            written.extend(item for item, _ in ready)
        rejected.sort(key=lambda rejection: rejection.index)
        num_updated = sum(item.document.id in known for item in written)
        return KnowledgeChanges(
            added=len(written) - num_updated,
            updated=num_updated,
            unchanged=len(prepared) - len(changed),
            passages=sum(len(item.spans) for item in written),
            rejected=[RejectedDocument(**asdict(rejection)) for rejection in rejected],
        )

    def _prepare(self, documents: Mapping[int, Document]) -> dict[int, Prepared]:
        words = self.args.passage_words
        return {
            index: prepare(document, passage_words=words) for index, document in documents.items()
        }

    async def _vectors_of(
        self, items: Sequence[tuple[int, Prepared]], rejected: list[Rejection]
    ) -> list[tuple[Prepared, NDArray[np.float32]]]:
        """The documents with their vectors; those that the model cannot take go to ``rejected``."""
        ready = []
        for start in range(0, len(items), _DOCUMENTS_AT_ONCE):
            some = items[start : start + _DOCUMENTS_AT_ONCE]
            outcomes = await asyncio.gather(*(self._vectors(item) for _, item in some))
            for (index, item), outcome in zip(some, outcomes, strict=True):
                if isinstance(outcome, RefusedError):
                    rejected.append(Rejection(index, item.document.id, str(outcome)))
                else:
                    ready.append((item, outcome))
        return ready

    async def _vectors(self, item: Prepared) -> NDArray[np.float32] | RefusedError:
        texts = item.texts
        parts = []
        try:
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                parts.append(await self._embed(texts[start : start + _TEXTS_AT_ONCE]))
        except RefusedError as error:
            return error
        return np.concatenate(parts)

    async def _vector(self, question: str, language: Language) -> NDArray[np.float32] | None:
        if language not in self.args.embedding_languages:
            return None
        vector: NDArray[np.float32] = (await self._embed([question]))[0]
        return vector

    async def _intent(self, question: str) -> Intent | None:
        """None also where the classifier fails: an answer without an intent is one."""
        if self._classify is None:
            return None
        try:
            guess = await self._classify(question)
        except ServeError as error:
            logger.warning("a question goes without an intent: %s", error)
            return None
        if guess is None:
            return None
        alternatives = [
            IntentScore(label=label, score=score) for label, score in guess.alternatives
        ]
        return Intent(label=guess.label, score=guess.score, alternatives=alternatives)

    async def _look_up(
        self,
        question: str,
        spoken: Language,
        language: Language,
        vector: NDArray[np.float32] | None,
        top_k: int,
    ) -> tuple[Found, Judgement]:
        """What the knowledge in ``language`` has, and what follows from it."""
        if language not in self.args.embedding_languages:
            vector = None
        passages = hybrid_search(
            self.index.table, question, vector, Scope("passage", language), limit=top_k
        )
        hits = await asyncio.gather(self._phrasings(question, language, vector), passages)
        found = Found(question, spoken, *hits)
        return found, await asyncio.to_thread(judge, found, self.args)

    async def _phrasings(
        self, question: str, language: Language, vector: NDArray[np.float32] | None
    ) -> list[Hit]:
        table, scope, limit = self.index.table, Scope("question", language), _PHRASINGS_COMPARED
        if vector is None:
            return await full_text_search(table, question, scope, limit=limit)
        return await dense_search(table, vector, scope, limit=limit)

    async def _rebuild(self) -> None:
        async for documents in self.index.foreign_documents():
            changes = await self._store(dict(enumerate(documents)))
            logger.info("embedded %d documents again", len(documents))
            if changes.rejected:
                lost = changes.rejected[0]
                raise ServeError(
                    f"document '{lost.id}' of knowledge '{self.args.knowledge}' cannot be embedded "
                    f"with this model: {lost.reason} Set 'passage_words' below "
                    f"{self.args.passage_words}; nothing is removed before all are embedded."
                )
        await self.index.drop_foreign()
