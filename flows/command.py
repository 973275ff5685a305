"""The `millrace` command: registers the commands, runs one, and turns what went wrong into a line and an exit status.

Nothing here or in flows/commands/ does work of its own: it reads arguments, calls the flows, prints answers.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer
from typer.exceptions import TyperException

from flows.commands import artifacts, explain, export, machine, models, rows, runs, shapes, whatif
from infra.embedded import leave_within
from infra.errors import MillraceError, UserError
from infra.preemption import SIGNALS
from infra.retries import transient
from infra.settings import settings

_INTERRUPTED = 130
"""What Typer makes of KeyboardInterrupt."""
_EXIT_SECONDS = 15.0
"""Time in which Prefect may send its last events to the server at exit."""

app = typer.Typer(
    name="millrace",
    help="From raw web pages to a trained, evaluated, servable language model.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "run": runs.run,
    "plan": runs.plan,
    "whatif": whatif.whatif,
    "explain": explain.explain,
    "ls": artifacts.list_artifacts,
    "show": artifacts.show,
    "head": rows.head,
    "lineage": artifacts.lineage,
    "verify": artifacts.verify,
    "export": export.export,
    "presets": shapes.presets,
    "dial": shapes.dial,
    "import": models.import_model,
    "generate": models.generate,
    "doctor": machine.doctor,
    "up": machine.up,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Run the command; exit with 0 done, 2 user error (one clear line), 1 anything else."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    status = execute(sys.argv[1:])
    leave_within(_EXIT_SECONDS, status)
    sys.exit(status)


def execute(arguments: list[str]) -> int:
    """Run the command with its arguments and return its exit status; what went wrong is a line on stderr."""
    return _guarded(lambda: app(args=arguments or ["--help"], standalone_mode=False))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Take SIGTERM, and what Slurm sends before it, for Ctrl-C.

    The run says where it stopped, and all of its processes end with it. Where a step can save what it has done, it is
    given the time first (infra/preemption.py).
    """
    raise KeyboardInterrupt


def _guarded(body: Callable[[], Any]) -> int:
    try:
        status = int(body() or 0)
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        return status
    except typer.Exit as exc:
        return exc.exit_code
    except TyperException as exc:
        _complain(exc.format_message())
        return 2
    except UserError as exc:
        _complain(str(exc))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return 1
    except MillraceError as exc:
        _complain(str(exc))
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as exc:
        away = "storage or network did not answer, also when it was tried again: " if transient(exc) else ""
        _complain(f"{away}{type(exc).__name__}: {exc}")
        _keep_traceback(exc)
        return 1


def _keep_traceback(exc: BaseException) -> None:
    import traceback

    path = settings().workspace / "traceback.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(exc)))
    except OSError as error:  # a full disk may be what it is all about
        sys.stderr.write(f"the traceback could not be written to {path}: {error.strerror}\n")
    else:
        sys.stderr.write(f"the traceback is in {path}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"millrace: {' '.join(text.split())}\n")


if __name__ == "__main__":
    main()
