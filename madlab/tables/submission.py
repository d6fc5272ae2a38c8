"""The Visual Decathlon challenge: the predictions of finished runs as its results.json, and their offline score.

The challenge's server has been retired. The score here is the same formula, applied to the labels that were published
later (labels_test.zip of srebuffi/residual_adapters).
"""

from collections.abc import Iterable
from pathlib import Path

import torch

from madlab.benchmarks.annotations import submission_accuracies, write_results
from madlab.benchmarks.decathlon import DECATHLON, test_images
from madlab.benchmarks.fetch import cache_folder
from madlab.benchmarks.protocol import Protocol
from madlab.benchmarks.score import decathlon_score
from madlab.benchmarks.split import Split
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.runs.config import RunConfig
from madlab.runs.epoch import logits_of
from madlab.runs.loaded import load_run


def write_submission(
    runs: Iterable[Path | str],
    path: Path | str,
    root: Path | str | None = None,
    base: torch.nn.Module | str | None = None,
    device: torch.device | str | None = None,
    protocol: Protocol = DECATHLON,
) -> list[str]:
    """Predict the official test images of each run's domain and write results.json; returns the domains' names.

    runs: one finished run for each domain, trained on decathlon:DOMAIN. path: the file to write. root: the folder with
    the prepared domains, by default $MADLAB_DATA or the user's cache folder. base, device: as `load_run` takes them. No
    test labels are needed. Raises MadlabError for a run on another kind of domain, and for two runs on one domain.
    """
    root, device = cache_folder() if root is None else root, chosen_device(device)
    predictions: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for run in runs:
        benchmark, _, name = (RunConfig.read(run).source or "").partition(":")
        if benchmark != protocol.name:
            raise MadlabError(f"{run} was not trained on {protocol.name}:DOMAIN, so the challenge does not know it.")
        if name in predictions:
            raise MadlabError(f"{run} is a second run of {name}: give one run for each domain.")

        trained = load_run(run, base, device)
        split = Split(*test_images(name, root, protocol)).shrunk(trained.size.resize)
        crop = trained.crop(min(split.images.shape[1:3]))
        at_once = trained.config.recipe.at_once
        logits = logits_of(trained.network, split.images.to(device), trained.normalization, crop, at_once)
        predictions[name] = split.labels, torch.cat([part.argmax(1).cpu() for part in logits])
    write_results(path, predictions, protocol)
    return list(predictions)


def score_submission(path: Path | str, labels: Path | str, protocol: Protocol = DECATHLON) -> str:
    """The test accuracies in a results.json and the score S over its domains, as text.

    labels: a folder or zip with the labelled test files, DOMAIN_test.json.
    """
    accuracies = submission_accuracies(path, labels, protocol)
    lines = [f"{name:15s} {accuracy:6.2f} %" for name, accuracy in accuracies.items()]
    return "\n".join(
        [*lines, f"S over {len(accuracies)} of {len(protocol.domains)} domains: {decathlon_score(accuracies):.0f}"]
    )
