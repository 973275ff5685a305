"""Be one rank: `python -m infra.launch -m MODULE ARGUMENT…` or `-c CODE ARGUMENT…`, which ends with its supervisor."""

import runpy
import sys
from collections.abc import Sequence

from infra.launch.processes import watch_supervisor


def main(argv: Sequence[str]) -> None:
    """Watch the supervisor, and run what is named as the main program."""
    watch_supervisor()
    kind, program, *rest = argv
    if kind == "-m":
        sys.argv = [program, *rest]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *rest]
        exec(compile(program, "<command line>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(sys.argv[1:])
