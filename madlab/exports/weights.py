"""The merged network's state_dict, as the stock network of torchvision or timm loads it, without madlab."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from madlab.adapters.layer import rebuild, without_parametrization
from madlab.errors import MadlabError
from madlab.exports.deployable import Deployable, refuse_to_replace, staged
from madlab.files.tensors import load_tensors, save_tensors
from madlab.heads import new_head
from madlab.network import MultiDomainNet
from madlab.sizes import name_of

# As torchvision builds them for its weights: what helped to train them is left out.
WITHOUT_HELPERS: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "transform_input": True, "init_weights": False}
    for name in ("googlenet", "inception_v3")
}


@dataclass(frozen=True)
class Stock:
    """A network as its own library makes it, untrained. call: the Python that makes it; make: does so."""

    call: str
    make: Callable[[], nn.Module]


def stock_of(net: MultiDomainNet, domain: str, source: str | None) -> Stock:
    """The stock network for a domain's number of classes.

    source: what `load_base` took to make the base. Where that names none of torchvision's or timm's networks, the
    stock network is the base itself with another head.
    """
    facts = net.view(domain).facts
    classes = facts.num_classes
    library, *rest = source.split(":") if source and ":" in source else ("torchvision", source or "")
    if library == "timm":
        import timm  # the base network came from there

        return Stock(
            f"timm.create_model({rest[0]!r}, num_classes={classes})",
            lambda: timm.create_model(rest[0], num_classes=classes),
        )
    if library == "torchvision" and rest[0] in torchvision.models.list_models(torchvision.models):
        options = WITHOUT_HELPERS.get(rest[0], {}) | {"num_classes": classes}
        told = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return Stock(f"torchvision.models.{rest[0]}({told})", lambda: torchvision.models.get_model(rest[0], **options))
    call = f"the base network {name_of(net.base) or 'of this run'} with a head of {classes} classes"
    return Stock(call, lambda: with_new_heads(net, domain))


def with_new_heads(net: MultiDomainNet, domain: str) -> nn.Module:
    """A copy of the base network in eval mode whose heads are fresh ones for the domain's classes."""
    facts = net.view(domain).facts
    heads = [net.base.get_submodule(name) for name in facts.heads]
    replacements: dict[Any, Any] = {head: new_head(without_parametrization(head), facts.num_classes) for head in heads}
    network = rebuild(net.base, replacements)
    network.eval()
    return network


def write_weights(deployable: Deployable, stock: Stock, path: Path) -> None:
    """Write a merged domain's state_dict as safetensors, which `stock` loads with strict=True.

    The file's metadata tell how that network is made ("loads_into"), classes, normalisation and sizes. Raises
    MadlabError for a domain that cannot merge, where the stock network has other tensors, and if it then answers
    anything but the merged network.
    """
    from safetensors.torch import load_file

    refuse_to_replace(path, _is_export)
    network = stock.make().float()
    network.eval()
    own = network.state_dict()
    state = {name: tensor for name, tensor in deployable.network.state_dict().items() if name in own}
    with staged(path) as place:
        save_tensors(place, state, deployable.metadata() | {"loads_into": stock.call})
        try:
            network.load_state_dict(load_file(place), strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise MadlabError(
                f"{stock.call} does not have the tensors of this network ({reason:.200}): export it as .onnx or .pt2."
            ) from error
        with torch.no_grad():
            deployable.check(network, f"{stock.call} with the weights of {path.name}")


def _is_export(path: Path) -> bool:
    return "loads_into" in load_tensors(path, finite=False)[1]
