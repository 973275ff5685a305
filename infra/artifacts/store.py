"""Where artifacts are looked up, claimed, published, verified and named."""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from infra.artifacts.artifact import Artifact
from infra.artifacts.attempts import Attempt, Claim, Work
from infra.canonical import canonical_json, digest_of, sha256_file
from infra.errors import DataError, LeaseLostError, UserError
from infra.leases import Lease, LeaseWatch
from infra.manifests import FORMAT, Counters, File, Identity, Manifest, content_digest, parquet_rows
from infra.provenance import git_revision, package_versions
from infra.retries import patiently
from infra.settings import settings
from infra.storage import KEPT, Storage

log = logging.getLogger(__name__)

SHARD_SUFFIX = ".shard"


class ArtifactStore:
    """Artifacts below one storage prefix. Knows no Prefect and no step; safe to use from many processes at once."""

    def __init__(self, url: str, *, workspace: Path | None = None, lease_seconds: float | None = None) -> None:
        self.storage = Storage(url)
        self.root = self.storage.uri("")
        self._workspace = workspace or settings().workspace
        self._lease_seconds = lease_seconds or settings().lease_seconds

    def _at(self, step: str, digest: str, name: str = "manifest.json") -> str:
        return f"artifacts/{step}/{digest}/{name}"

    def lookup(self, identity: Identity) -> Artifact | None:
        """Return the artifact if it is published; an outage raises and never looks like a miss."""
        return self.get(identity.step, identity.digest)

    def get(self, step: str, digest: str) -> Artifact | None:
        """Return the artifact of `step` with the full `digest`, None if it is not published."""
        try:
            data = self.storage.read_bytes(self._at(step, digest))
        except FileNotFoundError:
            return None
        return self._load(data, self._at(step, digest))

    def get_many(self, step: str, digests: list[str]) -> dict[str, Artifact]:
        """Return those of the artifacts that are published, by digest."""
        found = self.storage.read_many([self._at(step, d) for d in digests])
        return {path.split("/")[2]: self._load(data, path) for path, data in found.items()}

    def _load(self, data: bytes, path: str) -> Artifact:
        try:
            manifest = Manifest.model_validate_json(data)
        except ValidationError as exc:
            raise DataError(f"{self.storage.uri(path)} is not a manifest of format {FORMAT}: {exc}") from exc
        manifest.files = [f.model_copy(update={"root": self.root}) for f in manifest.files]
        return Artifact(manifest, self.root)

    def steps(self) -> list[str]:
        """Return the names of the steps that have artifacts, without those of single shards."""
        return [name for name in self.storage.names("artifacts") if not name.endswith(SHARD_SUFFIX)]

    def published(self, step: str | None = None) -> list[Artifact]:
        """Return all published artifacts (of one step), oldest first."""
        steps = [step] if step else self.steps()
        paths = [self._at(s, d) for s in steps for d in self.storage.names(f"artifacts/{s}")]
        found = self.storage.read_many(paths)
        artifacts = [self._load(data, path) for path, data in found.items()]
        return sorted(artifacts, key=lambda a: (a.manifest.created, a.digest))

    def find(self, text: str) -> Artifact:
        """Return the artifact that `text` means: a digest or the beginning of one, `step/digest`, a step's newest.

        Raises UserError if it means none or more than one.
        """
        step, _, digest = text.rpartition("/")
        if not step and text in self.steps():
            found = self.published(text)
            return found[-1] if found else self._none(text)
        matches = [
            (s, d)
            for s in ([step] if step else self.steps())
            for d in self.storage.names(f"artifacts/{s}")
            if d.startswith(digest)
        ]
        found = [a for s, d in matches if (a := self.get(s, d)) is not None]
        if len(found) > 1:
            raise UserError(
                f"{text}: means {len(found)} artifacts ({', '.join(a.uri for a in found[:3])}…); write more"
            )
        return found[0] if found else self._none(text)

    def _none(self, text: str) -> Artifact:
        raise UserError(f"{text}: no such artifact in {self.root}; `millrace ls` lists what is there")

    @contextmanager
    def claim(
        self, identity: Identity, *, waiting: Callable[[float], None] | None = None, poll: float = 0.5
    ) -> Iterator[Artifact | Claim]:
        """Yield the published artifact, or the exclusive right to build it.

        Waits while another worker holds it (`waiting` is told how long, in seconds). On the way out the lease of an
        unpublished claim is released.
        """
        lease_folder = self.storage.sub(f"artifacts/{identity.step}/{identity.digest}/lease")
        watch = LeaseWatch()
        began = time.monotonic()
        lease: Lease | None = None
        while lease is None:
            if (artifact := self.lookup(identity)) is not None:
                yield artifact
                return
            lease = Lease.try_acquire(lease_folder, self._lease_seconds, watch)
            if lease is None:
                if waiting is not None:
                    waiting(time.monotonic() - began)
                time.sleep(poll)
        try:
            if (artifact := self.lookup(identity)) is not None:
                yield artifact
                return
            yield self._open(identity, lease)
        finally:
            lease.release()

    def _open(self, identity: Identity, lease: Lease) -> Claim:
        name = f"attempt-{lease.epoch:06d}-{lease.token[:8]}"
        local = self.storage.local_root
        base = f"artifacts/{identity.step}/{identity.digest}"
        # Stores have leases of their own, so two of them must not share a folder.
        own = self._workspace.resolve() / "scratch" / digest_of(self.root)[:8] / identity.step / identity.digest
        directory = local.resolve() / base / name if local is not None else own / name
        scratch = own / "state"
        for folder in (directory, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        partial = self.storage.sub(f"{base}/partial")
        return Claim(identity, lease, Attempt(directory, scratch, partial, own / "progress.json", self.root), name)

    def publish(self, claim: Claim, counters: Counters, work: Work) -> Artifact:
        """Hash and upload the attempt's files and commit the manifest; raises LeaseLostError if taken over."""
        counters.check(claim.identity.step)
        base = f"artifacts/{claim.identity.step}/{claim.identity.digest}/{claim.name}"
        files = []
        for path in sorted(p for p in claim.attempt.directory.rglob("*") if p.is_file()):
            name = path.relative_to(claim.attempt.directory).as_posix()
            files.append(
                File(
                    path=name,
                    location=f"{base}/{name}",
                    bytes=path.stat().st_size,
                    sha256=sha256_file(path),
                    rows=parquet_rows(path),
                    root=self.root,
                )
            )
            if self.storage.local_root is None:
                patiently(partial(self.storage.upload, path, f"{base}/{name}"))
            if claim.lease.lost.is_set():
                raise LeaseLostError(f"{claim.identity.step}: taken over by another worker while publishing")
        return self._commit(claim, files, [], counters, work)

    def publish_shards(self, claim: Claim, shards: list[Artifact], counters: Counters, work: Work) -> Artifact:
        """Commit the artifact of a sharded step: the files of its shards, in order, none of them copied."""
        counters.check(claim.identity.step)
        files = []
        for i, shard in enumerate(shards):
            for f in shard.files():
                folder, _, name = f.path.rpartition("/")
                path = f"{folder}/{i:05d}-{name}" if folder else f"{i:05d}-{name}"
                files.append(f.model_copy(update={"path": path}))
        files.sort(key=lambda f: f.path)
        return self._commit(claim, files, [s.digest for s in shards], counters, work)

    def _commit(self, claim: Claim, files: list[File], shards: list[str], counters: Counters, work: Work) -> Artifact:
        identity = claim.identity
        price = settings().core_hour_price
        manifest = Manifest(
            step=identity.step,
            version=identity.version,
            digest=identity.digest,
            content=content_digest(files),
            params=identity.params,
            inputs=list(identity.inputs),
            files=files,
            shards=shards,
            attempt=claim.name,
            counters=counters,
            seconds=round(work.seconds, 3),
            cpu_seconds=round(work.cpu_seconds, 3),
            peak_memory_bytes=work.peak_memory_bytes,
            cost=None if price is None else round(work.cpu_seconds / 3600 * price, 6),
            packages=package_versions(),
            git_revision=git_revision(),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        claim.lease.seal()
        path, body = self._at(identity.step, identity.digest), manifest.to_json()
        created = patiently(lambda: self.storage.create(path, body))
        published = patiently(lambda: self.lookup(identity))
        if published is None or (not created and published.manifest.attempt != claim.name):
            raise LeaseLostError(f"{identity.step} {identity.digest[:12]}: published by another worker")
        shutil.rmtree(claim.attempt.scratch.parent, ignore_errors=True)
        self._clear_partial(identity.step, identity.digest)
        return published

    def _clear_partial(self, step: str, digest: str) -> None:
        unfinished = self.storage.sub(self._at(step, digest, "partial"))
        try:
            names = unfinished.names("")
            for name in names if KEPT in names else ("",):
                if name != KEPT:
                    unfinished.delete(name, recursive=True)
        except Exception as exc:  # the artifact stands; what is left costs room and nothing else
            log.warning("%s %s: what it left of unfinished work could not be removed: %s", step, digest[:12], exc)

    def withdraw(self, identity: Identity, shards: list[str]) -> None:
        """Remove the manifest (the commit point) of an artifact and of its shards, so that it is built from nothing."""
        for shard in shards:
            self.storage.delete(self._at(f"{identity.step}{SHARD_SUFFIX}", shard))
        self.storage.delete(self._at(identity.step, identity.digest))
        self.storage.delete(self._at(identity.step, identity.digest, "partial"), recursive=True)

    def verify(self, artifact: Artifact) -> list[str]:
        """Hash every file again; return one line for each that is missing or differs."""
        problems = []
        for f in artifact.manifest.files:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "bytes"
                    Storage(f.root).download(f.location, path)
                    found = sha256_file(path)
            except FileNotFoundError:
                problems.append(f"{f.uri}: missing")
                continue
            if found != f.sha256:
                problems.append(f"{f.uri}: sha256 is {found}, the manifest says {f.sha256}")
        if content_digest(artifact.manifest.files) != artifact.content:
            problems.append(f"{artifact.uri}: the manifest's content digest does not fit its files")
        return problems

    def tag(self, name: str, version: str, artifacts: dict[str, Artifact]) -> None:
        """Give artifacts a human name; a version is written once. Raises UserError if it means something else."""
        body = canonical_json({role: {"step": a.step, "digest": a.digest} for role, a in artifacts.items()})
        path = f"refs/{name}/{version}.json"
        if not self.storage.create(path, body) and self.storage.read_bytes(path) != body:
            raise UserError(f"{self.storage.uri(path)} exists and names other artifacts; choose another version")

    def versions(self, name: str) -> list[str]:
        """Return the versions of a human name, sorted."""
        return [v.removesuffix(".json") for v in self.storage.names(f"refs/{name}") if v.endswith(".json")]

    def tagged(self, name: str, version: str | None = None) -> dict[str, Artifact]:
        """Return what a human name (its last version by default) means; raises UserError if there is none."""
        versions = self.versions(name)
        if not versions or (version is not None and version not in versions):
            raise UserError(f"{name}: no such name in {self.storage.uri('refs')}")
        entries = json.loads(self.storage.read_bytes(f"refs/{name}/{version or versions[-1]}.json"))
        found = {role: self.get(e["step"], e["digest"]) for role, e in entries.items()}
        return {role: artifact for role, artifact in found.items() if artifact is not None}
