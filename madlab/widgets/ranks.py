"""The rank slider: one trained modulation, cut to every rank; used in notebook 05."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from madlab import figures
from madlab.analysis import modulations
from madlab.analysis.allocation import Spectrum
from madlab.analysis.counting import NUMBER
from madlab.analysis.nearest import explained
from madlab.widgets.panel import Panel, choice, slider, switch


def rank_slider(
    alphas: Mapping[str, Tensor],
    measure: Callable[[int, bool], float],
    *,
    full: float,
    floor: float,
    trained: Mapping[int, float] | None = None,
    rank: int = 4,
) -> Panel:
    """Cut trained modulations to rank I, and see the map, singular values, parameters and accuracy at once.

    alphas: layer -> alpha (M, N), trained. measure(I, fresh): held-out accuracy in percent with every layer cut to rank
    I, with BatchNorm's statistics as they were or measured anew; each is measured once and remembered. full, floor:
    accuracies of the whole alpha and of BatchNorm alone. trained: rank -> accuracy of factors trained at that rank. The
    singular values are those of the change alpha - 1, of which a cut to rank I keeps about I - 1, as one direction of
    alpha carries the table of ones; the same numbers, shuffled, stand behind them. The panel's `state` has rank,
    fresh, parameters, share (of full alpha's), accuracy, gain (share of the way from the floor to full alpha), kept (of
    the layer's squared distance from one) and alpha, the map shown.
    """
    spectra = {name: Spectrum.of(alpha) for name, alpha in alphas.items()}
    order = torch.Generator().manual_seed(0)
    noise = {name: modulations.singular_values(modulations.shuffled(alpha, order)) for name, alpha in alphas.items()}
    changes = {name: modulations.singular_values(alpha) for name, alpha in alphas.items()}
    measured: dict[bool, dict[int, float]] = {False: {}, True: {}}
    largest = max(len(spectrum.sigma) for spectrum in spectra.values())
    everything = sum(spectrum.full_size for spectrum in spectra.values())

    def draw(figure: Figure, rank: int, layer: str, fresh: bool, lost: bool) -> dict[str, Any]:
        if rank not in measured[fresh]:
            measured[fresh][rank] = measure(rank, fresh)
        accuracy = measured[fresh][rank]
        alpha, spectrum = alphas[layer].detach(), spectra[layer]
        cut = spectrum.cut(rank)
        shown = 1 + alpha - cut if lost else cut

        left, middle, right = (figure.add_axes(place) for place in _PLACES)
        figures.alpha_map(left, shown, span=max(0.1, float(2 * alpha.std())))
        left.set_title(f"what rank {rank} leaves out" if lost else f"α cut to rank {rank}")
        whole = rank >= min(alpha.shape)
        figures.singular_values(middle, changes[layer], rank if whole else rank - 1, noise[layer])
        middle.set_title("α − 1; grey: shuffled")
        figures.accuracy_by_rank(
            right,
            measured[False],
            fresh=measured[True],
            trained=trained,
            full=full,
            floor=floor,
            marked=(rank, accuracy),
            limit=largest,
        )
        right.set_title(f"{accuracy:.1f} % with all layers cut")

        parameters = sum(rank * sum(alpha.shape) for alpha in alphas.values())
        kept = explained(torch.ones_like(alpha), alpha, cut)
        m, n = alpha.shape
        own, cheaper = rank * (m + n), "less" if rank * (m + n) < m * n else "not less"
        gain = (accuracy - floor) / (full - floor) if full > floor else float("nan")
        worth = f", <b>{100 * gain:.0f} %</b> of the way from BatchNorm alone ({floor:.1f} %) to full α ({full:.1f} %)"
        ones = "One of the directions carries the table of ones; " if rank > 1 and not whole else ""
        note = (
            f"This layer: I·(M+N) = {own:,}, {cheaper} than M·N = {m * n:,} (break-even at I = {m * n / (m + n):.1f}). "
            f"{ones}<b>{100 * kept:.0f} %</b> of α's squared distance from one "
            f"is kept. All layers: <b>{parameters:,}</b> parameters ({NUMBER * parameters / 1000:,.0f} kB), "
            f"{100 * parameters / everything:.1f} % of full α. "
            f"Held-out accuracy <b>{accuracy:.1f} %</b>" + (worth if full > floor else "") + "."
        )
        state = {"rank": rank, "parameters": parameters, "share": parameters / everything, "kept": kept, "gain": gain}
        return state | {"note": note, "accuracy": accuracy, "fresh": fresh, "alpha": shown}

    controls = {
        "rank": slider("rank I", 1, largest, rank),
        "layer": choice("layer", list(alphas)),
        "fresh": switch("fresh statistics"),
        "lost": switch("show what is left out"),
    }

    def slow(rank: int, fresh: bool, **_: Any) -> bool:
        return rank not in measured[fresh]

    states = {"rank": _RANKS, "layer": list(alphas)[:: max(1, len(alphas) // 3)]}
    return Panel(draw, controls, size=(9.5, 3.7), slow=slow, states=states)


_RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
_PLACES = ((0.06, 0.16, 0.25, 0.74), (0.40, 0.16, 0.22, 0.74), (0.715, 0.16, 0.265, 0.74))
