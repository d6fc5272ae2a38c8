"""A domain made of the base's parts: shared filter banks behind adapters, and norms and heads of its own."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from madlab.adapters import METHODS, Adapter
from madlab.adapters.base import Layer
from madlab.adapters.layer import AdaptedConv2d, rebuild, without_parametrization
from madlab.anatomy import Anatomy
from madlab.facts import DomainFacts
from madlab.guard import Guard
from madlab.heads import new_head
from madlab.view import DomainView


def assemble(
    base: nn.Module, anatomy: Anatomy, guard: Guard, facts: DomainFacts, adapted: Mapping[str, Layer]
) -> DomainView:
    """A new domain as its facts say, untrained. adapted: its layers by name. anatomy, guard: of the base."""
    method, heads = METHODS[facts.method], [base.get_submodule(name) for name in facts.heads]
    # Heads are drawn first, so that with one seed they are the same whatever numbers an adapter draws.
    replacements: dict[Any, Any] = {h: new_head(without_parametrization(h), facts.num_classes) for h in heads}
    adapters: dict[Tensor, Adapter] = {}  # layers that share a filter bank share its adapter
    for name, layer in adapted.items():
        options = {k: v[name] if isinstance(v, Mapping) else v for k, v in facts.options.items()}
        plain = without_parametrization(layer)
        # A shallow copy of the layer: it stands inside of what takes the layer's own place.
        if plain.weight not in adapters:
            adapters[plain.weight] = method.build(plain, options)
        replacements[layer] = AdaptedConv2d(copy.copy(plain), adapters[plain.weight])
    own: dict[str, nn.Parameter] = {}
    if method.trains_everything:
        of_heads = {parameter for head in heads for parameter in head.parameters()}
        others = {n: p for n, p in anatomy.others.items() if p not in of_heads}
        own = {name: nn.Parameter(parameter.detach().clone()) for name, parameter in others.items()}
    of_norms = {t for norm in anatomy.norms.values() for t in (*norm.parameters(), *norm.buffers())}
    shared = [t for t in (*base.parameters(), *base.buffers()) if t not in of_norms]
    replacements |= {base.get_parameter(name): parameter for name, parameter in own.items()}
    network = rebuild(base, replacements, shared)
    for name in anatomy.norms:
        network.get_submodule(name).requires_grad_(method.adapts_batchnorm)
    channels, prompt = anatomy.channels, None
    if method.prompt is not None:
        like = next(heads[0].parameters())
        options = {"size": facts.crop or 32} | facts.options
        prompt = method.prompt(channels, **options).to(like.device, like.dtype)
    return DomainView(network, facts, list(anatomy.norms), own, guard, channels, prompt)
