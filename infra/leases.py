"""Epoch leases: the exclusive, fenced right to build one artifact.

    lease/000001.json           created if absent: the holder of epoch 1
    lease/000001.beat           rewritten by the holder: "I am alive", a number that grows
    lease/000001.released       the holder gave up

Epoch n+1 may be created once the holder of epoch n has released it, has died on this machine, or has not changed
its beat for a whole lease time *as observed by the waiter's own clock* (so clocks need not agree). Before it
publishes, a holder seals its lease by creating the next epoch itself: whoever holds that number is the only one who
may publish, so a worker that was taken over can not.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.errors import LeaseLostError
from infra.retries import transient
from infra.storage import Storage

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def _machine() -> str:
    """Name this boot of this machine (and container): a process id means something only within it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot, namespace = "", ""
    return f"{socket.gethostname()}/{boot}/{namespace}"


def process_started(pid: int) -> str | None:
    """Return when the process `pid` of this machine started (in clock ticks since boot), None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if os.path.isdir("/proc/self"):
            return None
        try:  # no /proc (macOS): existence only
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return "?"
        return "?"
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _dead(holder: dict[str, Any]) -> bool:
    """Tell for certain that the holder's process is gone (False where it ran elsewhere)."""
    return holder.get("machine") == _machine() and process_started(int(holder["pid"])) != holder.get("started")


@dataclass
class LeaseWatch:
    """What a waiter has seen of the current holder, and since when (its own monotonic clock)."""

    seen: tuple[int, bytes] | None = None
    since: float = 0.0


@dataclass
class Lease:
    """A held epoch. `lost` is set as soon as the holder can no longer be sure that it is the only one."""

    storage: Storage
    epoch: int
    token: str
    seconds: float
    lost: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def try_acquire(cls, storage: Storage, seconds: float, watch: LeaseWatch) -> "Lease | None":
        """Take the next epoch of the lease folder `storage` if it is free, else return None; never waits."""
        names = storage.names("")
        epochs = [int(name[:6]) for name in names if name.endswith(".json")]
        last = max(epochs, default=0)
        if last and f"{last:06d}.released" not in names and not cls._expired(storage, last, seconds, watch):
            return None
        token = uuid.uuid4().hex
        started = process_started(os.getpid())
        holder = {"machine": _machine(), "pid": os.getpid(), "started": started, "token": token}
        if not cls._take(storage, f"{last + 1:06d}.json", holder):
            return None
        lease = cls(storage, last + 1, token, seconds)
        lease._thread = threading.Thread(target=lease._beat, name=f"lease-{token[:8]}", daemon=True)
        lease._thread.start()
        return lease

    @staticmethod
    def _take(storage: Storage, name: str, holder: dict[str, Any]) -> bool:
        """Create an epoch; a put whose answer was lost and that was sent again meets its own object."""
        if storage.create(name, json.dumps(holder).encode()):
            return True
        return bool(json.loads(storage.read_bytes(name)).get("token") == holder["token"])

    @staticmethod
    def _expired(storage: Storage, epoch: int, seconds: float, watch: LeaseWatch) -> bool:
        holder = json.loads(storage.read_bytes(f"{epoch:06d}.json"))
        if _dead(holder):
            return True
        try:
            beat = storage.read_bytes(f"{epoch:06d}.beat")
        except FileNotFoundError:
            beat = b""
        now = time.monotonic()
        if watch.seen != (epoch, beat):
            watch.seen, watch.since = (epoch, beat), now
            return False
        return now - watch.since > seconds

    def _beat(self) -> None:
        count = 0
        confirmed = time.monotonic()
        while not self._stop.wait(self.seconds / 4):
            count += 1
            try:
                self.storage.write_bytes(f"{self.epoch:06d}.beat", str(count).encode())
                if self.storage.exists(f"{self.epoch + 1:06d}.json") and not self._stop.is_set():
                    break
                confirmed = time.monotonic()
            except Exception as exc:
                if not transient(exc):
                    log.error("heartbeat of %s failed: %s", self.storage.url, exc)
                if time.monotonic() - confirmed > self.seconds:
                    break
        if not self._stop.is_set():
            self.lost.set()

    def seal(self) -> None:
        """Close the epoch for publishing; raises LeaseLostError if another worker has taken over."""
        self._stop.set()
        if self.lost.is_set() or not self._seal():
            self.lost.set()
            raise LeaseLostError(f"{self.storage.url}: epoch {self.epoch} was taken over by another worker")

    def _seal(self) -> bool:
        holder = {"machine": _machine(), "pid": os.getpid(), "started": process_started(os.getpid())}
        return self._take(self.storage, f"{self.epoch + 1:06d}.json", {**holder, "token": self.token, "sealed": True})

    def release(self) -> None:
        """Give the epoch up, so that the next worker need not wait; keeps quiet where storage does not answer."""
        self._stop.set()
        if self.lost.is_set():
            return
        try:
            try:
                later = json.loads(self.storage.read_bytes(f"{self.epoch + 1:06d}.json"))
            except FileNotFoundError:
                self.storage.create(f"{self.epoch:06d}.released", b"")
            else:
                if later.get("token") == self.token:  # sealed by this lease, not taken over by another
                    self.storage.create(f"{self.epoch + 1:06d}.released", b"")
        except Exception as exc:
            log.warning("lease %s could not be released (%s); it expires by itself", self.storage.url, exc)
