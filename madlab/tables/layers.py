"""What choices of adapted layers reach: budgets and accuracies of runs, domain by domain; drawn in notebook 10."""

from collections.abc import Iterable

from madlab.runs.record import Run
from madlab.tables.frame import as_frame

LayerPoints = dict[tuple[str, str], tuple[float, list[float]]]
"""(layers, method) -> (adapter in percent of the base's filters, test accuracies in percent, one per seed)."""


def layer_points(runs: Iterable[Run]) -> dict[str, LayerPoints]:
    """Domain -> the runs on it by layers and method ("mad:8"), all in the order of the runs."""
    runs = list(runs)
    frame = as_frame(runs).assign(method=[run.method for run in runs])
    frame["share"] = 100 * frame["adapter_parameters"] / frame["base_parameters"]
    found: dict[str, LayerPoints] = {}
    for (domain, *choice), rows in frame.groupby(["domain", "layers", "method"], sort=False):
        found.setdefault(domain, {})[tuple(choice)] = rows["share"].iloc[0], rows["test_accuracy"].tolist()
    return found
