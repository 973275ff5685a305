"""The documentation server that every Python carries, such that a page is a function of its URL alone.

Run as a script by tasks/crawl/sites.py, in an interpreter without site-packages and without the user's environment:
`python -S -P -s pydoc_server.py PROCESSES`. It prints its port and ends when its standard input does. pydoc's own
server renders all pages in one process, where each module imported changes what later pages show; here every page is
rendered in a fresh fork, which also uses more than one core. Nothing but the standard library may be imported.
"""

import http.server
import inspect
import os
import pydoc
import re
import select
import signal
import socketserver
import sys
import threading

PAGE_SECONDS = 60
"""Time limit of one page, in seconds."""

_ADDRESS = re.compile(r"(?: |&nbsp;)(?:at(?: |&nbsp;)0x|handle(?: |&nbsp;))[0-9a-fA-F]{6,16}\b")
_PLATFORM = re.compile(r"<div style='float:left'>.*?</div>", re.DOTALL)
_ERROR = "<title>Pydoc: Error - "
_PREFIX = "/usr"


def render(path: str) -> tuple[int, str]:
    """Return status and HTML of a page, free of memory addresses, of the platform and of where Python is installed."""
    page: str = pydoc._url_handler(path)  # type: ignore[attr-defined]
    page = _PLATFORM.sub("", _ADDRESS.sub("", page), count=1)
    for prefix in _prefixes():
        page = page.replace(prefix, _PREFIX)
    return (404 if _ERROR in page else 200), page


def _prefixes() -> list[str]:
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    found |= {os.path.realpath(path) for path in found}
    return sorted((path for path in found if path not in ("/", _PREFIX)), key=len, reverse=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        signal.alarm(PAGE_SECONDS)
        if self.path == "/robots.txt" or self.path.endswith(".css"):
            status, body = 404, b""
        else:
            status, page = render(self.path)
            body = page.encode("utf-8", "replace")
        self.send_response_only(status)
        self.send_header("Content-Type", "text/html; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(socketserver.ForkingMixIn, http.server.HTTPServer):
    request_queue_size = 64


def _end_with_input() -> None:
    """End this process and the pages that it is rendering when the process that started it is gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        ready, _, _ = select.select([0], [], [], 0.5)
        if ready and not os.read(0, 1):
            break
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Serve until standard input ends."""
    _Server.max_children = int(sys.argv[1])
    inspect.getdoc(pydoc.render_doc)  # import what every page needs before the first fork
    sys.argv, sys.orig_argv = [""], [""]
    server = _Server(("127.0.0.1", 0), _Handler)
    os.write(1, f"{server.server_port}\n".encode())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    threading.Thread(target=_end_with_input, daemon=True).start()
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
