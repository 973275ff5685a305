"""What is trained, and how: the section `pretrain` of a recipe."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from infra.steps import Execution, StepConfig
from models.config import ExecutionConfig, TrainingConfig, check_execution
from models.dial import DialConfig, expand_dial
from models.presets import expand_training


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
