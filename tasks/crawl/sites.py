"""Sites that the step starts itself."""

import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import DataError
from tasks.crawl.step import PYDOC_HOST

logger = logging.getLogger(__name__)

PYDOC_SEEDS = [f"http://{PYDOC_HOST}/topics.html"]
"""The index of the language topics: these, which are prose, are one link away, the modules two."""

_PROCESSES = 2
_LEFT_OUT = ("antigravity", "idlelib", "lib2to3", "sys", "test", "this", "turtledemo")
"""Modules that act when they are imported, those that are no library, and `sys`, whose values tell of the machine."""


def pydoc_scope() -> str:
    """Return a regular expression for the pages in scope: indexes, topics, public modules of the standard library."""
    names = [
        name
        for name in sorted(sys.stdlib_module_names)
        if name not in _LEFT_OUT and (not name.startswith("_") or name == "__future__")
    ]
    modules = rf"(?:{'|'.join(map(re.escape, names))})(?:\.(?!_|tests?\b|idle_test\b)\w+)*"
    return rf"^http://{re.escape(PYDOC_HOST)}/(?:(?:index|topics|keywords|{modules})\.html|topic\?key=[^&]+)$"


@contextmanager
def pydoc_site() -> Iterator[str]:
    """Serve Python's documentation on loopback while the context lasts; yields `address:port`.

    The server inherits nothing of this process's environment and ends with it, however that ends. Raises DataError if
    it does not start.
    """
    script = Path(__file__).with_name("pydoc_server.py")
    environment = {"PATH": os.defpath, "HOME": "/", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryFile() as errors:
        server = subprocess.Popen(
            [getattr(sys, "_base_executable", sys.executable), "-s", "-S", "-P", str(script), str(_PROCESSES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        try:
            assert server.stdout is not None
            port = server.stdout.readline().decode().strip()
            if not port:
                errors.seek(0)
                raise DataError(f"pydoc's server did not start: {errors.read().decode(errors='replace')[-500:]}")
            logger.info("pydoc serves on port %s", port)
            yield f"127.0.0.1:{port}"
        finally:
            server.kill()
            server.communicate()
