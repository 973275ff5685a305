"""What the commands share: arguments and options, the store that they read, and how they print."""

import json
import sys
from typing import Annotated, Any

import typer

from infra.artifacts import Artifact, ArtifactStore
from infra.retries import patiently
from infra.settings import settings

RecipeArgument = Annotated[str, typer.Argument(help="Name of a shipped recipe, or path of a .yaml file.")]
InputOption = Annotated[
    list[str] | None, typer.Option("--input", help="Replaces the paths of the recipe's first source; repeatable.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Replaces one field of the recipe; repeatable.")
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="STEP", help="Refuse to start unless every earlier step is cached.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="STEP", help="Stop after this step.")]
ForceOption = Annotated[
    list[str] | None, typer.Option("--force", metavar="STEP", help="Build this step again; repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show the log of Prefect and of every library.")]
ArtifactArgument = Annotated[
    str, typer.Argument(help="A digest or its beginning, STEP/DIGEST, the name of a step (its newest), or of a recipe.")
]


def open_store() -> ArtifactStore:
    """Return the store for reading; raises UserError if it cannot be reached. One that is not there yet is empty."""
    store = ArtifactStore(settings().storage)
    patiently(store.storage.check_readable)
    return store


def find_artifact(text: str) -> Artifact:
    """Return the artifact that a person means; a recipe's name means what its last complete run has trained."""
    store = open_store()
    if text not in store.steps():
        for version in reversed(store.versions(text)):
            made = store.tagged(text, version)
            if (model := made.get("pretrain") or made.get("import") or made.get("classifier")) is not None:
                return model
    return store.find(text)


def print_json(value: Any) -> None:
    """Print a value as indented JSON on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def print_line(text: str = "") -> None:
    """Print a line on stdout."""
    sys.stdout.write(f"{text}\n")


def print_table(rows: list[list[str]], header: list[str]) -> None:
    """Print rows below a header, columns aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
