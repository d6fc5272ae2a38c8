"""Recorded runs: what `madlab sweep` left on the disk, read back for tables, figures and lessons."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from madlab.adapters.base import join_method
from madlab.runfolder import METRICS, RESULT, Result

RECORDS = Path(__file__).parent / "results"
"""The runs that ship with madlab, a folder a grid: `pocket/` on drawn domains, `photographs/` on real pictures,
`mini-decathlon/` on nine and `mini-sketch/` on five domains of them, both with `-64px` at full width and 64 pixels,
`few-images-64px/` on three of them again with slower heads, `frozen-batchnorm/` on both with BatchNorm
that does not learn, `densenet-layers/` by adapted layers, `diagnosis/` by learning rate and rank."""


@dataclass(frozen=True)
class Record:
    """A finished run. log: one dict an epoch, the lines of its metrics.jsonl, with accuracies in percent."""

    result: Result
    log: list[dict[str, float]]

    @property
    def method(self) -> str:
        """The method as it is written for the command line, "mad:8" for MAD of rank 8."""
        return join_method(self.result.method, self.result.rank)


def read_records(folder: Path | str = RECORDS / "pocket") -> list[Record]:
    """Every finished run below a folder, in the order of their paths; none if there is no such folder."""
    records = []
    for path in sorted(Path(folder).rglob(RESULT)):
        metrics = path.with_name(METRICS)
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        records.append(Record(Result.read(path.parent), [json.loads(line) for line in lines]))
    return records


def accuracy_table(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Method -> domain -> test accuracy in percent, the mean over seeds; both in the order of the records."""
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        domains = values.setdefault(record.method, {})
        domains.setdefault(record.result.domain, []).append(record.result.test_accuracy)
    return {
        method: {domain: sum(seeds) / len(seeds) for domain, seeds in domains.items()}
        for method, domains in values.items()
    }


def shared_domains(table: dict[str, dict[str, float]], methods: Sequence[str]) -> list[str]:
    """The domains for which every one of these methods has a run, so that their means may be compared."""
    if not methods or any(method not in table for method in methods):
        return []
    return [domain for domain in table[methods[0]] if all(domain in table[method] for method in methods)]
