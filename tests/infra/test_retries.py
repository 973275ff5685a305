import email.utils
import errno
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, NoCredentialsError

from infra.errors import (
    DataError,
    LeaseLostError,
    PreemptedError,
    StepTimeoutError,
    StorageError,
    UserError,
    WorkerDiedError,
)
from infra.retries import retry_after, transient


def _client_error(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


@pytest.mark.parametrize(
    ("exc", "again"),
    [
        (ConnectionResetError("reset"), True),
        (BrokenPipeError("pipe"), True),
        (TimeoutError("slow"), True),
        (OSError("Please reduce your request rate"), True),
        (EndpointConnectionError(endpoint_url="http://x"), True),
        (ConnectTimeoutError(endpoint_url="http://x"), True),
        (_client_error(503, "SlowDown"), True),
        (_client_error(500, "InternalError"), True),
        (_client_error(429, "TooManyRequests"), True),
        (_client_error(200, "SlowDown"), True),
        (_client_error(403, "AccessDenied"), False),
        (_client_error(412, "PreconditionFailed"), False),
        (NoCredentialsError(), False),
        (StorageError("x"), True),
        (LeaseLostError("x"), True),
        (PreemptedError("x"), True),
        (WorkerDiedError("x"), True),
        (StepTimeoutError("x"), False),
        (UserError("x"), False),
        (DataError("x"), False),
        (FileNotFoundError("x"), False),
        (PermissionError("x"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (ValueError("x"), False),
        (KeyError("x"), False),
        (MemoryError(), False),
    ],
)
def test_what_is_tried_again(exc: Exception, again: bool) -> None:
    assert transient(exc) is again


def test_the_wait_that_a_server_asks_for() -> None:
    soon = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=90))
    assert retry_after("120") == 120.0
    assert 80 < retry_after(soon) <= 90
    for senseless in (None, "", "-3", "²", "soon", "Wed, 99 Nov 2026 99:00:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert retry_after(senseless) == 0.0, senseless
