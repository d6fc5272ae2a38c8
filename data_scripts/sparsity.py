"""What makes a modulation sparse: one training per cause, domain and seed, for the paper's second open question.

    python data_scripts/sparsity.py --out madlab/records/sparsity.json
    python data_scripts/sparsity.py --out madlab/records/sparsity.json --domains data/gtsrb data/flowers

Full MAD on small parts of domains (PART), everything as usual but for the one thing that CAUSES names: the adapter's
learning rate, the length of training, the number of images, a pull on α after every step (towards 0, towards 1, or L1
by proximal steps), and a base network with 1×1 convolutions. A pull is the share of a step at the peak of the rate, and
follows the rate. What the file holds already is not trained again. All accuracies are of validation images.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

import madlab
from madlab.analysis import modulations
from madlab.files.jsonfiles import read_json, write_json
from madlab.lessons.small import few
from madlab.runs.epoch import measure, train_epoch
from madlab.runs.rates import head_factor, make_optimiser, peak_rates
from madlab.runs.recalibrate import recalibrate
from madlab.runs.recipe import Recipe

SEEDS = (0, 1, 2)
PART = {"train": 14, "val": 8, "test": 1, "classes": 16, "size": 24}
RECIPE = Recipe(epochs=5, batch_size=32, crop=20, coarse=0.0)
FAR = 0.05
"""From here on a number counts as changed."""
CUT = 0.1
"""Changes smaller than this are set back to one, to see whether they are needed."""

CAUSES: dict[str, dict[str, Any]] = {
    "usual": {},
    "rate × 1/3": {"rate": 1 / 3},
    "rate × 3": {"rate": 3},
    "epochs × 4": {"epochs": 20},
    "images × 1/2": {"images": 7, "epochs": 10},  # as many steps
    "decay to 0, weak": {"pull": "to 0", "strength": 0.01},
    "decay to 0, strong": {"pull": "to 0", "strength": 0.03},
    "decay to 1, weak": {"pull": "to 1", "strength": 0.01},
    "decay to 1, strong": {"pull": "to 1", "strength": 0.03},
    "L1, weak": {"pull": "L1", "strength": 0.001},
    "L1, strong": {"pull": "L1", "strength": 0.004},
    "densenet": {"base": "pocket-densenet"},
}

PULLS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "to 0": lambda alpha, share: (1 - share) * alpha,
    "to 1": lambda alpha, share: 1 + (1 - share) * (alpha - 1),
    "L1": lambda alpha, share: 1 + F.softshrink(alpha - 1, share),
}


def study(domain: madlab.Domain, cause: str, seed: int) -> dict[str, Any]:
    """One training and what its modulation looks like."""
    options = CAUSES[cause]
    recipe = replace(RECIPE, seed=seed, epochs=options.get("epochs", RECIPE.epochs))
    net = madlab.MultiDomainNet(madlab.load_base(options.get("base", "pocket-resnet26")))
    torch.manual_seed(seed)
    net.add_domain("domain", domain.num_classes, "mad", normalization=domain.normalization)
    view = net.view("domain")
    peaks = peak_rates(view.method, view.facts.options, recipe)
    rates: dict[str, Any] = {f"{kind}_lr": rate * recipe.batch_size / 64 for kind, rate in peaks.items()}
    rates["adapter_lr"] *= options.get("rate", 1)
    optimiser = make_optimiser(view, replace(recipe, **rates), head_factor(view, domain, recipe, recipe.crop or 20))
    adapters: list[Any] = list(view.adapters().values())

    @torch.no_grad()
    def pull(_: Tensor) -> None:
        share = optimiser.param_groups[0]["lr"] / optimiser.param_groups[0]["peak"]
        for adapter in adapters:
            adapter.alpha.copy_(PULLS[options["pull"]](adapter.alpha, share * options["strength"]))

    for epoch in range(recipe.epochs):
        train_epoch(view, domain, recipe, optimiser, epoch, pull if "pull" in options else None)
    return {"domain": domain.name, "cause": cause, "seed": seed, "options": options} | _seen(net, domain, recipe)


def _seen(net: madlab.MultiDomainNet, domain: madlab.Domain, recipe: Recipe) -> dict[str, Any]:
    view, crop = net.view("domain"), recipe.crop or 20
    alphas = modulations.of_domain(net, "domain")
    values = torch.cat([alpha.flatten() for alpha in alphas.values()])

    def accuracy() -> float:
        return round(measure(view.eval(), domain.val, domain.normalization, crop).accuracy, 2)

    whole = accuracy()
    with torch.no_grad():
        adapters: dict[str, Any] = dict(view.adapters())
        for name, adapter in adapters.items():
            adapter.alpha.copy_(modulations.reset(alphas[name], CUT))
    recalibrate(view, domain, crop)
    by_kernel = {}
    for side in sorted({net.convs[name].kernel_size[0] for name in alphas}):
        part = {name: alpha for name, alpha in alphas.items() if net.convs[name].kernel_size[0] == side}
        by_kernel[f"{side}×{side}"] = round(modulations.kept_share(part, FAR), 4)
    return {
        "far": round(modulations.kept_share(alphas, FAR), 4),
        "at_one": round(float(((values - 1).abs() < 1e-6).float().mean()), 4),
        "near_zero": round(float((values.abs() < FAR).float().mean()), 4),
        "median": round(float(values.median()), 4),
        "size": round(float((values - 1).square().mean().sqrt()), 4),
        "far_by_kernel": by_kernel,
        "accuracy": whole,
        "kept_in_cut": round(modulations.kept_share(alphas, CUT), 4),
        "accuracy_of_cut": accuracy(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--domains", nargs="+", default=["signs", "flowers"])
    options = parser.parse_args()
    rows = read_json(options.out)["runs"] if options.out.exists() else []
    done = {(row["domain"], row["cause"], row["seed"]) for row in rows}
    for seed, cause, name in tqdm(list(product(SEEDS, CAUSES, options.domains))):
        part = PART | {"train": CAUSES[cause].get("images", PART["train"])}
        domain = few(madlab.load_domain(name), **part)
        if (domain.name, cause, seed) not in done:
            rows.append(study(domain, cause, seed))
            write_json(options.out, {"part": PART, "far": FAR, "cut": CUT, "runs": rows})


if __name__ == "__main__":
    main()
