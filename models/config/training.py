"""Everything that decides what the trained model is."""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from models.config.averaging import EMAConfig
from models.config.base import CONFIG, unread
from models.config.guard import GuardConfig
from models.config.objectives import CausalConfig, ObjectiveConfig, objective_problems
from models.config.optimizers import OptimizerConfig
from models.config.schedules import BatchWarmup, Growth, LengthWarmup, ScheduleConfig
from models.config.shape import ModelConfig


class TrainingConfig(BaseModel):
    """Everything that decides what the trained model is."""

    model_config = CONFIG

    model: ModelConfig
    """Shape of the network."""
    objective: ObjectiveConfig = CausalConfig(kind="causal")
    """What it is trained to do: causal for decoders, masked for encoders, denoising for encoder-decoders."""
    optimizer: OptimizerConfig
    """How the parameters are moved."""
    schedule: ScheduleConfig
    """How the learning rate changes over the steps."""
    steps: int = Field(ge=1, le=1 << 31)
    """Optimiser steps."""
    batch: int = Field(ge=1, le=1 << 24)
    """Sequences in a step, over all ranks and micro-batches."""
    batch_warmup: BatchWarmup | None = None
    """Begin with smaller batches."""
    length_warmup: LengthWarmup | None = None
    """Begin with shorter sequences."""
    document_mask: bool = False
    """Let attention reach over the tokens of one document alone, where several share a sequence; as they are evaluated.
    Otherwise the end token between them is all that tells them apart."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "bf16_autocast"] = "fp32"
    """fp32; bf16 (weights in bf16, fp32 master copy in the ZeRO optimiser, stage 1 or more); fp16 (the same with a
    dynamic loss scale, for GPUs before Ampere); bf16_autocast (weights in fp32, matrix products in bf16). auto takes
    bf16_autocast where the processor multiplies bf16 in hardware, else fp32, and records why: the same recipe then
    gives other numbers on other machines."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target that goes to the whole vocabulary alike (arXiv 1512.00567, section 7). The curve's loss and
    validation stay the plain cross-entropy."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the square of the log of the softmax's denominator, which keeps logits near zero (PaLM, arXiv
    2204.02311, section 5: 1e-4). The curve's loss and validation stay the plain cross-entropy."""
    gradient_clipping: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient of all parameters; 0 turns clipping off."""
    ema: EMAConfig | None = None
    """Average the weights over the steps, and validate and publish the average; the last weights lie beside it."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the initial weights and of the data order."""
    validate_every: int = Field(default=0, ge=0)
    """Steps between two validations; 0 validates at the end only. The end is always validated."""
    validation_tokens: int | None = Field(default=None, ge=1)
    """Length of the fixed prefix of the validation split that in-loop validations use; the final one, and all of them
    by default, use the whole split."""
    curve_every: int = Field(default=1, ge=1)
    """Steps between two lines of curve.jsonl (validations have theirs in any case)."""
    sample_every: int = Field(default=0, ge=0)
    """Steps between two samples of what the model writes after `prompts`, and one at the end; 0 writes none."""
    prompts: tuple[str, ...] = ()
    """Texts that the samples go on from; "" is the beginning of a document."""
    sample_tokens: int = Field(default=64, ge=1)
    """Length of a sample, in tokens; less where the document ends."""
    guard: GuardConfig | None = GuardConfig()
    """Steps with an outlying loss or gradient norm are skipped, and the run is rolled back where the loss stays high;
    null applies every finite step."""
    max_bad_steps: int = Field(default=10, ge=0)
    """Steps skipped for a non-finite loss or gradient before the run is given up."""

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.schedule.warmup_steps >= self.steps:
            raise ValueError(
                f"schedule.warmup_steps={self.schedule.warmup_steps} leaves no step of steps={self.steps} to train in"
            )
        return self

    @model_validator(mode="after")
    def _samples_fit(self) -> Self:
        if bool(self.sample_every) != bool(self.prompts):
            raise ValueError(
                f"sample_every={self.sample_every} and prompts={list(self.prompts)} need each other: set both or "
                "neither"
            )
        if self.prompts and self.model.family != "decoder":
            raise ValueError(f"prompts need model.family=decoder, which goes on from a text, not {self.model.family}")
        return self

    @model_validator(mode="after")
    def _all_read(self) -> Self:
        problems = []
        if not self.validate_every:
            problems += unread(self, ("validation_tokens",), "with validate_every=0, as the end is validated on all")
        if not self.prompts:
            problems += unread(self, ("sample_tokens",), "without prompts")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _objective_fits(self) -> Self:
        problems = objective_problems(
            self.objective, family=self.model.family, sequence_length=self.model.sequence_length
        )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _warmups_fit(self) -> Self:
        problems = []
        if self.batch_warmup is not None:
            problems += _warmup_problems("batch_warmup", self.batch_warmup, "batch", self.batch, self.steps)
        if self.length_warmup is not None:
            name, whole = "model.sequence_length", self.model.sequence_length
            problems += _warmup_problems("length_warmup", self.length_warmup, name, whole, self.steps)
            if self.objective.kind == "denoising":
                problems.append(
                    "length_warmup cuts sequences, and objective.kind=denoising makes two of each window, of lengths "
                    "that depend on one another; use a smaller model.sequence_length"
                )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def growth(self) -> Growth:
        """How many sequences of how many tokens each step has."""
        return Growth(self.batch, self.window, self.batch_warmup, self.length_warmup)

    @property
    def window(self) -> int:
        """Tokens of text that one sequence is made of; more than model.sequence_length where spans are taken out."""
        return self.objective.window(self.model.sequence_length)


def _warmup_problems(field: str, cfg: BatchWarmup | LengthWarmup, name: str, whole: int, steps: int) -> list[str]:
    problems = []
    if cfg.start >= whole:
        problems.append(f"{field}.start={cfg.start} is not below {name}={whole}")
    if cfg.start % cfg.multiple_of:
        problems.append(f"{field}.start={cfg.start} is not a multiple of {field}.multiple_of={cfg.multiple_of}")
    if cfg.steps >= steps:
        problems.append(f"{field}.steps={cfg.steps} leaves no step of steps={steps} with the whole {name}={whole}")
    return problems
