"""A load of requests on connections that are kept, by a client that does as HTTP asks and no more.

It reconnects where an answer said ``Connection: close``, and never sends a request twice: what
breaks is counted.
"""

import asyncio
import json
from dataclasses import dataclass, field

from support.service import Service


@dataclass
class Load:
    """What is asked, and what came of it.

    Args:
        service: who is asked.
        connections: at once.

    Attributes:
        answered: how many requests were.
        broken: what went wrong, a line each.
        submitted: ids of the commands that were answered with 201.
        reconnects: how often an answer asked for another connection.
        longest_seconds: that any request took.
    """

    service: Service
    connections: int = 8
    answered: int = 0
    broken: list[str] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)
    reconnects: int = 0
    longest_seconds: float = 0.0
    enough: bool = False

    async def run(self, requests: int) -> None:
        """Ask until there were so many requests and somebody says that it is ``enough``."""
        self._wanted = requests
        self._known = self.service.submit("true")["id"]
        self._token = self.service.token
        # Every other one pauses between requests: on a connection that is idle most of the time a
        # server that closes it unannounced is found out.
        pauses = [0.005 * (number % 2) for number in range(self.connections)]
        await asyncio.gather(*(self._connection(pause) for pause in pauses))

    async def _connection(self, pause_seconds: float) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        turn = 0
        while self.answered < self._wanted or not self.enough:
            turn += 1
            await asyncio.sleep(pause_seconds)
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", self.service.port)
            began = asyncio.get_running_loop().time()
            try:
                keep = await self._ask(*streams, submit=turn % 50 == 0)
            except (OSError, EOFError, ValueError, AssertionError) as error:
                self.broken.append(repr(error))
                keep = False
            took = asyncio.get_running_loop().time() - began
            self.longest_seconds = max(self.longest_seconds, took)
            if not keep:
                self.reconnects += 1
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, submit: bool
    ) -> bool:
        """Send one request and read its answer; return whether the connection may be kept."""
        body = json.dumps({"script": "echo load"}).encode() if submit else b""
        line = "POST /v1/commands" if submit else f"GET /v1/commands/{self._known}"
        head = (
            f"{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in answer[1:] if line)
        content = await reader.readexactly(int(headers["content-length"]))
        status = int(answer[0].split()[1])
        assert status == (201 if submit else 200), content
        if submit:
            self.submitted.append(json.loads(content)["id"])
        self.answered += 1
        return headers.get("connection") != "close"
