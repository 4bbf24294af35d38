"""The laws of the store: one commit per change, nothing half done, nothing lost."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ray_sft.core import ServeError
from serve.assistant.index import KnowledgeIndex
from serve.assistant.search import Scope, dense_search, full_text_search

from .conftest import DIM, FINGERPRINT, document, embed_texts, embedded

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).resolve().parents[3]
PASSAGES = Scope("passage", "en")
LONG = " ".join(f"This is sentence number {number} about the topic." for number in range(60))


async def opened(path: Path, fingerprint: str = FINGERPRINT, **options: bool) -> KnowledgeIndex:
    index = KnowledgeIndex(str(path), fingerprint=fingerprint, dim=DIM)
    await index.open(**options)
    return index


async def words(index: KnowledgeIndex, question: str) -> list[str]:
    hits = await full_text_search(index.table, question, PASSAGES, limit=50)
    return [hit.document_id for hit in hits]


async def test_a_written_document_is_found_at_once_and_whole(index: KnowledgeIndex) -> None:
    sent = document("guide", LONG, source="https://example.org", title="The guide")
    await index.write(embedded(sent))
    hits = await dense_search(index.table, embed_texts(["sentence 7"])[0], PASSAGES, limit=100)
    kept = await index.get("guide")
    assert kept is not None
    assert (kept.text, kept.title, kept.source) == (sent.text, sent.title, sent.source)
    assert kept.num_characters == len(LONG)
    assert kept.num_passages == len(hits) > 5
    for hit in hits:
        assert kept.text[hit.start : hit.end] == hit.text
    assert set(await words(index, "topic")) == {"guide"}


async def test_a_document_takes_the_place_of_its_older_version(index: KnowledgeIndex) -> None:
    await index.write(embedded(document("guide", LONG), document("other", "The topic of others.")))
    await index.write(embedded(document("guide", "A short text about quokkas.")))
    assert await words(index, "topic") == ["other"]
    assert await words(index, "quokkas") == ["guide"]
    assert await index.table.count_rows("document_id = 'guide'") == 2
    entries = await index.entries(after="", limit=10)
    assert [(entry.id, entry.num_passages) for entry in entries] == [("guide", 1), ("other", 1)]


async def test_a_deleted_document_is_gone_and_others_are_not(index: KnowledgeIndex) -> None:
    await index.write(embedded(document("a", "About quokkas."), document("b", "About wombats.")))
    assert await index.delete("a")
    assert not await index.delete("a")
    assert await index.get("a") is None
    assert await words(index, "quokkas") == []
    assert await words(index, "wombats") == ["b"]
    hits = await dense_search(index.table, embed_texts(["quokkas"])[0], PASSAGES, limit=9)
    assert [hit.document_id for hit in hits] == ["b"]


async def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    await first.write(embedded(document("a", "About quokkas."), document("zh", "关于保修的说明。")))
    before = await first.entries(after="", limit=9)
    first.close()
    second = await opened(tmp_path)
    assert await second.entries(after="", limit=9) == before
    assert await words(second, "quokka") == ["a"]
    second.close()


async def test_another_process_sees_a_change_at_once(tmp_path: Path) -> None:
    writer, reader = await opened(tmp_path), await opened(tmp_path)
    for turn in range(3):
        await writer.write(embedded(document(f"d{turn}", "About quokkas.")))
        assert len(await words(reader, "quokkas")) == turn + 1
    await reader.delete("d1")
    assert sorted(await words(writer, "quokkas")) == ["d0", "d2"]
    for index in (writer, reader):
        index.close()


async def test_writers_do_not_lose_each_others_documents(tmp_path: Path) -> None:
    indexes = [await opened(tmp_path) for _ in range(2)]
    await asyncio.gather(
        *(
            index.write(embedded(document(f"w{number}-{turn}", "About quokkas.")))
            for turn in range(4)
            for number, index in enumerate(indexes)
        )
    )
    assert len(set(await words(indexes[0], "quokkas"))) == 8
    for index in indexes:
        index.close()


async def test_two_writers_of_one_document_leave_it_once(tmp_path: Path) -> None:
    indexes = [await opened(tmp_path) for _ in range(2)]
    for turn in range(5):
        await asyncio.gather(
            *(
                index.write(embedded(document("same", f"{turn} {number} quokkas. {LONG}")))
                for number, index in enumerate(indexes)
            )
        )
        kept = await indexes[0].get("same")
        assert kept is not None
        hits = await full_text_search(indexes[1].table, "sentence", PASSAGES, limit=50)
        assert len(hits) == kept.num_passages
        assert all(kept.text[hit.start : hit.end] == hit.text for hit in hits)
    for index in indexes:
        index.close()


async def test_maintenance_changes_no_answer(index: KnowledgeIndex) -> None:
    for number in range(20):  # more than once through `maintain`
        await index.write(embedded(document(f"d{number % 15:02}", f"Topic of text {number}.")))
    await index.delete("d03")
    before = sorted(await words(index, "topic"))
    await index.maintain()
    assert sorted(await words(index, "topic")) == before
    assert before == [f"d{number:02}" for number in range(15) if number != 3]
    unindexed = {
        entry.name: (await index.table.index_stats(entry.name)).num_unindexed_rows
        for entry in await index.table.list_indices()
    }
    assert set(unindexed.values()) == {0}, unindexed


async def test_entries_come_in_pages_in_the_order_of_ids(index: KnowledgeIndex) -> None:
    identities = [f"d{number}" for number in (3, 10, 1, 2, 7)]
    await index.write(embedded(*(document(name, "Some text.") for name in identities)))
    pages, after = [], ""
    while page := await index.entries(after=after, limit=2):
        pages.append([entry.id for entry in page])
        after = page[-1].id
    assert pages == [["d1", "d10"], ["d2", "d3"], ["d7"]]


async def test_another_models_index_is_refused_until_it_is_taken_over(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    sent = [document("a", "About quokkas."), document("b", "About wombats.", source="here")]
    await first.write(embedded(*sent))
    first.close()
    with pytest.raises(ServeError, match=r"another embedding model \(aaaa.*bbbb.*rebuild: true"):
        await opened(tmp_path, "b" * 64)
    second = await opened(tmp_path, "b" * 64, with_foreign=True)
    pages = [page async for page in second.foreign_documents()]
    assert pages == [sent]
    # an interrupted rebuild is refused too, so that half of the knowledge is never served
    await second.write(embedded(sent[0]))
    second.close()
    with pytest.raises(ServeError, match="rebuild: true"):
        await opened(tmp_path, "b" * 64)
    third = await opened(tmp_path, "b" * 64, with_foreign=True)
    await third.drop_foreign()
    third.close()
    last = await opened(tmp_path, "b" * 64)
    assert [entry.id for entry in await last.entries(after="", limit=9)] == ["a"]
    last.close()


async def test_a_large_index_finds_passages_nearly_and_phrasings_exactly(
    index: KnowledgeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.assistant.index._APPROXIMATE_FROM", 500)
    rng = random.Random(1)
    vocabulary = [f"word{number}" for number in range(300)]
    texts = [" ".join(rng.choices(vocabulary, k=12)) for _ in range(600)]
    await index.write(
        embedded(
            *(
                document(f"a{number}", "Answer.", kind="approved", title=text, language="en")
                for number, text in enumerate(texts[:300])
            ),
            *(document(f"d{number}", text, title="d") for number, text in enumerate(texts[300:])),
        )
    )
    await index.maintain()
    assert "vector" in {entry.columns[0] for entry in await index.table.list_indices()}
    await index.write(embedded(document("new", texts[0], title="d")))
    found = wanted = 0
    for question in texts[:20]:
        vector = embed_texts([question])[0]
        exact = np.sort(embed_texts(texts[:300]) @ vector)[::-1][:10]
        hits = await dense_search(index.table, vector, Scope("question", "en"), limit=10)
        assert [hit.similarity for hit in hits] == pytest.approx(exact.tolist(), abs=1e-6)
        passages = [f"d\n{text}" for text in texts[300:]]
        order = np.argsort(-(embed_texts(passages) @ vector))[:10]
        hits = await dense_search(index.table, vector, PASSAGES, limit=500)
        near = {hit.document_id for hit in hits if hit.title == "d"}
        found += len(near & {f"d{number}" for number in order})
        wanted += len(order)
    assert found >= 0.95 * wanted
    (first,) = await dense_search(
        index.table, embed_texts([f"d\n{texts[0]}"])[0], PASSAGES, limit=1
    )
    assert first.document_id == "new"


CRASH = """
import asyncio, sys
from tests.serve.assistant.conftest import DIM, FINGERPRINT, document, embedded
from serve.assistant.index import KnowledgeIndex

