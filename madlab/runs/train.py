"""One run: a domain, a method and a recipe in; a tested adapter and a run folder out.

What a run does depends on its config alone: random numbers are drawn anew for each epoch from seed and epoch, so that a
run that was killed and resumed ends, on a CPU, with the same bytes as one that ran through.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Unpack

import torch
from pydantic import ValidationError
from torch import nn

from madlab.backbones import load_base
from madlab.benchmarks import flips, load_domain, source_of, split_digest, split_source
from madlab.benchmarks.domain import Domain
from madlab.device import chosen_device, out_of_memory
from madlab.errors import MadlabError, reason, remark
from madlab.facts import method_and_options
from madlab.files.locks import hold
from madlab.files.plain import check_writable, write_bytes
from madlab.files.schemas import sentence
from madlab.guard import fingerprint
from madlab.runs.config import CONFIG, BaseUsed, RunConfig
from madlab.runs.epoch import Diverged
from madlab.runs.folder import FAILURE, check_place, check_same_split, claim, clear_leftovers
from madlab.runs.loaded import base_of
from madlab.runs.logs import make_log
from madlab.runs.recipe import Recipe, RecipeOptions, make_recipe
from madlab.runs.record import RESULT, Epoch, Result, Run
from madlab.runs.step import NO_GRAPH
from madlab.runs.training import Training
from madlab.sizes import image_size, name_of

DEBUGGING = ("eager", "aot_eager")
"""Backends of torch.compile that trace a step and compile nothing, which PyTorch does not list."""


def train(
    domain: Domain | Path | str,
    method: str = "mad",
    *,
    rank: int | Mapping[str, int] | None = None,
    options: Mapping[str, Any] | None = None,
    layers: str | Sequence[str] = "all",
    head: str | None = None,
    base: nn.Module | Path | str = "pocket-resnet26",
    out: Path | str | None = None,
    resume: bool = False,
    flip: bool | None = None,
    split: str | None = None,
    device: torch.device | str | None = None,
    compile: str | None = None,
    progress: bool = True,
    log: str = "jsonl",
    on_epoch: Callable[[Epoch], None] | None = None,
    **recipe: Unpack[RecipeOptions],
) -> Result:
    """Adapt a base network to one domain and test it: `madlab train`.

    domain: a Domain, a folder with train/ val/ test/, or a name that `load_domain` takes. method: a key of METHODS,
    which a rank may follow ("mad:8"); rank: the same rank apart. options: the method's own options. layers: as
    `MultiDomainNet.add_domain` takes it. base: a network, which is frozen and put into eval mode, or what `load_base`
    takes. head: the name of its classifier, where that cannot be found.

    out: the run folder; without it nothing is written. resume: go on with a run that was stopped, or return the result
    of a finished one. flip: whether training images may be mirrored; None leaves it to the domain. split: have a folder
    of class folders, or a table of images, split into these shares of train, val and test ("70/15/15"), unless it is
    already (`madlab.divide`). compile: how a step is launched: left out, on a GPU as one CUDA graph (`runs.step`);
    "none", kernel by kernel; a backend of torch.compile, such as "inductor", for that. recipe: fields of `Recipe`.
    log: "csv" writes metrics.csv beside metrics.jsonl, "tensorboard" writes event files. on_epoch is called after each
    epoch with its line of metrics.jsonl, which is all that other trackers need:

        import dataclasses, wandb
        wandb.init(project="signs")
        madlab.train("signs", on_epoch=lambda epoch: wandb.log(dataclasses.asdict(epoch)))

    Raises MadlabError for input that cannot be used, a folder that holds a run already (without `resume`) or that
    another process is writing into, and Diverged for a loss that is no longer a number.
    """
    settings, where = make_recipe(recipe), chosen_device(device)
    method, options = method_and_options(method, rank, options)
    check_backend(compile)
    layers = checked_layers(layers)
    source = None if isinstance(domain, Domain) else source_of(domain)
    folder = None if out is None else Path(out)
    write_log = make_log(log, folder)
    if folder is not None:
        check_writable(folder / CONFIG)
        if source is not None:
            check_place(folder, source)
    if split is not None:
        if source is None:
            raise MadlabError("A Domain has its splits: leave the split out.")
        split_source(source, split)
    named = None if isinstance(base, nn.Module) else str(base)
    network = base if isinstance(base, nn.Module) else load_base(str(base))
    check_precision(network)
    data = _load(domain, network, flip, settings.size)
    used = BaseUsed(name_of(network), fingerprint(network), named)
    asked = {"method": method, "options": options, "layers": layers, "head": head, "compile": compile}
    config = config_for(data.name, source, data.flip, used, settings, **asked)

    def run() -> Result:
        # By name, because PyTorch would ask the driver of every GPU, also of one that it cannot use.
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_available() else []):
            try:
                training = Training(config, data.to(where), network.to(where), folder)
                return training.run(progress, [write_log] if on_epoch is None else [write_log, on_epoch])
            except Diverged as error:
                if folder is not None:
                    write_bytes(folder / FAILURE, f"{error}\n".encode())
                raise
            except (RuntimeError, MemoryError) as error:
                if (told := _remedy(error, where)) is None:
                    raise
                if folder is not None:
                    write_bytes(folder / FAILURE, traceback.format_exc().encode())
                raise MadlabError(told) from error

    if folder is None:
        return run()
    with hold(folder):
        claim(folder, config, resume)
        result = Run.read(folder).result if (folder / RESULT).exists() else run()
        clear_leftovers(folder)
        return result


def _remedy(error: Exception, device: torch.device) -> str | None:
    """What to do about an error of PyTorch that the training's own settings can help; None for all others."""
    if out_of_memory(error):
        remedy = "smaller images" if device.type == "cpu" else "smaller images, or the CPU"
        return (
            f"The training does not fit into the memory of {device}: choose a smaller batch size, with accumulate for "
            f"the same step, or {remedy}."
        )
    if type(error).__module__.startswith(("torch._dynamo.", "torch._inductor.")):
        cause = reason(getattr(error, "inner_exception", error))
        return f'The step cannot be compiled here ({cause}): choose another backend, or compile="none".'
    return None


