"""The proof that a new domain really runs: its adapters and head are used, and changed adapters change the logits."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from madlab.adapters import Frame
from madlab.adapters.base import Layer
from madlab.errors import MadlabError, kind_and_reason
from madlab.forward import aside, check_logits, laid_out, leaves, nodes, same, sample, unchanged
from madlab.view import DomainView


def prove(view: DomainView, sides: tuple[int, ...]) -> None:
    """Run a new domain on two images of noise, in training mode and in eval mode.

    sides: pixels of the images that may be tried, for networks too deep for the smallest in training mode. Afterwards
    random numbers, tensors, modes and whatever else modules hold as attributes are as they were. Raises MadlabError if
    the domain does not run, returns other logits than (2, num_classes) or such as are no logits, calls a layer of the
    base instead of its own, does not use an adapter or the head, returns the same logits with other adapters, or others
    when it is merged or runs without gradients, or keeps from training what is no tensor of a file.
    """
    with _attributes_kept(view) as as_new, _restored(view):
        failure = None
        for side in (view.prompt.side,) if isinstance(view.prompt, Frame) else sides:
            try:
                _prove_at(view, _finite_on(view, sample(view.channels, side, view.like)), as_new)
                return
            except _CannotRun as error:
                failure = failure or error
        if failure is not None:
            raise MadlabError(
                f"The network does not run as domain {view.facts.name!r} with {view.facts.num_classes} classes "
                f"({kind_and_reason(failure.error)})."
            ) from failure.error


def _finite_on(view: DomainView, images: Tensor) -> Tensor:
    """Images of noise, with negative pixels only if the logits are numbers for them: a logarithm has none there."""
    return images if _run(view.eval(), images).isfinite().all() else images.abs()


class _CannotRun(Exception):
    """The network's own code raised `error`."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error = error


def _prove_at(view: DomainView, images: Tensor, as_new: Callable[[], None]) -> None:
    # Where a norm's gain or the head starts at zero, no adapter would show.
    _stir([p for kind, group in view.parameter_groups().items() if kind != "adapter" for p in group], 0.1)
    with _base_asks(view) as of_base, _second_uses(view) as second:
        before = _run(view.eval(), images)
    if hidden := sorted(of_base[tensor] for tensor in leaves(before) & of_base.keys()):
        raise MadlabError(
            f"A domain of this network computes with the base's own {hidden[0]}: the network reads it through a "
            "function that holds it (a lambda, a closure, a hook), which no copy can follow."
        )
    for tensor in leaves(before) & second.keys():
        layer, place = second[tensor]
        raise MadlabError(
            f"The weight of layer {layer} is also {place}, where no adapter would reach it: leave the layer out with "
            "layers=[...], or let the network hold it once."
        )
    _check_without_gradients(view, images, before)
    _check_reached(view, before)
    with _restored(view), _unsaved_kept(view):
        _check_reached(view, _run(view.train(), images))
        if view.own:
            _check_second_step(view, images)
    if not same(before, _run(view.eval(), images)):
        raise MadlabError(
            "The network keeps something from training that is neither a parameter nor a buffer, and that the file of "
            "a domain could not hold: make it a buffer (register_buffer)."
        )
    adapters = view.adapters()
    _stir([parameter for adapter in adapters.values() for parameter in adapter.parameters()], 1.0)
    after = _run(view.eval(), images)
    if any(map(_learns, adapters.values())) and torch.equal(before, after):
        raise MadlabError(
            f"Other adapters of {', '.join(adapters)} give the same logits: name layers that the logits depend on."
        )
    _check_without_gradients(view, images, after)
    if view.prompt is None:
        as_new()
        _check_merged(view, images, after)
    _check_unbounded(view, images)


def _check_second_step(view: DomainView, images: Tensor) -> None:
    """Two forwards must share no operation: what is computed from a parameter and kept leads back to it only once."""
    once, again = _run(view, images), _run(view, images)
    if any(not hasattr(node, "variable") for node in nodes(once) & nodes(again)):
        raise MadlabError(
            f"The network keeps what it computed from a parameter, as an attention keeps its biases in eval mode, so "
            f"that a second step of {view.method.name!r} would fail: choose another method."
        )


