"""Steps: plain functions over a frozen config, with an identity; how they are run is decided elsewhere.

    @step("extract", version=1, shards={"pages": "pages"})
    def extract(cfg: ExtractConfig, pages: File, out: Attempt) -> Counters: ...

    documents = extract(recipe.extract, pages=pages)      # in a flow: an Artifact

Calling a step hands it to the current `Execution`: the planner (infra/planning.py) only looks up what is published,
the Prefect execution (infra/orchestration.py) builds what is missing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from infra.artifacts import SHARD_SUFFIX, Artifact
from infra.errors import DataError, MillraceError
from infra.manifests import Counters, File, Identity, Input


class _ExecutionOnly:
    """Marks a field that says only where or how work is done."""


Execution = _ExecutionOnly()
"""`Annotated[int, Execution]`: the field never enters an identity."""


class StepConfig(BaseModel):
    """Base of the parameters of a step: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    step_timeout_seconds: Annotated[float | None, Execution] = None
    """Limit of one call of the step, in seconds; the step's own where it is not set."""

    def identity(self) -> dict[str, Any]:
        """Return the parameters that say *what* is made, as plain JSON values.

        A field that is excluded from dumps is not among them: it was shorthand for others.
        """
        return cast(dict[str, Any], _identity(self))


def _identity(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {
            name: _identity(getattr(value, name))
            for name, info in type(value).model_fields.items()
            if Execution not in info.metadata and not info.exclude
        }
    if isinstance(value, (list, tuple)):
        return [_identity(item) for item in value]
    if isinstance(value, dict):
        return {key: _identity(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, date):
        return value.isoformat()
    return value.value if hasattr(value, "value") else value


class Gate(BaseModel):
    """The band in which a stage must stay; outside of it the run fails instead of going on with a ruined corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_dropped: float = 1.0
    """Largest share of documents that may be dropped, 0 to 1."""
    max_quarantined: float = 0.1
    """Largest share of documents that may be quarantined (errors, time-outs), 0 to 1."""
    min_out: int = 1
    """Fewest documents that must come out."""

    def check(self, step: str, counters: Counters, source: str = "") -> None:
        """Raise DataError that names the share, the top reason and three example URLs if a bound is left.

        The gate of a step that works for one source alone is a field of that `source`.
        """

        def field(bound: str) -> str:
            return f"{bound} in the gate of source {source}" if source else f"{step}.gate.{bound}"

        total = counters.documents_in
        dropped = sum(counters.dropped.values())
        quarantine = total and counters.quarantined / total > self.max_quarantined
        reasons = counters.errors if quarantine else (counters.dropped or counters.errors)
        top = ""
        if reasons:
            reason = max(reasons, key=lambda r: (reasons[r], r))
            urls = ", ".join(counters.examples.get(reason, []))
            top = f"; most often: {reason} ({reasons[reason]})" + (f", e.g. {urls}" if urls else "")
        if quarantine:
            raise DataError(
                f"{step}: {counters.quarantined} of {total} documents could not be handled "
                f"(limit {self.max_quarantined:.0%}){top}; raise {field('max_quarantined')} if that is right"
            )
        if total and dropped / total > self.max_dropped:
            raise DataError(
                f"{step}: {dropped} of {total} documents were dropped "
                f"(limit {self.max_dropped:.0%}){top}; raise {field('max_dropped')} if that is right"
            )
        if counters.documents_out < self.min_out:
            raise DataError(
                f"{step}: {counters.documents_out} of {total} documents came out, "
                f"at least {self.min_out} must{top}; lower {field('min_out')} if that is right"
            )


@dataclass(frozen=True)
class Pending:
    """Stands for an artifact that is not there yet (in a plan, or after `--until`)."""

    step: str
    why: str


class Running(Protocol):
    """What runs steps."""

    def run(self, step: "Step[Any, ...]", cfg: Any, inputs: dict[str, Artifact]) -> Artifact:
        """Return the artifact of `step` (a `Pending`, cast, where it will not be made now)."""

    def made(self) -> dict[str, Artifact]:
        """Return what `run` has returned so far, in that order, by step, or `STEP/SOURCE` where it has a source."""


_current: ContextVar[Running | None] = ContextVar("millrace_execution", default=None)


@contextmanager
def executing(execution: Running) -> Iterator[None]:
    """Make `execution` the one that step calls in this context go to."""
    token = _current.set(execution)
    try:
        yield
    finally:
        _current.reset(token)


def made() -> dict[str, Artifact]:
    """Return the artifacts of the steps called so far, in order, by step, or `STEP/SOURCE`; Pending ones too."""
    execution = _current.get()
    return execution.made() if execution is not None else {}


C = TypeVar("C", bound=StepConfig)
P = ParamSpec("P")


@dataclass(frozen=True)
class Step(Generic[C, P]):
    """A named, versioned function from a config and artifacts to an artifact."""

    name: str
    version: int
    fn: Callable[Concatenate[C, P], Counters]
    shards: dict[str, str] = field(default_factory=dict)
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    named: bool = False
    timeout_seconds: float | None = None
    preemptible: bool = False
    steps: ClassVar[dict[str, "Step[Any, ...]"]] = {}

    def __call__(self, cfg: C, **inputs: Artifact) -> Artifact:
        """Run under the current execution; raises MillraceError outside of one."""
        execution = _current.get()
        if execution is None:
            raise MillraceError(f"{self.name}: steps run inside a flow; call {self.name}.fn for the plain function")
        return execution.run(self, cfg, inputs)

    def identity(self, cfg: C, inputs: dict[str, Artifact]) -> Identity:
        """Return the identity of the artifact made from whole inputs."""
        return Identity(
            self.name,
            self.version,
            cfg.identity(),
            tuple(self._input(role, artifact) for role, artifact in sorted(inputs.items())),
        )

    def _input(self, role: str, artifact: Artifact) -> Input:
        content = artifact.content_of(self._folders(role))
        if artifact.origins:
            return Input(role=role, content=content, origins=list(artifact.origins))
        return Input(role=role, content=content, digest=artifact.digest, uri=artifact.uri)

    def _folders(self, role: str) -> tuple[str, ...] | None:
        if role in self.reads:
            return self.reads[role]
        folder = self.shards.get(role)
        return (folder,) if folder else None

    def split(self, inputs: dict[str, Artifact]) -> list[dict[str, Artifact | File]]:
        """Cut the inputs into those of each shard; sharded inputs are zipped by order and must be equally many."""
        columns = {role: inputs[role].files(folder or None) for role, folder in self.shards.items()}
        lengths = {role: len(files) for role, files in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{self.name}: its inputs have different numbers of shards: {lengths}")
        whole = {role: artifact for role, artifact in inputs.items() if role not in self.shards}
        count = next(iter(lengths.values()))
        return [{**whole, **{role: files[i] for role, files in columns.items()}} for i in range(count)]

    def shard_identity(self, cfg: C, inputs: dict[str, Artifact | File]) -> Identity:
        """Return the identity of one shard's artifact: it depends on that shard's bytes alone."""
        entries = []
        for role, value in sorted(inputs.items()):
            if isinstance(value, File):
                name = f"{role}:{value.path}" if self.named else role
                entries.append(Input(role=name, content=value.sha256, uri=value.uri))
            else:
                entries.append(self._input(role, value))
        return Identity(f"{self.name}{SHARD_SUFFIX}", self.version, cfg.identity(), tuple(entries))


def step(
    name: str,
    *,
    version: int,
    shards: dict[str, str] | None = None,
    reads: dict[str, tuple[str, ...]] | None = None,
    named: bool = False,
    timeout_seconds: float | None = 6 * 3600,
    preemptible: bool = False,
) -> Callable[[Callable[Concatenate[C, P], Counters]], Step[C, P]]:
    """Make a function a step.

    `version` must grow whenever the same inputs give other outputs (a golden test holds this). `shards` maps an input
    to the folder whose files are its shards ("" for all files): the function is then called once per file. `reads`
    limits what enters the identity of a whole input to some of its folders. `named` lets the logical names of shard
    files enter too, for steps that write them into their output. `timeout_seconds` limits one call. One
    that is `preemptible` saves and raises PreemptedError when the note infra.preemption.NOTE appears in its scratch
    folder.
    """

    def decorate(fn: Callable[Concatenate[C, P], Counters]) -> Step[C, P]:
        made: Step[C, P] = Step(name, version, fn, shards or {}, reads or {}, named, timeout_seconds, preemptible)
        Step.steps[name] = made
        return made

    return decorate


def gather(parts: list[Artifact]) -> Artifact:
    """Return one artifact that lists the files of all parts, in order (a Pending if any part is one)."""
    waiting = [part for part in parts if isinstance(part, Pending)]
    if waiting:
        return cast(Artifact, waiting[0])
    if len(parts) == 1:
        return parts[0]
    files = []
    for i, part in enumerate(parts):
        for f in part.files():
            folder, _, name = f.path.rpartition("/")
            files.append(f.model_copy(update={"path": f"{folder}/{i:03d}-{name}" if folder else f"{i:03d}-{name}"}))
    files.sort(key=lambda f: f.path)
    origins = tuple(origin for part in parts for origin in (part.origins or (part.uri,)))
    return Artifact.external(files, "+".join(dict.fromkeys(part.step for part in parts)), parts[0].root, origins)
