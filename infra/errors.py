"""One small hierarchy of errors: what went wrong decides the exit status and whether a task is retried.

`UserError` and `DataError` are final: running the same thing again cannot help. Everything that `transient`
(infra/retries.py) accepts is tried again by the step machinery.
"""


class MillraceError(Exception):
    """Base of every error that Millrace raises on purpose; its text is one line meant for a person."""


class UserError(MillraceError):
    """A mistake in a recipe, a setting or a command; the text names the field, file or URL and says what to do."""


class DataError(MillraceError):
    """Data that no retry will mend: a gate that a stage left, counts that disagree, a corrupt artifact."""


class StorageError(MillraceError):
    """Storage that did not answer as it should; retried."""


class LeaseLostError(MillraceError):
    """Another worker took over this piece of work; what this one did must not be published."""


class StepTimeoutError(MillraceError):
    """A step ran longer than its limit and was stopped."""


class WorkerDiedError(MillraceError):
    """A worker process ended without an answer (killed, out of memory, crashed); retried."""


class PreemptedError(MillraceError):
    """Work that was told to stop, and saved what it had done; goes on when it is started again, which is no retry."""


def told_to_stop(exc: BaseException) -> bool:
    """Tell whether nothing failed: somebody, or the machine, wanted the work to end."""
    by_prefect = type(exc).__name__ == "TerminationSignal"  # SIGTERM, while it runs a flow
    return by_prefect or isinstance(exc, (PreemptedError, KeyboardInterrupt))


def reason(exc: BaseException) -> str:
    """Return in one line why a step, or a run, ended."""
    return " ".join(str(exc).split()) or ("interrupted" if told_to_stop(exc) else type(exc).__name__)


def needs_mending(exc: BaseException) -> bool:
    """Tell whether the same thing, run again, would end in the same error."""
    return isinstance(exc, (UserError, DataError))
