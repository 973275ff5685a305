"""Shapes to choose from: presets, and what the one dial makes of a depth or a budget."""

from typing import Annotated, Any

import typer

from flows.commands.interface import JsonOption, print_json, print_line, print_table
from infra.errors import UserError


def presets(as_json: JsonOption = False) -> None:
    """List the published models that `pretrain.preset` and `pretrain.model.preset` know."""
    from models.config import ModelConfig
    from models.presets import PRESETS

    entries: list[dict[str, Any]] = []
    for name, preset in PRESETS.items():
        cfg = ModelConfig.model_validate({"preset": name})
        layers = f"{cfg.layers}+{cfg.resolved_decoder_layers}" if cfg.family == "encoder_decoder" else str(cfg.layers)
        entries.append(
            {"name": name, "family": cfg.family, "layers": layers, "width": cfg.width, "heads": cfg.heads,
             "sequence_length": cfg.sequence_length, "vocab_size": preset.vocab_size,
             "parameters": preset.parameters, "source": preset.source}
        )  # fmt: skip
    if as_json:
        print_json(entries)
        return
    columns = ["name", "family", "layers", "width", "heads", "sequence_length", "vocab_size", "parameters"]
    rows = [[f"{e[c]:,}" if c in ("parameters", "vocab_size") else str(e[c]) for c in columns] for e in entries]
    print_table(rows, [column.replace("_", " ") for column in columns])


def dial(
    depth: Annotated[int | None, typer.Option(min=1, help="Transformer blocks.")] = None,
    flops: Annotated[float | None, typer.Option(help="Compute budget, as in 1e17.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Compute budget as time; see --flops-per-second.")] = None,
    flops_per_second: Annotated[
        float | None, typer.Option("--flops-per-second", help="What the machine reaches; measured by default.")
    ] = None,
    vocab_size: Annotated[int, typer.Option("--vocab-size", min=1, help="Tokens of the vocabulary.")] = 32_768,
    as_json: JsonOption = False,
) -> None:
    """Derive shape, batch, rates and horizon from a depth or a compute budget, and say why."""
    from pydantic import ValidationError

    from models.dial import DialConfig, expand_dial, reasons

    if minutes is not None and flops_per_second is None:
        from models.measured_flops import measure_flops

        flops_per_second = float(f"{measure_flops():.2g}")
    given = {"depth": depth, "flops": flops, "minutes": minutes, "flops_per_second": flops_per_second}
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        turned = DialConfig.model_validate({**chosen, "vocab_size": vocab_size})
    except ValidationError as exc:
        wrong = exc.errors()[0]
        where = f"--{wrong['loc'][0]} {wrong['input']}: ".replace("_", "-") if wrong["loc"] else ""
        raise UserError(f"dial: {where}{wrong['msg'].removeprefix('Value error, ')}") from exc
    found = reasons(turned, expand_dial({"dial": turned.model_dump()}))
    if as_json:
        print_json([{"field": reason.field, "value": reason.value, "why": reason.why} for reason in found])
        return
    for reason in found:
        print_line(str(reason))
    written = ", ".join(f"{name}: {value}" for name, value in chosen.items())
    print_line(f"in a recipe: pretrain: {{dial: {{{written}}}}}")
