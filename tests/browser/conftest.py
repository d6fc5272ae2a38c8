"""One JupyterLab and one Chromium for all notebooks, and the table of how quickly their controls answered."""

import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_driver import FLAGS, Notebook, Server, chromium

BARS = {"control": (150, 400), "site control": (100, 100)}
"""Milliseconds, median and worst, in JupyterLab and on the site: the course's own bars, reported and not asserted."""


@pytest.fixture(scope="session")
def open_notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A function: path of a notebook -> a copy of it, open in a browser."""
    browser = chromium()
    if browser is None:
        pytest.exit("There is no Chromium: install Debian's package chromium, or name another in CHROMIUM.", 2)
    from playwright.sync_api import sync_playwright

    root, scratch = tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("jupyter")
    size = {"width": 1400, "height": 1000}
    with Server(root, scratch) as server, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(scratch / "chromium"), executable_path=browser, headless=True, args=FLAGS, viewport=size
        )
        yield lambda path: Notebook(context, server.url, Path(shutil.copy(path, root)).name)
        context.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for key in ("passed", "failed") for report in terminalreporter.stats.get(key, [])]
    for kind, bars in BARS.items():
        rows = [row for report in reports for name, row in report.user_properties if name == kind]
        if rows:
            summarise(terminalreporter, kind, rows, bars)


def summarise(
    terminalreporter: Any, kind: str, rows: list[tuple[str, str, list[float]]], bars: tuple[int, int]
) -> None:
    """Write a line per control, with how often it was moved, and the milliseconds to its answers."""
    terminalreporter.section(f"{kind}: milliseconds from the hand to what is seen")
    terminalreporter.write_line(f"{'':4}{'control':42}{'moves':>6}{'median':>8}{'worst':>8}")
    for number, label, times in rows:
        text = f"{statistics.median(times):8.0f}{max(times):8.0f}" if times else "       -       -"
        terminalreporter.write_line(f"{number:4}{label[:41]:42}{len(times):6}{text}")
    everything = [t for *_, times in rows for t in times]
    if everything:
        median, worst = bars
        terminalreporter.write_line(
            f"All {len(everything)} moves: median {statistics.median(everything):.0f} (bar {median}), "
            f"worst {max(everything):.0f} (bar {worst}), {sum(t > worst for t in everything)} above the bar."
        )
