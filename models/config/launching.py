"""What starts the ranks, on which machines, and what of that cannot be."""

from models.config.execution import ExecutionConfig


def check_launcher(execution: ExecutionConfig) -> list[str]:
    """Return why the launcher cannot start these ranks there, with the numbers."""
    from infra.launch.clusters import check_nodes

    problems = []
    launcher, ranks = execution.launcher, execution.ranks
    if launcher == "python" and ranks > 1:
        problems.append(
            f"execution.launcher=python starts one rank, not execution.ranks={ranks}; use deepspeed or torchrun"
        )
    if execution.hostfile is not None and launcher not in ("auto", "deepspeed", "torchrun"):
        problems.append(f"execution.hostfile says nothing to execution.launcher={launcher}; use deepspeed or torchrun")
    for section in ("slurm", "kubernetes"):
        cluster = getattr(execution, section)
        if cluster is not None and launcher != section:
            problems.append(f"execution.{section} says nothing to execution.launcher={launcher}; use {section}")
        elif cluster is not None:
            problems += check_nodes(section, cluster, ranks)
    if launcher == "kubernetes" and execution.kubernetes is None:
        problems.append("execution.launcher=kubernetes needs execution.kubernetes with image and claim")
    return problems
