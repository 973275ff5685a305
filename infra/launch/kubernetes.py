"""Ranks under Kubernetes: an Indexed Job with one pod a machine, made and watched with kubectl, deleted at the end.

Pods meet on a headless service, mount the shared folder, and run the agent of their machine (node.py).  The service
belongs to the job, so that nothing is left where only the job is deleted; a job whose supervisor is gone ends by
itself, as its agents miss the heart-beat, and is removed after `ttlSecondsAfterFinished`.
"""

import json
import logging
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from infra.errors import UserError, WorkerDiedError
from infra.launch.clusters import KubernetesConfig
from infra.launch.node import Group

log = logging.getLogger(__name__)

PORT = 29500
"""Port on which the first pod is met; a pod has an address of its own."""

POLL_SECONDS = 3.0
"""Seconds between two questions about a job."""
_COMMAND_SECONDS = 60.0
_UNREACHABLE_SECONDS = 900.0
_TTL_SECONDS = 3600


def job_manifest(cfg: KubernetesConfig, name: str, *, folder: Path, shared: Path, ranks: int) -> dict[str, Any]:
    """Return the manifest of the Indexed Job: a pod a machine, none of which is started again alone."""
    per_pod = ranks // cfg.nodes
    resources: dict[str, Any] = {"cpu": str(cfg.cpus_per_node or per_pod), "memory": cfg.memory}
    if cfg.gpus_per_node:
        resources[cfg.gpu_resource] = str(cfg.gpus_per_node)
    agent = ["python", "-u", "-m", "infra.launch.node", str(folder / "group.json")]
    container: dict[str, Any] = {
        "name": "ranks",
        "image": cfg.image,
        # The pod's index is part of its log file's name, which the supervisor reads as it grows.
        "command": ["/bin/sh", "-c", f"exec {' '.join(agent)} --log {folder}/node-$JOB_COMPLETION_INDEX.log"],
        "resources": {"requests": resources, "limits": resources},
        "volumeMounts": [
            {"name": "shared", "mountPath": str(shared)},
            {"name": "memory", "mountPath": "/dev/shm"},
        ],
    }
    if cfg.secrets:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in cfg.secrets]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "subdomain": name,
        "terminationGracePeriodSeconds": cfg.grace_seconds,
        "containers": [container],
        "volumes": [
            {"name": "shared", "persistentVolumeClaim": {"claimName": cfg.claim}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},  # NCCL's ranks of one machine share memory
        ],
    }
    if cfg.service_account:
        pod["serviceAccountName"] = cfg.service_account
    if cfg.node_selector:
        pod["nodeSelector"] = dict(cfg.node_selector)
    if cfg.tolerations:
        pod["tolerations"] = [dict(toleration) for toleration in cfg.tolerations]
    labels = {"app.kubernetes.io/name": "millrace", "app.kubernetes.io/instance": name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": cfg.namespace, "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": cfg.nodes,
            "parallelism": cfg.nodes,
            "backoffLimit": 0,  # one machine cannot join again alone: all start anew from the newest checkpoint
            "ttlSecondsAfterFinished": _TTL_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def service_manifest(cfg: KubernetesConfig, name: str, *, owner: str) -> dict[str, Any]:
    """Return the headless service that gives each pod a name; it goes with the job that has `owner` as its uid."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": cfg.namespace,
            "labels": {"app.kubernetes.io/name": "millrace", "app.kubernetes.io/instance": name},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": owner}],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app.kubernetes.io/instance": name},
            "ports": [{"name": "rendezvous", "port": PORT}],
        },
    }


class KubernetesAgents:
    """The job of one group."""

    def __init__(self, cfg: KubernetesConfig, folder: Path, group: Group, take: Callable[[str], object]) -> None:
        from infra.settings import settings

        if shutil.which("kubectl") is None:
            raise UserError("execution.launcher=kubernetes: kubectl is not on PATH")
        if (shared := settings().shared) is None:
            raise UserError("execution.launcher=kubernetes: MILLRACE_SHARED must name the folder that pods mount")
        self._cfg, self._folder, self._shared, self._take = cfg, folder.resolve(), shared.resolve(), take
        self.name = f"millrace-{uuid.uuid4().hex[:10]}"
        if re.search(r"[^\w./-]", str(self._folder)):
            raise UserError(
                f"{self._folder}: the path of a folder that pods use may only have letters, digits, _ . / -"
            )
        address = f"{self.name}-0.{self.name}.{cfg.namespace}.svc"
        self._group = Group(**{**vars(group), "address": address, "port": PORT})
        self._created = False
        self._state: int | Literal["waiting", "running"] = "waiting"
        self._said = ""
        self._asked = self._answered = 0.0

    def start(self) -> None:
        """Create the job, and the service that it owns; raises UserError with what kubectl says where it refuses."""
        self._group.write(self._folder)
        ranks = sum(self._group.ranks)
        job = job_manifest(self._cfg, self.name, folder=self._folder, shared=self._shared, ranks=ranks)
        self._created = True  # also where the answer is lost: what is not there can be deleted
        made = self._create(job)
        self._create(service_manifest(self._cfg, self.name, owner=str(made["metadata"]["uid"])))
        self._answered = time.monotonic()
        self._take(f"Kubernetes: created job {self.name} in namespace {self._cfg.namespace}")

    def _create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        done = self._kubectl("create", "-f", "-", "-o", "json", given=json.dumps(manifest))
        if done.returncode:
            raise UserError(f"execution.kubernetes: kubectl refused the {manifest['kind']}: {_one_line(done.stderr)}")
        made: dict[str, Any] = json.loads(done.stdout)
        return made

    def poll(self) -> int | Literal["waiting", "running"]:
        """Ask every few seconds how the job does; raises WorkerDiedError where the cluster does not answer for long."""
        now = time.monotonic()
        if isinstance(self._state, int) or now - self._asked < POLL_SECONDS:
            return self._state
        self._asked = now
        done = self._kubectl("get", "job", self.name, "-o", "json")
        if done.returncode:
            if "NotFound" in done.stderr:
                self._take(f"Kubernetes: job {self.name} was deleted by somebody else")
                self._state = 1
            elif now - self._answered > _UNREACHABLE_SECONDS:
                raise WorkerDiedError(
                    f"Kubernetes has not answered for {_UNREACHABLE_SECONDS:g} s: {_one_line(done.stderr)}"
                )
            return self._state
        self._answered = now
        self._take_status(json.loads(done.stdout).get("status", {}))
        return self._state

    def _take_status(self, status: dict[str, Any]) -> None:
        ended = next(
            (c for c in status.get("conditions", []) if c["type"] in ("Complete", "Failed") and c["status"] == "True"),
            None,
        )
        if ended is not None:
            said = f"{ended['type']}: {ended.get('reason', '')} {ended.get('message', '')}".strip()
            self._state = 0 if ended["type"] == "Complete" else 1
        else:
            # A pod whose image is pulled, or that waits for a machine, is active but not ready.
            self._state = (
                "running" if status.get("ready", 0) >= self._cfg.nodes or self._said == "running" else "waiting"
            )
            said = str(self._state)
        if said != self._said:
            self._said = said
            self._take(f"Kubernetes: job {self.name} is {said}")

    def stop(self) -> None:
        """Delete the job, its pods and its service."""
        if not self._created:
            return
        done = self._kubectl(
            "delete", "job", self.name, "--ignore-not-found", "--cascade=foreground", "--wait=false"
        )  # fmt: skip
        if done.returncode:
            log.error("Kubernetes: job %s could not be deleted: %s", self.name, _one_line(done.stderr))

    def _kubectl(self, *arguments: str, given: str | None = None) -> "subprocess.CompletedProcess[str]":
        command = ["kubectl", f"--namespace={self._cfg.namespace}", *arguments]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, input=given or "", check=False
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"kubectl took longer than {_COMMAND_SECONDS:g} s")


def _one_line(text: str) -> str:
    return " ".join(text.split())
