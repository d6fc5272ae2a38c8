"""A JupyterLab of its own on loopback, and notebooks opened in it by Chromium as a reader opens them.

Only what the browser test needs. Playwright drives the system's Chromium, so no browser is downloaded.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

WATCH = Path(__file__).with_name("watch.js")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
QUIET = 300  # milliseconds without a message or a change: the answer is complete
DEAD = 2000  # milliseconds without any change and without work in the kernel: there is no answer
SETTINGS = {
    "docmanager-extension/plugin": {"autosave": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
OPENED = """path => {
    const all = [...window.jupyterapp.shell.widgets('main')];
    window.panel = all.find(w => w.context && w.context.path === path && w.content.widgets);
    return !!window.panel?.sessionContext.session?.kernel;
}"""
RUN_ALL = """() => {
    window.ran = false;
    window.jupyterapp.commands.execute('notebook:run-all-cells').catch(() => 0).then(() => { window.ran = true; });
}"""
CLOSE = """() => {
    window.panel.context.model.dirty = false;
    return window.panel.sessionContext.shutdown();
}"""


def chromium() -> str | None:
    """Where Chromium is: the environment variable CHROMIUM, else the first on the path; None if there is none."""
    if os.environ.get("CHROMIUM"):
        return os.environ["CHROMIUM"]
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Server:
    """`jupyter lab` on loopback for the notebooks of a folder, with settings of its own; a context manager."""

    def __init__(self, root: Path, scratch: Path):
        self.root, self.scratch = root, scratch

    def __enter__(self) -> "Server":
        for name, setting in SETTINGS.items():
            file = self.scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(setting))
        folders = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
        own = {f"JUPYTER_{name}": str(self.scratch / name.lower()) for name in folders}
        own |= {f"JUPYTERLAB_{name.upper()}_DIR": str(self.scratch / name) for name in ("settings", "workspaces")}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
        command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}"]
        command += ["--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.expose_app_in_browser=True"]
        self.log = (self.scratch / "server.log").open("w")
        self.process = subprocess.Popen(
            command, env=os.environ | own, cwd=self.root, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_up(self, seconds: float = 300) -> None:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + seconds
        while True:
            try:
                direct.open(f"{self.url}/api", timeout=2).close()
                return
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log = (self.scratch / "server.log").read_text()[-2000:]
                    raise RuntimeError(f"JupyterLab did not come up:\n{log}") from None
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()  # it ends its kernels
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@dataclass
class Move:
    """One move of a control: what was done, whether what is seen changed, milliseconds to its first and last change."""

    action: str
    changed: bool
    first_ms: float | None
    last_ms: float | None


class Notebook:
    """A notebook in a browser tab. `console` collects what the page itself reports as errors."""

    def __init__(self, context: "BrowserContext", url: str, path: str):
        self.console: list[str] = []
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("console", self._note)
        self.page.route("**/*", self._gate)
        self.page.goto(f"{url}/lab/workspaces/{Path(path).stem}/tree/{path}", wait_until="domcontentloaded")
        self._wait("() => window.jupyterapp !== undefined")
        self.page.evaluate("() => window.jupyterapp.restored.then(() => 1)")
        self.page.wait_for_function(OPENED, arg=path, timeout=300_000)
        self.page.evaluate("() => window.panel.sessionContext.session.kernel.info.then(() => 1)")
        self.page.evaluate("() => window.jupyterapp.shell.activateById(window.panel.id)")
        self.page.evaluate(WATCH.read_text())

    def _wait(self, condition: str, seconds: float = 300) -> None:
        self.page.wait_for_function(condition, timeout=1000 * seconds, polling=50)

    def _note(self, message: Any) -> None:
        ours = urlsplit(message.location.get("url", "")).hostname in (None, "127.0.0.1")
        if message.type == "error" and ours:  # what other hosts refuse is no matter: the Colab badge, offline
            self.console.append(message.text)

    def _gate(self, route: Any) -> None:
        """Let through what the machine itself answers; a notebook has to work without the rest."""
        address = urlsplit(route.request.url)
        here = address.scheme in ("data", "blob", "about") or address.hostname == "127.0.0.1"
        route.continue_() if here else route.abort()

    def run_all(self, seconds: float = 600) -> float:
        """Run all cells; returns the seconds that it took. TimeoutError of Playwright if it takes longer."""
        started = time.monotonic()
        self.page.evaluate(RUN_ALL)
        self._wait("() => window.ran && window.watch.idle()", seconds)
        took = time.monotonic() - started
        self.page.wait_for_timeout(1000)  # widgets are drawn after their cell is done
        return took

    def troubles(self) -> list[str]:
        """Error outputs, cells that did not run, widgets that were not drawn, tracebacks below a control."""
        return self.page.evaluate("() => window.watch.troubles()")

    def controls(self) -> list[dict[str, Any]]:
        """The controls of all outputs, with id, cell, kind and label; buttons after the other controls of their cell,
        because what a button starts may still be going on when the next control is moved."""
        found = self.page.evaluate("() => window.watch.controls()")
        return sorted(found, key=lambda c: (c["cell"], c["kind"] == "button", c["id"]))

    def moves(self, control: dict[str, Any]) -> list[Move]:
        """Move a control in every way that its kind allows; a move that leaves its value as it was is left out."""
        hands = getattr(self, f"_{control['kind']}", None)
        if hands is None:
            raise NotImplementedError(f"The browser test cannot move a {control['kind']}: {control}")
        target = self.page.locator(f"[data-control='{control['id']}']")
        target.scroll_into_view_if_needed()
        done = [self._move(control, action, hand) for action, hand in hands(target)]
        return [move for move in done if move is not None]

    def _move(self, control: dict[str, Any], action: str, hand: Callable[[], Any]) -> Move | None:
        before = self.page.evaluate("id => window.watch.value(id)", control["id"])
        self.page.evaluate("cell => window.watch.begin(cell)", control["cell"])
        hand()
        moved = control["kind"] == "button" or before != self.page.evaluate(
            "id => window.watch.value(id)", control["id"]
        )
        if moved:
            self.settle(working=control["kind"] == "button")
        seen = self.page.evaluate("() => window.watch.end()")
        return Move(action, **seen) if moved else None

    def settle(self, working: bool = False, seconds: float = 60) -> None:
        """Wait until the answer to a move is complete, or until it is sure that none comes. working: one second is
        enough after the first answer, which may be the beginning of longer work."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            now = self.page.evaluate("() => window.watch.progress()")
            if now["quiet"] > (QUIET if now["answered"] else DEAD) or (
                working and now["answered"] and now["since"] > 1000
            ):
                return
            self.page.wait_for_timeout(30)

    def _slider(self, target: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        handle = target.locator(".noUi-handle").first
        for key in ("ArrowRight", "ArrowLeft", "Home", "End"):
            yield key, partial(handle.press, key)

    def _dropdown(self, target: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        select = target.locator("select")
        for number, text in reversed(list(enumerate(select.locator("option").all_inner_texts()))):
            yield text, partial(select.select_option, index=number)

    def _radio(self, target: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        for number, answer in enumerate(target.locator("input").all()):
            yield f"answer {number + 1}", answer.click

    def _checkbox(self, target: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        for action in ("tick", "tick again"):
            yield action, target.locator("input").click

    def _button(self, target: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        yield "press", target.click

    def close(self) -> None:
        """End the kernel and the tab; nothing is saved."""
        self.page.evaluate(CLOSE)
        self.page.close()
