"""The 5-gram line is interpolated modified Kneser-Ney of the training tokens, as the textbook has it."""

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tasks.evaluate.ngrams import NgramModel, training_tokens

END, SIZE = 0, 9

Gram = tuple[int, ...]


def documents(seed: int, count: int) -> list[list[int]]:
    """Documents in which a token depends on the two before it, and now and then on nothing."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        made = [1 + chance.randrange(SIZE - 2)]
        while len(made) < 2 + chance.randrange(30):
            follows = 1 + (3 * made[-1] + sum(made[-2:]) + chance.randrange(2)) % (SIZE - 2)
            made.append(chance.choice([follows, follows, follows, 1 + chance.randrange(SIZE - 2)]))
        found.append(made)
    return found


class Textbook:
    """Chen and Goodman 1999, section 3 and equation 26, n-gram by n-gram."""

    def __init__(self, texts: list[list[int]], order: int) -> None:
        raw: list[Counter[Gram]] = [Counter() for _ in range(order + 1)]
        for text in texts:
            row = [END, *text, END]
            for size in range(1, order + 1):
                for end in range(1, len(row)):
                    if end - size + 1 >= 0:
                        raw[size][tuple(row[end - size + 1 : end + 1])] += 1
        self.counts: list[Counter[Gram]] = [Counter()]
        for size in range(1, order):
            before = Counter(gram[1:] for gram in raw[size + 1])
            begun = {gram: count for gram, count in raw[size].items() if gram[0] == END and size > 1}
            self.counts.append(Counter(before | Counter(begun)))
        self.counts.append(raw[order])

    def discounts(self, size: int) -> list[float]:
        of = Counter(self.counts[size].values())
        if not all(of[n] for n in (1, 2, 3, 4)):
            return [0.0, 0.5, 1.0, 1.5]
        share = of[1] / (of[1] + 2 * of[2])
        take = [n - (n + 1) * share * of[n + 1] / of[n] for n in (1, 2, 3)]
        return [0.0, *take] if min(take) > 0 else [0.0, 0.5, 1.0, 1.5]

    def chance(self, context: Gram, token: int) -> float:
        size = len(context) + 1
        shorter = self.chance(context[1:], token) if context else 1 / SIZE
        after = {gram: count for gram, count in self.counts[size].items() if gram[:-1] == context}
        if not after:
            return shorter
        take = self.discounts(size)
        count = after.get((*context, token), 0)
        left = sum(take[min(each, 3)] for each in after.values())
        return (count - take[min(count, 3)] + left * shorter) / sum(after.values())


@pytest.mark.parametrize(("count", "order"), [(300, 5), (300, 3), (3, 5)])
def test_it_costs_what_the_textbook_says(count: int, order: int) -> None:
    train, (held, *_) = documents(1, count), documents(2, 9)
    model = NgramModel(np.concatenate([[*text, END] for text in train]), vocabulary=SIZE, end=END, order=order)
    book = Textbook(train, order)
    row = [END, *held, 8, *held[:3], END]  # 8 is in no training text
    expected = [-math.log(book.chance(tuple(row[max(0, at - order + 1) : at]), row[at])) for at in range(1, len(row))]
    assert model.nats(np.array(row[1:])).tolist() == pytest.approx(expected, rel=1e-9)


def test_its_probabilities_sum_to_one_and_longer_contexts_help() -> None:
    tokens = np.concatenate([[*text, END] for text in documents(1, 400)])
    held = [np.array([*text, END]) for text in documents(3, 40)]
    costs = []
    for order in range(1, 4):
        model = NgramModel(tokens, vocabulary=SIZE, end=END, order=order)
        for context in ([], [3], [3, 1, 4, 1], [8, 8, 2]):
            chances = [math.exp(-model.nats(np.array([*context, token]))[-1]) for token in range(SIZE)]
            assert sum(chances) == pytest.approx(1)
        costs.append(sum(model.nats(text).sum() for text in held))
    assert costs[0] > costs[1] > costs[2]


def test_what_fills_up_windows_changes_nothing_and_only_so_many_tokens_are_read(tmp_path: Path) -> None:
    texts = documents(1, 50)
    plain = np.concatenate([[*text, END] for text in texts])
    filled = np.concatenate([[*text, END, *[END] * (len(text) % 3)] for text in texts])
    one, other = (NgramModel(tokens, vocabulary=SIZE, end=END) for tokens in (plain, filled))
    assert one.nats(plain[:40]).tolist() == other.nats(plain[:40]).tolist()
    for number, part in enumerate(np.split(plain, [100, 250])):
        part.astype("<u2").tofile(tmp_path / f"{number}.bin")
    paths = sorted(tmp_path.iterdir())
    assert training_tokens(paths, "uint16", 10**9).tolist() == plain.tolist()
    assert training_tokens(paths, "uint16", 120).tolist() == plain[:120].tolist()
