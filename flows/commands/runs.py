"""Running a recipe, and planning what a run would do."""

import os
import shlex
import sys
from typing import Any

from flows.commands.interface import (
    ForceOption,
    FromOption,
    InputOption,
    JsonOption,
    RecipeArgument,
    SetOption,
    UntilOption,
    VerboseOption,
    open_store,
    print_json,
    print_line,
    print_table,
)
from infra.artifacts import ArtifactStore
from infra.embedded import EmbeddedServer, prepare_environment
from infra.errors import needs_mending
from infra.retries import patiently
from infra.settings import settings


def run(
    recipe: RecipeArgument,
    inputs: InputOption = None,
    sets: SetOption = None,
    from_step: FromOption = None,
    until: UntilOption = None,
    force: ForceOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a recipe from its sources to its report; what is cached is not done again."""
    from flows.classifier_recipe import load_any
    from flows.console import ConsoleObserver, configure_logging
    from flows.runs import checked_plan, observer, resume_command
    from infra.execution import Options

    configure_logging(verbose)
    loaded = load_any(recipe, sets=sets, inputs=inputs)
    options = Options(from_step, until, tuple(force or ()))
    store = ArtifactStore(settings().storage)
    patiently(store.storage.check)
    checked_plan(loaded, store, options)  # what is wrong is said before anything is started
    prepare_environment(settings(), quiet=not verbose)
    server = EmbeddedServer.start(settings())
    again = ["millrace", "run", recipe]
    again += [part for value in inputs or [] for part in ("--input", value)]
    again += [part for value in sets or [] for part in ("--set", value)]
    again += ["--until", until] if until else []
    resume_command.set(shlex.join(again))
    with ConsoleObserver() as watching:
        observer.set(watching)
        try:
            summary = _flow(loaded, options, server)
        except BaseException as exc:
            if as_json and watching.summary is not None:
                print_json(watching.summary)
            again += [part for step in force or [] if step not in watching.built for part in ("--force", step)]
            how = "once what is wrong is mended, go on with" if needs_mending(exc) else "to go on from where it stopped"
            sys.stderr.write(f"{how}: {shlex.join(again)}\n")
            raise
    if as_json:
        print_json(summary)
        return
    print_line(f"run      {summary['run_id']}  {summary['status']} in {summary['seconds']:.1f} s")
    if (model := summary["model"]) and model["validation_loss"] is not None:
        print_line(f"model    {model['uri']}")
        print_line(f"         {held_out_cost(model, (summary['evaluation'] or {}).get('validation'))}")
    if measured := (summary["evaluation"] or {}).get("classifier"):
        print_line(f"         ROC AUC {measured['roc_auc']:.4f} on {measured['documents']:,} documents held out")
    if summary["card"]:
        print_line(f"card     {summary['card']['README.md']}")
    print_line(f"report   {summary['report']}")


def held_out_cost(model: dict[str, Any], evaluated: dict[str, Any] | None) -> str:
    """Return what held-out text costs the model: as it was evaluated, else as training has validated it."""
    if evaluated is not None and "missing_tokens" in evaluated:
        return f"{evaluated['nats_per_token']:.3f} nats a missing token of held-out text"
    if evaluated is not None:
        return f"{evaluated['bits_per_byte']:.3f} bits a byte of held-out text"
    bits = model["validation_bits_per_byte"]
    cost = f"{bits:.3f} bits a byte" if bits is not None else f"{model['validation_loss']:.3f} nats a target"
    return f"{cost} on validation"


def _flow(recipe: Any, options: Any, server: EmbeddedServer | None) -> dict[str, Any]:
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.classifier_recipe import ClassifierRecipe
    from flows.deployments import train_classifier, train_from_scratch

    flow: Any = train_classifier if isinstance(recipe, ClassifierRecipe) else train_from_scratch
    arguments = {
        "recipe": recipe,
        "from_step": options.from_step,
        "until": options.until,
        "force": list(options.force) or None,
    }
    summary: dict[str, Any]
    if server is None:
        summary = flow(**arguments)
        return summary
    server.wait()
    # Nobody watches the heartbeats of a temporary server, and joining their thread costs each flow a second.
    updates = {PREFECT_API_URL: os.environ["PREFECT_API_URL"], PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(updates=updates):
        summary = flow(**arguments)
    return summary


def plan(
    recipe: RecipeArgument,
    inputs: InputOption = None,
    sets: SetOption = None,
    from_step: FromOption = None,
    until: UntilOption = None,
    force: ForceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is cached, what will run and why, and what it took last time; runs nothing."""
    from flows.classifier_recipe import load_any
    from flows.runs import make_plan
    from infra.execution import Options

    loaded = load_any(recipe, sets=sets, inputs=inputs)
    store = open_store()
    planner = make_plan(loaded, store, Options(from_step, until, tuple(force or ())))
    skipped = planner.options.after_until
    steps: list[dict[str, Any]] = []
    for record in planner.records:
        seconds, cost = planner.estimates.get(record.step, (None, None))
        steps.append(
            {
                "step": record.step,
                "state": "cached" if record.state == "cached" else "skip" if skipped(record.step) else "run",
                "source": record.label or None,
                "why": record.why,
                "digest": record.artifact.digest if record.artifact else None,
                "shards": record.shards or None,
                "shards_cached": record.shards_cached if record.shards else None,
                "seconds_last_time": seconds if record.state != "cached" else 0.0,
                "cost_last_time": cost,
            }
        )
    why, takes = _reasons(loaded), _takes(loaded, steps)
    if as_json:
        print_json({"recipe": loaded.name, "storage": store.root, "steps": steps, "dial": why, "training": takes})
        return
    rows = []
    for step in steps:
        last = step["seconds_last_time"]
        shards = f"{step['shards_cached']}/{step['shards']}" if step["shards"] else ""
        time = "" if last is None or step["state"] == "cached" else f"{last:.1f} s"
        name = f"{step['step']} {step['source']}" if step["source"] else step["step"]
        rows.append([name, step["state"], shards, time, (step["digest"] or "")[:12], step["why"]])
    print_table(rows, ["step", "state", "shards", "last took", "digest", "why"])
    for line in (*why, *takes):
        print_line(line)


def _takes(recipe: Any, steps: list[dict[str, Any]]) -> list[str]:
    """Return what the training will take, where there is one to come."""
    from flows.recipe import Recipe

    if not isinstance(recipe, Recipe) or all((s["step"], s["state"]) != ("pretrain", "run") for s in steps):
        return []
    from flows.estimates import training_estimate

    return [f"pretrain: {line}" for line in training_estimate(recipe)]


def _reasons(recipe: Any) -> list[str]:
    """Return why the numbers of a training by the dial are what they are."""
    from flows.recipe import Recipe
    from models.dial import reasons

    if not isinstance(recipe, Recipe) or recipe.pretrain.dial is None:
        return []
    return [f"pretrain.{reason}" for reason in reasons(recipe.pretrain.dial, recipe.pretrain.model_dump())]
