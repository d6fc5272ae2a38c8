"""The rank slider: one trained modulation, cut to every rank; used in notebook 05."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from madlab import figures
from madlab.analysis.allocation import Spectrum
from madlab.analysis.nearest import explained
from madlab.widgets.panel import Panel, choice, slider, switch


def rank_slider(
    alphas: Mapping[str, Tensor],
    measure: Callable[[int], float],
    *,
    full: float,
    trained: Mapping[int, float] | None = None,
    frozen: float | None = None,
    rank: int = 4,
) -> Panel:
    """Cut trained modulations to rank I, and see the map, singular values, parameters and accuracy at once.

    alphas: layer -> alpha (M, N), trained. measure(I): held-out accuracy in percent with every layer cut to rank I;
    each rank is measured once and remembered. full: accuracy of the whole alpha. trained: rank -> accuracy of factors
    trained at that rank. frozen: accuracy of the head alone. The panel's `state` has rank, parameters, share (of full
    alpha's), accuracy, kept (of the layer's squared distance from one) and alpha, the map shown.
    """
    spectra = {name: Spectrum.of(alpha) for name, alpha in alphas.items()}
    measured: dict[int, float] = {}
    largest = max(len(spectrum.sigma) for spectrum in spectra.values())
    everything = sum(spectrum.full_size for spectrum in spectra.values())

    def draw(figure: Figure, rank: int, layer: str, lost: bool) -> dict[str, Any]:
        if rank not in measured:
            measured[rank] = measure(rank)
        alpha, spectrum = alphas[layer].detach(), spectra[layer]
        cut = spectrum.cut(rank)
        shown = 1 + alpha - cut if lost else cut

        left, middle, right = (figure.add_axes(place) for place in _PLACES)
        figures.alpha_map(left, shown, span=max(0.1, float(2 * alpha.std())))
        left.set_title(f"what rank {rank} leaves out" if lost else f"α cut to rank {rank}")
        figures.singular_values(middle, spectrum.sigma, rank)
        middle.set_title(f"{min(rank, len(spectrum.sigma))} of {len(spectrum.sigma)} directions")
        figures.accuracy_by_rank(right, measured, trained=trained, full=full, frozen=frozen, rank=rank, limit=largest)
        right.set_title(f"{measured[rank]:.1f} % with all layers cut")

        parameters = sum(rank * sum(alpha.shape) for alpha in alphas.values())
        kept = explained(torch.ones_like(alpha), alpha, cut)
        m, n = alpha.shape
        own, cheaper = rank * (m + n), "less" if rank * (m + n) < m * n else "not less"
        note = (
            f"This layer: I·(M+N) = {own:,}, {cheaper} than M·N = {m * n:,} (break-even at I = {m * n / (m + n):.1f}). "
            f"All layers: <b>{parameters:,}</b> parameters, {100 * parameters / everything:.1f} % of full α. "
            f"Held-out accuracy <b>{measured[rank]:.1f} %</b>, full α {full:.1f} %."
        )
        state = {"rank": rank, "parameters": parameters, "share": parameters / everything, "kept": kept}
        return state | {"note": note, "accuracy": measured[rank], "alpha": shown}

    controls = {
        "rank": slider("rank I", 1, largest, rank),
        "layer": choice("layer", list(alphas)),
        "lost": switch("show what is left out"),
    }
    states = {"rank": _RANKS, "layer": list(alphas)[:: max(1, len(alphas) // 5)]}
    return Panel(draw, controls, size=(9.5, 3.7), slow=lambda rank, **_: rank not in measured, states=states)


_RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
_PLACES = ((0.06, 0.16, 0.25, 0.74), (0.40, 0.16, 0.22, 0.74), (0.715, 0.16, 0.265, 0.74))
