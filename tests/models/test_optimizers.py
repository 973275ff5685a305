"""The optimisers: each moves a model, decays matrices alone, and goes on from its saved state bit for bit."""

import copy
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from models.config import ExecutionConfig, OptimizerConfig, TrainingConfig, check_execution
from models.optimizers import Muon, build_optimizer, orthogonalise

KINDS = ("adamw", "muon", "lamb", "adafactor", "lion")


class Small(nn.Module):
    """A table, a hidden matrix, a stack of them, a vector, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(7, 8)
        self.hidden = nn.Linear(8, 16)
        self.experts = nn.Parameter(torch.randn(3, 16, 8) / 4)
        self.lm_head = nn.Linear(8, 1, bias=False)

    def forward(self, tokens_B: Tensor) -> Tensor:
        """Return one number a token."""
        hidden = self.hidden(self.embed(tokens_B)).relu()
        output: Tensor = self.lm_head((hidden @ self.experts).mean(0))
        return output


def config(kind: str, **changes: Any) -> Any:
    return TypeAdapter(OptimizerConfig).validate_python({"kind": kind, **changes})


def train(model: Small, optimizer: torch.optim.Optimizer, steps: int, *, first: int = 0) -> list[float]:
    """Fit the sine of the token under a falling learning rate; return the losses."""
    tokens = torch.arange(7)
    losses = []
    for step in range(first, first + steps):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (1 - step / 100)
        loss = (model(tokens) - tokens.float().sin()[:, None]).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_each_optimizer_learns_and_goes_on_from_its_state_bit_for_bit(kind: str) -> None:
    cfg = config(kind, **({"learning_rate": 0.003} if kind == "lion" else {}))
    model = Small()
    optimizer = build_optimizer(cfg, model)
    losses = train(model, optimizer, 60)
    assert losses[-1] < 0.5 * losses[0]

    again = Small()
    other = build_optimizer(cfg, again)
    train(again, other, 30)
    saved, weights = copy.deepcopy(other.state_dict()), copy.deepcopy(again.state_dict())
    third = Small()
    third.load_state_dict(weights)
    resumed = build_optimizer(cfg, third)
    resumed.load_state_dict(saved)
    assert train(third, resumed, 30, first=30) == losses[30:]
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), third.parameters(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_are_decayed_and_vectors_are_not(kind: str) -> None:
    model = Small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(config(kind, weight_decay=0.5), model)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        assert (p.norm() < before[name].norm()) == (p.ndim >= 2), name


def test_muon_moves_hidden_matrices_alone_and_each_of_a_stack_by_itself() -> None:
    model = Small()
    optimizer = build_optimizer(config("muon"), model)
    hidden = {id(p) for p in optimizer.muon.param_groups[0]["params"]}  # type: ignore[attr-defined]
    assert hidden == {id(model.hidden.weight), id(model.experts)}
    stack = nn.Parameter(torch.randn(3, 16, 8))
    alone = [nn.Parameter(each.detach().clone()) for each in stack]
    gradient = torch.randn(3, 16, 8)
    stack.grad = gradient.clone()
    for p, g in zip(alone, gradient, strict=True):
        p.grad = g.clone()
    settings: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "iterations": 5, "weight_decay": 0.0}
    Muon([stack], **settings, dtype=torch.float32).step()
    Muon(alone, **settings, dtype=torch.float32).step()
    assert torch.allclose(stack, torch.stack(list(alone)), atol=1e-5)


def test_muon_takes_the_step_of_torchs_own() -> None:
    torch.manual_seed(0)
    mine, theirs = (nn.Parameter(torch.ones(24, 8)) for _ in range(2))
    ours = Muon([mine], lr=0.1, momentum=0.95, iterations=5, weight_decay=0.1, dtype=torch.bfloat16)
    reference = torch.optim.Muon([theirs], lr=0.1, momentum=0.95, ns_steps=5, weight_decay=0.1)
    for _ in range(3):
        mine.grad = torch.randn(24, 8)
        theirs.grad = mine.grad.clone()
        ours.step()
        reference.step()  # type: ignore[no-untyped-call]
    assert torch.allclose(mine, theirs, atol=0.02)  # bf16 of different orders; an update is 0.1 to 0.2 long a row
    assert torch.linalg.svdvals(orthogonalise(torch.randn(1, 24, 8), 5)[0]).min() > 0.5


def test_lamb_takes_the_step_of_the_paper() -> None:
    """Algorithm 2 of arXiv 1904.00962, written out for one matrix and two steps."""
    torch.manual_seed(0)
    matrix = nn.Parameter(torch.randn(4, 3))
    x, m, v = matrix.detach().clone().double(), torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
    holder = nn.ParameterList([matrix])
    optimizer = build_optimizer(config("lamb", learning_rate=0.1, weight_decay=0.01, betas=(0.8, 0.9)), holder)
    for t in (1, 2):
        g = torch.randn(4, 3)
        matrix.grad = g.clone()
        optimizer.step()
        m = 0.8 * m + 0.2 * g
        v = 0.9 * v + 0.1 * g**2
        r = (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-6)
        u = r + 0.01 * x
        x = x - 0.1 * x.norm() / u.norm() * u
    assert torch.allclose(matrix.double(), x, atol=1e-6)


def test_lion_takes_the_step_of_the_paper() -> None:
    """Algorithm 2 of arXiv 2302.06675: the sign of beta1 m + (1 - beta1) g, then m with beta2."""
    matrix = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    optimizer = build_optimizer(config("lion", learning_rate=0.1, weight_decay=0.5), nn.ParameterList([matrix]))
    for g in ([[1.0, 1.0]], [[-0.05, -2.0]]):  # in the first place the momentum, 0.9 * 0.01, outweighs 0.1 * -0.05
        matrix.grad = torch.tensor(g)
        optimizer.step()
    expected = torch.tensor([[(1 * 0.95 - 0.1) * 0.95 - 0.1, (-2 * 0.95 - 0.1) * 0.95 + 0.1]])
    assert torch.allclose(matrix, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_adafactor_alone_is_refused_under_zero_and_what_needs_whole_matrices_where_ranks_cut_these(kind: str) -> None:
    training = TrainingConfig.model_validate(
        {"model": {}, "optimizer": {"kind": kind}, "schedule": {"kind": "cosine"}, "steps": 100, "batch": 8}
    )
    for stage in (0, 1, 2, 3):
        problems = check_execution(training, ExecutionConfig.model_validate({"zero_stage": stage}))
        assert bool(problems) == (stage > 0 and kind == "adafactor")
        assert all(f"optimizer.kind={kind}" in each and f"zero_stage={stage} cuts" in each for each in problems)
    problems = check_execution(training, ExecutionConfig(ranks=2, tensor_parallel=2))
    assert any("needs whole matrices" in each for each in problems) == (kind in ("muon", "lamb", "adafactor"))


def test_an_optimizer_has_no_default_kind_and_no_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="kind"):
        TypeAdapter(OptimizerConfig).validate_python({"learning_rate": 0.1})
    with pytest.raises(ValidationError, match="momentum"):
        config("lion", momentum=0.9)
    with pytest.raises(ValidationError, match="less than 1"):
        config("lamb", betas=(0.9, 1.0))
