"""A load of requests on persistent connections, by a client that does only what HTTP requires.

It reconnects after an answer with ``Connection: close`` and never repeats a request. It counts the
requests that break.
"""

import asyncio
import json
from dataclasses import dataclass, field

from support.service import Service


@dataclass
class Load:
    """A load and its results.

    Args:
        service: the service that gets the requests.
        connections: number of connections.

    Attributes:
        answered: number of requests that were answered.
        broken: a description of each request that broke.
        submitted: ids of the commands that were answered with 201.
        reconnects: how often an answer required a new connection.
        longest_seconds: the longest time that a request took.
        enough: set it to let `run` end.
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
        """Send requests until ``requests`` were answered and ``enough`` is set."""
        self._wanted = requests
        self._known = self.service.submit("true")["id"]
        self._token = self.service.token
        # Every other connection pauses between requests: a mostly idle connection shows whether
        # the server closes it without announcing it.
        pauses = [0.005 * (number % 2) for number in range(self.connections)]
        await asyncio.gather(*(self._connection(pause) for pause in pauses))

    async def _connection(self, pause_seconds: float) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        sent = 0
        while self.answered < self._wanted or not self.enough:
            sent += 1
            await asyncio.sleep(pause_seconds)
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", self.service.port)
            began = asyncio.get_running_loop().time()
            try:
                keep = await self._ask(*streams, submit=sent % 50 == 0)
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
