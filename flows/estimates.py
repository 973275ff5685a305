"""What a training will take, before anything of it is made: parameters, tokens, arithmetic, memory.

`millrace plan` says it; `millrace run` refuses what this machine could never train before a corpus is made for it.
"""

import json

from flows.recipe import Recipe
from flows.references import initial_weights
from infra.errors import UserError
from infra.launch.clusters import KubernetesConfig
from infra.launch.hosts import read_hostfile, spread
from models.dial import CHARACTERS
from models.machine_memory import machine_memory
from models.memory import estimate, fitting, shown
from models.parameters import count_parameters
from models.telemetry import require_trackers, step_flops
from tasks.tokenizer import CharactersConfig, ModelVocabulary


def training_estimate(recipe: Recipe) -> list[str]:
    """Return what the training of a recipe will take, a line each: of the model, and of each rank's memory."""
    cfg, vocab_size = recipe.pretrain, _vocab_size(recipe)
    step = cfg.batch * cfg.window
    tokens = cfg.steps * step
    whole = " at most" if cfg.batch_warmup or cfg.length_warmup else ""
    flops = cfg.steps * step_flops(cfg, vocab_size)
    about = f"{count_parameters(cfg.model, vocab_size).total:,} parameters with a vocabulary of {vocab_size:,}"
    lines = [f"{about}; {cfg.steps:,} steps of {step:,} tokens{whole}: {tokens:,} tokens, {flops:.3g} FLOPs"]
    if (cluster := cfg.execution.cluster) is not None:
        none = isinstance(cluster, KubernetesConfig) and not cluster.gpus_per_node
        held = estimate(cfg, cfg.execution, vocab_size=vocab_size, device="cpu" if none else "cuda")
        return [*lines, f"a rank takes about {shown(held.total)}{'' if none else ' of a GPU'} ({held})"]
    machine = machine_memory()
    execution = cfg.execution
    try:
        if execution.check_memory:
            execution = fitting(cfg, execution, vocab_size=vocab_size, machine=machine)
    except ValueError as exc:
        return [*lines, f"does not fit into this machine as it is now: {exc}"]
    held, (micro, _) = estimate(cfg, execution, vocab_size=vocab_size, device=machine.device), execution.plan(cfg.batch)
    return [
        *lines,
        f"a rank takes about {shown(held.total)} with micro-batches of {micro:,} ({held}); {machine.name} has "
        f"{shown(machine.free)}{'' if machine.shared else ' on each'}",
    ]


def require_possible(recipe: Recipe) -> None:
    """Raise UserError where no state of this machine would let it train the recipe: by memory, GPUs, hosts, packages.

    The vocabulary is taken to be the smallest that may come out, and nothing else to run.
    """
    cfg = recipe.pretrain
    require_trackers(cfg.execution.telemetry)
    if cfg.execution.hostfile is not None:
        spread(read_hostfile(cfg.execution.hostfile), cfg.execution.ranks)
    if not cfg.execution.check_memory or cfg.execution.cluster is not None:
        return
    least = _vocab_size(recipe) if isinstance(recipe.tokenizer, ModelVocabulary) else CHARACTERS
    try:
        fitting(cfg, cfg.execution, vocab_size=least, machine=machine_memory(when_idle=True))
    except ValueError as exc:
        raise UserError(f"pretrain: {exc}") from exc


def _vocab_size(recipe: Recipe) -> int:
    """Return the tokens of the vocabulary as far as anybody knows: those of characters are taken to be 256."""
    vocabulary = recipe.tokenizer
    if isinstance(vocabulary, ModelVocabulary):
        model = initial_weights(recipe.pretrain.initial_weights)["initial"]
        return int(json.loads(model.file("config.json").local().read_bytes())["vocab_size"])
    if isinstance(vocabulary, CharactersConfig):
        return CHARACTERS
    return -(-vocabulary.vocab_size // vocabulary.pad_vocab_to_multiple_of) * vocabulary.pad_vocab_to_multiple_of
