"""PEFT's adapter folder: what `PeftModel.from_pretrained(base, folder)` reads, for the methods that PEFT has.

PEFT keeps the domain's normalisation layers and head as its `modules_to_save`, whole.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from madlab.adapters.peers import PEERS, PeftAdapter, peft_config
from madlab.errors import MadlabError
from madlab.exports.deployable import Deployable, staged_folder
from madlab.exports.weights import with_new_heads
from madlab.files.jsonfiles import write_json
from madlab.network import MultiDomainNet
from madlab.view import DomainView

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ABOUT = "madlab.json"
"""What PEFT's own files have no place for: class names, sizes and normalisation."""
KINDS = {f"peft:{kind}": kind for kind in PEERS} | {"lora": "lora", "hira": "hira"}
"""Method -> PEFT's; madlab's own LoRA and HiRA have the same parameters in the same shapes."""
OWN_NAMES = {
    "lora": {"a": "lora_A.default.weight", "b": "lora_B.default.weight"},
    "hira": {"a": "hira_A.default", "b": "hira_B.default"},
}
"""Parameters of madlab's own LoRA and HiRA, and what PEFT calls them."""
MERGE_FIRST = tuple(f"peft:{kind}" for kind, peer in PEERS.items() if peer.through_filters)
"""Methods whose forward in PEFT is not what it merges to (`madlab.adapters.peers`)."""


def write_peft(net: MultiDomainNet, domain: str, deployable: Deployable, path: Path) -> None:
    """Write a domain as a folder that PEFT loads onto the base network with a head for the domain's classes.

    deployable: the same domain, merged, to check it with. Raises MadlabError for a method that PEFT does not have or
    cannot write down, and if PEFT, having read the folder, answers anything but the merged network.
    """
    view = net.view(domain)
    if view.method.name not in KINDS:
        raise MadlabError(f"PEFT has no method {view.method.name!r}, only {', '.join(KINDS)}: export the weights.")
    config = _config(view)
    import peft
    from peft.utils.save_and_load import get_peft_model_state_dict
    from safetensors.torch import save

    model: Any = peft.get_peft_model(with_new_heads(net, domain), config)
    _copy(view, model)
    config.inference_mode = True
    with staged_folder(path, CONFIG, says="peft_type") as place:
        state: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
        (place / WEIGHTS).write_bytes(save({name: t.detach().clone().contiguous() for name, t in state.items()}))
        config.save_pretrained(place)
        write_json(place / ABOUT, deployable.about())
        loaded: Any = peft.PeftModel.from_pretrained(with_new_heads(net, domain), place).float()
        loaded.to(memory_format=torch.contiguous_format)  # on which some of PEFT's merges count
        loaded = loaded.merge_and_unload() if view.method.name in MERGE_FIRST else loaded
        deployable.check(loaded.eval(), f"PEFT's network with {path.name}")


def _config(view: DomainView) -> Any:
    """PEFT's configuration of the whole domain: its layers, with their ranks, and what it saves besides."""
    kind, options, layers = KINDS[view.method.name], view.facts.options, list(view.adapted_layers())
    rank, alpha = options.get("rank"), options.get("alpha")
    more: dict[str, Any] = {"modules_to_save": [*view.norms, *view.facts.heads]}
    if isinstance(rank, dict):
        if not PEERS[kind].by_layer:
            raise MadlabError(f"PEFT's {kind} cannot have a rank for each layer: export the weights.")
        # "^": PEFT's patterns match the end of a name otherwise.
        ranks = {f"^{re.escape(name)}": number for name, number in rank.items()}
        patterns = {"rank_pattern": ranks, "alpha_pattern": {name: alpha or r for name, r in ranks.items()}}
        more |= {name: patterns[name] for name in PEERS[kind].by_layer}
        rank = max(rank.values())
    names = "|".join(map(re.escape, layers))
    return peft_config(kind, f"({names})", rank, alpha, _block(view), **more)


def _block(view: DomainView) -> int | None:
    """The side of OFT's blocks; MadlabError where layers have different ones, which PEFT cannot write down."""
    if view.method.name != "peft:oft":
        return None
    blocks = {int(adapter.layer.oft_block_size["default"]) for adapter in _of_peft(view)}
    if len(blocks) > 1:
        raise MadlabError(
            "PEFT's OFT has one size of blocks for all layers, and this domain several: export the weights."
        )
    return blocks.pop()


def _of_peft(view: DomainView) -> list[PeftAdapter]:
    return [adapter for adapter in view.adapters().values() if isinstance(adapter, PeftAdapter)]


@torch.no_grad()
def _copy(view: DomainView, model: Any) -> None:
    """Put a domain's tensors into PEFT's model of it."""
    kind, whole = KINDS[view.method.name], model.base_model.model
    for name, layer in view.adapted_layers().items():
        own = layer.adapter.state_dict()
        if isinstance(layer.adapter, PeftAdapter):
            own = {key.removeprefix("layer."): tensor for key, tensor in own.items()}
        else:
            own = {OWN_NAMES[kind][key]: tensor for key, tensor in own.items()}
        theirs = whole.get_submodule(name).state_dict()
        for key, tensor in own.items():
            theirs[key].copy_(tensor.view_as(theirs[key]))
    modules: dict[str, nn.Module] = view.norm_layers() | view.heads()
    for name, module in modules.items():
        whole.get_submodule(name).modules_to_save["default"].load_state_dict(module.state_dict())
