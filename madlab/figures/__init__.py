"""Pure drawing functions: each takes an Axes and data and draws on it, all in one style.

    fig, ax = figures.new(size=(8, 3))
    figures.alpha_map(ax, alpha)
    figures.show(fig, alt="...")

`import madlab` does not load this package. A figure knows nothing of runs or widgets: it is given the values to draw.
"""

from madlab.figures.activations import activations, contributions, misfit_by_layer
from madlab.figures.budgets import by_kernel, cost_by_rank, critical_path, parameter_bars, shared_and_own
from madlab.figures.comparisons import (
    accuracy_by_domain,
    accuracy_by_group,
    accuracy_by_size,
    before_and_after,
    gains_by_size,
    means_by_row,
    number_map,
    shares_by_layer,
)
from madlab.figures.diagnosis import curve_among, outcome_grid
from madlab.figures.filters import alpha_map, feature_maps, filter_bank, pictures
from madlab.figures.layers import accuracy_by_layers, adapted_by_depth, dense_block, label_of
from madlab.figures.mistakes import (
    MOST_NAMES,
    Curves,
    calibration,
    change_by_layer,
    class_bars,
    confusion_map,
    differences,
    learning_curves,
    spectra,
)
from madlab.figures.modulations import accuracy_by_kept, alpha_by_layer, alpha_histograms, kept_by_layer
from madlab.figures.rankings import critical_difference, domain_shares, ranking, score_curves
from madlab.figures.ranks import (
    accuracy_by_budget,
    accuracy_by_kilobytes,
    accuracy_by_rank,
    factors,
    singular_values,
    spectrum_history,
    values_by_layer,
)
from madlab.figures.runs import accuracy_against_parameters, accuracy_bars, look, training_curves
from madlab.figures.sizes import FormPoint, accuracy_against_bytes
from madlab.figures.style import (
    AROUND_ONE,
    AROUND_ZERO,
    BRIGHTNESS,
    DARK,
    MARKERS,
    PALETTE,
    STYLE,
    axis_names,
    blank,
    few_ticks,
    mosaic,
    new,
    png,
    say_cut_axes,
    show,
    use_style,
)

__all__ = [
    "AROUND_ONE",
    "AROUND_ZERO",
    "BRIGHTNESS",
    "DARK",
    "MARKERS",
    "MOST_NAMES",
    "PALETTE",
    "STYLE",
    "Curves",
    "FormPoint",
    "accuracy_against_bytes",
    "accuracy_against_parameters",
    "accuracy_bars",
    "accuracy_by_budget",
    "accuracy_by_domain",
    "accuracy_by_group",
    "accuracy_by_kept",
    "accuracy_by_kilobytes",
    "accuracy_by_layers",
    "accuracy_by_rank",
    "accuracy_by_size",
    "activations",
    "adapted_by_depth",
    "alpha_by_layer",
    "alpha_histograms",
    "alpha_map",
    "axis_names",
    "before_and_after",
    "blank",
    "by_kernel",
    "calibration",
    "change_by_layer",
    "class_bars",
    "confusion_map",
    "contributions",
    "cost_by_rank",
    "critical_difference",
    "critical_path",
    "curve_among",
    "dense_block",
    "differences",
    "domain_shares",
    "factors",
    "feature_maps",
    "few_ticks",
    "filter_bank",
    "gains_by_size",
    "kept_by_layer",
    "label_of",
    "learning_curves",
    "look",
    "means_by_row",
    "misfit_by_layer",
    "mosaic",
    "new",
    "number_map",
    "outcome_grid",
    "parameter_bars",
    "pictures",
    "png",
    "ranking",
    "say_cut_axes",
    "score_curves",
    "shared_and_own",
    "shares_by_layer",
    "show",
    "singular_values",
    "spectra",
    "spectrum_history",
    "training_curves",
    "use_style",
    "values_by_layer",
]
