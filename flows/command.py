"""The `millrace` command. Nothing here does work of its own: it reads arguments, calls the flows, prints answers."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from infra.artifacts import Artifact, ArtifactStore
from infra.embedded import EmbeddedServer, leave_within, prepare_environment
from infra.errors import MillraceError, UserError
from infra.retries import patiently
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


def _store() -> ArtifactStore:
    """Return the store for reading; raises UserError if it cannot be reached. One that is not there yet is empty."""
    store = ArtifactStore(settings().storage)
    patiently(store.storage.check_readable)
    return store


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _print(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def _table(rows: list[list[str]], header: list[str]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
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
    from flows.console import ConsoleObserver, configure_logging
    from flows.recipe import load_recipe
    from flows.runs import make_plan, observer, resume_command
    from infra.execution import Options

    configure_logging(verbose)
    loaded = load_recipe(recipe, sets=sets, inputs=inputs)
    options = Options(from_step, until, tuple(force or ()))
    store = ArtifactStore(settings().storage)
    patiently(store.storage.check)
    make_plan(loaded, store, options)  # what is wrong is said before anything is started
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
        except BaseException:
            if as_json and watching.summary is not None:
                _print_json(watching.summary)
            again += [part for step in force or [] if step not in watching.built for part in ("--force", step)]
            sys.stderr.write(f"to go on from where it stopped: {shlex.join(again)}\n")
            raise
    if as_json:
        _print_json(summary)
        return
    _print(f"run      {summary['run_id']}  {summary['status']} in {summary['seconds']:.1f} s")
    if summary["model"] and summary["model"]["validation_bits_per_byte"] is not None:
        _print(f"model    {summary['model']['uri']}")
        _print(f"         {summary['model']['validation_bits_per_byte']:.3f} bits per byte on validation")
    _print(f"report   {summary['report']}")


def _flow(recipe: Any, options: Any, server: EmbeddedServer | None) -> dict[str, Any]:
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.deployments import train_from_scratch

    arguments = {
        "recipe": recipe,
        "from_step": options.from_step,
        "until": options.until,
        "force": list(options.force) or None,
    }
    summary: dict[str, Any]
    if server is None:
        summary = train_from_scratch(**arguments)
        return summary
    server.wait()
    # Nobody watches the heartbeats of a temporary server, and joining their thread costs each flow a second.
    updates = {PREFECT_API_URL: os.environ["PREFECT_API_URL"], PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(updates=updates):
        summary = train_from_scratch(**arguments)
    return summary


@app.command()
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
    from flows.recipe import load_recipe
    from flows.runs import make_plan
    from infra.execution import Options

    loaded = load_recipe(recipe, sets=sets, inputs=inputs)
    store = _store()
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
    if as_json:
        _print_json({"recipe": loaded.name, "storage": store.root, "steps": steps})
        return
    rows = []
    for step in steps:
        last = step["seconds_last_time"]
        shards = f"{step['shards_cached']}/{step['shards']}" if step["shards"] else ""
        time = "" if last is None or step["state"] == "cached" else f"{last:.1f} s"
        rows.append([step["step"], step["state"], shards, time, (step["digest"] or "")[:12], step["why"]])
    _table(rows, ["step", "state", "shards", "last took", "digest", "why"])


@app.command(name="ls")
def list_artifacts(
    step: Annotated[str | None, typer.Argument(help="Only the artifacts of this step.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the published artifacts."""
    store = _store()
    if step is not None and step not in store.steps():
        raise UserError(
            f"{step}: no artifact of such a step in {store.root}; it has {', '.join(store.steps()) or 'none'}"
        )
    entries = [_brief(a) for a in store.published(step)]
    if not entries:
        sys.stderr.write(f"nothing is published in {store.root}\n")
    if as_json:
        _print_json(entries)
        return
    rows = [
        [
            e["step"],
            e["digest"][:12],
            e["created"][:19],
            f"{e['bytes']:,}",
            str(e["rows"] or ""),
            f"{e['seconds']:.1f} s",
        ]
        for e in entries
    ]
    _table(rows, ["step", "digest", "created", "bytes", "rows", "took"])


