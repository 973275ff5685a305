"""Between the gradient and the update: norm and clipping where DeepSpeed has none, and a say for the training loop.

ZeRO computes the norm inside its step, clips, and skips the step where the norm is not finite.  So the gate measures
through ZeRO's own function and, where the loop is against the step, answers with a norm that makes ZeRO skip it.
"""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Gate:
    """Decides, once a step, whether the update goes ahead; `agree` makes one norm of what each rank has measured."""

    def __init__(self, agree: Callable[[float], float] = float) -> None:
        self._agree = agree
        self.norm = math.nan
        """Norm of the step's whole gradient before clipping; NaN where it was not finite."""
        self._decide: Callable[[float], bool] | None = None

    def open(self, decide: Callable[[float], bool] | None) -> None:
        """Begin a step; `decide` is asked once its norm is known."""
        self.norm, self._decide = math.nan, decide

    def passes(self, norm: float) -> bool:
        """Note the norm and tell whether the step is to be taken; every rank must call it."""
        norm = self._agree(norm)
        if not math.isfinite(norm):
            return False
        self.norm = norm
        return self._decide is None or self._decide(norm)


def guard_zero(optimizer: Any, gate: Gate, *, stage: int) -> None:
    """Let the gate decide over each step of DeepSpeed's ZeRO optimiser of this stage."""
    name = "_get_norm_groups" if stage == 3 else "scaled_global_norm"
    measure = getattr(optimizer, name)

    def measured(*args: Any, **kwargs: Any) -> Any:
        from deepspeed.runtime.utils import combine_grad_norm_groups

        found = measure(*args, **kwargs)
        whole = combine_grad_norm_groups(found) if stage == 3 else found
        norm = float(whole) / float(optimizer.loss_scale)
        if gate.passes(norm):
            return found
        if math.isfinite(norm):
            _keep_loss_scale(optimizer)
        refused = torch.full_like(whole, math.inf)
        return [refused] if stage == 3 else refused

    setattr(optimizer, name, measured)
    if optimizer.loss_scaler.dynamic:
        _raise_loss_scale_late(optimizer)


def _raise_loss_scale_late(optimizer: Any) -> None:
    """Let the loss scale of fp16 rise after a step, not amid it, and let the loop say when it has fallen too far.

    DeepSpeed raises it before it divides the gradients by it, so that once in a thousand steps these come out halved;
    and where it can fall no further, DeepSpeed ends the run with an exception that names no cause.
    """
    update, take, due = optimizer._update_scale, optimizer.step, list[bool]()

    def later(has_overflow: bool = False) -> None:
        if has_overflow:
            update(True)
        else:
            due.append(False)

    def step(*args: Any, **kwargs: Any) -> None:
        optimizer.loss_scaler.raise_error_at_min_scale = False  # a checkpoint brings a scaler of its own
        due.clear()
        take(*args, **kwargs)
        if due:
            update(False)

    optimizer._update_scale, optimizer.step = later, step


def _keep_loss_scale(optimizer: Any) -> None:
    """Let the skip that follows leave the loss scale alone: the loop was against the step, nothing overflowed."""
    scaler = optimizer.loss_scaler
    before = copy.copy(vars(scaler))

    def once(overflow: bool) -> None:
        del scaler.update_scale
        vars(scaler).update(before)

    scaler.update_scale = once


def guard_plain(
    engine: Any,
    parameters: Iterable[nn.Parameter],
    gate: Gate,
    *,
    clipping: float,
    sum_squares: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Clip and let the gate decide over each step of an engine at ZeRO stage 0, whose optimiser does neither.

    `sum_squares` is given the sum of squares of this rank's gradients of parameters that are cut over ranks, and of
    those that are not, and returns the sum over the whole model.
    """
    take, held = engine._take_model_step, list(parameters)

    def guarded(*args: Any, **kwargs: Any) -> None:
        _norm_and_clip(held, gate, clipping, sum_squares)
        take(*args, **kwargs)

    engine._take_model_step = guarded


def _norm_and_clip(
    parameters: list[nn.Parameter], gate: Gate, clipping: float, sum_squares: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Clip the gradients, or drop them where the gate is against the step: an optimiser passes over what has none."""
    moved, cut, whole = list[nn.Parameter](), list[Tensor](), list[Tensor]()
    for p in parameters:
        if p.grad is not None:
            moved.append(p)
            if not getattr(p, "ds_pipe_replicated", False):
                (cut if getattr(p, "tensor_model_parallel", False) else whole).append(p.grad)
    device = moved[0].device
    squares = [torch.nn.utils.get_total_norm(g).square() if g else torch.zeros((), device=device) for g in (cut, whole)]
    norm = sum_squares(*squares).sqrt()
    if not gate.passes(norm.item()):
        for p in moved:
            p.grad = None
        return
    if clipping:
        torch.nn.utils.clip_grads_with_norm_(moved, clipping, torch.full_like(norm, gate.norm))
