"""One modulated convolution, to try out by hand; used in notebook 02."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from madlab import figures
from madlab.adapters import modulate
from madlab.benchmarks.loader import normalise
from madlab.widgets.panel import Panel, button, choice, slider

COLOURS = ("red", "green", "blue")


def alpha_editor(
    conv: nn.Conv2d,
    pictures: Mapping[str, Tensor],
    normalization: dict[str, list[float]],
    inputs: Sequence[str] = COLOURS,
) -> Panel:
    """Set single entries of alpha and see how filters and feature maps change.

    conv: M filters on colour pictures. pictures: name -> uint8 (H, W, 3). normalization: {"mean", "std"} of the images
    that conv was trained on. inputs: names of the input channels. The panel's `state` has alpha (M, N), maps
    (2, M, H, W) before and after, and change, the mean absolute difference of the two in percent of the first.
    """
    weight = conv.weight.detach()
    alpha = torch.ones(weight.shape[:2])
    prepared = {name: normalise(picture.permute(2, 0, 1)[None], normalization) for name, picture in pictures.items()}
    with torch.no_grad():
        before_maps = {name: F.relu(conv(x)[0]) for name, x in prepared.items()}
    scale = float(weight.abs().max())

    @torch.no_grad()
    def draw(figure: Figure, picture: str, out: int, into: int, alpha_mn: float) -> dict[str, Any]:
        adapted = modulate(weight, alpha)
        after = F.relu(F.conv2d(prepared[picture], adapted, conv.bias, conv.stride, conv.padding)[0])
        first = before_maps[picture]
        shown, grid, tiles, maps = (figure.add_axes(place) for place in _PLACES)
        shown.imshow(pictures[picture].numpy())
        shown.set_axis_off()
        shown.set_title("input x")
        figures.alpha_map(grid, alpha, span=2, inputs=inputs, outputs=False, chosen=(out, into))
        grid.set_title("α: one number per slice (white 1, red more, blue less)")
        figures.filter_bank(tiles, adapted, scale=scale, inputs=inputs, outputs=False)
        tiles.set_title("the filters that run: W ⊙ α")
        figures.feature_maps(maps, torch.stack([first, after]), scale=float(first.max()), rows=("base", "with α"))
        maps.set_title("what they compute: feature maps after ReLU")
        change = 100 * float((after - first).abs().mean() / first.abs().mean())
        changed = int((alpha != 1).sum())
        note = (
            f"{changed} of {alpha.numel()} entries differ from 1. The feature maps changed by {change:.0f} % of their "
            "mean."
        )
        return {"note": note, "alpha": alpha.clone(), "maps": torch.stack([first, after]), "change": change}

    def forget() -> None:
        alpha.fill_(1)

    def before(panel: Panel, moved: str) -> None:
        out, into = panel.out.value, panel.into.value
        if moved == "alpha_mn":
            alpha[out, into] = panel.alpha_mn.value
        elif moved == "mute_input":
            alpha[:, into] = 0
        elif moved == "mute_filter":
            alpha[out] = 0
        elif moved == "random":
            alpha.copy_(torch.randn(alpha.shape).mul(0.7).add(1).clamp(-1, 3))
        elif moved == "ones":
            alpha.fill_(1)
        panel.alpha_mn.value = float(alpha[out, into])

    controls = {
        "picture": choice("picture", list(pictures)),
        "out": slider("filter m", 0, len(weight) - 1, 0),
        "into": choice("input n", [(name, n) for n, name in enumerate(inputs)]),
        "alpha_mn": slider("α[m, n]", -1.0, 3.0, 1.0, 0.1),
        "mute_input": button("mute input n"),
        "mute_filter": button("mute filter m"),
        "random": button("random α"),
        "ones": button("all ones"),
    }
    states: dict[str, Sequence[Any]] = {
        "picture": list(pictures)[:2],
        "out": (0, len(weight) // 2, len(weight) - 1),
        "alpha_mn": (-1.0, 0.0, 2.0),
    }
    states |= dict.fromkeys(("mute_input", "mute_filter", "random"), (0, 1))
    return Panel(draw, controls, size=(9.5, 4.6), before=before, states=states, start=forget)


_PLACES = ((0.01, 0.33, 0.15, 0.32), (0.25, 0.76, 0.74, 0.17), (0.25, 0.42, 0.74, 0.24), (0.25, 0.09, 0.74, 0.24))
