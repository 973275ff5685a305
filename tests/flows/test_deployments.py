"""prefect.yaml: what CI deploys and what the UI's forms start."""

from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = FILE["deployments"]


def flow_of(deployment: dict[str, Any]) -> Any:
    from prefect import Flow

    module, _, name = deployment["entrypoint"].rpartition(".")
    flow = getattr(import_module(module), name)
    assert isinstance(flow, Flow)
    return flow


def test_every_flow_has_a_deployment() -> None:
    from prefect import Flow

    from flows import deployments

    flows = {flow.name for flow in vars(deployments).values() if isinstance(flow, Flow)}
    assert flows == {flow_of(deployment).name for deployment in DEPLOYMENTS}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["entrypoint"])
def test_the_parameters_of_a_deployment_are_valid(deployment: dict[str, Any]) -> None:
    from prefect.utilities.schema_tools import validate

    flow = flow_of(deployment)
    schema = flow.parameters.model_dump()
    validate(deployment["parameters"], schema, raise_on_error=True)
    assert flow.validate_parameters(deployment["parameters"])["recipe"].name == "pydoc"


def test_a_schedule_says_where_it_is_three_o_clock_and_keeps_its_name() -> None:
    schedules = [schedule for deployment in DEPLOYMENTS for schedule in deployment.get("schedules", [])]
    assert schedules
    for schedule in schedules:
        ZoneInfo(schedule["timezone"])
        assert schedule["slug"], "a schedule without a slug is switched on again at every deployment"


def test_all_runs_go_to_the_pool_of_millrace_up() -> None:
    from infra.serve_local import WORK_POOL

    assert {deployment["work_pool"]["name"] for deployment in DEPLOYMENTS} == {WORK_POOL}


def test_a_run_works_where_its_worker_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (step,) = FILE["pull"]
    (name,) = step
    module, _, function = name.rpartition(".")
    monkeypatch.setenv("PWD", str(tmp_path))
    assert getattr(import_module(module), function)() == {"directory": str(tmp_path)}
    assert Path.cwd() == tmp_path
