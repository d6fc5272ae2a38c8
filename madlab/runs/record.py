"""What is kept of a run: its config, its result and its log, in a run folder or as one line of a records file.

A records file holds a whole grid, one finished run per line as JSON. A diff shows it line by line, it is quick to read,
and everything that takes a folder of runs takes such a file as well.
"""

import base64
import binascii
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from madlab.adapters.base import join_method
from madlab.benchmarks.walk import folders_with
from madlab.errors import MadlabError, some
from madlab.files.jsonfiles import MOST, parse_json, read_json, write_json
from madlab.files.plain import read_bytes, write_bytes
from madlab.files.schemas import STRICT, Whole, validated
from madlab.runs.config import BaseUsed, Name, RunConfig
from madlab.runs.recipe import Share

RECORDS = Path(__file__).parents[1] / "records"
"""The recorded runs, a file per grid (not all are in a wheel): `pocket` on drawn domains, `drawn` on parts of them,
`shipped` the runs of the adapters that ship, `photographs` on real pictures,
`fair-*` the grids of the fair table (data_scripts/fair_table.py), `mini-decathlon-64px` and `mini-sketch-64px` nine and
five domains at full width and 64 pixels by an older protocol, `few-images-64px` three of them again with slower heads,
`frozen-batchnorm` with BatchNorm that does not learn, `without-norms` with none, `densenet-layers` by adapted layers,
`diagnosis` by learning rate and rank, `failures` by what went wrong, `mobile-network` on a network of 1x1 and depthwise
filters."""

METRICS, RESULT = "metrics.jsonl", "result.json"
PARTS = {"adapter", "norms", "head"}
"""What the bytes of a stored domain are counted for."""

T = TypeVar("T")
OnDamage = Callable[[MadlabError], None]

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[Whole, Field(ge=0, lt=2**53)]
Rank = Count
"""0 in the form 1 + beta gamma, where it is the base network itself."""
Bits = Annotated[str, Field(pattern="^[8432]$")]
Day = Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]


@dataclass(frozen=True, config=STRICT)
class Epoch:
    """One line of metrics.jsonl: losses are mean cross-entropies in nats, accuracies percent.

    Where validation images were trained on (`Recipe.trainval`) there is no validation.
    """

    epoch: Annotated[Whole, Field(ge=1)]
    train_loss: float
    val_loss: float | None
    val_accuracy: Percent | None


@dataclass(frozen=True, config=STRICT)
class Rounded:
    """A trained domain rounded by `round_domain`, saved with folded norms, loaded back and evaluated; never trained.

    stored_bytes: of "adapter", "norms" and "head" in that file. Accuracies in percent; test_correct as in `Result`.
    """

    stored_bytes: dict[str, Count]
    val_accuracy: Percent | None
    test_accuracy: Percent
    test_correct: str


@dataclass(frozen=True, config=STRICT)
class Result:
    """What a finished run reports; what its config says as well is the same there.

    Accuracies are in percent. Fields with a default are empty, 0 or None in runs that were made before they were
    recorded.
    """

    domain: Name
    method: Name
    rank: Rank | dict[str, Rank] | None
    """One for all layers or one for each; None where the method has none."""
    seed: Count
    base: BaseUsed
    base_parameters: Count
    """Weights of all the base's convolutions."""
    adapter_parameters: Count
    """As `MultiDomainNet.adapter_size` counts them."""
    val_accuracy: Percent | None
    """Of the best epoch; None where validation images were trained on, and the last epoch is the best."""
    test_accuracy: Percent
    best_epoch: Annotated[Whole, Field(ge=1)]
    epochs: Annotated[Whole, Field(ge=1)]
    seconds: Annotated[float, Field(ge=0)]
    """Of wall time."""
    device: str
    versions: dict[str, str]
    """Of madlab, PyTorch, torchvision and Python."""
    date: Day = ""
    """The day on which it finished, YYYY-MM-DD in UTC."""
    rates: dict[str, float] = field(default_factory=dict)
    """The peak learning rates of "adapter", "batchnorm" and "head"; all 0 where only a head was fitted."""
    stored_bytes: dict[str, Count] = field(default_factory=dict)
    """Of "adapter", "norms" and "head" as inference needs them, the norms as scale and shift. The run's own file has
    their running statistics too, for further training."""
    test_images: Count = 0
    test_correct: str = ""
    """Which of them the stored network gets right, in the order of the test split (`pack_correct`)."""
    rounded: dict[Bits, Rounded] = field(default_factory=dict)
    """The same domain in fewer bits, by their number, once `round_run` was asked for it."""
    balanced_accuracy: Percent | None = None
    """On the test images, the mean over the classes."""
    cost: dict[str, Annotated[float, Field(ge=0)]] = field(default_factory=dict)
    """Of this training: "images_per_second" of its epochs, and "peak_bytes", the most memory that the process has had
    (on a GPU, that the run has had there)."""
    test_sha256: str = ""
    """Of the test images and their labels."""
    filter_factors: dict[str, Share] = field(default_factory=dict)
    """Of layers whose scale counts, what their rates were multiplied by (`curvature.filter_factors`)."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the test accuracy, in percent; None where the number of images is unknown."""
        if not self.test_images:
            return None
        from madlab.statistics import wilson_interval  # SciPy takes a while, and few who read results have a use for it

        return wilson_interval(round(self.test_accuracy * self.test_images / 100), self.test_images)

    def write(self, folder: Path | str) -> None:
        """Write result.json into a run folder."""
        write_json(Path(folder) / RESULT, asdict(self))

    @staticmethod
    def read(folder: Path | str) -> "Result":
        """The result of a run folder; MadlabError if the run has not finished or the file is damaged."""
        file = Path(folder) / RESULT
        return validated(Result, read_json(file), str(file))


