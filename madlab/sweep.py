"""A grid of runs, domains x methods x seeds: in this process, in several, or on a Ray cluster.

Each run is `train` with a folder of its own, OUT/DOMAIN/METHOD/seedK, and what is on disk is the whole state of a
sweep: a finished run is skipped, a half-done one goes on, and progress is counted in the runs' metrics files. A run
that fails does not stop the others.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn
from tqdm.auto import tqdm

from madlab.adapters.base import split_method
from madlab.backbones import load_base
from madlab.benchmarks import load_domain
from madlab.engines import Engine, Run, choose_engine
from madlab.errors import MadlabError
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet
from madlab.recipe import make_recipe
from madlab.runfolder import Result, check_config


@dataclass(frozen=True)
class Outcome:
    """What a sweep came to, by run folder: results, old and new, and for runs that failed what went wrong."""

    results: dict[Path, Result]
    failures: dict[Path, str]


def sweep(
    domains: Sequence[str],
    methods: Sequence[str],
    seeds: int = 1,
    out: Path | str = "runs",
    *,
    base: str = "pocket-resnet26",
    layers: str = "all",
    no_flip: Sequence[str] = (),
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    gpus_per_run: float | None = None,
    devices: int | None = None,
    device: str | None = None,
    compile: str | None = None,
    progress: bool = True,
    **recipe: Any,
) -> Outcome:
    """Train every method on every domain with every seed: `madlab sweep`.

    domains: names or folders, as `train` takes them. methods: "mad", or with its rank "mad:8". seeds: how many; they
    count from 0, and the whole grid is run with one seed before the next. base, layers, device, compile, recipe: as in
    `train`, the same for all runs. no_flip: names of the domains whose images are not mirrored.
    engine: "local" runs in this process, or with workers=N in N processes of one thread each, which on a CPU is quicker
    than one with N threads; devices=N spreads the runs over N GPUs, one for each worker in turn, N workers when no
    number of them is given. "ray" starts a Ray of `workers` processes on this machine, or uses the cluster at
    `address`, whose machines see the same files; gpus_per_run: the share of a GPU that a run takes there, by default
    one where the cluster has any. Raises MadlabError, before anything is started, for whatever can be known to fail.
    """
    bring_to_end = choose_engine(engine, workers, address, gpus_per_run, devices)
    common = {"base": base, "layers": layers, "device": device, "compile": compile}
    network = load_base(base)
    runs = _plan(domains, methods, seeds, Path(out), no_flip, network, common, recipe)
    pending = [run for run in runs if not run.finished]
    size = getattr(network, "resize", 36)
    images = {name: len(load_domain(name, size).train) for name in dict.fromkeys(run.domain for run in pending)}
    failures = _follow(bring_to_end, pending, images, progress) if pending else {}
    return Outcome({run.folder: Result.read(run.folder) for run in runs if run.finished}, failures)


def _plan(
    domains: Sequence[str],
    methods: Sequence[str],
    seeds: int,
    out: Path,
    no_flip: Sequence[str],
    network: nn.Module,
    common: dict[str, Any],
    recipe: dict[str, Any],
) -> list[Run]:
    """The runs of the grid; what of it is on disk already was started with the same options."""
    if not domains or not methods or seeds < 1:
        raise MadlabError("There is nothing to do: give at least one domain, one method and one seed.")
    if "seed" in recipe:
        raise MadlabError("A sweep takes the number of seeds (seeds=3), not one seed.")
    domains = [str(Path(domain)) if Path(domain).exists() else domain for domain in domains]
    names = {d: Path(d).resolve().name if Path(d).exists() else d.rpartition(":")[2] for d in domains}
    for name in no_flip:
        if name not in names.values():
            raise MadlabError(f"No domain {name!r} to leave unmirrored: the sweep has {', '.join(names.values())}.")
    _check_methods(network, methods, common["layers"])
    facts: dict[str, Any] = {"base": {"name": network.name, "sha256": fingerprint(network)}}
    facts |= {"base_source": common["base"], "layers": common["layers"], "compile": common["compile"]}
    runs: dict[Path, Run] = {}
    for seed in range(seeds):
        settings = make_recipe(recipe | {"seed": seed})
        for domain in domains:
            for text in methods:
                folder = out / names[domain] / text.replace(":", "-") / f"seed{seed}"
                if folder in runs:
                    raise MadlabError(f"Two runs have the name {folder}: give each domain and each method once.")
                method, rank = split_method(text)
                own = {"method": method, "rank": rank} | ({"flip": False} if names[domain] in no_flip else {})
                runs[folder] = Run(folder, domain, common | own | recipe | {"seed": seed}, settings.epochs)
                if runs[folder].finished or runs[folder].epochs_done():
                    check_config(folder, facts | own | {"source": domain, "recipe": asdict(settings)})
    return list(runs.values())


def _check_methods(network: nn.Module, methods: Sequence[str], layers: str) -> None:
    net = MultiDomainNet(network)
    for text in methods:
        method, rank = split_method(text)
        net.add_domain("trial", 2, method, rank=rank, layers=layers)
        net.remove_domain("trial")


def _follow(bring_to_end: Engine, runs: list[Run], images: dict[str, int], progress: bool) -> dict[Path, str]:
    """Run them under a progress bar; returns the failures. An image in an epoch is the unit of work."""
    settled: set[Path] = set()
    failures: dict[Path, str] = {}

    def done() -> int:
        return sum(images[r.domain] * (r.epochs if r.folder in settled else r.epochs_done()) for r in runs)

    total = sum(images[run.domain] * run.epochs for run in runs)
    # `disable` is given only to switch it off, so that otherwise tqdm obeys TQDM_DISABLE.
    switch = {} if progress else {"disable": True}
    with tqdm(total=total, initial=done(), desc="sweep", unit="img", unit_scale=True, **switch) as bar:

        def show() -> None:
            bar.n = done()
            bar.set_postfix_str(f"{len(settled)}/{len(runs)} runs" + (f", {len(failures)} failed" if failures else ""))

        show()
        for run, failure in bring_to_end(runs, show):
            settled.add(run.folder)
            if failure is not None:
                failures[run.folder] = failure
            show()
    return failures
