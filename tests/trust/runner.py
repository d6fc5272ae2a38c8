"""Everything that must not lose or let in anything, tried and counted into one record.

    make test-trust                                       (all of it, into tests/trust/record.json)
    cd tests && python -m trust.runner --print > ../notebooks/site/trust.md
    cd tests && python -m trust.runner --tries 100 --only adapters --out /tmp/record.json

Each kind of trial says what it does to madlab and how it knows, without madlab, whether what came of it is right. The
outcome of files and folders depends on the seed alone; that of kills and races on the machine's moods as well.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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


RECORD = Path(__file__).with_name("record.json")
LIMIT = "addresses: what is mapped after the imports (PyTorch alone: about 3.5 GB) and 1 GB"
MEMORY = Path("/dev/shm")
"""Where a trial takes no disk's time, if there is such a place."""


def title(maker: Callable[[Path], Kind]) -> str:
    return maker.__name__.replace("_", " ")


def page(record: Mapping[str, Any]) -> str:
    """The site's page of the record, as Markdown."""
    total = {verdict: sum(kind[verdict] for kind in record.values()) for verdict in ("tried", *VERDICTS)}
    of_files = [record[title(maker)] for maker in FILES[:-1]]
    rows = [(name, *(f"{kind[key]:,}" for key in ("tried", *VERDICTS))) for name, kind in record.items()]
    rows.append(("**all**", *(f"**{total[key]:,}**" for key in ("tried", *VERDICTS))))
    damaged = f"{sum(kind['tried'] for kind in of_files):,} damaged files and folders of {len(of_files)} kinds"
    lines = sum(record[title(maker)]["tried"] for maker in (commands.command_lines, commands.real_command_lines))
    return PAGE.format(
        damaged=damaged,
        lines=lines,
        kills=record["kills"]["tried"],
        limits=record["limits"]["tried"],
        failed=f"{total['failed']} failures" if total["failed"] != 1 else "1 failure",
        table="\n".join("| " + " | ".join(row) + " |" for row in rows),
    )


PAGE = """# Rules of trust

No pickle is ever loaded. An adapter identifies its base network by sha256 and refuses any other. A file is either
complete or absent, and a run that was killed continues with `--resume`. The best epoch is chosen on validation images;
test images are read once.

These rules are tried, not only stated, by `make test-trust`: {damaged}, {lines} hostile command lines, {kills} kills
(half of them during writing), and {limits} trials with a full disk, a read-only folder or a second writer. That makes
{failed}, where a failure is a traceback, a silently different result or something lost.

|  | tried | right | as written | refused | failed |
|---|---|---|---|---|---|
{table}

*Right* is what came back as if nothing had been damaged. *As written*: what bears no hash, as JSON, is taken at its
word where it is still valid. *Refused* is one sentence that names the file and says what to do. Readers have 1 GB of
address space beyond what PyTorch maps. No test connects to anything but the machine it runs on. Every count, by the
kind of damage and by the sentence of refusal, is in `tests/trust/record.json`.
"""


def limit_memory(spare: int = 2**30) -> None:
    """Let this process map `spare` bytes more than it has now."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + spare, resource.RLIM_INFINITY))


def unlimited_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def measured(name: str, maker: Callable[[Path], Kind], seed: int, most: int | None) -> dict[str, Any]:
    """The record of one kind; most: trials at most."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
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
    parser.add_argument("--workers", type=int, default=2, help="kinds of trials at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RECORD, help="the record, a JSON file (default: the committed one)")
    parser.add_argument("--print", action="store_true", help="print the record as the site's page, and try nothing")
    options = parser.parse_args(arguments)
    if options.print:
        print(page(json.loads(options.out.read_text())), end="")
        return 0
    makers = {title(maker): maker for maker in FILES + PROCESSES}
    chosen = options.only.split(",") if options.only else list(makers)
    record = json.loads(options.out.read_text()) if options.only and options.out.exists() else {}
    # Forks, because PyTorch is imported already; what is slow goes first.
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("fork")) as pool:
        running = {
            pool.submit(measured, name, makers[name], options.seed, options.tries): name for name in reversed(chosen)
        }
        for done in as_completed(running):
            name = running[done]
            record[name] = done.result()
            print(f"{name}: " + ", ".join(f"{record[name][key]} {key}" for key in ("tried", *VERDICTS)), flush=True)
            write_json(options.out, {name: record[name] for name in makers if name in record})
    return 1 if any(kind["failed"] for kind in record.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