@dataclass(frozen=True, config=STRICT)
class Run:
    """A finished run; log: one entry per epoch; path: where it was read from, for messages."""

    config: RunConfig
    result: Result
    log: tuple[Epoch, ...]
    path: str = ""

    @property
    def method(self) -> str:
        """The method as it is written for the command line, "mad:8" for MAD of rank 8; "mad" for ranks by layer."""
        rank = self.result.rank
        return join_method(self.result.method, rank if isinstance(rank, int) else None)

    def to_json(self) -> dict[str, Any]:
        """As a line of a records file holds it."""
        return {key: value for key, value in asdict(self).items() if key != "path"}

    @staticmethod
    def read(folder: Path | str) -> "Run":
        """The run of a run folder; MadlabError if it has not finished or a file of it is damaged."""
        folder = Path(folder)
        return _of_one_run(Run(RunConfig.read(folder), Result.read(folder), read_log(folder), str(folder)))


def best_epoch(log: Iterable[Epoch]) -> Epoch:
    """The epoch with the highest validation accuracy; among equals, that with the lowest validation loss.

    Without validation it is the last.
    """

    def merit(entry: Epoch) -> tuple[float, float]:
        if entry.val_accuracy is None or entry.val_loss is None:
            return entry.epoch, 0.0
        return entry.val_accuracy, -entry.val_loss

    return max(log, key=merit)


def read_log(folder: Path | str) -> tuple[Epoch, ...]:
    """The epochs that a run folder has logged so far; none if there is no metrics.jsonl."""
    file = Path(folder) / METRICS
    if not os.path.lexists(file):
        return ()
    return tuple(read_lines(file, lambda facts, where: validated(Epoch, facts, where)))


def write_log(folder: Path | str, log: Iterable[Epoch]) -> None:
    """Write metrics.jsonl into a run folder, whole or not at all."""
    write_bytes(Path(folder) / METRICS, "".join(json.dumps(asdict(entry)) + "\n" for entry in log).encode())


