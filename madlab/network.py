"""MultiDomainNet: one frozen base network, any number of domains.

A domain is a view of the base network: the same modules in the same order, where each convolution shares the base's
weights and runs them through the domain's adapter, and where BatchNorm and head are the domain's own. So the base is
never modified, no network is forked to insert a layer, and switching domains is a look-up. Built in notebook 03.
"""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from madlab.adapters import METHODS
from madlab.adapters.base import check_rank
from madlab.errors import MadlabError
from madlab.heads import find_head, new_head
from madlab.tensors import load_tensors, save_tensors
from madlab.view import AdaptedConv2d, DomainView, rebuild

LAYERS = ("all", "3x3", "1x1")
FACTS = {"name", "num_classes", "method", "options", "layers", "class_names", "normalization"}


class MultiDomainNet(nn.Module):
    """One frozen base network and, for each domain, a small adapter, its BatchNorm and its head.

    base: any CNN with nn.Conv2d, nn.BatchNorm2d and a head that `heads.find_head` finds, on (B, C, H, W). It is frozen
    here, stays `net.base`, and none of its values ever changes. A new network is in eval mode: call `train()` before a
    loop of your own. Raises MadlabError if the base has no convolution or no head.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        self.convs = {n: m for n, m in base.named_modules() if isinstance(m, nn.Conv2d)}
        if not self.convs:
            raise MadlabError("The base network has no nn.Conv2d: madlab adapts convolutional networks.")
        self.head_name, _ = find_head(base)
        self.convs.pop(self.head_name, None)  # a head that is a convolution is replaced, not adapted
        self.base = base.requires_grad_(False).eval()
        self.views = nn.ModuleList()
        self._position: dict[str, int] = {}
        self.eval()

    @property
    def domains(self) -> list[str]:
        """The names of the domains, in the order in which they were added."""
        return list(self._position)

    def add_domain(
        self,
        name: str,
        num_classes: int,
        method: str = "mad",
        *,
        layers: str | Sequence[str] = "all",
        class_names: Sequence[str] | None = None,
        normalization: Mapping[str, list[float]] | None = None,
        **options: Any,
    ) -> None:
        """Add a domain; the base and the other domains do not notice.

        method: a key of `madlab.METHODS`. options: the method's own, e.g. rank=8 for "mad"; rank may also be a mapping
        from convolution to rank. layers: which convolutions are adapted: "all", "3x3", "1x1" or a list of their names.
        class_names, normalization: kept in the domain's file. Raises MadlabError for an unknown method or layer, a name
        that is taken, fewer than two classes, or a rank below 1 or above min(M, N) of every adapted layer.
        """
        if class_names is None:
            class_names = [str(i) for i in range(num_classes)]
        facts = {"name": name, "num_classes": num_classes, "method": method, "options": options, "layers": layers}
        facts |= {"class_names": list(class_names)}
        facts |= {"normalization": dict(normalization or getattr(self.base, "normalization", {}))}
        self._append(self._new_view(facts))

    def remove_domain(self, name: str) -> None:
        """Forget a domain; nothing else changes."""
        del self.views[self._place(name)]
        self._position = {other: i for i, other in enumerate(n for n in self._position if n != name)}

    def view(self, domain: str) -> DomainView:
        """The network of one domain, a module (B, C, H, W) -> (B, classes): what `train` trains."""
        view = self.views[self._place(domain)]
        assert isinstance(view, DomainView)
        return view

    def forward(self, images: Tensor, domain: str | Sequence[str]) -> Tensor | list[Tensor]:
        """Logits of a batch: images float (B, C, H, W), normalised with the domain's statistics.

        domain: one name, which gives (B, classes); or one name a sample, which gives a list of B tensors (classes,)
        in the order of the samples, each what its domain alone would give.
        """
        first = next(iter(self.convs.values()))
        channels = first.in_channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise MadlabError(f"Images must have the shape (B, {channels}, H, W), but this is {tuple(images.shape)}.")
        if isinstance(domain, str):
            return self.view(domain)(images)
        if len(domain) != len(images):
            raise MadlabError(f"{len(images)} images came with {len(domain)} domain names: give one name a sample.")
        places: dict[str, list[int]] = {}
        for i, name in enumerate(domain):
            places.setdefault(name, []).append(i)
        logits: list[Tensor] = [images] * len(images)
        for name, positions in places.items():
            for i, row in zip(positions, self.view(name)(images[positions]), strict=True):
                logits[i] = row
        return logits

    def train(self, mode: bool = True) -> "MultiDomainNet":
        super().train(mode)
        self.base.eval()
        return self

    def trainable_parameters(self, domain: str) -> Iterator[nn.Parameter]:
        """The parameters that training this domain changes: adapter, BatchNorm (if the method adapts it), head."""
        for group in self.view(domain).parameter_groups().values():
            yield from group

    def adapter_size(self, domain: str) -> int:
        """Adapter parameters of a domain, without BatchNorm and head.

        A bit of a mask counts as 1/32, as in WTPB (Mancini et al., arXiv 2103.13894).
        """
        return round(sum(adapter.size() for adapter in self.view(domain).adapters().values()))

    def merge(self, domain: str) -> nn.Module:
        """A plain network of its own with the adapted weights: the same logits at the base network's speed.

        Raises MadlabError for a prompt, which adapts the images and so has nothing to merge into the weights.
        """
        if self.view(domain).prompt is not None:
            raise MadlabError(
                f"Domain {domain!r} adapts its images, not the weights, so it cannot merge: run it as it is."
            )

        def substitute(path: str, module: nn.Module) -> nn.Module | None:
            return module.merged() if isinstance(module, AdaptedConv2d) else None

        return copy.deepcopy(rebuild(self.view(domain).network, substitute))

    def save_domain(self, domain: str, path: Path | str) -> None:
        """Write everything that the domain owns into one safetensors file, with the sha256 of its base."""
        view = self.view(domain)
        facts = view.facts | {"base": getattr(self.base, "name", ""), "base_sha256": fingerprint(self.base)}
        save_tensors(path, view.own_state(packed=True), facts)

    def load_domain(self, path: Path | str, name: str | None = None) -> str:
        """Add the domain of a file that `save_domain` wrote, under its own name or another; returns the name.

        Raises MadlabError if the file is damaged or belongs to another base network.
        """
        tensors, facts = load_tensors(path)
        if not FACTS | {"base", "base_sha256"} <= facts.keys():
            raise MadlabError(f"{path} is not a domain that madlab saved.")
        if facts["base_sha256"] != fingerprint(self.base):
            raise MadlabError(
                f"{path} was trained on another base network ({facts['base'] or 'without a name'}): load that."
            )
        view = self._new_view({key: facts[key] for key in FACTS} | ({"name": name} if name else {}))
        try:
            view.load_own_state(tensors, packed=True)
        except MadlabError as error:
            raise MadlabError(f"{path} is damaged: {error}") from None
        self._append(view)
        return view.facts["name"]

    def _append(self, view: DomainView) -> None:
        self.views.append(view.train(self.training))
        self._position[view.facts["name"]] = len(self.views) - 1

    def _new_view(self, facts: dict[str, Any]) -> DomainView:
        """A domain as `facts` say, not yet part of the network; raises MadlabError for facts that cannot be."""
        name, num_classes, method = facts["name"], facts["num_classes"], METHODS.get(facts["method"])
        if name in self._position:
            raise MadlabError(f"There is already a domain {name!r}: choose another name or remove it first.")
        if num_classes < 2:
            raise MadlabError(f"Domain {name!r} has {num_classes} class: a classifier needs at least two.")
        if len(facts["class_names"]) != num_classes:
            raise MadlabError(f"Domain {name!r} has {num_classes} classes but {len(facts['class_names'])} class names.")
        if method is None:
            raise MadlabError(f"Unknown method {facts['method']!r}: choose one of {', '.join(METHODS)}.")
        given = {key: value for key, value in facts["options"].items() if value is not None}
        for key in given:
            if key not in method.options:
                raise MadlabError(
                    f"Method {method.name!r} takes no option {key!r}; it has {list(method.options) or 'none'}."
                )
        options = {key: value for key, value in method.options.items() if value is not None} | given
        adapted = self._layers(facts["layers"]) if method.adapter else []
        if "rank" in options:
            self._check_ranks(options["rank"], adapted)
        like = next(self.base.parameters())

        def substitute(path: str, module: nn.Module) -> nn.Module | None:
            if path in adapted:
                assert method.adapter is not None and isinstance(module, nn.Conv2d)
                own = {k: v[path] if isinstance(v, Mapping) else v for k, v in options.items()}
                return AdaptedConv2d(module, method.adapter(module, **own).to(like.device, like.dtype))
            if isinstance(module, nn.BatchNorm2d):
                return copy.deepcopy(module).requires_grad_(method.adapts_batchnorm)
            if path == self.head_name:
                return new_head(module, num_classes)
            return None

        prompt = method.prompt(self.base, **options).to(like.device, like.dtype) if method.prompt else None
        facts = facts | {"options": options, "layers": adapted}
        return DomainView(rebuild(self.base, substitute), method, facts, self.head_name, prompt)

    def _place(self, domain: str) -> int:
        if domain not in self._position:
            raise MadlabError(f"Unknown domain {domain!r}: this network has {', '.join(self._position) or 'none yet'}.")
        return self._position[domain]

    def _layers(self, layers: str | Sequence[str]) -> list[str]:
        if isinstance(layers, str):
            if layers not in LAYERS:
                raise MadlabError(
                    f"Unknown layers {layers!r}: choose one of {', '.join(LAYERS)}, or list convolutions."
                )
            if layers == "all":
                return list(self.convs)
            size = int(layers[0])
            found = [name for name, conv in self.convs.items() if conv.kernel_size == (size, size)]
            if not found:
                raise MadlabError(f"The base network has no {layers} convolution to adapt: choose other layers.")
            return found
        for name in layers:
            if name not in self.convs:
                raise MadlabError(f"The base network has no convolution {name!r}; it has {', '.join(self.convs)}.")
        return list(layers)

    def _check_ranks(self, rank: int | Mapping[str, int], adapted: Sequence[str]) -> None:
        largest = {name: min(self.convs[name].weight.shape[:2]) for name in adapted}
        if isinstance(rank, Mapping):
            if set(rank) != set(adapted):
                raise MadlabError("A rank for each layer must name exactly the adapted convolutions.")
            for name in adapted:
                check_rank(rank[name], largest[name], f"layer {name}")
        elif largest:
            widest = max(largest, key=largest.__getitem__)
            check_rank(rank, largest[widest], f"the widest layer, {widest}")


def fingerprint(base: nn.Module) -> str:
    """sha256 over the names and values of a base network's parameters and buffers, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in sorted(base.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
