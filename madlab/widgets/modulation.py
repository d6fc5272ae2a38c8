"""One modulated convolution, to try out by hand; used in notebook 02."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from madlab import figures
from madlab.adapters import modulate
from madlab.benchmarks.loader import normalise
from madlab.widgets.panel import Panel, button, choice, slider

COLOURS = ("red", "green", "blue")

Answer = Callable[[str, Tensor], tuple[Sequence[str], Sequence[float], int]]


def alpha_editor(
    conv: nn.Conv2d,
    pictures: Mapping[str, Tensor],
    normalization: dict[str, list[float]],
    inputs: Sequence[str] = COLOURS,
    answer: Answer | None = None,
) -> Panel:
    """Set single entries of alpha and see how filters, feature maps and the network's answer change.

    A click on a cell of alpha chooses it; another click switches it off, and the next one back to one.

    conv: M filters on colour pictures. pictures: name -> uint8 (H, W, 3). normalization: {"mean", "std"} of the images
    that conv was trained on. inputs: names of the input channels. answer(picture, weight): names of the classes, their
    probabilities and the true class, from a network whose first filters are `weight`. The panel's `state` has alpha
    (M, N); parts (2, N, H, W), what each input adds to the chosen output before and after; maps (2, M, H, W), all
    outputs; change, the mean absolute difference of the maps in percent of the first; and probabilities, if there is
    an answer.
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
        parts = torch.stack([_by_input(conv, w, prepared[picture])[:, out] for w in (weight, adapted)])
        shown, grid, tiles, sums, maps = (figure.add_axes(place) for place in _LAYOUT)
        shown.imshow(pictures[picture].numpy())
        shown.set_axis_off()
        shown.set_title("input x")
        figures.alpha_map(grid, alpha, span=2, inputs=inputs, chosen=(out, into))
        grid.set_title("α")
        figures.filter_bank(tiles, adapted, scale=scale, inputs=inputs, outputs=False)
        tiles.set_title("W ⊙ α")
        figures.contributions(sums, parts, inputs=inputs, rows=("base", "with α"))
        sums.set_title(f"filter {out}: the inputs' parts α · (W ∗ x) add up")
        figures.feature_maps(maps, torch.stack([first, after]), scale=float(first.max()), rows=("base", "with α"))
        maps.set_title("all filters, after ReLU")
        state: dict[str, Any] = {"alpha": alpha.clone(), "maps": torch.stack([first, after]), "parts": parts}
        if answer is not None:
            names, probabilities, true = answer(picture, adapted)
            bars = figure.add_axes(_BARS)
            figures.class_bars(bars, names, probabilities, true, most=3)
            bars.set_xlabel("")
            bars.set_title(f"the network's answer (it is {names[true]})", x=-0.5)
            state["probabilities"] = probabilities
        change = 100 * float((after - first).abs().mean() / first.abs().mean())
        changed = int((alpha != 1).sum())
        note = (
            f"{changed} of {alpha.numel()} entries differ from 1. The feature maps changed by {change:.0f} % of their "
            "mean."
        )
        return state | {"note": note, "change": change}

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
    panel = Panel(draw, controls, size=(9.5, 5.4), before=before, states=states, start=forget)

    def clicked(out: int, into: int) -> None:
        if (panel.out.value, panel.into.value) != (out, into):
            panel.choose(out=out, into=into)
        else:
            panel.alpha_mn.value = 1.0 if float(alpha[out, into]) == 0 else 0.0

    cells = [[ipywidgets.Button(tooltip=f"α[{m}, {name}]") for name in inputs] for m in range(len(weight))]
    for out, row in enumerate(cells):
        for into, cell in enumerate(row):
            cell.on_click(lambda _, out=out, into=into: clicked(out, into))
    panel.overlay(_LAYOUT[1], cells)
    return panel


@torch.no_grad()
def _by_input(conv: nn.Conv2d, weight: Tensor, x: Tensor) -> Tensor:
    """What each input adds to each output, (N, M, H, W), from weights (M, N, k, k) and one image (1, N, H, W)."""
    single = [
        F.conv2d(x[:, n : n + 1], weight[:, n : n + 1], None, conv.stride, conv.padding)[0] for n in range(x.shape[1])
    ]
    return torch.stack(single)


_LAYOUT = (
    (0.005, 0.60, 0.13, 0.23),
    (0.19, 0.09, 0.13, 0.82),
    (0.345, 0.09, 0.13, 0.82),
    (0.56, 0.58, 0.43, 0.33),
    (0.56, 0.34, 0.43, 0.13),
)
_BARS = (0.70, 0.06, 0.28, 0.15)
