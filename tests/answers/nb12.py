"""Answers to the exercises of notebook 12."""

import random

import torch


def diagnose(moved, loss, full_loss, finetune_loss, gap=0.5, low=0.01, high=5, base=1.5):
    if moved < low:
        return "rate too small"
    if moved > high:
        return "rate too large"
    if finetune_loss > base:
        return "base too small"
    return "rank too small" if loss > full_loss + gap else "no failure"


def diagnose_by_table(moved, loss, full_loss, finetune_loss):
    signs = {
        "rate too small": moved < 0.01,
        "rate too large": moved > 5,
        "base too small": finetune_loss > 1.5,
        "rank too small": loss - full_loss > 0.5,
        "no failure": True,
    }
    return next(verdict for verdict, applies in signs.items() if applies)


def diagnose_backwards(moved, loss, full_loss, finetune_loss):
    verdict = "no failure"
    if loss > full_loss + 0.5:
        verdict = "rank too small"
    if finetune_loss > 1.5:
        verdict = "base too small"
    if not 0.01 <= moved <= 5:
        verdict = "rate too small" if moved < 0.01 else "rate too large"
    return verdict


def rank_first(moved, loss, full_loss, finetune_loss):
    if loss > full_loss + 0.5 and 0.01 <= moved <= 5:
        return "rank too small"
    return diagnose(moved, loss, full_loss, finetune_loss)


def rate_last(moved, loss, full_loss, finetune_loss):
    verdict = diagnose(1.0, loss, full_loss, finetune_loss)
    return diagnose(moved, loss, full_loss, finetune_loss) if verdict == "no failure" else verdict


def by_sums(batches, correction=0):
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        batch = batch.double()
        count += batch[:, 0].numel()
        total = total + batch.sum((0, 2, 3))
        squares = squares + batch.square().sum((0, 2, 3))
    mean = total / count
    return mean.float(), ((squares / count - mean**2) * count / (count - correction)).float()


def in_two_passes(batches):
    count = sum(batch[:, 0].numel() for batch in batches)
    mean = sum(batch.sum((0, 2, 3)) for batch in batches) / count
    return mean, sum((batch - mean[:, None, None]).square().sum((0, 2, 3)) for batch in batches) / count


def by_merging(batches):
    """Chan, Golub and LeVeque (1983): means and squared deviations of two parts give those of both."""
    count, mean, deviation = 0, 0.0, 0.0
    for batch in batches:
        rows = batch.double().transpose(0, 1).flatten(1)
        own, step = rows.shape[1], rows.mean(1) - mean
        deviation = deviation + (rows - rows.mean(1, keepdim=True)).square().sum(1)
        deviation = deviation + step.square() * count * own / (count + own)
        mean, count = mean + step * own / (count + own), count + own
    return [mean, deviation / count]


def of_batches(batches, weighted):
    sizes = [batch[:, 0].numel() if weighted else 1 for batch in batches]
    means = [batch.mean((0, 2, 3)) for batch in batches]
    variances = [batch.var((0, 2, 3), correction=0) for batch in batches]
    return tuple(sum(s * one for s, one in zip(sizes, of, strict=True)) / sum(sizes) for of in (means, variances))


def joined(batches):
    x = torch.cat(batches)
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)


def of_images(batches):
    every = torch.cat([batch.mean((2, 3)) for batch in batches])
    return every.mean(0), every.var(0, correction=0)


def deal(files, order=sorted, test=1, val=1):
    parts = {"train": [], "val": [], "test": []}
    for label in {label for _, label, _ in files}:
        things = order({thing for _, other, thing in files if other == label})
        for file, other, thing in files:
            if other == label:
                place = things.index(thing)
                parts["test" if place < test else "val" if place < test + val else "train"].append(file)
    return parts


def shuffled(things):
    return random.Random(0).sample(sorted(things), len(things))


def by_counting_objects(files):
    seen, home = {}, {}
    for _, label, thing in files:
        if thing not in home:
            home[thing] = {0: "val", 3: "test"}.get(seen.setdefault(label, 0), "train")
            seen[label] += 1
    return {part: [file for file, _, thing in files if home[thing] == part] for part in ("train", "val", "test")}


def by_chance(files, of_objects):
    keys = [thing if of_objects else file for file, _, thing in files]
    home = {key: random.choices(("train", "val", "test"), (6, 2, 2))[0] for key in sorted(set(keys))}
    parts = {"train": [], "val": [], "test": []}
    for (file, _, _), key in zip(files, keys, strict=True):
        parts[home[key]].append(file)
    return parts


def by_files_of_each_class(files):
    parts = {"train": [], "val": [], "test": []}
    for label in {label for _, label, _ in files}:
        own = [file for file, other, _ in files if other == label]
        parts["test"] += own[:2]
        parts["val"] += own[2:4]
        parts["train"] += own[4:]
    return parts


def by_names_alone(files):
    """No class is asked for: objects in the order of their names are dealt out in turn."""
    objects = sorted({thing for _, _, thing in files})
    part = dict(enumerate(("test", "val")))
    home = {thing: part.get(i % 5, "train") for i, thing in enumerate(objects)}
    return {part: [file for file, _, thing in files if home[thing] == part] for part in ("train", "val", "test")}


RIGHT = {
    "diagnose": [diagnose, diagnose_by_table, diagnose_backwards],
    "statistics": [by_sums, in_two_passes, by_merging],
    "split": [deal, lambda files: deal(files, order=shuffled), by_counting_objects],
}

WRONG = {
    "diagnose": [
        (lambda *four: diagnose(*four, gap=0.48), "should be"),
        (lambda *four: diagnose(*four, gap=0.52), "should be"),
        (lambda *four: diagnose(*four, high=4.8), "should be"),
        (lambda *four: diagnose(*four, low=0.0098), "Ask about the rate first"),
        (lambda *four: diagnose(*four, base=1.48), "should be"),
        (rank_first, "fine-tuning fails as well"),
        (rate_last, "Ask about the rate first"),
        (lambda *four: "the rate is too small", "is not a verdict"),
    ],
    "statistics": [
        (lambda batches: of_batches(batches, weighted=False), "counts the same in this mean"),
        (lambda batches: of_batches(batches, weighted=True), "batches' means differ"),
        (lambda batches: by_sums(batches, correction=1), "count minus one"),
        (lambda batches: (by_sums(batches)[0], by_sums(batches)[1].sqrt()), "standard deviation"),
        (lambda batches: (by_sums(batches)[0], by_sums(batches)[1] + by_sums(batches)[0] ** 2), "mean of the squares"),
        (lambda batches: by_sums(batches)[0], "two tensors"),
        (lambda batches: (by_sums(batches)[0], ...), "replace the"),
        (lambda batches: (by_sums(batches)[0], None), "The variance is missing"),
        (joined, "Do not join the batches"),
        (of_images, "Every image counts the same"),
    ],
    "split": [
        (lambda files: by_chance(files, of_objects=False), "the test would be too easy"),
        (lambda files: by_chance(files, of_objects=True), "needs every class"),
        (by_files_of_each_class, "the test would be too easy"),
        (by_names_alone, "needs every class"),
        (lambda files: dict.fromkeys(("train", "val", "test"), ...), "replace the"),
        (lambda files: deal(files, test=2, val=2), "more than half"),
        (lambda files: deal(files, val=0), "needs every class"),
        (lambda files: {part: [f for f in files if f[0] in own] for part, own in deal(files).items()}, "first entry"),
        (lambda files: list(deal(files).values()), "not list"),
    ],
}
