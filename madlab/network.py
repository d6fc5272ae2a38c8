"""MultiDomainNet: one frozen base network, any number of domains.

A domain is a view of the base network: the same modules in the same order, where each filter bank shares the base's
weights and runs them through the domain's adapter, and where normalisation layers and head are the domain's own. So
the base is never modified, no network is forked to insert a layer, and switching domains is a look-up. Built in
notebook 03.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from madlab.adapters import METHODS
from madlab.adapters.base import Layer, check_rank, filters_of, split_method
from madlab.adapters.layer import AdaptedConv2d, rebuild, without_parametrization
from madlab.anatomy import examine
from madlab.errors import MadlabError
from madlab.facts import DomainFacts, check_classes
from madlab.files.tensors import load_tensors, save_tensors
from madlab.guard import Guard, fingerprint
from madlab.heads import find_head, new_head
from madlab.proof import prove
from madlab.view import DomainView


class MultiDomainNet(nn.Module):
    """One frozen base network and, for each domain, a small adapter, its normalisation layers and its head.

    base: any network with nn.Conv2d that turns images (B, C, H, W) into logits (B, classes). It is frozen here, stays
    `net.base` (what torch.compile wrapped is unwrapped), and none of its values ever changes. A new network is in eval
    mode: call `train()` before a loop of your own. Raises MadlabError if the base has no convolution or does not run.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = _uncompiled(base)
        self.views = nn.ModuleList()
        self._position: dict[str, int] = {}
        self._head_name: str | None = None
        self._take_in_base()
        self.eval()

    @property
    def domains(self) -> list[str]:
        """The names of the domains, in the order in which they were added."""
        return list(self._position)

    @property
    def head_name(self) -> str:
        """The base's classifier head, as `heads.find_head` finds it."""
        if self._head_name is None:
            self._head_name = find_head(self.base)[0]
        return self._head_name

    @property
    def layers(self) -> dict[str, Layer]:
        """The filter banks of the base's body, by name: convolutions and every nn.Linear but the head."""
        return self.anatomy.body(self.head_name)

    @property
    def convs(self) -> dict[str, nn.Conv2d]:
        """The convolutions among `layers`."""
        return {name: layer for name, layer in self.layers.items() if isinstance(layer, nn.Conv2d)}

    def add_domain(
        self,
        name: str,
        num_classes: int,
        method: str = "mad",
        *,
        layers: str | Sequence[str] = "all",
        class_names: Sequence[str] | None = None,
        normalization: Mapping[str, list[float]] | None = None,
        resize: int | None = None,
        crop: int | None = None,
        head: str | None = None,
        **options: Any,
    ) -> None:
        """Add a domain; the base and the other domains do not notice.

        method: a key of `madlab.METHODS`, possibly with a rank ("mad:8"). options: the method's own, e.g. rank=8 for
        "mad"; rank may also be a mapping from layer to rank. layers: which filter banks are adapted: "all", "conv" (no
        nn.Linear), "3x3", "1x1" (an nn.Linear is one) or a list of their names. The packed input projection of
        nn.MultiheadAttention is a bare parameter and not among them; only "finetune" trains it. class_names,
        normalization, resize and crop (pixels; the last three are the base's unless given) are kept in the domain's
        file. head: the name of the base's classifier, where madlab cannot find it.

        The new domain is run once on two images of noise, to prove that every adapter and the head are at work. Raises
        MadlabError if they are not; for an unknown method or layer, a name that is taken or cannot name a file, class
        names that do not fit, fewer than two classes, or a rank below 1 or above min(M, N) of every adapted layer; and
        if the base was changed since the first domain was added.
        """
        method, rank = split_method(method)
        if rank is not None:
            if options.get("rank") is not None:
                raise MadlabError(
                    f"The rank is given twice, in {method}:{rank} and as rank={options['rank']}: drop one."
                )
            options["rank"] = rank
        num_classes = check_classes(name, num_classes)
        facts = DomainFacts(
            name,
            num_classes,
            method,
            options,
            layers=[],
            class_names=_as_list(class_names) if class_names is not None else [str(i) for i in range(num_classes)],
            normalization=dict(normalization or getattr(self.base, "normalization", {})),
            head=self._head(head),
            resize=getattr(self.base, "resize", None) if resize is None else resize,
            crop=getattr(self.base, "crop", None) if crop is None else crop,
        )
        self._check_base()
        self._append(self._new_view(facts, layers))

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

        domain: one name, which gives (B, classes); or one name per sample, which gives a list of B tensors (classes,)
        in the order of the samples, each as its domain alone would give it.
        """
        if isinstance(domain, str):
            return self.view(domain)(images)
        if len(domain) != len(images):
            raise MadlabError(f"{len(images)} images came with {len(domain)} domain names: give one name per sample.")
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
        """The parameters that training this domain changes: adapter, norms (if the method adapts them), head."""
        for group in self.view(domain).parameter_groups().values():
            yield from group

    def adapter_size(self, domain: str) -> int:
        """Adapter parameters of a domain, without norms and head (DomainView.adapter_size)."""
        return self.view(domain).adapter_size()

    def check_base(self) -> None:
        """Compare every value of the base with what it was; raises MadlabError if one changed."""
        self.guard.check_values()

    def merge(self, domain: str) -> nn.Module:
        """A plain network of its own with the adapted weights: the same logits at the base network's speed.

        It is in eval mode, all its parameters can be trained, and `normalization`, `class_names`, `resize` and `crop`
        are its domain's. Raises MadlabError for a prompt, which adapts the images and so has nothing to merge into the
        weights, and if the base was changed.
        """
        view = self.view(domain)
        if view.prompt is not None:
            raise MadlabError(
                f"Domain {domain!r} adapts its images, not the weights, so it cannot merge: run it as it is."
            )
        self.check_base()
        return view.merged()

    def save_domain(self, domain: str, path: Path | str) -> None:
        """Write everything that the domain owns into one safetensors file, with the sha256 of its base."""
        view = self.view(domain)
        self.check_base()
        base = {"base": getattr(self.base, "name", ""), "base_sha256": self.guard.sha256}
        save_tensors(path, view.own_state(packed=True), view.facts.to_json() | base)

    def load_domain(self, path: Path | str, name: str | None = None) -> str:
        """Add the domain of a file that `save_domain` wrote, under its own name or another; returns the name.

        Raises MadlabError if the file is damaged or belongs to another base network.
        """
        tensors, stored = load_tensors(path)
        self._check_base()
        if not {"base", "base_sha256"} <= stored.keys():
            raise MadlabError(f"{path} is not a domain that madlab saved.")
        if stored["base_sha256"] != self.guard.sha256:
            raise MadlabError(
                f"{path} was trained on another base network ({stored['base'] or 'without a name'}): load that."
            )
        sizes = {key: getattr(self.base, key, None) for key in ("resize", "crop")}
        try:
            facts = DomainFacts.from_json(stored, head=self._head(_text(stored.get("head"))), **sizes)
            facts = replace(facts, name=facts.name if name is None else name)
            view = self._new_view(facts, facts.layers)
            view.load_own_state(tensors, packed=True)
        except MadlabError as error:
            raise MadlabError(f"{path} cannot be loaded: {error}") from error
        self._append(view)
        return facts.name

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "MultiDomainNet":
        """What `to`, `half` and the like do: they may change the base's number format, which is no forbidden change."""
        self.guard.check_writes()
        before = [tensor.dtype for tensor in self.guard.tensors]
        super()._apply(fn, recurse)
        self.guard.count_writes()
        if [tensor.dtype for tensor in self.guard.tensors] != before:
            self.guard.sha256 = fingerprint(self.base)
        return self

    def _take_in_base(self) -> None:
        """Learn what the base is made of, and what it is."""
        with torch.inference_mode(False), torch.enable_grad():
            self.anatomy = examine(self.base)
        self.guard = Guard(self.base)
        self._head_name = None  # found when it is first needed

    def _check_base(self) -> None:
        """The base must be what it was when the first domain came; until then it may still be edited."""
        if self.domains:
            self.check_base()
        elif fingerprint(self.base) != self.guard.sha256:
            self._take_in_base()

    def _head(self, name: str | None) -> str:
        return self.head_name if name is None else find_head(self.base, name)[0]

    def _append(self, view: DomainView) -> None:
        self.views.append(view.train(self.training))
        self._position[view.facts.name] = len(self.views) - 1

    def _new_view(self, facts: DomainFacts, layers: str | Sequence[str]) -> DomainView:
        """A domain as `facts` say, proved and not yet part of the network."""
        if facts.name in self._position:
            raise MadlabError(f"There is already a domain {facts.name!r}: choose another name or remove it first.")
        method = METHODS[facts.method]
        adapted = self.anatomy.choose(layers, facts.head) if method.adapter else {}
        facts = replace(facts, layers=list(adapted))
        if "rank" in facts.options:
            facts = replace(facts, options=facts.options | {"rank": _checked_ranks(facts.options["rank"], adapted)})
        with torch.inference_mode(False), torch.enable_grad():
            view = self._build(facts, adapted)
            if self.anatomy.sides:
                prove(view, self.anatomy.sides)
        return view

    def _build(self, facts: DomainFacts, adapted: Mapping[str, Layer]) -> DomainView:
        method, head = METHODS[facts.method], self.base.get_submodule(facts.head)
        replacements: dict[Any, Any] = {}
        for name, layer in adapted.items():
            options = {k: v[name] if isinstance(v, Mapping) else v for k, v in facts.options.items()}
            plain = without_parametrization(layer)
            # A shallow copy, because the layer itself is what `rebuild` replaces.
            replacements[layer] = AdaptedConv2d(copy.copy(plain), method.build(plain, options))
        replacements[head] = new_head(without_parametrization(head), facts.num_classes)
        own: dict[str, nn.Parameter] = {}
        if method.trains_everything:
            of_head = set(head.parameters())
            others = {n: p for n, p in self.anatomy.others.items() if p not in of_head}
            own = {name: nn.Parameter(parameter.detach().clone()) for name, parameter in others.items()}
        of_norms = {t for norm in self.anatomy.norms.values() for t in (*norm.parameters(), *norm.buffers())}
        shared = [t for t in (*self.base.parameters(), *self.base.buffers()) if t not in of_norms]
        replacements |= {self.base.get_parameter(name): parameter for name, parameter in own.items()}
        network = rebuild(self.base, replacements, shared)
        for name in self.anatomy.norms:
            network.get_submodule(name).requires_grad_(method.adapts_batchnorm)
        channels, prompt = self.anatomy.channels, None
        if method.prompt is not None:
            like = next(head.parameters())
            options = {"size": facts.crop or 32} | facts.options
            prompt = method.prompt(channels, **options).to(like.device, like.dtype)
        return DomainView(network, facts, list(self.anatomy.norms), own, self.guard, channels, prompt)

    def _place(self, domain: str) -> int:
        if domain not in self._position:
            raise MadlabError(f"Unknown domain {domain!r}: this network has {', '.join(self._position) or 'none yet'}.")
        return self._position[domain]


def _checked_ranks(rank: Any, adapted: Mapping[str, Layer]) -> int | dict[str, int]:
    """One rank or one for each layer, as int; raises MadlabError for what the layers cannot have."""
    largest = {name: min(filters_of(layer).shape[:2]) for name, layer in adapted.items()}
    if isinstance(rank, Mapping):
        if rank.keys() != largest.keys():
            raise MadlabError("A rank for each layer must name exactly the adapted layers.")
        return {name: check_rank(rank[name], largest[name], f"layer {name}") for name in adapted}
    widest = max(largest, key=largest.__getitem__)
    return check_rank(rank, largest[widest], f"the widest layer, {widest}")


def _as_list(texts: Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _uncompiled(network: nn.Module) -> nn.Module:
    """The network, and every part of it, without the wrappers of torch.compile, which hold what no copy can follow."""
    network = network._modules.get("_orig_mod") or network
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is not None and "_orig_mod" in child._modules:
                module._modules[name] = child._modules["_orig_mod"]
    return network
