"""Answers to the exercises of notebook 11."""

import itertools

import torch


def by_form(m, n, rank, width):
    factors, whole = m * rank + rank * n, m * n
    return width * (factors if factors < whole else whole)


def by_break_even(m, n, rank, width):
    return width * m * n if rank >= m * n / (m + n) else width * rank * (m + n)


def mixed(networks, images, names):
    answers = [None] * len(names)
    for name in set(names):
        positions = [i for i, other in enumerate(names) if other == name]
        for i, logits in zip(positions, networks[name](images[positions]), strict=True):
            answers[i] = logits
    return answers


def mixed_with_masks(networks, images, names):
    answers = {}
    for name, network in networks.items():
        mask = torch.tensor([other == name for other in names])
        if mask.any():
            answers |= dict(zip(mask.nonzero().flatten().tolist(), network(images[mask]), strict=True))
    return [answers[i] for i in range(len(names))]


def mixed_sorted(networks, images, names):
    order = sorted(range(len(names)), key=lambda i: names[i])
    answers = []
    for name, group in itertools.groupby(order, key=lambda i: names[i]):
        answers += networks[name](images[list(group)])
    return tuple(answers[order.index(i)] for i in range(len(names)))


def in_groups(networks, images, names):
    return [row for name in sorted(set(names))
            for row in networks[name](images[[i for i, other in enumerate(names) if other == name]])]  # fmt: skip


def one_by_one(networks, images, names):
    return [networks[name](image[None])[0] for image, name in zip(images, names, strict=True)]


def all_on_all(networks, images, names):
    every = {name: network(images) for name, network in networks.items()}
    return [every[name][i] for i, name in enumerate(names)]


def neighbours(networks, images, names):
    answers, start = [], 0
    for name, group in itertools.groupby(names):
        end = start + len(list(group))
        answers += networks[name](images[start:end])
        start = end
    return answers


def within_turned(networks, images, names):
    """Right for all but the order within a domain."""
    answers = mixed(networks, images, names)
    places = [i for i, name in enumerate(names) if name == names[0]]
    turned = [answers[i] for i in reversed(places)]
    for i, row in zip(places, turned, strict=True):
        answers[i] = row
    return answers


def cost(ranks, prices):
    return sum(rank * price for rank, price in zip(ranks, prices, strict=True))


def explained(shares, ranks):
    return sum(sum(share[:rank]) for share, rank in zip(shares, ranks, strict=True))


def every(shares, prices, budget, first=1, most=99):
    ranges = (range(first, min(most, len(share)) + 1) for share in shares)
    return [ranks for ranks in itertools.product(*ranges) if cost(ranks, prices) <= budget]


def best(shares, prices, budget, **limits):
    return max(every(shares, prices, budget, **limits), key=lambda ranks: explained(shares, ranks))


def best_by_recursion(shares, prices, budget):
    def search(layer, left):
        if layer == len(shares):
            return 0.0, []
        later = sum(prices[layer + 1 :])
        found = []
        for rank in range(1, len(shares[layer]) + 1):
            if rank * prices[layer] + later <= left:
                value, ranks = search(layer + 1, left - rank * prices[layer])
                found.append((value + sum(shares[layer][:rank]), [rank, *ranks]))
        return max(found)

    return search(0, budget)[1]


def best_by_table(shares, prices, budget):
    """Dynamic programming over what has been spent."""
    table = {0: (0.0, [])}
    for share, price in zip(shares, prices, strict=True):
        grown = {}
        for spent, (value, ranks) in table.items():
            for rank in range(1, len(share) + 1):
                new = spent + rank * price, (value + sum(share[:rank]), [*ranks, rank])
                if new[0] <= budget and new[1] > grown.get(new[0], (-1.0, [])):
                    grown[new[0]] = new[1]
        table = grown
    return max(table.values())[1]


def greedy(shares, prices, budget, worth=lambda gain, price: gain / price):
    """What the notebook builds: always the direction with the largest gain for its price that still fits."""
    ranks = [1] * len(shares)
    while True:
        left = budget - cost(ranks, prices)
        places = [i for i, rank in enumerate(ranks) if rank < len(shares[i]) and prices[i] <= left]
        if not places:
            return ranks
        ranks[max(places, key=lambda i: worth(shares[i][ranks[i]], prices[i]))] += 1


def uniform(shares, prices, budget):
    return max(ranks for ranks in every(shares, prices, budget) if len(set(ranks)) == 1)


RIGHT = {
    "bits": [lambda m, n, rank, width: width * min(rank * (m + n), m * n), by_form, by_break_even],
    "mixed": [
        mixed,
        mixed_with_masks,
        mixed_sorted,
        lambda *given: [logits.double() for logits in mixed(*given)],
    ],
    "best_ranks": [best, best_by_recursion, best_by_table],
}

WRONG = {
    "bits": [
        (lambda m, n, rank, width: min(rank * (m + n), m * n), "How many bits"),
        (lambda m, n, rank, width: width * rank * (m + n), "cheaper form"),
        (lambda m, n, rank, width: width * m * n, "should be"),
        (lambda m, n, rank, width: width * min(rank * (m + n), m * n) / 8, "should be"),
    ],
    "mixed": [
        (in_groups, "Answer 0"),
        (one_by_one, "run it once"),
        (all_on_all, "its own images only"),
        (neighbours, "run it once"),
        (within_turned, "belongs to another image"),
        (lambda *given: dict(enumerate(mixed(*given))), "one row of logits for each image"),
        (lambda *given: iter(mixed(*given)), "one row of logits for each image"),
        (lambda *given: [*mixed(*given)[:1], *[None] * (len(given[2]) - 1)], "nswer 1 is missing"),
    ],
    "best_ranks": [
        (greedy, "Did you try all"),
        (lambda *given: greedy(*given, worth=lambda gain, price: gain), "Did you try all"),
        (lambda *given: greedy(*given, worth=lambda gain, price: -price), "Did you try all"),
        (uniform, "Did you try all"),
        (lambda *given: best(*given, most=2), "Did you try all"),
        (lambda shares, prices, budget: best(shares, prices, budget - 1e-9), "Did you try all"),
        (lambda shares, prices, budget: best(shares, prices, budget + 8), "the budget is"),
        (lambda shares, prices, budget: [0, *best(shares, prices, budget)[1:]], "rank 0"),
        (lambda shares, prices, budget: best(shares, prices, budget, first=0), "rank 0"),
        (lambda shares, prices, budget: 3, "whole number for each layer"),
    ],
}
