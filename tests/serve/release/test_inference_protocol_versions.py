"""Two bundles of one name are two versions of a model of the Open Inference Protocol."""

import httpx
import numpy as np
import pytest

from ray_sft.bundle import Bundle
from ray_sft.inference import Predictor
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.release.choose import is_chosen
from serve.release.settings import Release
from tests.serve.conftest import LABELS, TEXTS, TOKEN
from tests.serve.release.conftest import MakeChanging

PATH = "/v2/models/intents"
BODY = {
    "inputs": [
        {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": list(TEXTS)},
    ]
}


def scores_of(bundle: Bundle) -> np.ndarray:
    answers = Predictor(bundle).predict([{"text": text} for text in TEXTS])
    by_label = [{one.label: one.score for one in answer.scores} for answer in answers]
    return np.asarray([[row[label] for label in LABELS] for row in by_label])


@pytest.mark.asyncio
async def test_a_version_is_answered_by_its_bundle_and_none_by_who_is_chosen(
    make_changing: MakeChanging, first: Bundle, second: Bundle, keys: KeyRing
) -> None:
    releases = {"intents": Release(bundle=str(second.path), percent=50)}
    changing = make_changing({"intents": first.path}, releases=releases)
    app = create_app(changing.args, models=changing.models, keys=keys, metrics=changing.metrics)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://service",
        headers={"authorization": f"Bearer {TOKEN}"},
    ) as client:
        metadata = (await client.get(PATH)).json()
        assert metadata["versions"] == ["1", first.fingerprint, second.fingerprint]
        expected = {bundle.fingerprint: scores_of(bundle) for bundle in (first, second)}
        met = set()
        for request_id in (f"request-{number}" for number in range(6)):
            is_second = is_chosen(request_id, second.fingerprint, percent=50)
            chosen = second.fingerprint if is_second else first.fingerprint
            met.add(chosen)
            for version in ("", "/versions/1", *(f"/versions/{one}" for one in expected)):
                stated = version.removeprefix("/versions/")
                fingerprint = stated if stated in expected else chosen
                reply = await client.post(
                    f"{PATH}{version}/infer", json=BODY, headers={"x-request-id": request_id}
                )
                assert reply.status_code == 200, reply.text
                assert reply.json()["model_version"] == fingerprint
                (scores,) = [one for one in reply.json()["outputs"] if one["name"] == "scores"]
                found = np.reshape(scores["data"], scores["shape"])
                np.testing.assert_allclose(found, expected[fingerprint], atol=1e-4)
        assert len(met) == 2, "the ids are chosen so that both bundles answer"
