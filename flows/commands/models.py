"""Using a trained model."""

from typing import Annotated

import typer

from flows.commands.interface import ArtifactArgument, JsonOption, find_artifact, print_json, print_line
from flows.references import MODELS
from infra.errors import UserError


def import_model(
    source: Annotated[
        str, typer.Argument(help="A folder of transformers, or a model of the hub: owner/name[@revision].")
    ],
    name: Annotated[str | None, typer.Option(help="What it is called here; that of the source by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Import a model of Hugging Face's transformers, for `generate`, or to go on training from."""
    from flows.models import imported

    artifact, chosen = imported(source, name)
    if as_json:
        print_json({"name": chosen, "digest": artifact.digest, "uri": artifact.uri})
    else:
        print_line(f"{chosen}  {artifact.uri}")


def generate(
    model: ArtifactArgument,
    prompt: Annotated[str, typer.Option(help="Text to go on from.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens to generate.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample among the k likeliest tokens.")] = 50,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Generate text with a trained model."""
    found = find_artifact(model)
    if found.step not in MODELS:
        raise UserError(
            f"{model}: is an artifact of {found.step}, not a model; `millrace ls pretrain` lists the models"
        )
    from models.generation import generate as sample
    from models.generation import load_model

    text = sample(
        load_model(found.local()), prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, seed=seed
    )
    if as_json:
        print_json({"model": found.uri, "prompt": prompt, "text": text})
    else:
        print_line(prompt + text)
