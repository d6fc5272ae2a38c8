"""A finished run as a folder for a model hub: a run folder without this machine's paths, and a card.

What is in it is read like any run folder of a stranger: safetensors and JSON, nothing that can run code, and nothing in
it makes madlab download anything.
"""

import re
from dataclasses import replace
from pathlib import Path

import jinja2
from torch import nn

from madlab.adapters import METHODS
from madlab.benchmarks import is_name
from madlab.errors import MadlabError, printable
from madlab.exports.deployable import staged_folder
from madlab.files.tensors import load_tensors, save_tensors
from madlab.hub import ADAPTER
from madlab.runs.config import CONFIG, BaseUsed, train_command
from madlab.runs.loaded import check_finished, load_run
from madlab.runs.record import Run, write_log

CARD = "README.md"
UNKNOWN = "unknown"
"""The hub's word for a licence that is not stated."""
NO_DATA = "Not described yet: say where the images are from, and under which terms, before you publish this."
NO_USE = "Images of the kind that it was trained on, to be sorted into its classes."
MOST_CLASSES = 1000

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("madlab.exports"),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
)


def share_run(
    run: Path | str,
    out: Path | str,
    *,
    license: str = UNKNOWN,
    data: str = NO_DATA,
    intended_use: str = NO_USE,
    base: nn.Module | Path | str | None = None,
) -> list[str]:
    """Make the folder of a finished run for a model hub; returns sentences on what is in it and what is to be done.

    license: the short name that hubs use, such as "apache-2.0". data, intended_use: sentences for the card. base: as in
    `load_run`, which proves that the adapter fits it. Raises MadlabError for a run that has not finished, a folder that
    holds something else, and a licence that is no short name.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,60}", license):
        raise MadlabError(f"{license!r:.60} is not a licence's short name: write it like apache-2.0, mit or cc-by-4.0.")
    check_finished(run)
    loaded, whole = load_run(run, base, "cpu"), _without_paths(Run.read(run))
    size, source = (Path(run) / ADAPTER).stat().st_size, whole.config.base.source
    base_used, names = source or _file_of(Run.read(run).config.base), loaded.class_names
    low, high = whole.result.interval or (None, None)
    card = TEMPLATES.get_template("card.md.j2").render(
        title=f"{whole.config.domain}, {whole.method}",
        license=license,
        method=whole.method,
        equation=METHODS[whole.config.method].equation,
        result=whole.result,
        tested=f" of {whole.result.test_images:,} images" if whole.result.test_images else "",
        interval=f", between {low:.1f} and {high:.1f} % (95 % confidence)" if low is not None else "",
        file_bytes=size,
        facts=loaded.facts,
        size=loaded.size,
        normalization={k: ", ".join(f"{n:.4f}" for n in v) for k, v in loaded.normalization.items()},
        base=base_used,
        shared_source=source,
        train=train_command(whole.config, CONFIG, "again", **({} if source else {"base": base_used})),
        split_by_madlab=whole.config.split is not None,
        data=data,
        intended_use=intended_use,
        classes=names[:MOST_CLASSES],
    )
    with staged_folder(Path(out), CARD, says="library_name: madlab") as place:
        tensors, facts = load_tensors(Path(run) / ADAPTER)
        save_tensors(place / ADAPTER, tensors, facts | {"base": whole.config.base.name})
        whole.config.write(place)
        whole.result.write(place)
        write_log(place, whole.log)
        (place / CARD).write_text(card, encoding="utf-8")
        load_run(place, loaded.net.base)
    lines = [f"{out} holds the adapter ({size:,} bytes), what it was trained with, and the card {CARD}."]
    if source is None:
        lines.append(
            "Its base network is a file of yours, which is not in it: whoever uses the adapter needs that, too."
        )
    for told, option in ((license == UNKNOWN, "--license"), (data == NO_DATA, "--data")):
        if told:
            what = option.removeprefix("--")
            lines.append(
                f"The card does not say the {what} yet: give {option}, or edit it last (sharing writes it anew)."
            )
    return lines


def _file_of(base: BaseUsed) -> str:
    """What to give `load_base` for a network that was read from a file, as far as others can know it."""
    library = re.match(r"(timm|torchvision):[^:]+:", base.source or "")
    return f"{library[0] if library else ''}PATH OF THE BASE NETWORK.safetensors"


def _without_paths(run: Run) -> Run:
    """The run as others may see it: names of domains and base networks stay, paths of this machine do not."""
    source = run.config.source
    base = _named(run.config.base)
    config = replace(run.config, source=source if source and is_name(source) else None, base=base)
    return replace(run, config=config, result=replace(run.result, base=base))


def _named(base: BaseUsed) -> BaseUsed:
    """A base network as others may know it; one that was read from a file has no source that is theirs, too."""
    if base.source is None or not base.source.endswith(".safetensors"):
        return base
    library, colon, model = base.name.rpartition(":")[0].partition(":")  # LIBRARY:MODEL:FILE
    return replace(base, source=None, name=f"{library}{colon}{model}" if model else base.name)


def _plain(text: str | None) -> str:
    """A text in Markdown that means nothing but itself, on one line; the addresses in it can be followed."""
    parts = re.split(r"(https?://[\w./?&=%~:#@+-]+)", printable(text or ""))
    return "".join(
        part if place % 2 else re.sub(r"([\\`*_{}\[\]<>#|!~$])", r"\\\1", part) for place, part in enumerate(parts)
    )


TEMPLATES.filters["plain"] = _plain
