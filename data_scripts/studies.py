"""The paper's open questions on real domains: small studies, three seeds, one command and one record each.

    python data_scripts/studies.py sparsity --data data --out madlab/records/sparsity.json
    python data_scripts/studies.py ranks --data data --out madlab/records/rank-allocation.json
    python data_scripts/studies.py far --data data --out madlab/records/far-domain.json

sparsity: what makes a modulation sparse, and does it matter? Full MAD, and one thing changed at a time (CAUSES): the
adapter's rate, the length of training, the number of images, a pull on alpha after every step, the base network.
ranks: one rank for all layers against ranks of their own, at equal bytes: cut from a trained alpha, with stale and with
fresh statistics, and trained from the start.
far: methods of growing capacity on the nine and on a domain that is far from them (chest X-rays), with their training
losses; and on base networks that are untrained. Beside each domain stands its distance from photographs.

data: a folder with the domains as image folders; beside the nine it holds chest_xray and tinyimagenet36, the
photographs that the base network was trained on. Of every domain a part is used: at most CLASSES classes, IMAGES
training images drawn by the seed, TESTED test images. Nothing is chosen by a result, so accuracies are of test images.
A study may be stopped and started again: what its file holds is not trained again.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

import madlab
from madlab.analysis import modulations
from madlab.analysis.allocation import Spectrum
from madlab.analysis.cutting import auto_ranks, cut_domain, spending
from madlab.analysis.diagnosis import filter_change, filter_turn
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.split import Split
from madlab.facts import method_and_options
from madlab.files.jsonfiles import read_json, write_json
from madlab.network import MultiDomainNet
from madlab.runs.epoch import measure, train_epoch
from madlab.runs.probe import features_of, start_head
from madlab.runs.rates import head_factor, make_optimiser, peak_rates
from madlab.runs.recalibrate import recalibrate
from madlab.runs.recipe import Recipe

NINE = ("dtd10", "caltech100", "flowers", "cars196", "omniglot", "chars74k", "fashion_mnist", "gtsrb", "cifar10")
FAR, PHOTOGRAPHS = "chest_xray", "tinyimagenet36"
NO_FLIP = ("gtsrb", "omniglot", "chars74k")
SEEDS = (0, 1, 2)
CLASSES, IMAGES, TESTED = 45, 270, 250
EPOCHS, BATCH, CROP = 4, 32, 32
RECIPE: dict[str, Any] = {"batch_size": BATCH, "crop": CROP}
RESNET = "pocket-resnet26"

CAUSES: dict[str, dict[str, Any]] = {
    "usual": {},
    "L1": {"pull": "L1"},
    "decay to 1": {"pull": "to 1"},
    "decay to 0": {"pull": "to 0"},
    "rate × 3": {"rate": 3.0},
    "images × 1/3": {"images": IMAGES // 3, "epochs": 3 * EPOCHS},  # as many steps
    "densenet": {"base": "pocket-densenet"},
    "epochs × 3": {"epochs": 3 * EPOCHS},
    "rate × 1/3": {"rate": 1 / 3},
}
PULLS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "to 0": lambda alpha, share: (1 - 0.05 * share) * alpha,
    "to 1": lambda alpha, share: 1 + (1 - 0.05 * share) * (alpha - 1),
    "L1": lambda alpha, share: 1 + F.softshrink(alpha - 1, 0.008 * share),
}
"""What is done to alpha after each step, where the rate is at this share of its peak."""
MOVED, KEPT = 0.05, 0.1
"""A number further from one than this has moved; this share of the numbers is kept in a cut."""
LEVELS = (2, 8)
"""Uniform ranks whose bytes are spent; the first is also trained from the start."""
METHODS = ("frozen", "batchnorm", "mad", "finetune")
BASES = {"untrained": 16, "untrained, narrow": 2}
"""Base networks of random filters: their width."""
ON_BASES = ("gtsrb", "chars74k", "flowers")


@cache
def whole(data: Path, name: str) -> Domain:
    return Domain.from_folder(data / name, flip=name not in NO_FLIP)


def part(domain: Domain, seed: int, images: int = IMAGES) -> Domain:
    """A domain's first CLASSES classes: as many training images of each, drawn by `seed`, and TESTED test images."""
    classes = min(CLASSES, domain.num_classes)

    def some(split: Split, each: int, most: int, seed: int) -> Split:
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        by_class = [order[split.labels[order] == label][:each] for label in range(classes)]
        keep = torch.cat(by_class)
        keep = keep[torch.randperm(len(keep), generator=torch.Generator().manual_seed(seed))[:most]]
        return Split(split.images[keep], split.labels[keep])

    return replace(
        domain,
        class_names=domain.class_names[:classes],
        normalization={},
        train=some(domain.train, images // classes, images, seed),
        val=some(domain.val, TESTED, TESTED, 0),
        test=some(domain.test, TESTED, TESTED, 0),
    )


@dataclass
class Trained:
    """A domain after training, as the network's domain "own"."""

    net: MultiDomainNet
    domain: Domain
    recipe: Recipe

    @property
    def view(self) -> madlab.view.DomainView:
        return self.net.view("own")

    def accuracy(self, name: str = "own") -> float:
        """On the test images, in percent."""
        return round(measure(self.net.view(name).eval(), self.domain.test, self.domain.normalization, CROP).accuracy, 2)

    def train_loss(self) -> float:
        """On the training images, in eval mode, in nats."""
        return round(measure(self.view.eval(), self.domain.train, self.domain.normalization, CROP).loss, 4)


def train(
    domain: Domain,
    method: str,
    seed: int,
    base: str | nn.Module = RESNET,
    rate: float = 1.0,
    epochs: int = EPOCHS,
    pull: str | None = None,
    options: dict[str, Any] | None = None,
) -> Trained:
    """madlab's protocol in a loop of our own, which `pull` can reach into. rate: times the adapter's own."""
    recipe = Recipe(epochs=epochs, seed=seed, **RECIPE)
    network = madlab.load_base(base) if isinstance(base, str) else base
    net = MultiDomainNet(network)
    torch.manual_seed(seed)
    name, own = method_and_options(method)
    net.add_domain("own", domain.num_classes, name, normalization=domain.normalization, **own | (options or {}))
    view = net.view("own")
    peaks = peak_rates(view.method, view.facts.options, recipe)  # for batches of 64
    rates: dict[str, Any] = {
        "adapter_lr": rate * peaks["adapter"] * BATCH / 64,
        "batchnorm_lr": peaks["batchnorm"] * BATCH / 64,
    }
    optimiser = make_optimiser(view, replace(recipe, **rates), head_factor(view, domain, recipe, CROP))
    start_head(view, domain, recipe, CROP)
    adapters: list[Any] = list(view.adapters().values())

    @torch.no_grad()
    def pulled(_: Tensor) -> None:
        group = optimiser.param_groups[0]
        for adapter in adapters:
            adapter.alpha.copy_(PULLS[str(pull)](adapter.alpha, group["lr"] / group["peak"]))

    for epoch in range(epochs if method != "frozen" else 0):
        train_epoch(view, domain, recipe, optimiser, epoch, pulled if pull else None)
    if view.method.adapts_batchnorm:  # in so few steps its averages do not keep up
        recalibrate(view, domain, CROP)
    return Trained(net, domain, recipe)


def sparsity(data: Path, domain: str, cause: str, seed: int) -> dict[str, Any]:
    """One training of full MAD under a cause, what its alpha looks like, and what is left of it in a cut."""
    options = dict(CAUSES[cause])
    done = train(part(whole(data, domain), seed, options.pop("images", IMAGES)), "mad", seed, **options)
    alphas = modulations.of_domain(done.net, "own")
    values = torch.cat([alpha.flatten() for alpha in alphas.values()])
    sides = {name: done.net.convs[name].kernel_size[0] for name in alphas}
    kinds = {f"{s}×{s}": {n: a for n, a in alphas.items() if sides[n] == s} for s in sorted(set(sides.values()))}
    row = {
        "moved": round(modulations.kept_share(alphas, MOVED), 4),
        "moved_by_kernel": {kind: round(modulations.kept_share(own, MOVED), 4) for kind, own in kinds.items()},
        "at_one": round(float(((values - 1).abs() < 1e-6).float().mean()), 4),
        "near_zero": round(float((values.abs() < MOVED).float().mean()), 4),
        "median": round(float(values.median()), 4),
        "size": round(float((values - 1).square().mean().sqrt()), 4),
        "turn": round(filter_turn(done.view), 4),
        "accuracy": with_alphas(done, alphas),
    }
    cut = largest(alphas, KEPT)
    row["accuracy_of_cut"] = with_alphas(done, cut)
    mixed = {n: modulations.shuffled(a, torch.Generator().manual_seed(seed)) for n, a in cut.items()}
    row["accuracy_of_shuffled"] = with_alphas(done, mixed)
    if len(kinds) == 2:
        for kind, own in kinds.items():
            without = {name: torch.ones_like(alpha) if name in own else alpha for name, alpha in alphas.items()}
            row[f"accuracy_without_{kind}"] = with_alphas(done, without)
    return row


def largest(alphas: modulations.Modulations, share: float) -> dict[str, Tensor]:
    """Of all layers' numbers, this share is kept: those furthest from their layer's median, to which the rest is set.

    The median is where the numbers rest: one, or what a pull towards zero has made of it.
    """
    rest = {name: alpha.median() for name, alpha in alphas.items()}
    away = torch.cat([(alpha - rest[name]).abs().flatten() for name, alpha in alphas.items()])
    limit = float(away.sort(descending=True).values[int(share * len(away))])
    return {name: torch.where((alpha - rest[name]).abs() > limit, alpha, rest[name]) for name, alpha in alphas.items()}


@torch.no_grad()
def with_alphas(done: Trained, alphas: dict[str, Tensor]) -> float:
    """Accuracy with these modulations in the place of the trained ones, and with fresh statistics.

    The trained ones are measured so, too: while a pull shrinks alpha, BatchNorm's running averages lag behind.
    """
    view, before = done.view, {key: tensor.clone() for key, tensor in done.view.own_state().items()}
    adapters: dict[str, Any] = dict(view.adapters())
    for name, alpha in alphas.items():
        adapters[name].alpha.copy_(alpha)
    recalibrate(view, done.domain, CROP)
    result = done.accuracy()
    view.load_own_state(before)
    return result


def ranks(data: Path, domain: str, seed: int) -> dict[str, Any]:
    """One trained alpha, cut to uniform and to greedy ranks of equal bytes; and both ranks trained from the start."""
    own = part(whole(data, domain), seed)
    done = train(own, "mad", seed)
    spectra = {name: Spectrum.of(alpha - 1) for name, alpha in modulations.of_domain(done.net, "own").items()}
    cuts, starts = [], []
    for level in LEVELS:
        uniform = {name: min(level, len(spectrum.sigma)) for name, spectrum in spectra.items()}
        for way, budget in (("uniform", spending(spectra, uniform)), ("greedy", greedy_budget(spectra, uniform))):
            by_layer = cut_domain(done.net, "own", "cut", budget=4 * budget, rank="auto" if way == "greedy" else level)
            stale = done.accuracy("cut")
            recalibrate(done.net.view("cut"), own, CROP)
            told = {"rank": level, "way": way, "bytes": 4 * done.net.adapter_size("cut")}
            cuts.append(told | {"stale": stale, "fresh": done.accuracy("cut")})
            done.net.remove_domain("cut")
            if level == LEVELS[0]:
                again = train(own, "mad", seed, options={"rank": by_layer, "form": "residual"})
                starts.append(told | {"accuracy": again.accuracy(), "ranks": list(by_layer.values())})
    return {"full": done.accuracy(), "bytes": 4 * done.net.adapter_size("own"), "cuts": cuts, "starts": starts}


def greedy_budget(spectra: dict[str, Spectrum], uniform: dict[str, int]) -> int:
    """The smallest budget with which greedy ranks spend at least as much as the uniform ones: a fraction of a % more.

    With exactly as much `auto_ranks` gives the uniform ranks wherever the prices of directions do not add up.
    """
    least = spending(spectra, uniform)
    return next(numbers for numbers in range(least, 2 * least, 16) if auto_ranks(spectra, numbers) != uniform)


def far(data: Path, domain: str, base: str, method: str, seed: int) -> dict[str, Any]:
    """One training, its losses, and how far it took the filters."""
    torch.manual_seed(seed)
    network = RESNET if base == RESNET else madlab.resnet26(num_classes=10, width=BASES[base])
    done = train(part(whole(data, domain), seed), method, seed, network)
    row = {"train_loss": done.train_loss(), "accuracy": done.accuracy()}
    if done.view.adapted_layers() and method not in ("frozen", "batchnorm"):
        row |= {"change": round(filter_change(done.view), 4), "turn": round(filter_turn(done.view), 4)}
    return row


def distances(data: Path) -> dict[str, dict[str, float]]:
    """How far each domain is from the photographs of the base network, by its features; nothing is trained.

    outside: share of the features' deviation from the mean photograph that lies outside the directions which hold 90 %
    of the variation of photographs, in percent (notebook 12). frechet: Fréchet distance of the features' Gaussians
    (Heusel et al., arXiv 1706.08500). largest_class: what guessing would reach on the test images, in percent.
    """

    def seen(domain: Domain) -> Tensor:
        net = MultiDomainNet(madlab.load_base(RESNET))
        net.add_domain("own", domain.num_classes, "frozen", normalization=domain.normalization)
        plain = Recipe(crop=CROP, augment="none", batch_size=BATCH)
        return features_of(net.view("own").eval(), domain, plain, CROP, epoch=0)[0].double()

    photographs = whole(data, PHOTOGRAPHS)
    known = seen(photographs)
    mean = known.mean(0)
    _, sigma, v = torch.linalg.svd(known - mean, full_matrices=False)
    held = sigma.square().cumsum(0) / sigma.square().sum()
    directions = v[: int((held < 0.9).sum()) + 1].T
    found = {}
    for name in ("photographs, held out", *NINE, FAR):
        domain = part(whole(data, name), 0) if name in (*NINE, FAR) else replace(photographs, train=photographs.test)
        own, guess = seen(domain), domain.test.labels.bincount().max() / len(domain.test)
        away = own - mean
        inside = (away @ directions).square().sum() / away.square().sum()
        root = torch.linalg.eigvals(torch.cov(own.T) @ torch.cov(known.T)).real.clamp(min=0).sqrt().sum()
        spread = torch.cov(own.T).trace() + torch.cov(known.T).trace() - 2 * root
        frechet = (own.mean(0) - mean).square().sum() + spread
        told = {"outside": 100 * (1 - inside), "frechet": frechet, "largest_class": 100 * guess}
        found[name] = {measure: round(float(value), 2) for measure, value in told.items()}
    return found


def cells(domains: tuple[str, ...], turn: int) -> list[tuple[str, int]]:
    """All domains, and spread over them all seeds; in another turn each domain has another seed."""
    return [(domain, SEEDS[(place + turn) % len(SEEDS)]) for place, domain in enumerate(domains)]


def plan(study: str, turn: int) -> list[dict[str, Any]]:
    """The arguments of a turn's trainings, in the order in which they are made."""
    if study == "sparsity":
        return [{"domain": d, "cause": cause, "seed": seed} for cause, (d, seed) in product(CAUSES, cells(NINE, turn))]
    if study == "ranks":
        return [{"domain": domain, "seed": seed} for domain, seed in cells(NINE, turn)]
    near, random = product(cells((FAR, *NINE), turn), METHODS), product(cells(ON_BASES, turn), BASES, METHODS[2:])
    runs = [{"domain": d, "base": RESNET, "method": method, "seed": seed} for (d, seed), method in near]
    return runs + [{"domain": d, "base": base, "method": m, "seed": seed} for (d, seed), base, m in random]


STUDIES: dict[str, Callable[..., dict[str, Any]]] = {"sparsity": sparsity, "ranks": ranks, "far": far}


def settings() -> dict[str, Any]:
    """What all trainings of a record have in common; rates are those for batches of 64."""
    own = {"classes": CLASSES, "images": IMAGES, "tested": TESTED, "epochs": EPOCHS, "batch_size": BATCH, "crop": CROP}
    rates = {name: peak_rates(madlab.METHODS[name], {}, Recipe()) for name in METHODS}
    return own | {"coarse": Recipe().coarse, "polyak": Recipe().polyak, "rates": rates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the domains")
    parser.add_argument("--out", type=Path, required=True, help="the record to make, or to go on with")
    parser.add_argument("--domains", nargs="+", default=[*NINE, FAR], help="only these, to share the work out")
    parser.add_argument("--turns", type=int, default=len(SEEDS), help="each has all domains, with other seeds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = read_json(options.out) if options.out.exists() else {"settings": settings(), "runs": []}
    if record["settings"] != settings():
        sys.exit(f"studies: {options.out} was made with other settings or rates: give another file as --out.")
    if options.study == "far" and "distances" not in record:
        record["distances"] = distances(options.data)
    turns = [run for turn in range(options.turns) for run in plan(options.study, turn)]
    planned = [run for run in turns if run["domain"] in options.domains]
    done = [{key: run[key] for key in planned[0]} for run in record["runs"]]
    for arguments in tqdm([one for one in planned if one not in done], desc=options.study):
        record["runs"].append(arguments | STUDIES[options.study](options.data, **arguments))
        write_json(options.out, record)


if __name__ == "__main__":
    main()
