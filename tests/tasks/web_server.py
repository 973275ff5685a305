"""A website on loopback that a test makes up, and that remembers what was asked of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What a path answers; a body that is an iterator is sent piece by piece in chunks, without a length."""

    body: bytes | Callable[[], Iterator[bytes]] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0


def page(*links: str, text: str = "Some text.") -> Answer:
    """An HTML page with links."""
    body = "<html><body><p>" + text + "</p>" + "".join(f'<a href="{link}">x</a>' for link in links) + "</body></html>"
    return Answer(body.encode(), headers={"Content-Type": "text/html; charset=utf-8"})


def moved(location: str, status: int = 302) -> Answer:
    """A redirect."""
    return Answer(status=status, headers={"Location": location})


@dataclass
class Sent:
    """What one request got: `ended` is when the last byte was sent, 0 if the crawler hung up before."""

    path: str
    status: int = 0
    bytes: int = 0
    conditional: bool = False
    ended: float = 0.0


@dataclass
class Website:
    """A running site; `asked` holds (path, time) of each request, `most_busy` the most that were answered at once.

    `sent` is what was answered, `connections` how many were opened. An answer with an ETag or a Last-Modified that the
    request names too becomes a 304.
    """

    answers: dict[str, Answer | Callable[[int], Answer]]
    port: int = 0
    asked: list[tuple[str, float]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    connections: int = 0
    agents: set[str] = field(default_factory=set)
    busy: int = 0
    most_busy: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def times(self, path: str) -> int:
        """How often `path` was requested."""
        return sum(asked == path for asked, _ in self.asked)

    def pages(self) -> list[str]:
        """The paths requested, without robots.txt."""
        return [path for path, _ in self.asked if path != "/robots.txt"]


@contextmanager
def website(answers: dict[str, Answer | Callable[[int], Answer]]) -> Iterator[Website]:
    """Serve `answers` (a function gets how often its path was asked before); everything else is a 404."""
    site = Website(answers)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:
                before = site.times(self.path)
                site.asked.append((self.path, time.monotonic()))
            site.agents.add(self.headers.get("User-Agent", ""))
            found = site.answers.get(self.path, Answer(b"nothing here", 404))
            answer = found if isinstance(found, Answer) else found(before)
            with lock:
                site.busy += 1
                site.most_busy = max(site.most_busy, site.busy)
            time.sleep(answer.wait)
            with lock:
                site.busy -= 1
            sent = Sent(self.path, answer.status)
            site.sent.append(sent)
            with suppress(ConnectionError):
                self.reply(answer, sent)
                self.wfile.flush()
                sent.ended = time.monotonic()

        def reply(self, answer: Answer, sent: Sent) -> None:
            asked = {self.headers["If-None-Match"], self.headers["If-Modified-Since"]} - {None}
            sent.conditional = bool(asked)
            if asked & {answer.headers.get("ETag"), answer.headers.get("Last-Modified")}:
                sent.status = 304
                self.send_response(304)
                self.send_header("ETag", answer.headers.get("ETag", '"none"'))
                self.end_headers()
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if isinstance(answer.body, bytes):
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                sent.bytes = len(answer.body)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in answer.body():
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                sent.bytes += len(piece)
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def process_request(self, *connection: Any) -> None:
            site.connections += 1
            super().process_request(*connection)

        def handle_error(self, *_: object) -> None:
            return  # a crawler that hangs up, or an answer that is meant to break

    server = Server(("127.0.0.1", 0), Handler)
    site.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
