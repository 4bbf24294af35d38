"""The law of the description: whatever a client sends, it is answered, and as described.

Schemathesis makes requests from the schema, right ones and wrong ones.
"""

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.contract.test_endpoints import TOKEN, served
from tests.serve.test_heads import market_bundle

__all__ = ["market_bundle", "served"]

FEW = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_reply_is_as_described(served, mode):
    client, described = served
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=str(client.base_url))
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 40
    failures = []
    for operation in operations:
        with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parts
            try:
                FEW(given(case=operation.as_strategy(generation_mode=mode))(answered()))()
            except FailureGroup as group:
                failures.append(f"{operation.label}: {group}")
    assert not failures, "\n".join(failures)


def answered():
    """A function of its own for each operation, since hypothesis marks what it runs."""

    def check(case):
        headers = {"authorization": f"Bearer {TOKEN}"}
        case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)

    return check
