"""Start a group of training processes so that the whole group is gone, on every rank, when its supervisor is.

    run_group(["-m", "models.train", "job.json"], ranks=2)     the program of each rank, as after `python`

On one machine the group is a session of its own: it is killed as one when the call ends, whatever ends it.  A
supervisor that is itself killed with -9 can do nothing, so each rank also watches it and ends itself: ranks are started
through this package (`python -m infra.launch -m models.train job.json`), which sees to that before anything heavy is
imported.  On several machines an agent on each of them (node.py) supervises its ranks, and watches the heart-beat of
the supervisor in a folder that all of them see:

    cluster=Hosts(hostfile=…)        over ssh to the machines of a hostfile (hosts.py)
    cluster=SlurmConfig(…)           srun within an allocation, sbatch elsewhere (slurm.py)
    cluster=KubernetesConfig(…)      an Indexed Job (kubernetes.py)
"""

from infra.launch.group import Launcher, free_port, group_environment, run_group
from infra.launch.processes import SUPERVISOR, identify_process, kill_group

__all__ = [
    "SUPERVISOR",
    "Launcher",
    "free_port",
    "group_environment",
    "identify_process",
    "kill_group",
    "run_group",
]
