"""Answers to the exercises of notebook 03."""

import copy

import torch
from notebook_tools import definitions, read
from torch import nn

(ModulatedConv2d,) = definitions(read("02"), "ModulatedConv2d")


def built(base, num_classes, *, memo=True, norms=True, alphas=True, head=True):
    """The solution; each option leaves one thing out."""
    shared = {id(m): m for m in base.modules() if isinstance(m, nn.Conv2d)} if memo else {}
    view = copy.deepcopy(base, shared)
    for path, module in list(view.named_modules()):
        if isinstance(module, nn.Conv2d) and alphas:
            view.set_submodule(path, ModulatedConv2d(module))
        elif isinstance(module, nn.BatchNorm2d) and norms:
            module.requires_grad_(True)
    view.fc = nn.Linear(view.fc.in_features, num_classes if head else 4)
    return view


def by_recursion(base, num_classes):
    view = copy.deepcopy(base)
    originals = dict(base.named_modules())

    def walk(module, path):
        for name, child in list(module.named_children()):
            here = f"{path}.{name}".lstrip(".")
            if isinstance(child, nn.Conv2d):
                setattr(module, name, ModulatedConv2d(originals[here]))
            else:
                child.requires_grad_(isinstance(child, nn.BatchNorm2d))
                walk(child, here)

    walk(view, "")
    view.fc = nn.Linear(view.fc.in_features, num_classes)
    return view


def shell(base, num_classes):
    """Without deepcopy of convolutions: each module is copied on its own."""

    def copied(module):
        if isinstance(module, nn.Conv2d):
            return ModulatedConv2d(module)
        if isinstance(module, nn.Linear):
            return nn.Linear(module.in_features, num_classes)
        new = copy.copy(module)
        new._parameters = {k: nn.Parameter(p.detach().clone()) for k, p in module._parameters.items()}
        new._buffers = {k: b.clone() for k, b in module._buffers.items()}
        new._modules = {k: copied(m) for k, m in module._modules.items()}
        return new

    return copied(base)


def in_the_base(base, num_classes):
    for path, module in list(base.named_modules()):
        if isinstance(module, nn.Conv2d):
            base.set_submodule(path, ModulatedConv2d(module))
    base.fc = nn.Linear(base.fc.in_features, num_classes)
    return base


def unfreezing(base, num_classes):
    base.requires_grad_(True)
    return built(base, num_classes)


def unfreezing_norms(base, num_classes):
    for module in base.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(True)
    return built(base, num_classes)


class Idle(ModulatedConv2d):
    """It owns α and never uses it."""

    def forward(self, x):
        return self.conv(x)


class Squared(ModulatedConv2d):
    def forward(self, x):
        c = self.conv
        weight = c.weight * self.alpha.square()[:, :, None, None]
        return nn.functional.conv2d(x, weight, c.bias, c.stride, c.padding, c.dilation, c.groups)


def sharing_statistics(base, num_classes):
    view = built(base, num_classes)
    pairs = zip(norms_of(view), norms_of(base), strict=True)
    for own, shared in pairs:
        own.running_mean, own.running_var = shared.running_mean, shared.running_var
    return view


