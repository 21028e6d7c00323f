"""Send requests and websocket messages along a path: on a worker, in the environment of PyPI.

Arguments: the address, the number of requests, the number of messages. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp

#: So many requests are on their way at once.
TOGETHER = 16
MESSAGE = "x" * 500


async def requests(session: aiohttp.ClientSession, url: str, count: int) -> float:
    """Return how many requests are answered in a second."""
    left = count

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            async with session.get(f"{url}/page") as answer:
                assert answer.status == 200 and len(await answer.read()) == 1000, answer.status

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(TOGETHER)))
    return count / (time.perf_counter() - began)


async def echoes(session: aiohttp.ClientSession, url: str, count: int) -> list[float]:
    """Return the milliseconds that each message took to come back."""
    found = []
    async with session.ws_connect(f"{url}/echo") as socket:
        for _ in range(count):
            began = time.perf_counter()
            await socket.send_str(MESSAGE)
            assert await socket.receive_str() == MESSAGE
            found.append((time.perf_counter() - began) * 1000)
    return found


async def main() -> None:
    """Measure and print."""
    url, count, messages = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    connector = aiohttp.TCPConnector(ssl=False, limit=TOGETHER)
    async with aiohttp.ClientSession(connector=connector) as session:
        await requests(session, url, TOGETHER * 4)  # not counted: the connections begin
        rate = await requests(session, url, count)
        took = sorted(await echoes(session, url, messages))
    print(
        json.dumps(
            {
                "requests": rate,
                "echo_ms": took[len(took) // 2],
                "echo_p95_ms": took[int(len(took) * 0.95)],
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
