"""Writing what was made for others: the curated text as a data set, a model for transformers."""

import re
import sys
from typing import Annotated, Final, Literal

import typer

from flows.commands.interface import (
    InputOption,
    JsonOption,
    SetOption,
    find_artifact,
    open_store,
    print_json,
    print_line,
    print_table,
)
from infra.errors import UserError

_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def export(
    recipe: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A recipe, or the id of a run; with --format huggingface a model.")
    ],
    destination: Annotated[str, typer.Argument(help="A local folder, or an s3:// or gs:// URL.")],
    splits: Annotated[
        list[str] | None, typer.Option("--split", help="Only this split: train, validation or test; repeatable.")
    ] = None,
    shard_size: Annotated[
        str, typer.Option("--shard-size", help="Most bytes of a file before compression, as in 500MB or 1GiB.")
    ] = "500MB",
    form: Annotated[
        Literal["parquet", "huggingface"],
        typer.Option("--format", help="parquet is text with its card, huggingface a model for transformers."),
    ] = "parquet",
    check: Annotated[
        bool, typer.Option(help="With --format huggingface: load it again and hold its logits against ours.")
    ] = True,
    step: Annotated[str, typer.Option("--step", help="The step whose documents are written.")] = "split",
    with_signals: Annotated[
        bool, typer.Option("--with-signals", help="Writes the signals of the documents too, as a configuration.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Writes over another export.")] = False,
    inputs: InputOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the curated text as Parquet with its dataset card, as `datasets.load_dataset` opens it; or a model."""
    if form == "huggingface":
        if splits or with_signals or inputs or sets:
            raise UserError(
                "--format huggingface: writes a model; --split, --with-signals, --input and --set are of texts"
            )
        _export_model(recipe, destination, force=force, check=check, as_json=as_json)
        return
    from flows.exports import corpus, origin
    from infra.storage import Storage
    from tasks.export import Part, plan_layout
    from tasks.export import export as write

    limit = _bytes(shard_size)
    chosen = corpus(origin(recipe, open_store(), sets, inputs), step, splits or [], with_signals=with_signals)
    layout = plan_layout(chosen.documents, chosen.signals, limit)
    if not layout.parts:
        raise UserError(f"{recipe}: {step} holds no document; there is nothing to export")

    def written(part: Part) -> None:
        sys.stderr.write(f"{part.path}  {part.end - part.start:,} rows\n")

    exported = write(layout, chosen.facts, destination, force=force, extra=chosen.beside, written=written)
    where = Storage(destination).uri("")
    if as_json:
        rows = {split: rows for split, (rows, _) in exported.splits.items()}
        print_json({"destination": where, "rows": rows, "files": [part.path for part in layout.parts],
                    "bytes": exported.download_bytes})  # fmt: skip
        return
    files = {split: sum(part.split == split and not part.signals for part in layout.parts) for split in exported.splits}
    print_table(
        [[split, f"{rows:,}", str(files[split])] for split, (rows, _) in exported.splits.items()],
        ["split", "rows", "files"],
    )
    print_line(f"in {where}: datasets.load_dataset({where!r}) opens it")


def _export_model(model: str, destination: str, *, force: bool, check: bool, as_json: bool) -> None:
    from flows.models import exported

    loader, files = exported(find_artifact(model), destination, force=force, check=check)
    if as_json:
        print_json({"destination": destination, "files": files, "class": loader, "checked": check})
        return
    said = ", its logits are ours" if check else ""
    print_line(f"in {destination}: transformers.{loader}.from_pretrained({destination!r}) loads it{said}")


def _bytes(text: str) -> int:
    """Return a number of bytes written as a person would; raises UserError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B|)\s*", text, re.IGNORECASE)
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size < 1:
        raise UserError(f"--shard-size {text}: write it as a number of bytes, as in 500MB or 1GiB")
    return size
