"""Parameters cut over ranks, which here are threads: each matrix is worked on once, and norms are of all of it."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models.optimizers import Fragment, Partition, sharded

SHAPES = [(8, 4), (3, 6, 5), (5, 5), (8, 4), (4, 8), (1, 7), (2, 8, 4), (2, 2)]


class Threads:
    """The collectives of torch.distributed that `sharded` calls, among threads of this process."""

    def __init__(self, ranks: int) -> None:
        self.ranks, self.here = ranks, threading.local()
        self.barrier, self.brought = threading.Barrier(ranks, timeout=20), dict[int, Any]()

    def _bring(self, mine: Any) -> list[Any]:
        self.brought[self.here.rank] = mine
        self.barrier.wait()
        brought = [self.brought[rank] for rank in range(self.ranks)]
        self.barrier.wait()
        return brought

    def all_reduce(self, tensor: Tensor, group: Any = None) -> None:
        tensor.copy_(sum(self._bring(tensor.clone())))

    def all_to_all_single(self, output: Tensor, given: Tensor, takes: list[int], gives: list[int], group: Any) -> None:
        pieces = [of_rank[self.here.rank] for of_rank in self._bring([p.clone() for p in torch.split(given, gives)])]
        assert [len(piece) for piece in pieces] == takes
        output.copy_(torch.cat(pieces))

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Return what `work` returns for each rank."""
        results = dict[int, Any]()

        def of_rank(rank: int) -> None:
            self.here.rank = rank
            results[rank] = work(rank)

        threads = [threading.Thread(target=of_rank, args=(rank,)) for rank in range(self.ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [results[rank] for rank in range(self.ranks)]


def cut(ranks: int, each: bool) -> list[tuple[Partition, int]]:
    """Return the partition of each rank and its length, of parameters joined and cut, or of each of them cut."""
    partitions, share_of_all = [], -(-sum(map(math.prod, SHAPES)) // ranks)
    for rank in range(ranks):
        fragments, first = list[Fragment](), 0
        for shape in SHAPES:
            size = math.prod(shape)
            share, before = (-(-size // ranks), 0) if each else (share_of_all, first)
            bounds = tuple(min(max(r * share - before, 0), size) for r in range(ranks + 1))
            fragments.append(Fragment(shape, bounds, first if each else max(first - rank * share, 0)))
            first += share if each else size
        partition = Partition(tuple(fragments), rank, None, torch.device("cpu"))
        partitions.append((partition, first if each else share_of_all))
    return partitions


def filled(partition: Partition, length: int, whole: list[Tensor]) -> Tensor:
    """Return a rank's flat tensor with its stretches of some parameters, and 7 where it is padded."""
    flat = torch.full((length,), 7.0)
    for fragment, tensor in zip(partition.fragments, whole, strict=True):
        rank = partition.rank
        flat[fragment.stretch(rank)] = tensor.flatten()[fragment.bounds[rank] : fragment.bounds[rank + 1]]
    return flat


@pytest.mark.parametrize("each", [False, True], ids=["joined", "each"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_every_matrix_is_worked_on_once_and_comes_back_to_those_who_hold_it(
    ranks: int, each: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Threads(ranks)
    monkeypatch.setattr(sharded, "dist", threads)
    monkeypatch.setattr(sharded, "AT_ONCE", 70)  # two or three at once: several rounds
    chooser = torch.Generator().manual_seed(0)
    whole = [torch.randn(shape, generator=chooser) for shape in SHAPES]
    seen = list[tuple[int, int]]()

    def work(matrices_NRC: Tensor) -> Tensor:
        seen.append((threads.here.rank, len(matrices_NRC)))
        assert matrices_NRC.numel() <= max(70, matrices_NRC[0].numel())
        return matrices_NRC @ matrices_NRC.mT @ matrices_NRC

    def of_rank(rank: int) -> Tensor:
        partition, length = cut(ranks, each)[rank]
        flat = filled(partition, length, whole)
        partition.orthogonalise(flat, work)
        return flat

    expected = [tensor @ tensor.mT @ tensor for tensor in whole]
    for flat, (partition, length) in zip(threads.run(of_rank), cut(ranks, each), strict=True):
        assert torch.allclose(flat, filled(partition, length, expected), atol=1e-5)
    assert sum(number for _, number in seen) == sum(math.prod(shape[:-2]) for shape in SHAPES)
    shares = [sum(number for rank, number in seen if rank == of) for of in range(ranks)]
    assert max(shares) - min(shares) <= 3, "one rank did the work of others"


@pytest.mark.parametrize("each", [False, True], ids=["joined", "each"])
def test_norms_are_of_the_whole_parameter(each: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(3)
    monkeypatch.setattr(sharded, "dist", threads)
    whole = [torch.randn(shape) for shape in SHAPES]

    def of_rank(rank: int) -> Tensor:
        partition, length = cut(3, each)[rank]
        flat = filled(partition, length, whole)
        return partition.norms(flat, 2 * flat)

    expected = torch.stack([tensor.norm() for tensor in whole])
    for found in threads.run(of_rank):
        assert torch.allclose(found, torch.stack([expected, 2 * expected]), rtol=1e-5)
