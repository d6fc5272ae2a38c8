"""MultiDomainNet: one frozen base network, any number of domains.

A domain is a view of the base network: the same modules in the same order, where each filter bank shares the base's
weights and runs them through the domain's adapter, and where normalisation layers and head are the domain's own. So
the base is never modified, no network is forked to insert a layer, and switching domains is a look-up. Built in
notebook 03.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from madlab.adapters import METHODS
from madlab.adapters.base import Layer, checked_ranks
from madlab.adapters.layer import uncompiled
from madlab.anatomy import anatomy_of
from madlab.device import no_modes
from madlab.errors import MadlabError
from madlab.facts import DomainFacts, make_facts, method_and_options
from madlab.files.tensors import load_tensors, save_tensors
from madlab.guard import Guard, fingerprint
from madlab.heads import find_heads, heads_to_replace, tell_if_unusual
from madlab.hub import domain_file
from madlab.prediction import Guess, Picture, predict
from madlab.proof import prove
from madlab.sizes import name_of, said
from madlab.stored import Form, StoredBytes, decode, encode, lost, settled, stored_bytes
from madlab.view import DomainView, assemble, buffers_shared, refuse_assigned, refuse_domains


class MultiDomainNet(nn.Module):
    """One frozen base network and, for each domain, a small adapter, its normalisation layers and its head.

    base: any network with nn.Conv2d that turns images (B, C, H, W) into logits (B, classes). It is frozen here, stays
    `net.base` (what torch.compile wrapped is unwrapped), and none of its values ever changes. A new network is in eval
    mode: call `train()` before a loop of your own. Raises MadlabError if the base has no convolution or does not run.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        if not isinstance(base, nn.Module):
            raise MadlabError(
                f"A base network is an nn.Module, not {base!r:.60}: madlab.load_base makes one of a name."
            )
        refuse_domains(base)
        self.base = uncompiled(base)
        self.views = nn.ModuleList()
        self._position: dict[str, int] = {}
        self._found_heads: list[str] = []
        self.register_load_state_dict_pre_hook(refuse_assigned)
        self._take_in_base()
        self.eval()

    @property
    def domains(self) -> list[str]:
        """The names of the domains, in the order in which they were added."""
        return list(self._position)

    @property
    def heads(self) -> list[str]:
        """The names of the base's classifier head, nearly always one, as `heads.find_heads` finds it.

        Where it cannot be found, the head that the first domain was told.
        """
        if not self._found_heads:
            try:
                self._found_heads = list(find_heads(self.base))
            except MadlabError:
                if not self.domains:
                    raise
                return self.view(self.domains[0]).facts.heads
        return self._found_heads

    @property
    def layers(self) -> dict[str, Layer]:
        """The filter banks of the base's body, by name: convolutions and every nn.Linear but the head."""
        return self.anatomy.body(self.heads)

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
        grey: Mapping[str, float] | None = None,
        squash: bool = False,
        head: str | None = None,
        **options: Any,
    ) -> None:
        """Add a domain; the base and the other domains do not notice.

        method: a key of `madlab.METHODS`, possibly with a rank ("mad:8"). options: the method's own, e.g. rank=8 for
        "mad"; rank may also be a mapping from layer to rank. layers: which filter banks are adapted: "all", "conv" (no
        nn.Linear), "3x3", "1x1" (an nn.Linear is one) or a list of their names. The packed input projection of
        nn.MultiheadAttention is a bare parameter and not among them; only "finetune" trains it. Kept in the domain's
        file are class_names, normalization, resize and crop (pixels; the last three are the base's unless given), grey,
        {"black": 0, "white": 4095}: which values of grey images of more than 8 bits become black and white, and squash:
        whether whole pictures are pressed into the square. head: the base's classifier, where madlab cannot find it.

        The new domain is run once on two images of noise, to prove that every adapter and the head are at work. Raises
        MadlabError if they are not; for an unknown method or layer, a name that is taken or cannot name a file, class
        names that do not fit, fewer than two classes, or a rank below 1 or above min(M, N) of every adapted layer; and
        if the base was changed since the first domain was added.
        """
        self._check_base()  # first of all: an edited one has another head
        method, options = method_and_options(method, options=options)
        given = {
            "name": name,
            "layers": [],
            "num_classes": num_classes,
            "method": method,
            "options": options,
            "class_names": class_names,
            "normalization": normalization or said(self.base, "normalization") or {},
            "heads": self._heads(head),
            "resize": said(self.base, "resize") if resize is None else resize,
            "crop": said(self.base, "crop") if crop is None else crop,
            "grey": grey,
            "squash": squash,
        }
        facts = make_facts(given)
        self._append(self._new_view(facts, layers))
        for path in facts.heads:
            tell_if_unusual(path, self.base.get_submodule(path))

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
        if not isinstance(domain, Sequence):
            raise MadlabError(f"The domain of images is a name, or one name per sample, not {domain!r:.60}: name it.")
        if not isinstance(images, Tensor):
            raise MadlabError(f"Images must be a tensor (B, C, H, W), not a {type(images).__name__}: stack them.")
        if len(domain) != len(images):
            raise MadlabError(f"{len(images)} images came with {len(domain)} domain names: give one name per sample.")
        places: dict[int, list[int]] = {}
        for i, name in enumerate(domain):
            places.setdefault(self._place(name), []).append(i)
        logits: list[Tensor] = [images] * len(images)
        for place, positions in places.items():
            for i, row in zip(positions, self.views[place](images[positions]), strict=True):
                logits[i] = row
        return logits

    def predict(
        self, images: Picture | Sequence[Picture], domain: str | Sequence[str], top: int = 3
    ) -> list[list[Guess]]:
        """The most probable classes of pictures, each prepared as its domain was trained; see `madlab.prediction`.

        images: one picture or several: paths, PIL images, arrays or tensors, as uint8 or floats from 0 to 1, channels
        last or first; a batch is an array of four dimensions. domain: one for all, or one per picture. Returns for each
        picture its `top` classes with their probabilities, the likeliest first. Raises MadlabError for pictures that
        cannot be read or whose meaning is not clear.
        """
        return predict(self.view, images, domain, top)

    def train(self, mode: bool = True) -> "MultiDomainNet":
        """Training mode for what the domains own; see `DomainView.train` for what that leaves out."""
        self.training = mode
        self.base.eval()
        self.views.train(mode)
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
        are its domain's. In training mode all its norms follow the images, also those that were stored folded. Raises
        MadlabError for a prompt, which adapts the images and so has nothing to merge into the weights, and if the base
        was changed.
        """
        view = self.view(domain)
        if view.prompt is not None:
            raise MadlabError(
                f"Domain {domain!r} adapts its images, not the weights, so it cannot merge: run it as it is."
            )
        self.check_base()
        with no_modes(self.base):
            return view.merged()

    def save_domain(
        self, domain: str, path: Path | str, bits: int | None = None, norms: str = "full"
    ) -> dict[str, float]:
        """Write everything that the domain owns into one safetensors file, with the sha256 of its base.

        bits: 8, 4, 3 or 2 rounds the adapter's numbers and codes them; masks stay bits, the head stays exact. norms:
        "folded" stores them as the scale and shift that they are at inference (in 8 bits if the adapter is rounded,
        unless that would ruin them), and so they stay, even in training; "full" with their running statistics. Returns
        by layer what rounding took, as a share of the change that the domain had made to its filters, and by folded
        norm, as a share of its outputs; nothing without `bits`. Rounded filters want BatchNorm statistics of their own:
        `runs.recalibrate.round_domain`.
        """
        view = self.view(domain)
        if view.like.is_meta:
            raise MadlabError(f"Domain {domain!r} is on the meta device and has no values: save one that has.")
        form = settled(view, Form(bits, norms))
        self.check_base()
        facts: dict[str, Any] = {"base": name_of(self.base), "base_sha256": self.guard.sha256}
        if form != Form():
            facts["stored"] = form.to_json()
        save_tensors(path, encode(view, form), view.facts.to_json() | facts)
        return lost(view, form)

    def stored_bytes(self, domain: str, bits: int | None = None, norms: str = "full") -> StoredBytes:
        """Bytes of adapter, norms and head in the file that `save_domain` writes with these options."""
        return stored_bytes(self.view(domain), Form(bits, norms))

    def load_domain(self, path: Path | str, name: str | None = None) -> str:
        """Add the domain of a file that `save_domain` wrote, under its own name or another; returns the name.

        path: a file, a run folder, or hf://OWNER/NAME. MadlabError if it is damaged or of another base network.
        """
        with torch.inference_mode(False):
            tensors, stored = load_tensors(domain_file(path))
        self._check_base()
        if not {"base", "base_sha256"} <= stored.keys():
            raise MadlabError(f"{path} is not a domain that madlab saved.")
        if stored["base_sha256"] != self.guard.sha256:
            named = stored["base"] or "without a name"
            same = " with other values, or in another number format" if named == name_of(self.base) else ""
            raise MadlabError(f"{path} was trained on another base network ({named}{same}): load that.")
        try:
            facts = make_facts(self._meant(stored) | ({} if name is None else {"name": name}))
            for head in facts.heads:
                find_heads(self.base, head)
            view = self._new_view(facts, facts.layers)
            view.load_own_state(decode(view, tensors, Form.from_json(stored.get("stored"))), packed=True)
        except MadlabError as error:
            raise MadlabError(f"{path} cannot be loaded: {error}") from error
        self._append(view)
        return facts.name

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "MultiDomainNet":
        """What `to`, `half` and the like do: they may change the base's number format, which is no forbidden change."""
        self._check_base()
        before, had_values = [tensor.dtype for tensor in self.guard.tensors], not self._is_meta()
        self.guard.moving = True
        try:
            with buffers_shared(self.base, self.views):
                super()._apply(fn, recurse)
        finally:
            self.guard.moving = False
        self.guard.accept_writes()
        if not had_values and not self._is_meta():
            raise MadlabError("This network was made on the meta device, where no domain could be tried: make it anew.")
        if [tensor.dtype for tensor in self.guard.tensors] != before:
            self.guard.sha256 = fingerprint(self.base)
        return self

    def _is_meta(self) -> bool:
        return any(tensor.is_meta for tensor in self.guard.tensors)

    def _take_in_base(self) -> None:
        """Learn what the base is made of, and what it is."""
        with no_modes(self.base):
            self.anatomy = anatomy_of(self.base)
        self.guard = Guard(self.base)
        self._found_heads = []  # they are found when they are first needed

    def _check_base(self) -> None:
        """The base must be what it was when the first domain came; until then it may still be edited."""
        if self.domains:
            self.check_base()
        elif self.guard.is_changed():
            self._take_in_base()

    def _heads(self, name: str | None) -> list[str]:
        return self.heads if name is None else heads_to_replace(self.base, name)

    def _meant(self, stored: dict[str, Any]) -> dict[str, Any]:
        """What a domain's file says; one of madlab 0.1 has one head or names none, and leaves sizes to the base."""
        meant = {key: said(self.base, key) for key in ("resize", "crop")} | stored
        if "heads" not in stored:
            meant["heads"] = [stored["head"]] if "head" in stored else self.heads
        return meant

    def _append(self, view: DomainView) -> None:
        self.views.append(view.train(self.training))
        self._position[view.facts.name] = len(self.views) - 1

    def _new_view(self, facts: DomainFacts, layers: str | Sequence[str]) -> DomainView:
        """A domain as `facts` say, proved and not yet part of the network."""
        if facts.name in self._position:
            raise MadlabError(f"There is already a domain {facts.name!r}: choose another name or remove it first.")
        method, channels = METHODS[facts.method], self.anatomy.channels
        if facts.normalization and len(facts.normalization["mean"]) != channels:
            raise MadlabError(
                f"The normalization {facts.normalization} does not fit the base network, whose images have {channels} "
                "channels: give one number for each."
            )
        adapted = self.anatomy.choose(layers, facts.heads) if method.adapter else {}
        facts = replace(facts, layers=list(adapted))
        if "rank" in facts.options:
            facts = replace(facts, options=facts.options | {"rank": checked_ranks(facts.options, adapted)})
        with no_modes(self.base):
            view = assemble(self.base, self.anatomy, self.guard, facts, adapted)
            if self.anatomy.sides:
                prove(view, self.anatomy.sides)
        return view

    def _place(self, domain: str) -> int:
        if not isinstance(domain, str) or domain not in self._position:
            known = ", ".join(self._position) or "none yet"
            raise MadlabError(f"Unknown domain {domain!r:.60}: this network has {known}.")
        return self._position[domain]
