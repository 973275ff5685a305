"""Recipes of the three families: those shipped hold together; what an objective lacks is said with what to add."""

import pytest

from flows.recipe import load_recipe
from infra.errors import UserError


@pytest.mark.parametrize(
    ("name", "family", "objective"),
    [
        ("bert-tiny", "encoder", "masked"),
        ("t5-tiny", "encoder_decoder", "denoising"),
        ("gpt-tiny", "decoder", "causal"),
    ],
)
def test_the_shipped_recipes_train_each_family(name: str, family: str, objective: str) -> None:
    recipe = load_recipe(name, inputs=["texts/"])
    assert (recipe.pretrain.model.family, recipe.pretrain.objective.kind) == (family, objective)
    assert recipe.pretrain.window >= recipe.pretrain.model.sequence_length


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("bert-tiny", "tokenizer.mask_token=null", r"masked needs a mask token.*tokenizer\.mask_token=\[MASK\]"),
        ("t5-tiny", "tokenizer.sentinels=3", r"7 spans out of a window of 141 tokens.*3 sentinels.*sentinels=100"),
        ("t5-tiny", "pretrain.objective={kind: masked}", r"kind=masked trains model\.family=encoder.*encoder_decoder"),
        ("gpt-tiny", "pretrain.model.family=encoder", r"kind=causal trains model\.family=decoder.*kind=masked"),
        ("t5-tiny", "tokens.sequence_length=128", r"tokens\.sequence_length: 128 is not .*: 141"),
    ],
)
def test_what_an_objective_lacks_is_said_before_anything_runs(name: str, change: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_recipe(name, inputs=["texts/"], sets=[change])
