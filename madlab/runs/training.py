"""A training run in progress, from the first step to the test: network, optimiser, log so far and best epoch.

`train` makes one from its arguments; `Training.run` carries it through.
"""

import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from madlab.adapters.rounding import rounded
from madlab.benchmarks.domain import Domain, Split, with_validation
from madlab.benchmarks.loader import batches, steps_of
from madlab.device import versions
from madlab.errors import MadlabError, remark
from madlab.files.pictures import write_picture
from madlab.network import MultiDomainNet
from madlab.progress import progress_bar
from madlab.runs.config import RunConfig
from madlab.runs.curvature import filter_factors
from madlab.runs.epoch import (
    Cost,
    Measured,
    check_sides,
    crop_of,
    diverged,
    loss_weights,
    measure,
    train_epoch,
    training_batches,
)
from madlab.runs.folder import ADAPTER, BATCH, CHECKPOINT, Checkpoint, CheckpointFacts, digests_of, images_of
from madlab.runs.probe import fit_epoch, has_linear_head, start_head, trains_head_alone
from madlab.runs.rates import head_factor, make_optimiser, peak_rates
from madlab.runs.recalibrate import old_share, recalibrate
from madlab.runs.record import Epoch, Result, best_epoch, pack_correct, write_log
from madlab.runs.step import make_step
from madlab.sizes import image_size
from madlab.stored import Form, decode, encode, numbers, settled, stored_bytes
from madlab.view import DomainView

MOST_OLD = 0.5
"""Share of BatchNorm's running statistics that may be of the filters before the epoch. Seven steps get below it, where
a norm takes in a tenth of each batch. On tiny folders they lagged so far behind that the validation loss doubled."""


