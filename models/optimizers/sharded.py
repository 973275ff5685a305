"""Parameters of which every rank holds a stretch, as ZeRO cuts them, for optimisers whose step needs all of one.

ZeRO joins the parameters of a group to one flat tensor and gives each rank a part of it (stages 1 and 2), or a part of
every parameter (stage 3).  What is elementwise needs no more than that part.  For the rest this module knows where the
stretches lie: it adds up norms over the ranks, and brings matrices together, each on one rank, which returns to the
others what is theirs: every element travels twice, and no matrix is worked on by two ranks.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

AT_ONCE: Final = 1 << 25
"""Elements of the matrices that a rank works on at once: 128 MiB in fp32, and a few times that while it does."""

Orthogonalise = Callable[[Tensor], Tensor]
"""Maps matrices (N, R, C) to as many of the same shape."""


@dataclass(frozen=True)
class Fragment:
    """A parameter, or a matrix of a stack, of which each rank holds one stretch of its elements, maybe an empty one."""

    shape: tuple[int, ...]
    bounds: tuple[int, ...]
    """Rank r of the group holds the elements from bounds[r] to bounds[r + 1]."""
    offset: int
    """Where this rank's stretch begins in its flat partition."""

    def matrices(self, rank: int) -> Iterator["Fragment"]:
        """Yield the matrices of a stack (or the one that it is), as the rank with this partition sees them."""
        rows, columns = self.shape[-2:]
        size, held = rows * columns, self.bounds[rank]
        for first in range(0, self.bounds[-1], size):
            bounds = tuple(min(max(bound - first, 0), size) for bound in self.bounds)
            yield Fragment((rows, columns), bounds, self.offset + max(first - held, 0))

    def stretch(self, rank: int) -> slice:
        """Return which elements of its flat partition the rank holds of this."""
        return slice(self.offset, self.offset + self.held(rank))

    def held(self, rank: int) -> int:
        """Return how many elements a rank holds."""
        return self.bounds[rank + 1] - self.bounds[rank]


@dataclass(frozen=True)
class Partition:
    """What one rank's flat partition of a group of parameters is made of."""

    fragments: tuple[Fragment, ...]
    rank: int
    """Of this process in `group`."""
    group: dist.ProcessGroup | None
    """The ranks among which the parameters are cut."""
    device: torch.device
    """On which ranks exchange and matrices are multiplied; the partition may be offloaded to the host."""

    @cached_property
    def matrices(self) -> tuple[Fragment, ...]:
        """All matrices, largest first: the same order on every rank, those of one shape side by side."""
        found = [matrix for each in self.fragments for matrix in each.matrices(self.rank)]
        return tuple(sorted(found, key=lambda each: (-each.bounds[-1], each.shape)))

    @cached_property
    def ranks(self) -> int:
        """Ranks of the group."""
        return len(self.fragments[0].bounds) - 1

    def norms(self, *flats: Tensor) -> Tensor:
        """Return the norm of each parameter in each of these flat tensors: (flats, parameters), on their device."""
        stretches = [each.stretch(self.rank) for each in self.fragments]
        squares = torch.stack([torch.stack([flat[s].square().sum() for s in stretches]) for flat in flats])
        whole = squares.to(self.device)
        dist.all_reduce(whole, group=self.group)
        return whole.sqrt_().to(squares.device)

    def orthogonalise(self, flat: Tensor, work: Orthogonalise) -> None:
        """Replace every matrix of a flat tensor laid out like the partition by what `work` makes of it.

        Every rank of the group must call it.
        """
        alone = [each for each in self.matrices if each.held(self.rank) == each.bounds[-1]]
        views = [flat[each.stretch(self.rank)].view(each.shape) for each in alone]
        for batch in batches(views):
            done = work(torch.stack(batch).to(self.device))
            for view, made in zip(batch, done, strict=True):
                view.copy_(made)
        shared = [each for each in self.matrices if max(map(each.held, range(self.ranks))) < each.bounds[-1]]
        for together in self._rounds(shared):
            self._exchange(flat, together, work)

    def _rounds(self, shared: Sequence[Fragment]) -> Iterator[list[Fragment]]:
        """Yield as many matrices at a time, a multiple of the ranks, as all of these work on at once."""
        held: list[Fragment] = []
        for first in range(0, len(shared), self.ranks):
            more = list(shared[first : first + self.ranks])
            if held and sum(each.bounds[-1] for each in (*held, *more)) > AT_ONCE * self.ranks:
                yield held
                held = []
            held += more
        if held:
            yield held

    def _exchange(self, flat: Tensor, shared: Sequence[Fragment], work: Orthogonalise) -> None:
        """Bring matrices together on one rank each, in turn, and replace what this rank holds of all of them."""
        ranks, me = range(self.ranks), self.rank
        of = [list(shared[owner :: self.ranks]) for owner in ranks]  # what each rank works on
        mine = of[me]
        sends = [sum(each.held(me) for each in of[owner]) for owner in ranks]
        receives = [sum(each.held(source) for each in mine) for source in ranks]
        stretches = [each.stretch(me) for owner in ranks for each in of[owner]]
        sent = torch.cat([flat[s] for s in stretches]).to(self.device)
        got = sent.new_empty(sum(receives))
        dist.all_to_all_single(got, sent, receives, sends, group=self.group)
        whole = [sent.new_empty(each.shape) for each in mine]
        pieces = [m.view(-1)[f.bounds[r] : f.bounds[r + 1]] for r in ranks for m, f in zip(whole, mine, strict=True)]
        for piece, come in zip(pieces, torch.split(got, [p.numel() for p in pieces]), strict=True):
            piece.copy_(come)
        for batch in batches(whole):
            for matrix, made in zip(batch, work(torch.stack(batch)), strict=True):
                matrix.copy_(made)
        if pieces:
            torch.cat(pieces, out=got)
        dist.all_to_all_single(sent, got, sends, receives, group=self.group)
        for s, come in zip(stretches, torch.split(sent, [s.stop - s.start for s in stretches]), strict=True):
            flat[s] = come


def batches(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield those of one shape together, as many as a rank works on at once."""
    by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        by_shape[tuple(tensor.shape)].append(tensor)
    for alike in by_shape.values():
        most = max(1, AT_ONCE // max(1, alike[0].numel()))
        for first in range(0, len(alike), most):
            yield alike[first : first + most]
