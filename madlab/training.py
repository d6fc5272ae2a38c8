"""One run: a domain, a method and a recipe in; a tested adapter and a run folder out.

What a run does depends on its config alone: random numbers are drawn anew for each epoch from seed and epoch, so that
a killed run that is resumed ends, on a CPU, with the same bytes as one that ran through.
"""

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from madlab.adapters import METHODS
from madlab.backbones import load_base
from madlab.benchmarks import load_domain
from madlab.benchmarks.domain import Domain, Split
from madlab.benchmarks.loader import batches
from madlab.errors import MadlabError
from madlab.files import read_json, write_bytes, write_json
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet
from madlab.optimiser import learning_rate, make_optimiser, peak_rates
from madlab.recipe import Recipe, make_recipe
from madlab.runfolder import (
    ADAPTER,
    CHECKPOINT,
    CONFIG,
    METRICS,
    RESULT,
    Result,
    claim,
    restore_checkpoint,
    save_checkpoint,
)


def default_device() -> torch.device:
    """The GPU when PyTorch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def score(network: nn.Module, split: Split, normalization: dict[str, list[float]], crop: int) -> tuple[float, float]:
    """Accuracy in percent and mean cross-entropy in nats on the centre crops of a split; network in eval mode."""
    correct = loss = torch.zeros((), device=split.images.device)
    for images, labels in batches(split.images, split.labels, 250, crop, normalization=normalization):
        with autocast(images.device):
            logits = network(images)
        correct = correct + (logits.argmax(1) == labels).sum()
        loss = loss + F.cross_entropy(logits.float(), labels, reduction="sum")
    return 100 * correct.item() / len(split), loss.item() / len(split)


def train_epoch(
    net: MultiDomainNet,
    name: str,
    domain: Domain,
    recipe: Recipe,
    crop: int,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    on_step: Callable[[Tensor], None] | None = None,
) -> float:
    """One pass over the training images; returns the mean loss. epoch counts from 0.

    on_step gets each step's loss as a tensor on the device: who reads its value waits for the device.
    Raises MadlabError when the loss is no longer a number.
    """
    view = net.view(name).train()
    torch.manual_seed(recipe.seed * 10007 + epoch)  # for dropout, in networks that have it
    generator = torch.Generator().manual_seed(recipe.seed * 10007 + epoch)
    # A last batch of a single image is left out.
    train, steps = domain.train, math.ceil((len(domain.train) - 1) / recipe.batch_size)
    loader = batches(train.images, train.labels, recipe.batch_size, crop, domain.flip, generator, domain.normalization)
    total, count = torch.zeros((), device=train.images.device), 0
    side = round(0.625 * crop) if epoch < recipe.coarse * recipe.epochs else None
    for step, (images, labels) in enumerate(loader):
        share = learning_rate((epoch + step / steps) / recipe.epochs, recipe.warmup)
        for group in optimiser.param_groups:
            group["lr"] = share * group["peak"]
        with autocast(images.device):
            loss = F.cross_entropy(view(images, side), labels, label_smoothing=recipe.smoothing)
        if step % recipe.accumulate == 0:
            optimiser.zero_grad()
            together = min(recipe.accumulate, steps - step)
        (loss / together).backward()
        if (step + 1) % recipe.accumulate == 0 or step + 1 == steps:
            optimiser.step()
        total += loss.detach()
        count += 1
        if on_step is not None:
            on_step(loss.detach())
    view.eval()
    mean = (total / count).item()
    if not math.isfinite(mean):
        rates = ", ".join(f"{kind}_lr {rate:g}" for kind, rate in peak_rates(view, recipe).items())
        raise MadlabError(f"The loss became {mean} in epoch {epoch + 1}: lower the learning rates (now {rates}).")
    return mean


def train(
    domain: Domain | Path | str,
    method: str = "mad",
    *,
    rank: int | None = None,
    base: nn.Module | str = "pocket-resnet26",
    out: Path | str | None = None,
    resume: bool = False,
    flip: bool | None = None,
    layers: str = "all",
    device: torch.device | str | None = None,
    compile: str | None = None,
    progress: bool = True,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    **recipe: Any,
) -> Result:
    """Adapt a base network to one domain and test it: `madlab train`.

    domain: a Domain, a folder with train/ val/ test/, or the name of a pocket domain. base: a network, or what
    `load_base` takes. out: the run folder; without it nothing is written. resume: go on with a run that was stopped, or
    return the result of a finished one. flip: whether images may be mirrored, when it is not the domain's own choice.
    compile: a backend of torch.compile for the training step, on a GPU "inductor" (fused) or "cudagraphs" (captured).
    recipe: fields of `Recipe`. on_epoch gets each line of metrics.jsonl.
    Raises MadlabError for input that cannot be used, a folder that exists without `resume`, and a NaN loss.
    """
    if method not in METHODS:
        raise MadlabError(f"Unknown method {method!r}: choose one of {', '.join(METHODS)}.")
    if compile is not None and compile not in torch.compiler.list_backends(exclude_tags=()):
        backends = ", ".join(torch.compiler.list_backends())
        raise MadlabError(f"torch.compile has no backend {compile!r}: choose one of {backends}.")
    settings = make_recipe(recipe)
    network = load_base(base) if isinstance(base, str) else base
    data = domain
    if not isinstance(data, Domain):
        data = load_domain(str(domain), size=getattr(network, "resize", 36), flip=flip)
    config = {
        "domain": data.name,
        "source": None if isinstance(domain, Domain) else str(domain),
        "flip": data.flip,
        "method": method,
        "rank": rank,
        "layers": layers,
        "base": {"name": getattr(network, "name", ""), "sha256": fingerprint(network)},
        "base_source": base if isinstance(base, str) else None,
        "compile": compile,
        "recipe": asdict(settings),
    }
    folder = Path(out) if out is not None else None
    if folder is not None:
        claim(folder, config, resume)
        if (folder / RESULT).exists():
            (folder / CHECKPOINT).unlink(missing_ok=True)
            return Result.read(folder)
    where = torch.device(device) if device is not None else default_device()
    with torch.random.fork_rng():
        return _run(config, settings, data.to(where), network.to(where), folder, progress, on_epoch)


def _run(
    config: dict[str, Any],
    recipe: Recipe,
    domain: Domain,
    base: nn.Module,
    folder: Path | None,
    progress: bool,
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> Result:
    began, device = time.time(), domain.train.images.device
    torch.manual_seed(recipe.seed)
    net = MultiDomainNet(base.to(memory_format=torch.channels_last))
    net.add_domain(
        domain.name,
        domain.num_classes,
        config["method"],
        rank=config["rank"],
        layers=config["layers"],
        class_names=domain.class_names,
        normalization=domain.normalization,
    )
    view = net.view(domain.name)
    usual: int = getattr(base, "crop", domain.size)
    crop = recipe.crop or usual
    if crop > domain.size:
        raise MadlabError(
            f"The crop of {crop} pixels is larger than the images of {domain.size}: choose a smaller crop."
        )
    if config["compile"]:
        view.compile(backend=config["compile"], dynamic=False)
    optimiser = make_optimiser(net, domain.name, recipe)
    checkpoint = folder / CHECKPOINT if folder else None
    log: list[dict[str, float]] = []
    best, seconds = view.own_state(), 0.0
    if checkpoint and checkpoint.exists():
        log, best, seconds = restore_checkpoint(checkpoint, net, domain.name, optimiser)
    else:
        # A look at validation before the first step: what is wrong with it shows now and not after an hour.
        score(_plain(net, domain.name), domain.val, domain.normalization, crop)
    steps = math.ceil(len(domain.train) / recipe.batch_size)
    # Nothing said of `disable`, so that the environment variable TQDM_DISABLE counts.
    quiet: dict[str, Any] = {} if progress else {"disable": True}
    with tqdm(total=recipe.epochs * steps, initial=len(log) * steps, unit="step", **quiet) as bar:
        bar.set_description(f"{domain.name} {config['method']}")
        for epoch in range(len(log), recipe.epochs):
            loss = train_epoch(
                net, domain.name, domain, recipe, crop, optimiser, epoch, on_step=lambda loss: bar.update() and None
            )
            accuracy, val_loss = score(_plain(net, domain.name), domain.val, domain.normalization, crop)
            log.append({"epoch": epoch + 1, "train_loss": loss, "val_loss": val_loss, "val_accuracy": accuracy})
            if log[-1] == _best(log):
                best = {key: value.clone() for key, value in view.own_state().items()}
            bar.set_postfix(loss=f"{loss:.3f}", val=f"{accuracy:.1f}%", best=f"{_best(log)['val_accuracy']:.1f}%")
            if checkpoint:
                elapsed = seconds + time.time() - began
                # First the metrics: a run killed between the two repeats the epoch and writes its line once more.
                write_bytes(checkpoint.with_name(METRICS), "".join(json.dumps(e) + "\n" for e in log).encode())
                save_checkpoint(checkpoint, net, domain.name, optimiser, best, {"log": log, "seconds": elapsed})
            if on_epoch is not None:
                on_epoch(log[-1])
    view.load_own_state(best)
    accuracy, _ = score(_plain(net, domain.name), domain.test, domain.normalization, crop)
    result = Result(
        domain=domain.name,
        method=config["method"],
        rank=view.facts.options.get("rank"),
        seed=recipe.seed,
        base=config["base"],
        base_parameters=sum(conv.weight.numel() for conv in net.convs.values()),
        adapter_parameters=net.adapter_size(domain.name),
        val_accuracy=_best(log)["val_accuracy"],
        test_accuracy=accuracy,
        best_epoch=int(_best(log)["epoch"]),
        epochs=recipe.epochs,
        seconds=round(seconds + time.time() - began, 1),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU",
        versions={
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "python": platform.python_version(),
        },
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        rates=peak_rates(view, recipe),
    )
    if folder and checkpoint:
        net.save_domain(domain.name, folder / ADAPTER)
        write_json(folder / RESULT, asdict(result))
        checkpoint.unlink()
    return result


def evaluate(
    run: Path | str,
    domain: Domain | None = None,
    base: nn.Module | None = None,
    device: torch.device | str | None = None,
) -> float:
    """Test accuracy in percent of a finished run, from its adapter file alone: `madlab evaluate`.

    domain, base: needed only where the run was given objects instead of names, folders or files.
    """
    config = read_json(Path(run) / CONFIG)
    if domain is None and config["source"] is None:
        raise MadlabError(f"The run {run} was trained on a Domain object: give that domain to evaluate.")
    where = torch.device(device) if device is not None else default_device()
    network, normalization, base = restore(run, base, where)
    data = domain or load_domain(config["source"], size=getattr(base, "resize", 36), flip=config["flip"])
    crop = config["recipe"]["crop"] or getattr(base, "crop", data.size)
    return score(network, data.test.to(where), normalization, crop)[0]


def restore(
    run: Path | str, base: nn.Module | None, device: torch.device
) -> tuple[nn.Module, dict[str, list[float]], nn.Module]:
    """What a finished run trained, from its adapter file: the network to evaluate, its normalisation, and its base.

    base: needed only where the run was given a network instead of a name or file.
    """
    source = read_json(Path(run) / CONFIG)["base_source"]
    if base is None and source is None:
        raise MadlabError(f"The run {run} was trained on a network object: give that base network to evaluate.")
    base = base if base is not None else load_base(source)
    net = MultiDomainNet(base.to(memory_format=torch.channels_last))
    name = net.load_domain(Path(run) / ADAPTER)
    return _plain(net.to(device), name), net.view(name).facts.normalization, base


def _plain(net: MultiDomainNet, name: str) -> nn.Module:
    """The network to evaluate: adapted weights are computed once, not for every batch; a prompt has none of them."""
    return net.merge(name) if net.view(name).prompt is None else net.view(name).eval()


def autocast(device: torch.device) -> torch.autocast:
    """bf16 (fp16 would need loss scaling) on a GPU that has it; a CPU gains nothing from it here."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def _best(log: list[dict[str, float]]) -> dict[str, float]:
    """The epoch with the highest validation accuracy; of several the one with the lowest validation loss."""
    return max(log, key=lambda entry: (entry["val_accuracy"], -entry["val_loss"]))
