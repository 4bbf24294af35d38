"""A process that takes in items until it is killed; a program, not a test.

For each line of its standard input, a JSON object with the monitor's arguments and the path of a
file of items, it starts a process that sends every item, a few at a time, and writes a line for
each request that was acknowledged. It does not import anything twice, so each start is quick.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from words import read_words

from serve.monitor import MonitorArgs
from serve.monitor.intake import read_body
from serve.monitor.monitor import Monitor
from serve.monitor.store import Store

_AT_ONCE = 7


async def ingest(args: MonitorArgs, path: Path) -> None:
    body = path.read_bytes()
    now_ms = round(time.time() * 1000)
    intake = read_body(body, content_type="application/x-ndjson", args=args, now_ms=now_ms)
    monitor = Monitor(read_words, Store(args), args)
    await monitor.open()
    for start in range(0, len(intake.items), _AT_ONCE):
        part = intake.items[start : start + _AT_ONCE]
        receipt = await monitor.add(part)
        say({"ids": [item.id for _, item in part], "accepted": receipt.accepted})
    await monitor.close()


def say(tree: object) -> None:
    sys.stdout.write(json.dumps(tree) + "\n")
    sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            say({"pid": os.getpid()})
            asyncio.run(ingest(MonitorArgs(**order["args"]), Path(order["path"])))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say({"status": status})


if __name__ == "__main__":
    main()