def check_backend(compile: str | None) -> None:
    """Raise MadlabError for what is neither NO_GRAPH nor a backend of torch.compile; graphs are our own (runs.step)."""
    if compile in (None, NO_GRAPH):  # not even asked, because loading the backends takes seconds
        return
    backends = [name for name in torch.compiler.list_backends() if name != "cudagraphs"]
    if compile in backends or compile in DEBUGGING:
        return
    choices = ", ".join([NO_GRAPH, *backends])
    raise MadlabError(
        f"There is no backend {compile!r:.60} for a step: choose one of {choices}, or leave it out, which on a GPU "
        "records each step as one CUDA graph."
    )


def check_precision(network: nn.Module) -> None:
    """Raise MadlabError for weights that are not float32, in which images come and everything is learned."""
    for name, parameter in network.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise MadlabError(f"The base network's {name} is {kind}, and training needs float32: give base.float().")


def checked_layers(layers: str | Sequence[str]) -> str | tuple[str, ...]:
    """The layers to adapt as a config holds them; MadlabError for what has no order of its own, or is no list."""
    if not isinstance(layers, Sequence):
        raise MadlabError(f"The layers are {layers!r:.60}: give a kind of layer, or a list of their names.")
    return layers if isinstance(layers, str) else tuple(layers)


def _load(domain: Domain | Path | str, network: nn.Module, flip: bool | None, resize: int | None) -> Domain:
    """The domain, at the size that was asked for, or else that the network wants."""
    if not isinstance(flip, bool | None):
        raise MadlabError(f"flip is {flip!r:.60}: give True, False, or None to leave it to the domain.")
    if isinstance(domain, Domain):
        if resize not in (None, domain.size):
            raise MadlabError(f"The Domain has images of {domain.size} pixels, not of {resize}: leave out the size.")
        return domain if flip is None else replace(domain, flip=flip)
    if resize is not None:
        data = load_domain(domain, size=resize, flip=flip)
        if data.size < resize:
            raise MadlabError(f"The images of {data.name} have {data.size} pixels: ask for a size of at most that.")
        return data
    size = image_size(network)
    if not size.declared:
        remark(size.notice)
    return load_domain(domain, size=size.resize, flip=flip)


def config_for(domain: str, source: str | None, flip: bool, base: BaseUsed, recipe: Recipe, **fields: Any) -> RunConfig:
    """The config of a run on the domain as it is now; MadlabError where it is not possible.

    fields: method, options, layers, head and compile, as `RunConfig` has them.
    """
    split = None if source is None else split_digest(source)
    try:
        return RunConfig(domain=domain, source=source, flip=flip, base=base, recipe=recipe, split=split, **fields)
    except ValidationError as error:
        raise MadlabError(f"The run is not possible: {sentence(error)}.") from None


def repeat(config: Path | str, out: Path | str | None = None, **changes: Any) -> Result:
    """Train once more what a config.json asks for: `madlab train --config FILE`.

    config: the file, or its run folder. changes: arguments of `train` that replace what the config says; another method
    begins with its own options. Raises MadlabError if the base network is not the one of the config, unless `changes`
    name one, if its images were split in another way since, and where `train` does.
    """
    before = RunConfig.read(config)
    arguments: dict[str, Any] = {
        "domain": before.source,
        "layers": before.layers,
        "head": before.head,
        "flip": before.flip,
        "compile": before.compile,
        **asdict(before.recipe),
    }
    arguments |= _method(before, changes) | changes
    if "domain" in changes and "flip" not in changes and before.source and before.flip == flips(before.source):
        arguments["flip"] = None  # nobody asked for it: the other domain has its own
    if "base" not in changes:
        arguments["base"] = before.base.source
        if fingerprint(base_of(before, config)) != before.base.sha256:
            raise MadlabError(
                f"{before.base.source} is not the base network of {config} any more: name one (--base NAME) if another "
                "will do."
            )
    if not {"domain", "split"} & changes.keys():
        check_same_split(before, config)
    if arguments["domain"] is None:
        raise MadlabError(f"{config} does not say where the images are: give them (--domain FOLDER, or domain=...).")
    return train(out=out, **arguments)


def _method(before: RunConfig, changes: dict[str, Any]) -> dict[str, Any]:
    """The method of the config and its options, changed; takes what it uses out of `changes`."""
    name, rank, options = changes.pop("method", None), changes.pop("rank", None), changes.pop("options", None)
    method, given = method_and_options(name or before.method, rank, options)
    return {"method": method, "options": ({} if name else before.options) | given}
