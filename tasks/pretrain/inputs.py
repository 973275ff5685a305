"""What the ranks are told, made of the inputs of the step; what is wrong with these is said before a process starts."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from infra.artifacts import Artifact, Attempt
from infra.canonical import digest_of
from infra.errors import UserError
from infra.launch.remote import check_shared
from infra.manifests import File
from infra.settings import settings, usable_cores
from infra.storage import Storage
from models.cache import StoredFile
from models.checkpoints import Checkpoints, Retention, nothing_to_resume
from models.config import ExecutionConfig, ModelConfig, TrainingConfig
from models.job import Job, Split
from models.machine_memory import machine_memory
from models.memory import fitting
from models.objectives import read_vocabulary, require_tokens
from models.order import Stage, TrainingOrder
from models.parameters import weights_of
from models.telemetry import require_trackers
from tasks.pretrain.config import PretrainConfig
from tasks.pretrain.token_lengths import token_bytes

log = logging.getLogger(__name__)

VERSION = 3


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
    stored = sum(stage.tokens for stage in train.stages) or _stored(index["splits"]["train"])
    TrainingOrder.of(  # raises UserError if there is too little text
        cfg, tokens=stored, stages=train.stages, packed=train.window is not None
    )
    check_shared(cfg.execution.cluster, [out.scratch, out.directory])
    require_trackers(cfg.execution.telemetry)
    _check_resume(cfg, out)
    training = TrainingConfig.model_validate({name: getattr(cfg, name) for name in TrainingConfig.model_fields})
    config_digest = digest_of(
        {"config": cfg.identity(), "tokens": tokens.content, "version": VERSION}
        | ({"initial": initial.content} if initial is not None else {})
    )
    return Job(
        training=training,
        execution=_on_own_disk(_fitting(training, cfg.execution, index["vocab_size"]), config_digest),
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
        config_digest=config_digest,
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


def _on_own_disk(execution: ExecutionConfig, digest: str) -> ExecutionConfig:
    """Return the execution with a folder of the run's own on the disk to which it offloads: runs would share files."""
    if execution.nvme_path is None:
        return execution
    own = execution.nvme_path.resolve() / f"millrace-{digest[:16]}"
    return execution.model_copy(update={"nvme_path": own})


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