def read_runs(path: Path | str, on_damage: OnDamage | None = None) -> list[Run]:
    """Every finished run of a records file, in its order, or of all run folders at any depth below a folder, by path.

    on_damage: gets the error of each run that cannot be read, which is then left out; without it the first one is
    raised. Raises MadlabError if there is no such file or folder.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise MadlabError(f"There is no file or folder {path}: give a file of runs, or a folder with runs in it.")
    if not path.is_dir():
        if not _begins_with_an_object(path):
            raise MadlabError(f"{path} is not a file of runs: give one with a run per line, or a folder of runs.")
        return read_lines(path, _run, on_damage)
    return _each(Run.read, [(folder,) for folder in folders_with(path, RESULT)], on_damage)


def _begins_with_an_object(path: Path) -> bool:
    """Whether the first line of a file, if it has any, is a JSON object."""
    first = next(iter(read_bytes(path, MOST).splitlines()), b"{}")
    try:
        return isinstance(parse_json(first, str(path), finite=False), dict)
    except MadlabError:
        return False


def read_lines(file: Path | str, read: Callable[[Any, str], T], on_damage: OnDamage | None = None) -> list[T]:
    """What `read` makes of each line of a JSON-lines file; it gets the parsed line and its place, for messages.

    on_damage: as in `read_runs`. Raises MadlabError if there is no such file, and for a line that is not JSON.
    """
    data = read_bytes(file, MOST)
    lines = [(line, f"{file}, line {number}") for number, line in enumerate(data.splitlines(), start=1)]
    # finite=False: the schemas of `read` refuse NaN.
    return _each(lambda line, where: read(parse_json(line, where, finite=False), where), lines, on_damage)


def write_runs(path: Path | str, runs: Iterable[Run]) -> None:
    """Write runs as a records file, one per line, whole or not at all."""
    write_bytes(path, "".join(json.dumps(run.to_json()) + "\n" for run in runs).encode())


def _run(facts: Any, where: str) -> Run:
    if not isinstance(facts, dict) or not {"config", "result", "log"} <= facts.keys():
        raise MadlabError(f"{where} is not a recorded run: it needs config, result and log.")
    log = validated(tuple[Epoch, ...], facts["log"], where)
    config, result = RunConfig.from_json(facts["config"], where), validated(Result, facts["result"], where)
    return _of_one_run(Run(config, result, log, where))


def _of_one_run(run: Run) -> Run:
    """The run itself; MadlabError if its config, its result and its log, where there is one, contradict each other."""
    config, result, log = run.config, run.result, run.log
    pairs: dict[str, tuple[Any, Any]] = {
        "domain": (config.domain, result.domain),
        "method": (config.method, result.method),
        "rank": (config.options.get("rank", result.rank), result.rank),
        "seed": (config.recipe.seed, result.seed),
        "base network": (config.base.sha256, result.base.sha256),
        "epochs": (config.recipe.epochs, result.epochs),
    }
    if log:
        pairs["number of epochs"] = result.epochs, len(log)
        pairs["numbers of epochs"] = list(range(1, len(log) + 1)), [entry.epoch for entry in log]
        best = [entry.val_accuracy for entry in log if entry.epoch == result.best_epoch]
        pairs["validation accuracy"] = best, [result.val_accuracy]
    validated_ones: list[Result | Rounded | Epoch] = [result, *result.rounded.values(), *log]
    unknown = {one.val_accuracy is None for one in validated_ones}
    pairs["whether there was a validation"] = {config.recipe.trainval}, unknown
    stored: list[Result | Rounded] = [result, *result.rounded.values()]
    for one in stored:
        if one.stored_bytes and set(one.stored_bytes) != PARTS:
            raise MadlabError(f"{run.path} is damaged (stored_bytes are not those of {some(PARTS)}): train it again.")
    tested = [one for one in stored if one.test_correct]
    shares = [_share_correct(one.test_correct, result.test_images, run.path) for one in tested]
    pairs["test accuracy"] = [one.test_accuracy for one in tested], shares
    if differing := [name for name, (one, other) in pairs.items() if one != other]:
        raise MadlabError(
            f"{run.path} is damaged (config, result and log differ in {', '.join(differing)}): "
            "remove it and make it anew."
        )
    return run


def _share_correct(packed: str, images: int, where: str) -> float:
    try:
        return float(100 * int(unpack_correct(packed, images).sum()) / max(images, 1))
    except MadlabError as error:
        raise MadlabError(f"{where} has a test_correct that cannot be read ({error}): make it anew.") from None


def _each(read: Callable[..., T], places: Iterable[tuple[Any, ...]], on_damage: OnDamage | None) -> list[T]:
    """What `read` returns for each tuple of arguments, without those for which it raises a MadlabError."""
    found = []
    for place in places:
        try:
            found.append(read(*place))
        except MadlabError as error:
            if on_damage is None:
                raise
            on_damage(error)
    return found


def pack_correct(correct: ArrayLike) -> str:
    """Right or wrong, bool (N,) in the order of the test split -> one bit each, in base64: 8,000 images take 1.3 kB."""
    return base64.b64encode(np.packbits(np.asarray(correct, dtype=bool)).tobytes()).decode("ascii")


def unpack_correct(text: str, count: int) -> NDArray[np.bool_]:
    """What `pack_correct` packed, bool (count,); MadlabError if the text does not hold that many images."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MadlabError("It is not in base64.") from None
    if len(data) != -(-count // 8):
        raise MadlabError(f"It holds {8 * len(data)} bits, which are not those of {count} images.")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(bool)
