"""Universal checkpoints: what DeepSpeed's converter is given, and what its loader is kept from failing at."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.checkpoints.universal import _complete
from models.engine.universal import mended


def test_a_rank_that_holds_nothing_of_a_group_loads_the_others_and_has_state_of_its_own(tmp_path: Path) -> None:
    from deepspeed.runtime.base_optimizer import ZeROOptimizer

    matrices, vectors = (torch.nn.Parameter(torch.zeros(size)) for size in (3, 2))
    optimizer = torch.optim.AdamW([{"params": [matrices]}, {"params": [vectors], "weight_decay": 0.0}])
    held: Any = torch.zeros(3)
    held._hp_mapping = SimpleNamespace(get_optim_state_keys=list)
    held.load_hp_checkpoint_state = lambda *_, **__: torch.tensor(7.0)
    elsewhere: Any = torch.zeros(2)
    elsewhere._hp_mapping = None
    names = {held: "held", elsewhere: "elsewhere"}
    zero = SimpleNamespace(
        optimizer=optimizer,
        bit16_groups=[[held], [elsewhere]],
        param_names=dict(names),
        mpu=None,
        _load_global_state=lambda _: None,
    )
    (tmp_path / "zero").mkdir()
    torch.save({"param_groups": [{}, {}]}, tmp_path / "zero" / "optimizer_state.pt")
    with mended(zero):
        ZeROOptimizer.load_hp_checkpoint_state_from_checkpoint_dir(zero, "bit16_groups", str(tmp_path))
    assert [len(group) for group in zero.bit16_groups] == [1, 1]
    assert zero.param_names == names
    assert {name: value.tolist() for name, value in optimizer.state[vectors].items()} == {
        "step": 7.0,
        "exp_avg": [0.0, 0.0],
        "exp_avg_sq": [0.0, 0.0],
    }


@pytest.mark.parametrize("stage", [1, 3])
def test_a_checkpoint_from_before_the_first_step_has_state_for_the_converter(stage: int, tmp_path: Path) -> None:
    flats, states = ("fp32_flat_groups", "optimizer_state_dict")
    if stage == 1:
        flats, states = ("single_partition_of_fp32_groups", "base_optimizer_state")
    path = tmp_path / "optim_states.pt"
    groups = [torch.ones(3), torch.ones(2)]
    torch.save({"optimizer_state_dict": {flats: groups, states: {"state": {}}}}, path)
    _complete(path)
    found = torch.load(path)["optimizer_state_dict"][states]["state"]
    for number, group in enumerate(groups):
        assert found[number]["step"] == 0
        for moment in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(found[number][moment], torch.zeros_like(group))
    whole = path.stat()
    _complete(path)
    assert path.stat().st_ino == whole.st_ino, "what lacks nothing is written again"
