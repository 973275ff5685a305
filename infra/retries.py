"""Which errors are worth another try, and trying again where no task does it."""

import email.utils
import errno
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from infra.errors import (
    DataError,
    LeaseLostError,
    PreemptedError,
    StepTimeoutError,
    StorageError,
    UserError,
    WorkerDiedError,
)

_FINAL_OS_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)

T = TypeVar("T")


def patiently(work: Callable[[], T], *, tries: int = 3, seconds: float = 0.5) -> T:
    """Return what `work` returns; a transient error is tried again with growing, jittered waits, then raised."""
    for attempt in Retrying(
        retry=retry_if_exception(transient),
        stop=stop_after_attempt(tries),
        wait=wait_random_exponential(multiplier=seconds, max=16 * seconds),
        reraise=True,
    ):
        with attempt:
            return work()
    raise AssertionError("unreachable: the last attempt returns or raises")


def retry_after(value: str | None) -> float:
    """Return the seconds that the HTTP header `Retry-After` asks for, given as a number or as a date.

    0 where it is absent, past or makes no sense.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def transient(exc: BaseException) -> bool:
    """Tell whether `exc` may go away by itself: transport, storage, a lost lease, a dead worker, a machine taken back.

    botocore's errors are neither OSError nor ConnectionError and are named apart; a disk that is full (ENOSPC)
    and a path that is wrong stay as they are.
    """
    if isinstance(exc, (UserError, DataError, StepTimeoutError)):
        return False
    if isinstance(exc, (StorageError, LeaseLostError, WorkerDiedError, PreemptedError)):
        return True
    if (status := _hub_status(exc)) is not None:
        return status >= 500 or status == 429
    if isinstance(exc, OSError):
        return not isinstance(exc, _FINAL_OS_ERRORS) and exc.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return _botocore(exc) or _aiohttp(exc) or _httpx(exc)


def _botocore(exc: BaseException) -> bool:
    if type(exc).__module__.partition(".")[0] not in ("botocore", "aiobotocore"):
        return False
    from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError
    from botocore.exceptions import ConnectionError as BotoConnectionError
    from botocore.parsers import ResponseParserError

    if isinstance(exc, (HTTPClientError, BotoConnectionError, IncompleteReadError, ResponseParserError)):
        return True
    if isinstance(exc, ClientError):
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = exc.response.get("Error", {}).get("Code", "")
        return status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout", "InternalError", "503", "500")
    return False


def _aiohttp(exc: BaseException) -> bool:
    if type(exc).__module__.partition(".")[0] not in ("aiohttp", "fsspec"):
        return False
    from fsspec.exceptions import FSTimeoutError

    if isinstance(exc, FSTimeoutError):
        return True
    status = getattr(exc, "status", None)
    return type(exc).__name__.startswith("Client") and (status is None or status >= 500 or status == 429)


def _hub_status(exc: BaseException) -> int | None:
    """Status that the Hugging Face Hub answered with; its client's errors are OSErrors whatever it is."""
    if not type(exc).__module__.startswith("huggingface_hub"):
        return None
    status = getattr(getattr(exc, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _httpx(exc: BaseException) -> bool:
    """Connections that fail or break off; the hub's client may use either generation of the library."""
    return any(c.__name__ == "TransportError" and c.__module__.startswith("httpx") for c in type(exc).__mro__)