def norms_of(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def wrapped_in(kind):
    def add_domain(base, num_classes):
        view = built(base, num_classes, alphas=False)
        for path, module in list(view.named_modules()):
            if isinstance(module, nn.Conv2d):
                view.set_submodule(path, kind(module))
        return view

    return add_domain


def frozen_head(base, num_classes):
    view = built(base, num_classes)
    view.fc.requires_grad_(False)
    return view


def shared_norms(base, num_classes):
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    view = copy.deepcopy(base, {id(m): m for m in base.modules() if isinstance(m, kinds)})
    view.fc = nn.Linear(view.fc.in_features, num_classes)
    return view


def new_norms(base, num_classes):
    view = built(base, num_classes)
    for path, module in list(view.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            view.set_submodule(path, nn.BatchNorm2d(module.num_features))
    return view


def wrapped_with_noise(base, num_classes):
    view = built(base, num_classes)
    for module in view.modules():
        if isinstance(module, ModulatedConv2d):
            torch.nn.init.normal_(module.alpha)
    return view


def swap_all(network, make):
    made = {}
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.Conv2d):
            if module not in made:
                made[module] = make(module)
            network.set_submodule(path, made[module])


def swap_by_recursion(network, make, made=None):
    made = {} if made is None else made
    for child in list(network.children()):
        if not isinstance(child, nn.Conv2d):
            swap_by_recursion(child, make, made)
    for name, child in network._modules.items():
        if isinstance(child, nn.Conv2d):
            made[child] = made.get(child) or make(child)
            network._modules[name] = made[child]


def swap_parents_first(network, make):
    convs = list(dict.fromkeys(m for m in network.modules() if isinstance(m, nn.Conv2d)))
    new = {conv: make(conv) for conv in convs}
    inside = {id(module) for module in new.values()}
    for parent in list(network.modules()):
        if id(parent) in inside:
            continue
        for name, child in list(parent._modules.items()):
            if child in new:
                parent._modules[name] = new[child]


def swap_once_each(network, make):
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            network.set_submodule(path, make(module))


def swap_at_every_place(network, make):
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.Conv2d):
            network.set_submodule(path, make(module))


def swap_and_descend(network, make):
    for name, child in network.named_children():
        if isinstance(child, nn.Conv2d):
            setattr(network, name, make(child))
        swap_and_descend(getattr(network, name), make)


def swap_children(network, make):
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(network, name, make(child))


def swap_too_much(network, make):
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            network.set_submodule(path, make(module))


def swap_nothing(network, make):
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d):
            make(module)


def swap_by_children_once(network, make, made=None):
    """`named_children` names a module once per parent, wherever else it stands in it."""
    made = {} if made is None else made
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Conv2d):
            made[child] = made.get(child) or make(child)
            setattr(network, name, made[child])
        else:
            swap_by_children_once(child, make, made)


def head_beside(base, num_classes):
    view = built(base, num_classes)
    view.head, view.fc = view.fc, copy.deepcopy(base.fc)
    return view


class Detached(ModulatedConv2d):
    def forward(self, x):
        return self.conv._conv_forward(x, self.conv.weight * self.alpha.detach()[:, :, None, None], self.conv.bias)


def detached(base, num_classes):
    view = built(base, num_classes)
    for module in view.modules():
        if isinstance(module, ModulatedConv2d):
            module.__class__ = Detached
    return view


def in_training(base, num_classes):
    base.train()
    return built(base, num_classes)


RIGHT = {
    "add_domain": [built, by_recursion, shell],
    "swap": [swap_all, swap_by_recursion, swap_parents_first],
}

WRONG = {
    "add_domain": [
        (lambda base, classes: built(base, classes, memo=False), "convolutions were copied"),
        (detached, "No gradient reaches α"),
        (in_training, "left in training mode"),
        (lambda base, classes: built(base, classes, norms=False), "BatchNorm layers are frozen"),
        (lambda base, classes: built(base, classes, alphas=False), "No α is there"),
        (lambda base, classes: built(base, classes, head=False), "should have 7 outputs"),
        (lambda base, classes: base, "the base itself"),
        (in_the_base, "the base itself"),
        (frozen_head, "head is frozen"),
        (head_beside, "last nn.Linear is never used"),
        (unfreezing, "gradients were switched on"),
        (unfreezing_norms, "gradients were switched on"),
        (wrapped_in(Idle), "no layer uses it"),
        (wrapped_in(Squared), "with other α"),
        (shared_norms, "base's own"),
        (sharing_statistics, "shares its numbers"),
        (new_norms, "What reaches the head"),
        (wrapped_with_noise, "What reaches the head"),
    ],
    "swap": [
        (swap_once_each, "not swapped at all of them"),
        (swap_by_children_once, "not swapped at all of them"),
        (swap_at_every_place, "twice"),
        (swap_and_descend, "twice"),
        (swap_children, "nested"),
        (swap_too_much, "given a Linear"),
        (swap_nothing, "not put into"),
        (lambda network, make: None, "never called"),
    ],
}
