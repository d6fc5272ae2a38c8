"""What several domains send into the BatchNorm layers of a base network, layer by layer; used in notebook 03."""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from madlab import figures
from madlab.widgets.panel import Panel, slider

EDGES = torch.linspace(-6, 6, 61)


def activation_browser(base: nn.Module, images: Mapping[str, Tensor]) -> Panel:
    """Choose a BatchNorm layer, and see what each domain sends into it, measured by the statistics that it holds.

    images: name -> normalised batch (B, C, H, W); the first is the reference, the domain that is nearest to what the
    base was trained on.
    The panel's `state` has three dicts by name: shift (root mean square over channels of the mean's shift, in expected
    deviations), ratio (median over channels of the deviation, as a multiple of the expected one) and density (60,).
    """
    norms = [module for module in base.modules() if isinstance(module, nn.BatchNorm2d)]
    seen = {name: [_measured(norm, x) for norm, x in zip(norms, _inputs(base, norms, batch), strict=True)]
            for name, batch in images.items()}  # fmt: skip
    shifts = {name: [shift for _, shift, _ in layers] for name, layers in seen.items()}

    def draw(figure: Figure, layer: int) -> dict[str, Any]:
        here = {name: layers[layer - 1] for name, layers in seen.items()}
        density = {name: values[0] for name, values in here.items()}
        shift, ratio = ({name: values[i] for name, values in here.items()} for i in (1, 2))
        left, right = figure.add_axes((0.06, 0.16, 0.42, 0.72)), figure.add_axes((0.57, 0.16, 0.41, 0.72))
        figures.activations(left, density, EDGES)
        furthest = max(shift, key=lambda name: shift[name])
        left.set_title(f"before BatchNorm {layer}: {furthest} is furthest off")
        figures.misfit_by_layer(right, shifts, layer)
        right.set_title("how far a channel's mean is off, by layer")
        told = "; ".join(f"{name}: shift {shift[name]:.2f}, deviation {ratio[name]:.2f} times" for name in here)
        return {"note": f"Expected are a shift of 0 and a deviation of 1. {told}.", "shift": shift, "ratio": ratio,
                "density": density}  # fmt: skip

    layers = slider("BatchNorm layer", 1, len(norms), 1, continuous=True)
    return Panel(draw, {"layer": layers}, size=(9.5, 3.4), states={"layer": range(1, len(norms) + 1)})


@torch.no_grad()
def _inputs(base: nn.Module, norms: list[nn.BatchNorm2d], batch: Tensor) -> list[Tensor]:
    """What reaches each of these layers, (B, C, H, W), in the order of the list."""
    found: dict[nn.Module, Tensor] = {}
    hooks = [norm.register_forward_pre_hook(lambda own, x: found.__setitem__(own, x[0])) for norm in norms]
    try:
        base.eval()(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return [found[norm] for norm in norms]


def _measured(norm: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, float, float]:
    """The density of standardised activations, and how far mean and deviation of a channel are off."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None  # BatchNorm keeps them unless it is told not to
    deviation = (variance + norm.eps).sqrt()
    standard = (x - mean[:, None, None]) / deviation[:, None, None]
    density, _ = torch.histogram(standard.flatten(), EDGES, density=True)
    shift = standard.mean((0, 2, 3)).square().mean().sqrt().item()
    return density, shift, standard.std((0, 2, 3)).median().item()
