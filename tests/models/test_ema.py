"""The average of the weights: what it is, that it leaves training alone, and what it cannot be had with."""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.config import EMAConfig, ExecutionConfig, TrainingConfig, check_execution
from models.ema import Average


class Whole:
    """A rank that holds all of a model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def shares(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.model.named_parameters()}

    def writing_shares(self) -> AbstractContextManager[None]:
        return nullcontext()

    def cut(self, name: str, shares: Sequence[Tensor]) -> Tensor:
        raise AssertionError(name)


def step(model: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))


def fail_within(average: Average) -> None:
    """Fail as a validation may."""
    with average.in_place():
        raise KeyError


def test_the_average_forgets_its_beginning_fast_and_later_steps_slowly() -> None:
    model = nn.Linear(3, 2)
    average = Average(EMAConfig(decay=0.5), Whole(model))
    expected = model.weight.detach().clone()
    for number in range(12):
        step(model, number)
        average.update()
        kept = min(0.5, (1 + number) / (10 + number))
        expected = kept * expected + (1 - kept) * model.weight.detach()
    assert torch.allclose(average.shares()["weight"], expected, atol=1e-6)


def test_validating_the_average_leaves_the_weights_as_they_were_even_where_it_fails() -> None:
    model = nn.Linear(3, 2).to(torch.bfloat16)
    average = Average(EMAConfig(), Whole(model))
    step(model, 0)
    average.update()
    before = copy.deepcopy(model.state_dict())
    with average.in_place():
        assert torch.equal(model.weight, average.shares()["weight"].to(torch.bfloat16))
        assert not torch.equal(model.weight, before["weight"])
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    with pytest.raises(KeyError):
        fail_within(average)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_average_goes_on_from_its_state_bit_for_bit() -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    average, resumed = Average(EMAConfig(), Whole(model)), Average(EMAConfig(), Whole(other))
    for number in range(8):
        step(model, number)
        average.update()
        if number == 3:
            other.load_state_dict(copy.deepcopy(model.state_dict()))
            resumed.restore(copy.deepcopy(average.state()))
        elif number > 3:
            step(other, number)
            resumed.update()
    assert all(torch.equal(average.shares()[name], resumed.shares()[name]) for name in ("weight", "bias"))


def test_an_average_of_parameters_that_are_on_the_disk_is_refused() -> None:
    training = TrainingConfig.model_validate(
        {
            "model": {},
            "optimizer": {"kind": "adamw"},
            "schedule": {"kind": "cosine"},
            "steps": 100,
            "batch": 8,
            "ema": {},
        }
    )

    def problems(**where: Any) -> list[str]:
        execution = ExecutionConfig(zero_stage=3, nvme_path=Path("disk"), **where)
        return [each for each in check_execution(training, execution) if "ema" in each]

    (problem,) = problems(offload_optimizer="nvme", offload_parameters="nvme")
    assert "execution.offload_parameters=nvme" in problem
    assert not problems(offload_optimizer="nvme", offload_parameters="cpu")
