"""What is trained and how: the typed configuration of the network, the optimiser, the schedule and the run.

Nothing here imports torch: recipes, plans and forms are made of these classes.  What enters the identity of a model
(`TrainingConfig`) is kept apart from where and how it is trained (`ExecutionConfig`): ranks, threads, ZeRO stage and
micro-batch change the order of floating-point sums (curves agree within 1e-3), never what is computed.
"""

from models.config.averaging import EMAConfig
from models.config.checks import check_execution
from models.config.execution import ExecutionConfig, plan_batch
from models.config.guard import GuardConfig, RollbackConfig
from models.config.objectives import CausalConfig, DenoisingConfig, MaskedConfig, ObjectiveConfig
from models.config.optimizers import (
    AdafactorConfig,
    AdamWConfig,
    LambConfig,
    LionConfig,
    MuonConfig,
    OptimizerConfig,
)
from models.config.schedules import BatchWarmup, Growth, LengthWarmup, ScheduleConfig
from models.config.shape import ModelConfig
from models.config.training import TrainingConfig

__all__ = [
    "AdafactorConfig",
    "AdamWConfig",
    "BatchWarmup",
    "CausalConfig",
    "DenoisingConfig",
    "EMAConfig",
    "ExecutionConfig",
    "Growth",
    "GuardConfig",
    "LambConfig",
    "LengthWarmup",
    "LionConfig",
    "MaskedConfig",
    "ModelConfig",
    "MuonConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RollbackConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "check_execution",
    "plan_batch",
]
