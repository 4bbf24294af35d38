"""A load generator for machines without wrk: keep-alive connections in one asyncio process.

It costs several times what wrk costs, so the service looks slower than it is. Usage:
``python -m benchmarks.http_load URL CONNECTIONS SECONDS`` with KEY and BODIES in the environment;
prints what `benchmarks.http_service` reads from wrk.
"""

import asyncio
import os
import re
import sys
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, body: bytes
) -> bool:
    """Sends one request; whether it was answered by 200."""
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"content-length: (\d+)", answer, re.IGNORECASE)
    assert length is not None, answer
    await reader.readexactly(int(length[1]))
    return answer.startswith("HTTP/1.1 200")


async def _connection(url: str, bodies: list[bytes], first: int, ends_at: float) -> list[float]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        f"authorization: Bearer {os.environ['KEY']}\r\ncontent-type: application/json\r\n"
    )
    times: list[float] = []
    number = first
    while time.perf_counter() < ends_at:
        start = time.perf_counter()
        if not await _ask(reader, writer, head, bodies[number % len(bodies)]):
            raise SystemExit("Non-2xx response")
        times.append(time.perf_counter() - start)
        number += 1
    writer.close()
    return times


async def _main(url: str, num_connections: int, seconds: float) -> None:
    bodies = Path(os.environ["BODIES"]).read_bytes().splitlines()
    start = time.perf_counter()
    step = max(1, len(bodies) // num_connections)
    runs = await asyncio.gather(
        *(
            _connection(url, bodies, number * step, start + seconds)
            for number in range(num_connections)
        )
    )
    times = [one for run in runs for one in run]
    print(f"50% {median(times) * 1e3:.3f}ms")
    print(f"Requests/sec: {len(times) / (time.perf_counter() - start):.2f}")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
