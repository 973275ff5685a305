"""pretrain: a language model from the tokens, trained by a process group that cannot outlive this step.

model.safetensors  all weights, fp32          config.json     the network's shape
training.json      final numbers              curve.jsonl     loss, learning rate, gradient norm, validation by step
tokenizer.json …   copied in                  logs/           TensorBoard, throughput, the ranks' log (not content)

The work itself is `python -m models.train` (models/train.py).  Here its inputs are fetched and checked, the group is
started and supervised, and why it failed becomes an error that says whether trying again can help.  Checkpoints go to
the attempt's partial storage, so the step goes on where a killed one stopped, on any machine.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from infra.artifacts import Artifact, Attempt
from infra.canonical import digest_of
from infra.errors import DataError, PreemptedError, StepTimeoutError, UserError, WorkerDiedError
from infra.launch import run_group
from infra.launch.remote import check_shared
from infra.manifests import Counters, File
from infra.settings import settings, usable_cores
from infra.steps import Execution, StepConfig, step
from infra.storage import Storage
from models.cache import StoredFile
from models.checkpoints import Checkpoints, Retention, nothing_to_resume
from models.config import ExecutionConfig, ModelConfig, TrainingConfig, check_execution
from models.dial import DialConfig, expand_dial, reasons
from models.job import (
    PROGRESS,
    Failure,
    Job,
    Split,
    failure_folder,
    first_cause,
    result_file,
    stack_folder,
    stop_note,
)
from models.machine_memory import machine_memory
from models.memory import fitting
from models.objectives import read_vocabulary, require_tokens
from models.order import Stage, TrainingOrder
from models.parameters import weights_of
from models.presets import expand_training
from models.telemetry import require_trackers
from models.watch import read_stacks

log = logging.getLogger(__name__)

VERSION = 2
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_METRICS = (
    "tokens_per_second", "mfu", "mfu_reason", "device", "precision_reason", "threads", "ranks", "micro_batch",
    "training_seconds", "data_wait_share", "checkpoint_seconds",
)  # fmt: skip
_VALUES = ("parameters", "steps", "tokens", "bad_steps", "spikes", "rollbacks", "skipped_batches")
_LAST_LINES = 15


class PretrainConfig(TrainingConfig, StepConfig):
    """What is trained, and (under `execution`) how; only the former is part of the model's identity."""

    execution: Annotated[ExecutionConfig, Execution] = ExecutionConfig()
    """Ranks, ZeRO stage, micro-batch, checkpoints: they change the order of floating-point sums (curves agree within
    1e-3), never what is computed."""

    preset: str | None = Field(default=None, exclude=True)
    """Name of a published model whose shape and training this one starts from (`millrace presets` lists them); every
    other key replaces one of it."""
    dial: Annotated[DialConfig | None, Execution] = None
    """A depth or a compute budget from which shape, batch, rates and horizon are derived; every other key replaces one
    of them. The log of the run says why each is what it is."""

    initial_weights: Annotated[str | None, Execution] = None
    """A model whose weights this one starts from (continued pretraining): the name of a recipe, of what `millrace
    import` has read, or a digest. Shape and tokenizer must be the same. What it holds enters the identity, not what it
    is called."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return expand_dial(expand_training(value))

    @model_validator(mode="after")
    def _can_run(self) -> Self:
        problems = check_execution(self, self.execution)
        if problems:
            raise ValueError("; ".join(problems))
        return self


@step("pretrain", version=VERSION, timeout_seconds=None, preemptible=True)
def pretrain(
    cfg: PretrainConfig, tokens: Artifact, tokenizer: Artifact, out: Attempt, initial: Artifact | None = None
) -> Counters:
    """Train on train/ of the tokens, validate on validation/; start from the weights of `initial` where it is given.

    Raises UserError, DataError, WorkerDiedError, StepTimeoutError where it makes no progress, and PreemptedError where
    it was told to stop and has saved what it had.
    """
    job = make_job(cfg, tokens, tokenizer, out, initial)
    if cfg.dial is not None:
        why = "".join(f"{reason}\n" for reason in reasons(cfg.dial, cfg.model_dump()))
        out.path("logs/dial.txt").write_text(why, encoding="utf-8")
    report = _Lines(out.path("logs/ranks.log"), out.progress)
    try:
        result = _train(job, report)
    finally:
        report.close()
        stop_note(job.scratch).unlink(missing_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer.file(name).local(), out.path(name))
    return Counters(
        documents_in=1,
        documents_out=1,
        values={name: result[name] for name in _VALUES},
        metrics={
            name: result[name] for name in (*_METRICS, "validation_loss", "validation_bits_per_byte", "precision")
        },
    )


def make_job(
    cfg: PretrainConfig, tokens: Artifact, tokenizer: Artifact, out: Attempt, initial: Artifact | None = None
) -> Job:
    """Fetch the inputs and return what the ranks are told; raises UserError if the inputs do not belong together."""
    index = json.loads(tokens.file("index.json").local().read_bytes())
    if index["tokenizer"] != tokenizer.content:
        raise UserError(
            f"pretrain: the tokens were made with tokenizer {index['tokenizer'][:12]}, this one is "
            f"{tokenizer.content[:12]}; make the tokens again with it"
        )
    table = token_bytes(tokenizer.file("tokenizer.json").local())
    if len(table) > index["vocab_size"]:
        raise UserError(
            f"pretrain: the tokenizer has {len(table)} tokens, the tokens' index says vocab_size={index['vocab_size']}"
        )
    table_file = out.scratch / "token_bytes.npy"
    np.save(table_file, np.pad(table, (0, index["vocab_size"] - len(table))))
    special_tokens_map = tokenizer.file("special_tokens_map.json").local().resolve()
    tokenizer_json = tokenizer.file("tokenizer.json").local().resolve()
    vocabulary = read_vocabulary(tokenizer_json, special_tokens_map, size=index["vocab_size"], end=index["eod"])
    require_tokens(cfg.objective, vocabulary.mask is not None, len(vocabulary.sentinels), window=cfg.window)
    train = _split("train", index, tokens)
    _check_layout(cfg, index, train)
    _check_cache(cfg, train)
    TrainingOrder(  # raises UserError if there is too little text
        tokens=sum(stage.tokens for stage in train.stages) or _stored(index["splits"]["train"]),
        sequence_length=cfg.window,
        batch=cfg.batch,
        seed=cfg.seed,
        stages=train.stages,
        steps=cfg.steps,
        packed=train.window is not None,
        growth=cfg.growth,
    )
    check_shared(cfg.execution.cluster, [out.scratch, out.directory])
    require_trackers(cfg.execution.telemetry)
    _check_resume(cfg, out)
    training = TrainingConfig.model_validate({name: getattr(cfg, name) for name in TrainingConfig.model_fields})
    return Job(
        training=training,
        execution=_fitting(training, cfg.execution, index["vocab_size"]),
        threads=cfg.execution.threads or cfg.execution.default_threads(usable_cores()),
        dtype=index["dtype"],
        vocab_size=index["vocab_size"],
        eod=index["eod"],
        train=train,
        validation=_split("validation", index, tokens),
        tokenizer=tokenizer_json,
        special_tokens_map=special_tokens_map,
        token_bytes=table_file,
        cache=settings().workspace.resolve() / "cache" / "shards",
        cache_bytes=settings().cache_bytes,
        initial_weights=_initial_weights(cfg, initial, tokenizer, index["vocab_size"]),
        config_digest=digest_of(
            {"config": cfg.identity(), "tokens": tokens.content, "version": VERSION}
            | ({"initial": initial.content} if initial is not None else {})
        ),
        tokenizer_digest=tokenizer.content,
        checkpoints=out.partial.uri(""),
        scratch=out.scratch,
        output=out.directory,
    )


def _check_resume(cfg: PretrainConfig, out: Attempt) -> None:
    """Raise UserError where a run must go on from a checkpoint and there is none, before any process is started."""
    if cfg.execution.resume != "required":
        return
    checkpoints = Checkpoints(out.partial, out.scratch, Retention(1), mark="")
    if not checkpoints.complete():
        raise UserError(nothing_to_resume(out.partial.uri(""), len(checkpoints.names())))


def shape_differences(cfg: PretrainConfig, initial: Artifact) -> list[str]:
    """Return in which keys of the shape an earlier model is another one than the one to be trained."""
    about = json.loads(initial.file("config.json").local().read_bytes())
    before, now = (weights_of(shape) for shape in (ModelConfig.model_validate(about["model"]), cfg.model))
    return [f"model.{name} is {before[name]} there and {now[name]} here" for name in now if before[name] != now[name]]


def _initial_weights(
    cfg: PretrainConfig, initial: Artifact | None, tokenizer: Artifact, vocab_size: int
) -> Path | None:
    """Return the file of weights to start from; raises UserError where they are of another shape or vocabulary."""
    if initial is None:
        return None
    about = json.loads(initial.file("config.json").local().read_bytes())
    differ = shape_differences(cfg, initial)
    if about["vocab_size"] != vocab_size:
        differ.append(f"its vocabulary has {about['vocab_size']} tokens, that of the training tokens {vocab_size}")
    elif initial.file("tokenizer.json").sha256 != tokenizer.file("tokenizer.json").sha256:
        differ.append("its tokenizer.json is another one than that of the training tokens")
    if differ:
        raise UserError(f"pretrain.initial_weights: {initial.uri}: {'; '.join(differ)}")
    return initial.file("model.safetensors").local().resolve()


def _fitting(training: TrainingConfig, execution: ExecutionConfig, vocab_size: int) -> ExecutionConfig:
    """Return the execution with micro-batches that fit into memory; raises UserError where none do."""
    if not execution.check_memory or execution.cluster is not None:  # other machines may have more, or less
        return execution
    try:
        chosen = fitting(training, execution, vocab_size=vocab_size, machine=machine_memory())
    except ValueError as exc:
        raise UserError(f"pretrain: {exc}") from exc
    if chosen != execution:
        log.warning("pretrain: execution.micro_batch=%s fits into memory by estimate", chosen.micro_batch)
    return chosen


def _check_cache(cfg: PretrainConfig, train: Split) -> None:
    """Raise UserError where the cache cannot hold what is read whole of remote storage."""
    limit = settings().cache_bytes
    if limit is None or not (cfg.document_mask or train.window is not None):
        return
    whole = sum(file.bytes for file in (*train.ends, *train.pieces) if file.path is None)
    if whole > limit:
        raise UserError(
            f"pretrain: where documents end is read from {whole} bytes that must lie in the local cache as a whole, "
            f"and MILLRACE_CACHE_BYTES is {limit}; raise it"
        )


def _check_layout(cfg: PretrainConfig, index: dict[str, Any], train: Split) -> None:
    """Raise UserError where the tokens are laid out in windows of another length, or do not say where documents end."""
    if cfg.document_mask and len(train.ends) != len(train.shards):
        raise UserError("pretrain: document_mask needs to know where documents end, which these tokens do not say")
    packing = index.get("packing", {})
    if packing.get("method") == "best_fit" and packing["sequence_length"] != cfg.window:
        raise UserError(
            f"pretrain: the tokens are packed in windows of {packing['sequence_length']} tokens and "
            f"model.sequence_length={cfg.model.sequence_length} with objective.kind={cfg.objective.kind} reads windows "
            f"of {cfg.window}; make the tokens again with tokens.sequence_length={cfg.window}"
        )


def _stored(counts: dict[str, Any]) -> int:
    """Return how many tokens the files of a split, or of a stage of it, hold: with what fills up windows."""
    return int(counts["tokens"] + counts.get("padding", 0))


def _split(name: str, index: dict[str, Any], tokens: Artifact) -> Split:
    counts = index["splits"][name]
    files = {kind: [_stored_file(f) for f in tokens.files(name) if f.path.endswith(kind)]
             for kind in (".bin", ".ends.npy", ".pieces.npy")}  # fmt: skip
    if not counts["tokens"]:
        raise UserError(f"pretrain: the {name} split has no tokens; raise split.validation_fraction or use more text")
    return Split(
        shards=files[".bin"],
        tokens=counts["tokens"],
        bytes=counts["bytes"],
        ends=files[".ends.npy"],
        pieces=files[".pieces.npy"],
        window=index["packing"]["sequence_length"] if files[".pieces.npy"] else None,
        stages=[
            Stage(stage["name"], stage["share"], _stored(stage), stage["order"] != "random")
            for stage in (index.get("stages", []) if name == "train" else [])
        ],
    )


def _stored_file(file: File) -> StoredFile:
    root = Storage(file.root).local_root
    return StoredFile(
        root=file.root if root is None else str(root.resolve()),
        location=file.location,
        bytes=file.bytes,
        sha256=file.sha256,
    )


def token_bytes(tokenizer_json: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return, for each token id, how many UTF-8 bytes of text it stands for: none for a special token.

    Of a WordPiece vocabulary the space before a word counts with the word: an estimate, since the tokens do not
    say what white space there was.
    """
    spec = json.loads(tokenizer_json.read_bytes())
    special = {t["id"] for t in spec["added_tokens"] if t["special"]}
    vocabulary = spec["model"]["vocab"]
    if spec["model"]["type"] == "Unigram":  # a list of (token, score)
        vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
    vocabulary = {**vocabulary, **{t["content"]: t["id"] for t in spec["added_tokens"]}}
    bytes_of = _bytes_of(spec)
    table = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for text, number in vocabulary.items():
        if number not in special:
            table[number] = bytes_of(text)
    return table


