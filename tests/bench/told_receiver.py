"""A receiver of notifications as a process of its own: `python -m tests.bench.told_receiver PORT`.

It takes everything. `GET /told` answers how many posts came, by the first part of their path.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

import uvicorn

told: Counter[str] = Counter()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Take a post, or answer what came."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        continue
    is_question = scope["method"] == "GET"
    if not is_question:
        told[scope["path"].split("/")[1]] += 1
    body = json.dumps(told).encode() if is_question else b""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    config = uvicorn.Config(app, port=int(sys.argv[1]), access_log=False, log_level="info", lifespan="off")
    asyncio.run(uvicorn.Server(config).serve())
