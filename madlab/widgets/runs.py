"""Training runs: recorded ones to compare, and one that the reader starts and stops; used in notebook 04."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.runs.record import Run
from madlab.tables.frame import label, mean_curve
from madlab.widgets.panel import Panel, button, choice, switch

QUANTITIES = {
    "validation accuracy (%)": "val_accuracy",
    "training loss (nats)": "train_loss",
    "validation loss (nats)": "val_loss",
}

SHOWN = 5
"""How many trainings the Train button keeps in its picture."""


def run_browser(runs: Sequence[Run]) -> Panel:
    """Compare methods on one domain: their training curves, and their test accuracies with one dot per seed.

    Runs that were trained on their validation images too are left out, as their curves cannot be compared.
    The panel's `state` has domain; best: method -> best value of its curve, the mean over seeds; and test:
    method -> accuracies in percent.
    """
    runs = [run for run in runs if not run.config.recipe.trainval]  # which have no validation to compare
    domains = list(dict.fromkeys(run.result.domain for run in runs))
    labels = {id(run): label(run) for run in runs}

    def draw(figure: Figure, domain: str, show: str, ranks: bool) -> dict[str, Any]:
        here = [run for run in runs if run.result.domain == domain]
        chosen = [run for run in here if ranks or run.result.rank is None] or here
        grouped: dict[str, list[Run]] = {}
        for run in chosen:
            grouped.setdefault(labels[id(run)], []).append(run)
        curves = {method: mean_curve(alike, QUANTITIES[show]) for method, alike in grouped.items()}
        test = {method: [run.result.test_accuracy for run in alike] for method, alike in grouped.items()}
        in_order = dict(sorted(test.items(), key=lambda item: fmean(item[1]), reverse=True))

        left, right = figure.add_axes((0.075, 0.14, 0.42, 0.76)), figure.add_axes((0.63, 0.14, 0.34, 0.76))
        figures.training_curves(left, curves, ylabel=show)
        left.set_title(f"{domain}: how training went")
        figures.accuracy_bars(right, in_order)
        right.set_title(f"{next(iter(in_order))} is ahead on test")

        seeds = len({run.result.seed for run in chosen})
        note = f"{domain}: {len(chosen)} runs of {len(grouped)} methods, {seeds} seed{'s' if seeds > 1 else ''}."
        if ranks and not any(run.result.rank for run in chosen):
            note += " No factorised run is recorded here."
        best_of = max if QUANTITIES[show] == "val_accuracy" else min
        best = {method: best_of(values) for method, values in curves.items()}
        return {"note": note, "best": best, "test": test, "domain": domain}

    controls = {
        "domain": choice("domain", domains),
        "show": choice("show", list(QUANTITIES)),
        "ranks": switch("also factorised methods"),
    }
    return Panel(draw, controls, size=(9.5, 4))


class TrainButton(Panel):
    """Train in front of the reader, with the loss drawn while it falls; Stop ends it after the current step.

    The last five trainings stay in the picture, each with its colour, its name and the accuracy that it reached.

    start(method, rate): returns an iterator, each of whose items trains one step and is its loss. accuracy(): held-out
    accuracy in percent of what was trained last. methods, rates: what the reader can choose. steps: of one training.
    rate: the one that is chosen at first. Training runs in its own thread, so that the Stop button works meanwhile. The
    panel's `state` has steps, loss, running and finished: a list of (name, steps, accuracy) of the trainings so far.
    """

    def __init__(
        self,
        start: Callable[[str, float], Iterator[float]],
        accuracy: Callable[[], float],
        methods: Sequence[str],
        rates: Sequence[float],
        steps: int,
        rate: float,
    ):
        self.start, self.accuracy, self.steps = start, accuracy, steps
        self.curves: dict[str, list[float]] = {}  # name -> losses, the newest last
        self.colours: dict[str, str] = {}  # of those that are shown
        self.reached: dict[str, float] = {}  # held-out accuracy in percent, of those that have ended
        self.finished: list[tuple[str, int, float]] = []
        self.running = self._trouble = self._word = ""
        self._thread: threading.Thread | None = None
        self._stop, self._lock = threading.Event(), threading.RLock()
        controls = {
            "method": choice("method", list(methods)),
            "rate": choice("adapter's learning rate", list(rates), rate),
            "train": button("Train"),
            "stop": button("Stop"),
        }
        states = {"train": (0, 1)}
        super().__init__(self._losses, controls, size=(9, 3.8), before=self._pressed, states=states, start=self._forget)

    def redraw(self) -> None:
        with self._lock:  # the reader's hand and the training thread both draw
            super().redraw()
            self.error.value = self._trouble

    def wait(self, seconds: float = 120) -> None:
        """Wait until the current training has ended; TimeoutError if it has not ended after this many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                raise TimeoutError(f"The training is still running after {seconds:g} seconds.")

    def _pressed(self, panel: Panel, moved: str) -> None:
        self._word = ""
        if moved == "stop":
            self._word = f"Stopped {self.running}. " if self.running else "Nothing is training. "
        if moved in ("train", "stop"):
            self._stop.set()
            self.wait()
        if moved == "train":
            self._stop.clear()
            self._trouble = ""
            self.running = f"{self.method.value}, rate {self.rate.value:g}"
            self._make_room(self.running)
            arguments = (self.running, self.start(self.method.value, self.rate.value))
            self._thread = threading.Thread(target=self._work, args=arguments, daemon=True)
            self._thread.start()

    def _forget(self) -> None:
        """Clear the picture."""
        self.wait()
        self.curves, self.colours, self.reached, self.finished = {}, {}, {}, []

    def _make_room(self, name: str) -> None:
        """Begin a curve of this name; it replaces an older one, and gets a colour that no other shown curve has."""
        with self._lock:
            self.curves.pop(name, None)
            self.reached.pop(name, None)
            recent = list(self.curves)[1 - SHOWN :]
            self.colours = {other: self.colours[other] for other in recent}
            self.colours[name] = next(colour for colour in figures.PALETTE if colour not in self.colours.values())
            self.curves[name] = []

    def _work(self, name: str, losses: Iterator[float]) -> None:
        try:
            self._shown(lambda: self._train(name, losses))
        except Exception:
            self._trouble = self.error.value  # stays until the next training
            raise

    def _train(self, name: str, losses: Iterator[float]) -> None:
        drawn = 0.0
        try:
            for loss in losses:
                self.curves[name].append(loss)
                if self._stop.is_set():
                    break
                if time.monotonic() - drawn > 0.25:
                    self.redraw()
                    drawn = time.monotonic()
            self.reached[name] = self.accuracy()
            self.finished.append((name, len(self.curves[name]), self.reached[name]))
        finally:
            self.running = ""
            self.redraw()

    def _losses(self, figure: Figure, method: str, rate: float) -> dict[str, Any]:
        left, right = figure.add_axes((0.07, 0.16, 0.5, 0.74)), figure.add_axes((0.61, 0.16, 0.36, 0.74))
        newest = next(reversed(self.curves), None)
        losses = {name: list(values) for name, values in self.curves.items()}
        for place, name in enumerate(reversed(self.colours)):
            values, look = losses[name], {"color": self.colours[name], "linewidth": 1.2 if place else 2.5}
            left.plot(range(1, len(values) + 1), values, zorder=3 - place / SHOWN, **look)
            right.plot((-13, -3), (place, place), **look)  # in place of a slow legend: the rows name the curves
            text = name
            if name in self.reached:
                right.barh(place, self.reached[name], color="0.9")
                stopped = "" if len(values) == self.steps else f" (stopped at {len(values)})"
                text += f": {self.reached[name]:.1f} %{stopped}"
            right.text(2, place, text, va="center", fontsize=9)

        last = losses[newest][-1] if newest and losses[newest] else None
        left.set(xlim=(0, self.steps + 1), xlabel="training step", ylabel="training loss (nats)")
        left.set_title(f"{newest}: {len(losses[newest])} of {self.steps} steps" if newest else "Nothing trained yet")
        right.set(xticks=[0, 50, 100], yticks=[], xlabel="held-out accuracy (%)")
        right.set(xlim=(-15, 100), ylim=(SHOWN - 0.4, -0.6))
        right.spines["left"].set_visible(False)
        right.set_title("The last five trainings")
        note = f"{self._word}Next: <b>{method}</b> with rate {rate:g}. Press Train."
        if self.running:
            note = f"Training {self.running} …" + (f" loss {last:.3f}" if last is not None else "")
        return {
            "note": note,
            "steps": len(losses[newest]) if newest else 0,
            "loss": last,
            "running": bool(self.running),
            "finished": list(self.finished),
        }
