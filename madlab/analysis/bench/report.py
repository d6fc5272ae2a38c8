"""A record of `madlab bench` as tables for a terminal, and as a figure."""

from pathlib import Path
from typing import Any

from tabulate import tabulate

from madlab.errors import MadlabError

TIMED = {
    "training": "training step / plain fine-tuning",
    "loop": "step of one's own loop / plain fine-tuning",
    "inference": "inference / base",
    "mixed": "mixed batch / one domain",
    "epochs": "epoch of full MAD / classical",
}


def as_text(record: dict[str, Any]) -> str:
    """The record as tables for a terminal."""
    machine = record["machine"]
    lines = [
        f"{machine['device']}, {machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"torch {machine['torch']}, {machine['date']}, {record['rounds']} rounds, "
        f"load {machine['load_before']} before and {machine['load_after']} after"
    ]
    for part in record["settings"]:
        lines += ["", *_lines_of_setting(part)]
    if "start" in record:
        lines += ["", "start-up: " + _pairs(record["start"])]
    for curve, points in record.get("growth", {}).items():
        if curve != "setting":
            lines += ["", f"growth: {curve}", *(f"  {_pairs(point)}" for point in points)]
    lines += ["", "bars"]
    lines += [
        f"  {'met    ' if bar['met'] else 'NOT MET'} {bar['what']}: {bar['value']} (at most {bar['limit']})"
        for bar in record["bars"]
    ]
    return "\n".join(lines)


def _lines_of_setting(part: dict[str, Any]) -> list[str]:
    setting = part["setting"]
    lines = [f"{setting['base']}, width {setting['width']}, {setting['size']} pixels, batch {setting['batch']}"]
    for name, what in TIMED.items():
        if name in part:
            found = part[name]["methods"] if name == "training" else part[name]
            rows = {task: row for task, row in found.items() if isinstance(row, dict)}
            cells = [_cells(task, row) for task, row in rows.items()]
            heads = [what, "ms", "ratio", "quartiles", "processor"]
            lines.append(tabulate(cells, heads, disable_numparse=True, colalign=["left", *["right"] * 4]))
    if "epochs" in part:
        for name, row in part["epochs"].items():
            if isinstance(row, dict):
                busy = f", device busy {row['busy']:.0%} of the time" if "busy" in row else ""
                lines.append(f"{name}: {row['images_per_second']} images per second{busy}")
    if "training" in part:
        lines += [f"{method} was not measured: {why}" for method, why in part["training"]["absent"].items()]
    for name, what in (("switching", "switching"), ("pipeline", "loader")):
        if name in part:
            lines.append(f"{what}: {_pairs(part[name])}")
    for name, what in (("files", "domain file, bytes"), ("memory", "peak of training beyond the network, MB")):
        if name in part:
            lines.append(f"{what}: {_pairs(part[name])}")
    return lines


def _cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    low, high = row["quartiles"]
    ratios = f"{row['ratio']:.3f}", f"{low:.3f}-{high:.3f}", f"{row['processor_ratio']:.3f}"
    return name, f"{row['milliseconds']:.1f}", *ratios


def _pairs(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def draw(record: dict[str, Any], path: Path | str) -> None:
    """The training step of every method beside plain fine-tuning, one panel per setting, as a picture file."""
    from madlab import figures
    from madlab.figures.style import BLACK, BLUE, GREY, ORANGE

    def colour_of(name: str) -> str:
        if "plain" in name:
            return GREY
        return BLUE if name.split(":")[0] == "mad" else ORANGE

    settings = [part for part in record["settings"] if "training" in part]
    if not settings:
        raise MadlabError("The record has no training steps to draw: measure the part training as well.")
    rows = max(len(part["training"]["methods"]) for part in settings)
    figure, axes = figures.new(1, len(settings), size=(6 * len(settings), 1.2 + 0.26 * rows), squeeze=False)
    for ax, part in zip(axes[0], settings, strict=True):
        table = part["training"]["methods"]
        names = sorted(table, key=lambda name: table[name]["ratio"])
        ratios = [table[name]["ratio"] for name in names]
        below = [ratio - table[name]["quartiles"][0] for name, ratio in zip(names, ratios, strict=True)]
        above = [table[name]["quartiles"][1] - ratio for name, ratio in zip(names, ratios, strict=True)]
        ax.barh(names, ratios, xerr=(below, above), color=list(map(colour_of, names)), error_kw={"elinewidth": 1})
        ax.axvline(1, color=BLACK, linewidth=1)
        setting = part["setting"]
        ax.set_xlabel("time of a training step / plain fine-tuning (median, quartiles)")
        ax.set_title(f"{setting['base']}, width {setting['width']}, {setting['size']} px, batch {setting['batch']}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
