"""What training minimises, held against formulas; what is measured is the plain cross-entropy whatever is minimised."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.config import ModelConfig
from models.losses import Losses, balance_loss, router_z_loss
from models.transformer import IGNORE, PADDING, Transformer

VOCABULARY = 50


def network(**changes: Any) -> Transformer:
    torch.manual_seed(0)
    small = {"layers": 2, "heads": 2, "width": 16, "sequence_length": 16}
    model = Transformer(ModelConfig.model_validate({**small, **changes}), VOCABULARY)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def drawn(seed: int, rows: int = 3, length: int = 8) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def some_targets() -> Tensor:
    targets = drawn(2)
    targets[0, :5] = targets[2, 3] = IGNORE
    return targets


def gradients(model: Transformer, loss: Tensor) -> list[Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_smoothing_and_z_loss_follow_their_formulas_and_leave_what_is_measured_alone() -> None:
    model, targets = network().train(), some_targets()
    model.prepare(label_smoothing=0.1, z_loss=0.01)
    logits = model.logits(drawn(1)).flatten(0, 1)
    plain = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE)
    smoothed = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE, label_smoothing=0.1)
    z = logits.logsumexp(dim=-1)[targets.flatten() != IGNORE].square().mean()
    optimised, measured = model(drawn(1), targets, reduction="train")
    torch.testing.assert_close(optimised, smoothed + 0.01 * z)
    torch.testing.assert_close(measured, plain)
    assert not measured.requires_grad
    found, expected = gradients(model, optimised), gradients(model, smoothed + 0.01 * z)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for training in (True, False):
        torch.testing.assert_close(model.train(training)(drawn(1), targets), plain)


def test_weighted_sums_of_micro_batches_are_the_mean_over_all_targets_that_count() -> None:
    model, targets = network().train(), some_targets()
    model.prepare(label_smoothing=0.1, z_loss=0.01)
    count = int((targets != IGNORE).sum())
    whole = model(drawn(1), targets, reduction="train")
    parts = [model(drawn(1)[i : i + 1], targets[i : i + 1], reduction="train", weight=1 / count) for i in range(3)]
    for kind in (0, 1):
        torch.testing.assert_close(sum(part[kind] for part in parts), whole[kind])


@pytest.mark.parametrize("family", ["decoder", "encoder"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_logits_made_in_chunks_or_of_scored_targets_alone_give_the_same(family: str, smoothing: float) -> None:
    model, targets = network(family=family, tied_embeddings=True).train(), some_targets()
    results = []
    for chunk, scored_only in ((None, False), (5, False), (None, True), (5, True)):
        model.losses = Losses(smoothing, 0.01 if smoothing else 0.0, chunk, scored_only)
        sizes: list[int] = []
        hook = model.lm_head.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))  # noqa: B023
        optimised, measured = model(drawn(1), targets, reduction="train")
        found = gradients(model, optimised)
        each = model(drawn(1), targets, reduction="none").detach()
        assert max(sizes) == min(chunk or 24, 18 if scored_only else 24)
        hook.remove()
        results.append((optimised.detach(), measured, model(drawn(1), targets, reduction="sum").detach(), each, found))
    for result in results[1:]:
        torch.testing.assert_close(results[0], result, rtol=1e-5, atol=1e-6)


def test_a_micro_batch_without_a_target_weighs_nothing() -> None:
    model = network(family="encoder").train()
    optimised, measured = model(drawn(1), torch.full((3, 8), IGNORE), reduction="train", weight=0.1)
    assert optimised.item() == measured.item() == 0
    assert all(g.abs().max() == 0 for g in gradients(model, optimised))


# --- experts


def moe(**changes: Any) -> dict[str, Any]:
    return {"moe": {"experts": 4, "top_k": 2, "every": 2, **changes}}


@pytest.mark.parametrize("normalise", [True, False])
def test_experts_are_a_weighted_sum_over_each_positions_top_k_and_none_is_dropped(normalise: bool) -> None:
    shape = moe(normalise_top_k=normalise, shared_experts=1, balance_weight=0.5, router_z_weight=0.25)
    layer = network(**shape).eval().blocks[1].ffn
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
    found, auxiliary = layer(x)
    logits = x @ layer.router.weight.T
    probabilities = logits.softmax(dim=-1)
    balance = balance_loss(probabilities, probabilities.topk(2, dim=-1).indices)
    torch.testing.assert_close(auxiliary, 0.5 * balance + 0.25 * router_z_loss(logits))
    expected = layer.shared(x)
    for b in range(2):
        for t in range(7):
            best = probabilities[b, t].argsort(descending=True)[:2]
            scale = probabilities[b, t, best].sum() if normalise else 1.0
            for expert in best.tolist():
                expected[b, t] += probabilities[b, t, expert] / scale * layer.experts[expert](x[b, t])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_balance_and_z_losses_follow_their_formulas_over_real_positions() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 6, 4, generator=generator)
    probabilities = logits.softmax(dim=-1)
    chosen = probabilities.topk(2, dim=-1).indices
    real = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    balance, z = [], []
    for row, length in ((0, 4), (1, 6)):
        share = torch.bincount(chosen[row, :length].flatten(), minlength=4) / (2 * length)
        balance.append(4 * (share * probabilities[row, :length].mean(dim=0)).sum())
        z.append(logits[row, :length].exp().sum(dim=-1).log().square().mean())
    torch.testing.assert_close(balance_loss(probabilities, chosen, real), torch.stack(balance).mean())
    torch.testing.assert_close(router_z_loss(logits, real), torch.stack(z).mean())
    even = torch.full((1, 4, 4), 0.25)
    torch.testing.assert_close(balance_loss(even, torch.tensor([[[0], [1], [2], [3]]])), torch.tensor(1.0))


def test_auxiliary_losses_reach_the_router_in_training_and_no_measure() -> None:
    heavy, none = (network(**moe(balance_weight=weight, router_z_weight=weight)).train() for weight in (1.0, 0.0))
    totals = [model(drawn(1), drawn(2), reduction="train") for model in (heavy, none)]
    torch.testing.assert_close(totals[0][1], totals[1][1])
    torch.testing.assert_close(totals[1][0].detach(), totals[1][1])
    assert totals[0][0] > totals[1][0] + 0.5
    torch.testing.assert_close(heavy(drawn(1), drawn(2)), totals[0][1])
    names = [name for name, _ in heavy.named_parameters()]
    router = names.index("blocks.1.ffn.router.weight")
    both = [gradients(model, total)[router] for model, (total, _) in zip((heavy, none), totals, strict=True)]
    assert both[1].abs().max() > 0
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_the_experts_of_both_stacks_have_their_losses() -> None:
    model = network(family="encoder_decoder", **moe(balance_weight=1.0)).train()
    source = drawn(3)
    total, plain = model(drawn(1), drawn(2), None, source, reduction="train")
    assert model.encoder is not None
    _, encoder = model.encoder(model.embedded(source), None)
    found = model.hidden(drawn(1), None, None, source)[1]
    assert encoder > 0.5
    assert found > encoder + 0.5  # a balance loss is about 1
    torch.testing.assert_close(total - plain, found)


def test_auxiliary_losses_are_the_same_however_a_batch_is_cut() -> None:
    model = network(**moe(balance_weight=1.0, router_z_weight=1.0)).train()
    documents = torch.tensor([[0] * 8, [0] * 3 + [1] * 5, [0] * 6 + [PADDING] * 2])
    whole, plain = model(drawn(1), drawn(2), documents, reduction="train", weight=1 / 24)
    parts = []
    for i in range(3):
        row = slice(i, i + 1)
        total, part = model(drawn(1)[row], drawn(2)[row], documents[row], reduction="train", weight=1 / 24)
        parts.append(total - part)
    torch.testing.assert_close(torch.stack(parts).mean(), whole - plain)
    moved = drawn(1)
    moved[2, 6:] = (moved[2, 6:] + 1) % VOCABULARY  # padding, which no expert is judged by
    total, part = model(moved, drawn(2), documents, reduction="train", weight=1 / 24)
    torch.testing.assert_close(total - part, whole - plain)