async def main():
    index = KnowledgeIndex(sys.argv[1], fingerprint=FINGERPRINT, dim=DIM)
    await index.open()
    for turn in range(10_000):
        size = 20 + 40 * (turn % 3)
        text = " ".join(f"Sentence {n} of turn {turn}." for n in range(size))
        await index.write(embedded(*(document(f"d{n}", text, title=f"{turn}") for n in range(5))))
        print(turn, flush=True)

asyncio.run(main())
"""


async def test_a_crash_leaves_no_half_document(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CRASH, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(4)][-1]
    time.sleep(random.Random(3).uniform(0.02, 0.06))  # anywhere within a write
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].split()
    index = await opened(tmp_path)
    last = int(rest[-1] if rest else acknowledged)
    entries = await index.entries(after="", limit=10)
    assert len(entries) == 5
    assert len({entry.title for entry in entries}) == 1, "documents of one write go together"
    assert int(entries[0].title) in (last, last + 1)
    for entry in entries:
        predicate = f"role = 'passage' AND document_id = '{entry.id}' AND title = '{entry.title}'"
        assert await index.table.count_rows(predicate) == entry.num_passages
    assert await index.table.count_rows("role = 'passage'") == sum(e.num_passages for e in entries)
    await index.write(embedded(document("after", "Written after the crash.")))
    assert await index.get("after") is not None
    index.close()
