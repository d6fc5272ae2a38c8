"""Everything that must not lose or let in anything, tried and counted into one record.

    make test-trust                                                    (all of it, into tests/trust/record.json)
    cd tests && python -m trust.runner --tries 100 --only adapters --out /tmp/record.json

Each kind of trial says what it does to madlab and how it knows, without madlab, whether what came of it is right. The
outcome of files and folders depends on the seed alone; that of kills and races on the machine's moods as well.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from trust import commands, data_files, files, kills, limits, run_folders
from trust.trials import VERDICTS, Kind, run

from madlab.files.jsonfiles import write_json

FILES: tuple[Callable[[Path], Kind], ...] = (
    files.adapters, files.base_networks, files.checkpoints, files.json_files, files.json_lines,
    run_folders.run_folders,
    data_files.annotations, data_files.label_zips, data_files.archives, data_files.packed_domains, data_files.records,
    commands.command_lines,
)  # fmt: skip
"""What runs in one process whose memory is limited, in a folder of its own."""
PROCESSES: tuple[Callable[[Path], Kind], ...] = (commands.real_command_lines, kills.kills, limits.limits)
"""What starts processes of its own."""


LINES = (commands.command_lines, commands.real_command_lines)
LIMIT = "addresses: what is mapped after the imports (PyTorch alone: about 3.5 GB) and 1 GB"


def title(maker: Callable[[Path], Kind]) -> str:
    return maker.__name__.replace("_", " ")


def sentences(record: Mapping[str, Any]) -> list[str]:
    """What notebooks/site/trust.md says of the record, as far as that goes."""
    of_files = [record[title(maker)] for maker in FILES[:-1] if title(maker) in record]
    total = {verdict: sum(kind[verdict] for kind in of_files) for verdict in ("tried", *VERDICTS)}
    lines = sum(record[title(maker)]["tried"] for maker in LINES if title(maker) in record)
    told = {
        "damaged files and folders": f"{total['tried']:,} damaged files and folders of {len(of_files)} kinds, of which "
        f"{total['refused']:,} were refused, {total['right']:,} read as if undamaged and {total['as written']:,} read "
        "as they now stood",
        "command lines": f"{lines} hostile command lines",
        "kills": f"{record.get('kills', {}).get('tried')} kills",
        "limits": f"{record.get('limits', {}).get('tried')} trials with a full disk, a read-only folder or a second "
        "writer",
    }
    return [text for name, text in told.items() if name in record or name.startswith("damaged")] + [
        f"{sum(kind['failed'] for kind in record.values())} failures"
    ]


def limit_memory(spare: int = 2**30) -> None:
    """Let this process map `spare` bytes more than it has now."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + spare, resource.RLIM_INFINITY))


def unlimited_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def measured(name: str, maker: Callable[[Path], Kind], seed: int, most: int | None) -> dict[str, Any]:
    """The record of one kind; most: trials at most."""
    with tempfile.TemporaryDirectory() as folder:
        kind = maker(Path(folder))
        tries = kind.tries if most is None else min(kind.tries, most)
        if maker not in FILES:
            return run(name, kind, seed, tries)
        limit_memory()
        try:
            return run(name, kind, seed, tries) | {"memory": LIMIT}
        finally:
            unlimited_memory()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, help="at most so many trials of each kind (default: all)")
    parser.add_argument("--only", help="only these kinds, a,b; what the record says of the others stays")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the record, a JSON file")
    options = parser.parse_args(arguments)
    makers = {title(maker): maker for maker in FILES + PROCESSES}
    chosen = options.only.split(",") if options.only else list(makers)
    record = json.loads(options.out.read_text()) if options.only and options.out.exists() else {}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in chosen:
        record[name] = measured(name, makers[name], options.seed, options.tries)
        print(f"{name}: " + ", ".join(f"{record[name][key]} {key}" for key in ("tried", *VERDICTS)), flush=True)
        write_json(options.out, {name: record[name] for name in makers if name in record})
    return 1 if any(kind["failed"] for kind in record.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