class Training:
    """One run between its start and its result.

    config: what was asked for. domain, base: what it names, on the device that trains. folder: the run folder, or None;
    if it holds a checkpoint, the training goes on from there. Raises MadlabError for whatever cannot be trained.
    """

    def __init__(self, config: RunConfig, domain: Domain, base: nn.Module, folder: Path | None):
        self.began, self.config, self.folder = time.monotonic(), config, folder
        if config.recipe.trainval:
            domain = with_validation(domain)
        self.device = domain.train.images.device
        stopped = self._checkpoint()
        if stopped is not None:
            assert folder is not None, "where the checkpoint is"
            domain = stopped.facts.matched(config, domain, folder)
        torch.manual_seed(config.recipe.seed)
        self.domain, self.crop = domain, crop_of(image_size(base), domain.size, config.recipe)
        self.net = network_for(config, domain, base, self.crop)
        bits = config.recipe.finish_bits
        self.form = Form(bits, "full" if bits is None else "folded")
        self.view = self.net.view(domain.name)
        first = self._first_images()
        check_sides(self.view, first, config.recipe)
        linear = has_linear_head(self.view, first)
        self.probed = linear and trains_head_alone(self.view)
        if stopped is None:
            self.filter_factors, self.head_factor = self._begin(linear)
        else:  # measured again, after some epochs, they would be others
            self.filter_factors, self.head_factor = stopped.facts.filter_factors, stopped.facts.head_factor
        self.optimiser = make_optimiser(self.view, config.recipe, self.head_factor, self.filter_factors)
        weights = loss_weights(domain, config.recipe)
        self.step = (
            None if self.probed else make_step(self.view, config.recipe, self.optimiser, weights, config.compile)
        )
        self.cost = Cost(self.device)
        self.log: list[Epoch] = []
        self.start: float | None = None
        self.best, self.seconds = self._copied_state(), 0.0
        if stopped is not None:
            self._take_up(stopped)

    def run(self, show: bool, on_epoch: Sequence[Callable[[Epoch], None]] = ()) -> Result:
        """Train what is left of the epochs, keep the best one, and test it; show: whether there is a progress bar.

        on_epoch: what is called with each epoch, once it is stored.
        """
        if not self.log:
            self._look()
            if self.folder is not None:
                batch, _ = next(training_batches(self.domain, self.config.recipe, self.crop, epoch=0))
                write_picture(self.folder / BATCH, batch)
        epochs, steps = self.config.recipe.epochs, self.steps
        title = f"{self.domain.name} {self.config.method}"
        with progress_bar(title, epochs * steps, "steps", done=len(self.log) * steps, show=show) as bar:

            def moved(_: Tensor) -> None:
                bar.update()

            for epoch in range(len(self.log), epochs):
                entry = self._epoch(epoch, moved)
                validation = "" if entry.val_accuracy is None else f", validation {entry.val_accuracy:.1f} %"
                bar.set_postfix_str(f"loss {entry.train_loss:.3f}{validation}")
                for tell in on_epoch:
                    tell(entry)
        return self._finish()

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return steps_of(len(self.domain.train), self.config.recipe.batch_size)

    def _look(self) -> None:
        """Compute the validation loss before the first step, so that a fault shows now and not in an hour."""
        measured = self._measure(self.domain.val)
        if not math.isfinite(measured.loss):
            raise MadlabError(
                f"Before any training the loss on validation is {measured.loss}: the base network has weights that are "
                "no numbers, or does not suit these images; choose another one."
            )
        self.start = measured.accuracy

    def _epoch(self, epoch: int, moved: Callable[[Tensor], None]) -> Epoch:
        """Train one epoch, counted from 0, validate it, and store both results."""
        recipe = self.config.recipe
        with self.cost.of(len(self.domain.train)):
            if self.probed:
                train_loss = fit_epoch(self.view, self.domain, recipe, self.crop, epoch, moved)
            else:
                train_loss = train_epoch(self.view, self.domain, recipe, self.optimiser, epoch, moved, self.step)
                self._refresh(epoch)
        val_loss, val_accuracy = (None, None) if recipe.trainval else self._validate(epoch)
        if not self._all_finite():
            raise diverged("A weight or its momentum became infinite", self.view, recipe, epoch)
        self.log.append(Epoch(epoch + 1, train_loss, val_loss, val_accuracy))
        if (eligible := self._eligible()) and best_epoch(eligible) is self.log[-1]:
            self.best = self._copied_state()
        self._store()
        return self.log[-1]

    def _refresh(self, epoch: int) -> None:
        """Measure BatchNorm's statistics anew where an epoch, counted from 0, has too few steps to keep them fresh."""
        recipe = self.config.recipe
        if self.view.method.adapts_batchnorm and old_share(self.view, self.steps) > MOST_OLD:
            with rounded(numbers(self.view).values(), recipe.bits(epoch)):
                recalibrate(self.view, self.domain, self.crop, recipe.batch_size, recipe.seed, recipe.moves)

    def _validate(self, epoch: int) -> tuple[float, float]:
        """Loss and accuracy on validation, in the form in which the recipe trains in this epoch."""
        recipe = self.config.recipe
        with rounded(numbers(self.view).values(), recipe.bits(epoch)):
            measured = self._measure(self.domain.val)
        # The last step of an epoch can ruin what the loss of that epoch does not show yet.
        if not math.isfinite(measured.loss):
            raise diverged(f"The validation loss became {measured.loss}", self.view, recipe, epoch)
        return measured.loss, measured.accuracy

    def _begin(self, linear: bool) -> tuple[dict[str, float], float]:
        """Fit a linear head, from which all else is trained; the factors of the filters' rates, and of the head's."""
        if self.probed:
            return {}, 1.0
        asked = self.view, self.domain, self.config.recipe, self.crop
        if linear:
            start_head(*asked)
        return filter_factors(*asked), head_factor(*asked)

    def _first_images(self) -> Tensor:
        """Two training images, normalised."""
        images, labels = self.domain.train.images[:2], self.domain.train.labels[:2]
        return next(batches(images, labels, 2, self.crop, normalization=self.domain.normalization))[0]

    def _copied_state(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.view.own_state().items()}

    def _eligible(self) -> list[Epoch]:
        """The epochs that may be the best."""
        if self.probed:  # each has another weight decay, and there is nothing to round
            return self.log
        return [entry for entry in self.log if self.config.recipe.may_keep(entry.epoch - 1)]

    def _all_finite(self) -> bool:
        momentum = [state["momentum_buffer"] for state in self.optimiser.state.values() if "momentum_buffer" in state]
        tensors = [*self.view.own_state().values(), *(buffer for buffer in momentum if buffer is not None)]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def _checkpoint(self) -> Checkpoint | None:
        path = self.folder and self.folder / CHECKPOINT
        return Checkpoint.read(path, self.device) if path and path.exists() else None

    def _take_up(self, stopped: Checkpoint) -> None:
        if stopped.facts.rates != self._rates():
            before, now = (
                ", ".join(f"{kind} {rate:g}" for kind, rate in rates.items())
                for rates in (stopped.facts.rates, self._rates())
            )
            raise MadlabError(
                f"The run in {self.folder} was stopped at learning rates that {self.config.method!r} no longer has "
                f"({before}; now {now}): choose another folder, or remove its {CHECKPOINT} to begin anew."
            )
        try:
            stopped.restore(self.view, self.optimiser)
        except MadlabError as error:
            raise MadlabError(f"The run in {self.folder} cannot go on from its checkpoint: {error}") from error
        self.log, self.best, self.seconds = list(stopped.facts.log), stopped.best, stopped.facts.seconds
        self.start = stopped.facts.start

    @cached_property
    def _digests(self) -> dict[str, str]:
        return digests_of(self.domain)

    def _store(self) -> None:
        if self.folder is None:
            return
        # The metrics first: a run that is killed between the two repeats the epoch and writes the same line once more.
        write_log(self.folder, self.log)
        facts = CheckpointFacts(
            self.config,
            images_of(self.domain),
            tuple(self.domain.class_names),
            tuple(self.log),
            self._elapsed(),
            self._rates(),
            start=self.start,
            filter_factors=self.filter_factors,
            digests=self._digests,
            head_factor=self.head_factor,
        )
        Checkpoint.take(self.view, self.optimiser, self.best, facts).write(self.folder / CHECKPOINT)

    def _finish(self) -> Result:
        """Test the best epoch and write adapter and result; the checkpoint is left to whoever holds the folder."""
        self.view.load_own_state(self.best)
        if self.form.bits is not None:  # tested is what is stored, to the last bit
            form = settled(self.view, self.form)
            self.view.load_own_state(decode(self.view, encode(self.view, form), form), packed=True)
        tested = self._measure(self.domain.test)
        if not math.isfinite(tested.loss):
            raise diverged(f"The test loss is {tested.loss}", self.view, self.config.recipe, len(self.log) - 1)
        self.net.check_base()
        self._warn_of_harm()
        result = self._result(tested)
        if self.folder is not None:
            self.net.save_domain(self.domain.name, self.folder / ADAPTER, self.form.bits, self.form.norms)
            result.write(self.folder)
        return result

    def _warn_of_harm(self) -> None:
        """Warn if the best epoch is on validation below the untrained domain's interval (Agresti & Coull, 1998)."""
        best = best_epoch(self._eligible()).val_accuracy
        if best is None or self.start is None or self.probed:
            return
        images = len(self.domain.val)
        share = (self.start / 100 * images + 2) / (images + 4)
        if best / 100 < share - 2 * math.sqrt(share * (1 - share) / (images + 4)):
            before = [entry for entry in self.log if self.config.recipe.bits(entry.epoch - 1) is None]
            exact = max((entry.val_accuracy or 0.0 for entry in before), default=0.0)
            by_rounding = f"Before it was rounded, {exact:.1f} % were: choose more bits (finish_bits)."
            by_rate = "Lower the learning rates; `madlab diagnose` says which."
            remark(
                f"Training made {self.config.method!r} on {self.domain.name!r} worse: {best:.1f} % of the validation "
                f"images are right, and {self.start:.1f} % were before the first step. "
                f"{by_rounding if exact >= self.start else by_rate}"
            )

    def _result(self, tested: Measured) -> Result:
        best, on_gpu = best_epoch(self._eligible()), self.device.type == "cuda"
        body = self.net.anatomy.body(self.view.facts.heads)
        return Result(
            domain=self.domain.name,
            method=self.config.method,
            rank=self.view.facts.options.get("rank"),
            seed=self.config.recipe.seed,
            base=self.config.base,
            base_parameters=sum(layer.weight.numel() for layer in body.values() if isinstance(layer, nn.Conv2d)),
            adapter_parameters=self.net.adapter_size(self.domain.name),
            val_accuracy=best.val_accuracy,
            test_accuracy=tested.accuracy,
            best_epoch=best.epoch,
            epochs=self.config.recipe.epochs,
            seconds=round(self._elapsed(), 1),
            device=torch.cuda.get_device_name(self.device)
            if on_gpu
            else f"{platform.machine()} {self.device.type.upper()}",
            versions=versions(),
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            rates=self._rates(),
            stored_bytes=asdict(stored_bytes(self.view, replace(self.form, norms="folded"))),
            test_images=len(tested.correct),
            test_correct=pack_correct(tested.correct.cpu()),
            balanced_accuracy=tested.balanced_accuracy,
            cost=self.cost.told(),
            test_sha256=self.domain.test.sha256(),
            filter_factors=self.filter_factors,
        )

    def _rates(self) -> dict[str, float]:
        rates = peak_rates(self.view.method, self.view.facts.options, self.config.recipe)
        return dict.fromkeys(rates, 0.0) if self.probed else rates  # L-BFGS has none

    def _measure(self, split: Split) -> Measured:
        network = network_to_evaluate(self.net, self.domain.name)
        return measure(network, split, self.domain.normalization, self.crop, self.config.recipe.at_once)

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self.began


def network_for(config: RunConfig, domain: Domain, base: nn.Module, crop: int) -> MultiDomainNet:
    """The base network with the run's domain added to it, untrained; crop: side of its images in pixels."""
    net = MultiDomainNet(base)
    net.add_domain(
        domain.name,
        domain.num_classes,
        config.method,
        layers=config.layers,
        class_names=domain.class_names,
        normalization=domain.normalization,
        resize=domain.size,
        crop=crop,
        grey=None if domain.grey is None else {"black": domain.grey.black, "white": domain.grey.white},
        squash=domain.squash,
        head=config.head,
        **cast(dict[str, Any], config.options),
    )
    return net


def network_to_evaluate(net: MultiDomainNet, domain: str) -> nn.Module:
    """A domain's network in eval mode, merged, so that its weights are computed once; a prompt has none to merge."""
    view: DomainView = net.view(domain)
    return net.merge(domain) if view.prompt is None else view.eval()
