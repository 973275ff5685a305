"""The process that extracts: reads pages from one pipe, writes what it found to another.

Run by `tasks.extract.sandbox`, which kills it when a page takes too long.  Messages are pickles behind their length
(8 bytes, little-endian).
"""

import ctypes
import logging
import os
import pickle
import resource
import signal
import sys
from typing import IO, Any

from tasks.charsets import decode, detect_charset
from tasks.extractors import Extraction, Extractor, load

_PR_SET_PDEATHSIG = 1


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(len(data).to_bytes(8, "little"))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message; raises EOFError where the other end is gone."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    size = int.from_bytes(head, "little")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


def serve() -> None:
    """Answer pages until the pipe ends.

    First message in: (Options, memory limit in bytes).  First message out: None, or (exception class, message, module)
    where the extractor cannot be imported.  Then for each (body, declared charset, url): an Extraction, or (exception
    class, message).
    """
    pages = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not get between the messages
    _end_with_parent()
    logging.getLogger().addHandler(logging.NullHandler())
    options, memory_bytes = receive(pages)
    try:
        extract = load(options)
    except ImportError as error:
        send(answers, (type(error).__name__, _one_line(error), error.name))
        return
    _limit_memory(memory_bytes)
    send(answers, None)
    while True:
        try:
            page = receive(pages)
        except EOFError:
            return
        send(answers, _answer(extract, *page))


def _answer(extract: Extractor, body: bytes, charset: str | None, url: str) -> Extraction | tuple[str, str]:
    try:
        return extract(decode(body, detect_charset(body, charset, html=True)), url)
    except MemoryError:
        return ("MemoryError", "the page needs more memory than a page may have")
    except Exception as error:  # whatever an extractor raises is the fault of this page alone
        return (type(error).__name__, _one_line(error))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit_memory(size: int) -> None:
    if sys.platform == "linux":  # elsewhere RLIMIT_DATA does not count what malloc maps
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
