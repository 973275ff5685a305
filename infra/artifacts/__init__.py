"""The artifact store: content-addressed, published once, and the only truth about what has been done.

    {root}/artifacts/{step}/{digest}/manifest.json    created only if absent, written last: the commit point
    {root}/artifacts/{step}/{digest}/{attempt}/…      data of one attempt; double work wastes, never corrupts
    {root}/artifacts/{step}/{digest}/lease/…          epoch leases (infra/leases.py)
    {root}/artifacts/{step}/{digest}/partial/…        state of unfinished work that survives its worker (checkpoints)
    {root}/refs/{name}/{version}.json                 human names -> digests

Two digests say what an artifact is. `digest` is its *identity*: sha256 over the step's name and VERSION, its identity
parameters and the content of its inputs. `content` is sha256 over the (path, sha256) of its files. Inputs enter an
identity by content, so a step that is rebuilt to the same bytes leaves everything after it cached. Files below
`logs/` (times, throughput) are kept and hashed but are not content.
"""

from infra.artifacts.artifact import Artifact
from infra.artifacts.attempts import Attempt, Claim, Work
from infra.artifacts.store import SHARD_SUFFIX, ArtifactStore

__all__ = ["SHARD_SUFFIX", "Artifact", "ArtifactStore", "Attempt", "Claim", "Work"]