def _check_reached(view: DomainView, logits: Tensor) -> None:
    """Gradients must find every adapter and the head."""
    reached = leaves(logits)
    for name, adapter in view.adapters().items():
        if _learns(adapter) and reached.isdisjoint(adapter.parameters()):
            if any("CheckpointFunctionBackward" in type(node).__name__ for node in nodes(logits)):
                raise MadlabError(
                    f"Layer {name} lies within torch.utils.checkpoint, which hides what it computes with: call that "
                    "with use_reentrant=False."
                )
            raise MadlabError(
                f"Layer {name} was adapted, but no gradient reaches its adapter: the network does not run it, or reads "
                "its weight past autograd; leave it out with layers=[...]."
            )
    for name, head in view.heads().items():
        if reached.isdisjoint(head.parameters()):
            raise MadlabError(
                f"The logits do not come from the head {name}: name the layer that they come from as head."
            )
    for name, parameter in view.own.items():
        if parameter not in reached:
            raise MadlabError(
                f"No gradient reaches {name}, so that {view.method.name!r} could not train it: if it is parametrised, "
                "remove that (torch.nn.utils.parametrize.remove_parametrizations)."
            )


@contextmanager
def _base_asks(view: DomainView) -> Iterator[dict[Tensor, str]]:
    """The parameters of the base, by their names, of which the domain has its own; a forward within shows their use."""
    base, names = view.guard.base, [*view.own]
    names += [f"{name}.{key}" for name in view.norms for key, _ in base.get_submodule(name).named_parameters()]
    replaced = {base.get_parameter(name): name for name in names}
    kept: dict[Tensor, str] = {p: name for p, name in replaced.items() if p.is_floating_point()}
    for parameter in kept:
        parameter.requires_grad_(True)
    try:
        yield kept
    finally:
        for parameter in kept:
            parameter.requires_grad_(False)


@contextmanager
def _second_uses(view: DomainView) -> Iterator[dict[Tensor, tuple[str, str]]]:
    """Stand-ins for weights of adapted layers that other modules hold as well, with layer and place.

    A forward within shows whether they are used there, or only kept.
    """
    weights = {layer.conv._parameters["weight"]: name for name, layer in view.adapted_layers().items()}
    held = [
        (module, key, parameter, (weights[parameter], f"{owner}.{key}".removeprefix(".")))
        for owner, module in view.network.named_modules()
        for key, parameter in module._parameters.items()
        if parameter is not None and parameter in weights and not isinstance(module, Layer)
    ]
    found: dict[Tensor, tuple[str, str]] = {}
    for module, key, parameter, told in held:
        module._parameters[key] = nn.Parameter(parameter.detach().clone())
        found[module._parameters[key]] = told
    try:
        yield found
    finally:
        for module, key, parameter, _ in held:
            module._parameters[key] = parameter


@contextmanager
def _unsaved_kept(view: DomainView) -> Iterator[None]:
    """What no file holds must not change in training."""
    modules = list(view.network.modules())
    unsaved = [(module, key) for module in modules for key in sorted(module._non_persistent_buffers_set)]
    before = [copy.deepcopy(module._buffers[key]) for module, key in unsaved]
    yield
    for (module, key), value in zip(unsaved, before, strict=True):
        now = module._buffers[key]
        if now is not value and (now is None or value is None or not unchanged(now, value)):
            raise MadlabError(
                f"A {type(module).__name__} of the network changes its buffer {key} in training, which no file would "
                "hold: register it with persistent=True."
            )


@torch.no_grad()
def _check_without_gradients(view: DomainView, images: Tensor, logits: Tensor) -> None:
    """Evaluation, which asks for no gradients, must see the parameters as they are."""
    with aside(images.device):
        if not same(logits, view(images.clone()), rounding=1e-2):
            raise MadlabError(
                "Without gradients (torch.no_grad) the network gives other logits: it keeps what it computed from its "
                "weights there, so that evaluation would not see what training does; let it compute that each time."
            )


