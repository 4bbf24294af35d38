"""What the replicas and the proxy tell each other of routes whose every queue is full.

A replica refuses 1,500 requests a second at the most, and takes the processor that the model would
have; HAProxy refuses some ten thousand. So a refusal says for how long the route is likely to stay
full, and the proxy says no by itself until then: for some milliseconds, a part of the time for
which the queue has work. What the proxy has refused it tells with the next request that it lets
through, since a service's figures are those of its replicas.
"""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["FULL_HEADER", "REFUSED_HEADER", "full_for_ms", "num_refused", "write_rules"]

FULL_HEADER = "x-full-ms"
"""On a reply to the proxy: all requests for this route are refused for so long."""
_REFUSED = "x-refused"
REFUSED_HEADER = _REFUSED.encode()
"""On a request from the proxy: so many for this route were refused since the former one."""

_SHARE = 0.5
_LONGEST_MS = 250
_MOST_REFUSED = 10**6
_RETURNED = (
    'http-request return status 429 content-type application/json file "@FILE@" hdr retry-after 1 '
    "hdr x-request-id %[req.hdr(x-request-id)] hdr x-content-type-options nosniff "
    "hdr cache-control no-store"
)
_CLOCK = "date(0,ms),mod(1000000000)"
"""Milliseconds as a number of 32 bits; once in twelve days it begins anew, within an hour of which
nothing is full for longer than it should be, since a moment that is too far away does not count."""
_RULES = f"""\
    stick-table type string len 128 size 1k expire 1h store gpt0,gpc0
    http-request del-header {_REFUSED}
    http-request set-var(txn.route) path
    http-request set-var(txn.now) {_CLOCK}
    http-request set-var(txn.left) path,table_gpt0(http_frontend),sub(txn.now)
    acl is_full var(txn.left) -m int 1:{_LONGEST_MS}
    acl has_id req.hdr(x-request-id) -m found
    acl tells_full res.hdr({FULL_HEADER}) -m found
    http-request track-sc0 path if METH_POST {{ path,in_table(http_frontend) }}
    http-request sc-inc-gpc0(0) if METH_POST is_full
    http-request set-header x-request-id %[uuid()] if METH_POST is_full !has_id
    {_RETURNED} if METH_POST is_full
    http-request set-header {_REFUSED} %[sc0_clr_gpc0] if {{ sc0_get_gpc0 gt 0 }}
    http-response set-var(txn.full_ms) res.hdr({FULL_HEADER})
    http-response track-sc1 var(txn.route) if tells_full
    http-response sc-set-gpt0(1) {_CLOCK},add(txn.full_ms) if tells_full
    http-response del-header {FULL_HEADER}
"""
"""Of the frontend `http_frontend`: by path, until when it is full and how many were refused."""
_BODY = (
    '{"error": {"message": "the texts that wait for the model are as many as may. Come again in '
    '1 s.", "type": "rate_limit_error", "param": null, "code": "queue_full"}}'
)


def full_for_ms(wait_s: float) -> int:
    """How long the proxy refuses where what waits takes ``wait_s`` seconds.

    Less than that, so that the model does not run dry.
    """
    return max(1, min(_LONGEST_MS, round(wait_s * 1e3 * _SHARE)))


def num_refused(headers: Mapping[bytes, bytes]) -> int:
    """How many requests the proxy has refused; 0 where it does not say."""
    told = headers.get(REFUSED_HEADER, b"")
    return min(int(told), _MOST_REFUSED) if told.isdigit() and len(told) < 10 else 0


def write_rules(folder: Path) -> Path:
    """Writes the proxy's rules and what it answers into ``folder``; returns where the rules are."""
    body, rules = folder / "full.json", folder / "full.cfg"
    body.write_text(_BODY)
    rules.write_text(_RULES.replace("@FILE@", str(body)))
    return rules