def _bytes_of(spec: dict[str, Any]) -> Callable[[str], int]:
    """Return how many bytes of text a token of the vocabulary of a tokenizer.json writes."""
    if (spec["decoder"] or {}).get("type") == "ByteLevel":
        return len  # each byte is written as one character
    if spec["model"]["type"] == "WordPiece":
        prefix = spec["model"]["continuing_subword_prefix"]
        return lambda text: len(text.removeprefix(prefix).encode()) + (not text.startswith(prefix))
    if spec["model"].get("byte_fallback"):
        return lambda text: 1 if re.fullmatch("<0x[0-9A-F]{2}>", text) else len(text.replace("\u2581", " ").encode())
    return lambda text: len(text.encode())


def _train(job: Job, report: "_Lines") -> dict[str, Any]:
    """Run the group until it has a result, with a smaller micro-batch each time that memory is short; return it.

    Raises what explains a run without a result.  The result file, not the exit status, is the evidence: a rank may
    still abort on its way out when all is written.
    """
    while True:
        status = _run(job, report)
        if result_file(job.scratch).exists():
            result: dict[str, Any] = json.loads(result_file(job.scratch).read_bytes())
            return result
        cause = first_cause(job.scratch)
        if (cause is None or cause.kind == "infrastructure") and stop_note(job.scratch).exists():
            raise PreemptedError(
                "pretrain: told to stop, and the ranks ended before they could save; the same run goes on from its "
                "newest checkpoint"
            )
        if cause is None:
            raise WorkerDiedError(f"pretrain: the process group ended with status {status}; {report.last()}")
        if cause.kind != "memory":
            raise cause.error()
        job = _with_smaller_micro_batch(job, cause)