@torch.no_grad()
def _check_unbounded(view: DomainView, images: Tensor) -> None:
    """However large the head's weights, a last sigmoid, tanh or softmax answers between -1 and 1."""
    parameters = [parameter for head in view.heads().values() for parameter in head.parameters()]
    for parameter in parameters:
        parameter.mul_(1e3 if parameter.dtype == torch.float16 else 1e6)
    for _ in range(2):  # one sign may be the flat side of a ReLU
        with aside(images.device):
            logits = view(images.clone())
        if not logits.isfinite().all() or logits.abs().max() > 1:
            return
        for parameter in parameters:
            parameter.neg_()
    raise MadlabError(
        "What follows the head keeps the network's answers between -1 and 1 (a sigmoid, a tanh, a softmax), and the "
        "loss needs logits: leave that out."
    )


@torch.no_grad()
def _check_merged(view: DomainView, images: Tensor, logits: Tensor) -> None:
    """The plain network with the same weights, which has never run, must give the same logits."""
    plain = view.merged(shared=True)
    with aside(images.device):
        # Two ways to the same filters round differently, and stirred filters enlarge that from layer to layer.
        if not same(logits, plain(laid_out(images, view).clone()), rounding=1e-2):
            raise MadlabError(
                "The logits of a domain are not those of a plain network with its weights: the network asks for the "
                "type of its layers (isinstance) while it runs, or keeps what it computed from weights that then "
                "changed; let its forward do neither, or name other layers with layers=[...]."
            )


def _learns(adapter: nn.Module) -> bool:
    """Whether there is anything to learn: with rank 0 there is not."""
    return any(parameter.numel() for parameter in adapter.parameters())


@torch.no_grad()
def _stir(parameters: list[nn.Parameter], size: float) -> None:
    for parameter in parameters:
        parameter.add_(size * torch.randn_like(parameter))


def _run(view: DomainView, images: Tensor) -> Tensor:
    """The logits of a domain, checked, from a forward that stays among the domain's own modules."""
    with aside(images.device) as called:
        try:
            logits = view(images.clone())  # which the network may change in place
        except MadlabError:
            raise
        except Exception as error:  # the network's own code may raise anything; the sentence passes it on
            raise _CannotRun(error) from error
    check_logits(logits, view.facts.num_classes)
    originals = {module: name for name, module in view.guard.base.named_modules()}
    for module in called & originals.keys():
        raise MadlabError(
            f"A domain of this network runs the base's own layer {originals[module]}: the network calls it through a "
            "function that holds it (a lambda, a closure, a global), which no copy can follow."
        )
    return logits


@contextmanager
def _attributes_kept(view: DomainView) -> Iterator[Callable[[], None]]:
    """Afterwards every module has the attributes that it had: no counter moved, no cache filled, the same mode.

    Gives a function that does the same in between.
    """
    kept = [(module, dict(vars(module))) for module in view.modules()]
    held = [value for _, attributes in kept for value in attributes.values()]
    contents = [(value, copy.copy(value)) for value in held if isinstance(value, dict | list)]

    def restore() -> None:
        for module, attributes in kept:
            vars(module).clear()
            vars(module).update(attributes)
        for value, content in contents:
            value.clear()
            value.update(content) if isinstance(value, dict) else value.extend(content)

    try:
        yield restore
    finally:
        restore()


@contextmanager
def _restored(view: DomainView) -> Iterator[None]:
    """Afterwards every tensor of the domain holds what it held, and the base must not have moved."""
    base = {*view.guard.base.parameters(), *view.guard.base.buffers()}
    buffers = [(module, dict(module._buffers)) for module in view.modules()]
    tensors = [*(parameter for parameter in view.parameters() if parameter not in base), *view.buffers()]
    values = [tensor.detach().clone() for tensor in tensors]
    try:
        with torch.random.fork_rng([tensors[0].device] if tensors[0].is_cuda else []):
            torch.manual_seed(0)
            yield
    finally:
        for module, held in buffers:
            module._buffers.update(held)
        # By value: PyTorch does not count what batch norm writes to its running statistics.
        changed = [(t, value) for t, value in zip(tensors, values, strict=True) if not unchanged(t, value)]
        with torch.no_grad():
            for tensor, value in changed:
                tensor.copy_(value)
        moved = view.guard.was_written_to() or any(tensor in base for tensor, _ in changed)
        if moved:  # whatever else was raised is a consequence
            view.guard.accept_writes()
            raise MadlabError(
                "The base network changes its own tensors when a domain trains, and so would change all other domains: "
                "let the module that does so be a normalisation layer, or use another network."
            )
