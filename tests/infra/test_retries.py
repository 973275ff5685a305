import errno

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, NoCredentialsError

from infra.errors import DataError, LeaseLostError, StepTimeoutError, StorageError, UserError, WorkerDiedError
from infra.retries import transient


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