def _run(job: Job, report: "_Lines") -> int:
    """Run the group once and return its exit status; raises StepTimeoutError where it makes no progress."""
    result_file(job.scratch).unlink(missing_ok=True)
    for folder in (failure_folder(job.scratch), stack_folder(job.scratch)):
        shutil.rmtree(folder, ignore_errors=True)
    job_file = job.scratch / "job.json"
    job_file.write_text(job.model_dump_json(indent=1), encoding="utf-8")
    execution = job.execution
    try:
        return run_group(
            ["-m", "models.train", str(job_file)],
            ranks=execution.ranks,
            launcher=execution.node_launcher,
            cluster=execution.cluster,
            folder=job.scratch / "group",
            env={"OMP_NUM_THREADS": str(job.threads)},
            on_line=report.take,
            timeout=execution.hang_seconds,
        )
    except StepTimeoutError as error:
        last = report.last()
        for rank, stacks in read_stacks(stack_folder(job.scratch)).items():
            report.note(f"where rank {rank} was when it was ended:\n{stacks}")
        raise StepTimeoutError(
            f"pretrain: no progress for {execution.hang_seconds:g} s, so the ranks were ended; raise "
            f"execution.hang_seconds if one step may take longer; the stacks of all ranks are in {report.path}; {last}"
        ) from error


