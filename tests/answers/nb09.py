"""Answers to the exercises of notebook 09."""

import madlab


def split_by_ranges(image, domains):
    for domain in domains:
        start = domain.index * 10**7 + 200_001
        for split in ("train", "val", "test"):
            if image in range(start, start := start + getattr(domain, split)):
                return domain.name, split
    return None


def split_by_rest(image, domains, first=200_001, order=("train", "val", "test")):
    index, place = divmod(image - first, 10**7)
    domain = {d.index: d for d in domains}[index]
    for split in order:
        if place < getattr(domain, split):
            return [domain.name, split]
        place -= getattr(domain, split)
    return domain.name, order[-1]


def split_by_comparing(image, domains):
    domain = next(d for d in domains if d.index == image // 10_000_000)
    place = image % 10_000_000 - 200_001
    if place < domain.train:
        return domain.name, "train"
    return domain.name, "val" if place < domain.train + domain.val else "test"


def summed(bits, weights, domains):
    total = 32 * weights
    for _ in range(domains - 1):
        total += bits
    return total / (32 * weights)


def points(row, finetuned, domains, least=0.0):
    return sum(1000 * max(least, 1 - (100 - row[d]) / (200 - 2 * finetuned[d])) ** 2 for d in domains)


def fair(ours, theirs, finetuned, least=0.0):
    shared = sorted(set(ours) & set(theirs))
    return [points(row, finetuned, shared, least) for row in (ours, theirs)]


def fair_with_the_library(ours, theirs, finetuned):
    shared = set(ours) & set(theirs)
    return tuple(madlab.decathlon_score({d: row[d] for d in shared}, finetuned) for row in (ours, theirs))


def fair_by_removing(ours, theirs, finetuned):
    for alone in set(ours) ^ set(theirs):
        ours.pop(alone, None)
        theirs.pop(alone, None)
    return sum(madlab.decathlon_score({d: ours[d]}, finetuned) for d in ours), madlab.decathlon_score(theirs, finetuned)


RIGHT = {
    "split_of": [split_by_ranges, split_by_rest, split_by_comparing],
    "networks": [lambda bits, weights, domains: 1 + (domains - 1) * bits / (32 * weights), summed,
                 lambda bits, weights, domains: (weights + (domains - 1) * bits / 32) / weights],
    "fair": [fair, fair_with_the_library, fair_by_removing],
}  # fmt: skip

WRONG = {
    "split_of": [
        (lambda image, domains: split_by_rest(image, domains, first=200_000), "count from 200,001"),
        (lambda image, domains: split_by_rest(image, domains, order=("train", "test", "val")), "all of train"),
        (lambda image, domains: (domains[0].name, "train"), "not of"),
        (lambda image, domains: split_by_comparing(image, domains)[1], "pair (name, split)"),
    ],
    "networks": [
        (lambda bits, weights, domains: 1 + domains * bits / (32 * weights), "needs no mask"),
        (lambda bits, weights, domains: 1 + (domains - 1) * bits / weights, "a parameter has 32"),
        (lambda bits, weights, domains: 1 + (domains - 1) * bits / (8 * weights), "4 bytes"),
        (lambda bits, weights, domains: (domains - 1) * bits / (32 * weights), "is missing"),
        (lambda bits, weights, domains: domains + (domains - 1) * bits / (32 * weights), "they share one"),
        (lambda bits, weights, domains: 1 + (domains - 1) * 32 * weights / bits, "upside down"),
        (lambda bits, weights, domains: domains * bits / 32, "of the base's bits"),
    ],
    "fair": [
        (lambda *rows: fair(*rows, least=-9.0), "before you square"),
        (lambda *rows: fair(*rows)[::-1], "wrong way round"),
        (lambda ours, theirs, best: (points(ours, best, ours), points(theirs, best, theirs)), "different domains"),
        (lambda *rows: fair(*rows)[0], "pair of scores"),
        (lambda *rows: [score / 3 for score in fair(*rows)], "Our score"),
    ],
}  # fmt: skip
