"""dedup: one document of every group of equal or nearly equal ones.

Equal means equal after Unicode NFC and collapsed white space; nearly equal means at least one MinHash bucket in
common, found by datatrove's own stages 2 and 3 on the signatures that `annotate` stored.  Both kinds of pairs are
merged into one set of clusters, and a stated policy, not the order of the files, says which document of one stays.

documents/  the kept documents, one file an input file, in input order
signals/    their signals, aligned with documents/ (only where the input has them)
clusters/   id and cluster_size of the kept documents, aligned with documents/
dropped/    id, url, reason (exact, minhash) and the id of the document that stands for the dropped one
"""

from typing import Annotated, Literal

from infra.artifacts import Artifact, Attempt
from infra.manifests import Counters
from infra.steps import Execution, Gate, StepConfig, step

Keep = Literal["longest", "first", "newest"]


class DedupConfig(StepConfig):
    """How duplicates are found and which one of them is kept."""

    minhash: bool = True
    """Also remove near duplicates, by the MinHash signatures of `annotate` and with the buckets that were set there;
    without signatures only exact duplicates are found."""

    keep: Keep = "longest"
    """The document of a cluster that stays: the longest, the first by order of the sources, or the newest by date;
    ties go to the smallest id."""

    gate: Annotated[Gate, Execution] = Gate(max_dropped=0.95, max_quarantined=0.0, min_out=1)
    """The band that the share of dropped documents must stay in."""


@step("dedup", version=1, reads={"kept": ("documents", "signals")})
def dedup(cfg: DedupConfig, kept: Artifact, out: Attempt) -> Counters:
    """Keep one document of every cluster of exact and near duplicates."""
    from tasks.dedup.removal import remove_duplicates

    return remove_duplicates(cfg, kept, out)


__all__ = ["DedupConfig", "Keep", "dedup"]