def _brief(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    rows = [f.rows for f in manifest.files if f.rows is not None]
    return {
        "step": manifest.step,
        "digest": manifest.digest,
        "created": manifest.created,
        "files": len(manifest.files),
        "bytes": sum(f.bytes for f in manifest.files),
        "rows": sum(rows) if rows else None,
        "seconds": manifest.seconds,
        "uri": artifact.uri,
    }


def _find(text: str) -> Artifact:
    """Return the artifact that a person means; a recipe's name means the model of its last complete run."""
    store = _store()
    if text not in store.steps() and store.versions(text):
        tagged = store.tagged(text)
        if "pretrain" in tagged:
            return tagged["pretrain"]
    return store.find(text)


@app.command()
def show(artifact: ArtifactArgument, as_json: JsonOption = False) -> None:
    """Show the manifest of an artifact."""
    found = _find(artifact)
    manifest = json.loads(found.manifest.to_json())
    if as_json:
        _print_json({**manifest, "uri": found.uri})
        return
    for key in ("step", "version", "digest", "content", "created", "seconds", "cpu_seconds", "peak_memory_bytes",
                "cost", "git_revision"):  # fmt: skip
        _print(f"{key:<18}{manifest[key]}")
    _print(f"{'uri':<18}{found.uri}")
    _print(f"{'params':<18}{json.dumps(manifest['params'])}")
    for entry in manifest["inputs"]:
        where = entry["uri"] or ", ".join(entry["origins"])
        _print(f"{'input':<18}{entry['role']}  {(entry['digest'] or entry['content'])[:12]}  {where}")
    counters = manifest["counters"]
    _print(f"{'documents':<18}{counters['documents_in']:,} in, {counters['documents_out']:,} out, "
           f"{counters['quarantined']:,} quarantined")  # fmt: skip
    for reason, count in sorted(counters["dropped"].items(), key=lambda item: -item[1]):
        _print(f"{'dropped':<18}{count:,}  {reason}")
    for f in found.files():
        _print(f"{'file':<18}{f.path}  {f.bytes:,} bytes" + (f"  {f.rows:,} rows" if f.rows is not None else ""))


@app.command()
def lineage(artifact: ArtifactArgument, as_json: JsonOption = False) -> None:
    """Show what an artifact was made from, back to its sources."""
    store = _store()
    nodes: list[dict[str, Any]] = []

    def walk(current: Artifact, depth: int) -> None:
        nodes.append({**_brief(current), "depth": depth, "inputs": []})
        mine = nodes[-1]["inputs"]
        for entry in current.manifest.inputs:
            for uri in entry.origins or ([entry.uri] if entry.uri else []):
                parent = _parent(store, uri)
                mine.append({"role": entry.role, "digest": parent.digest if parent else None, "uri": uri})
                if parent is not None and parent.digest not in {n["digest"] for n in nodes}:
                    walk(parent, depth + 1)

    walk(_find(artifact), 0)
    if as_json:
        _print_json(nodes)
        return
    for node in nodes:
        _print(f"{'  ' * node['depth']}{node['step']} {node['digest'][:12]}  {node['bytes']:,} bytes")
        for entry in node["inputs"]:
            if entry["digest"] is None:
                _print(f"{'  ' * (node['depth'] + 1)}{entry['role']}: {entry['uri']}")


def _parent(store: ArtifactStore, uri: str) -> Artifact | None:
    """Return the artifact that lies at `uri`, None where it is a file of the user's."""
    *_, folder, step, digest = f"//{uri.rstrip('/')}".split("/")
    return store.get(step, digest) if folder == "artifacts" else None


@app.command()
def verify(artifact: ArtifactArgument) -> None:
    """Hash every file of an artifact again and compare with its manifest."""
    found = _find(artifact)
    if problems := _store().verify(found):
        raise MillraceError("; ".join(problems))
    _print(f"{found.step} {found.digest[:12]}: {len(found.files())} files are as their manifest says")


@app.command()
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
    found = _find(model)
    if found.step != "pretrain":
        raise UserError(
            f"{model}: is an artifact of {found.step}, not a model; `millrace ls pretrain` lists the models"
        )
    from models.generation import generate as sample
    from models.generation import load_model

    text = sample(
        load_model(found.local()), prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, seed=seed
    )
    if as_json:
        _print_json({"model": found.uri, "prompt": prompt, "text": text})
    else:
        _print(prompt + text)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine has and lacks for Millrace."""
    from infra.doctor import diagnose

    checks = diagnose(settings())
    if as_json:
        _print_json([{"name": c.name, "ok": c.ok, "detail": c.detail, "fix": c.fix} for c in checks])
    else:
        for check in checks:
            _print(
                f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<22}{check.detail}"
                + ("" if check.ok else f"; {check.fix}")
            )
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def up() -> None:
    """Start Prefect's server, its UI, a worker and the deployments on this machine; Ctrl-C stops them."""
    from flows.console import configure_logging
    from infra.serve_local import up as serve

    configure_logging(verbose=False)
    serve(settings())


def main() -> None:
    """Run the command; exit with 0 done, 2 user error (one clear line), 1 anything else."""
    signal.signal(signal.SIGTERM, _interrupt)
    status = _guarded(lambda: app(args=sys.argv[1:] or ["--help"], standalone_mode=False))
    leave_within(_EXIT_SECONDS, status)
    sys.exit(status)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Take SIGTERM for Ctrl-C: the run says where it stopped, and all of its processes end with it."""
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
        _complain(f"{type(exc).__name__}: {exc}")
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