def _with_smaller_micro_batch(job: Job, cause: Failure) -> Job:
    """Return the job with half the micro-batch and the same batch; raises DataError if one sequence does not fit."""
    batch, execution = job.training.batch, job.execution
    micro = execution.smaller_micro_batch(batch)
    if micro is None:
        raise DataError(
            f"pretrain: not even execution.micro_batch=1 fits into memory ({cause.message}); use a smaller model or "
            "model.sequence_length, or a higher execution.zero_stage with more ranks"
        )
    log.warning("pretrain: %s; going on with execution.micro_batch=%d, batch=%d as before", cause.message, micro, batch)
    return job.model_copy(update={"execution": execution.model_copy(update={"micro_batch": micro})})


class _Lines:
    """What the ranks write: progress goes to the attempt, the rest to a log file, the last of it into errors."""

    def __init__(self, path: Path, progress: Callable[[int, int | None, str, dict[str, float]], None]) -> None:
        self.path, self._stream = path, path.open("a", encoding="utf-8")
        self._progress, self._tail = progress, list[str]()

    def take(self, line: str) -> bool:
        """Handle one line; tell whether it says that training goes on."""
        if line.startswith(PROGRESS):
            now = json.loads(line.removeprefix(PROGRESS))
            self._progress(now["done"], now["total"], "steps", now["latest"])
            return True
        self._stream.write(line + "\n")
        self._stream.flush()
        self._tail = [*self._tail[1 - _LAST_LINES :], line]
        log.debug("%s", line)
        return False

    def note(self, text: str) -> None:
        """Add to the log file."""
        self._stream.write(text + "\n")

    def last(self) -> str:
        """Return the last lines."""
        return "last lines of its log: " + " | ".join(self._tail)

    def close(self) -> None:
        """Close the log file."""
        self._stream.close()
