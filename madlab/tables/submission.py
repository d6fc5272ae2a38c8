"""The Visual Decathlon's challenge: the predictions of finished runs as its results.json, and their offline score.

The challenge's server has retired. The score here is the same formula over labels that a later release published
(labels_test.zip of srebuffi/residual_adapters).
"""

from collections.abc import Iterable
from pathlib import Path

import torch

from madlab.benchmarks.annotations import score_results, write_results
from madlab.benchmarks.cache import cache_folder
from madlab.benchmarks.decathlon import DECATHLON, test_images
from madlab.benchmarks.domain import Split
from madlab.benchmarks.loader import batches
from madlab.benchmarks.protocol import Protocol
from madlab.benchmarks.score import decathlon_score
from madlab.errors import MadlabError
from madlab.files import read_json
from madlab.runs.folder import CONFIG
from madlab.runs.train import autocast, default_device, restore


def write_submission(
    runs: Iterable[Path | str],
    path: Path | str,
    root: Path | str | None = None,
    device: torch.device | str | None = None,
    protocol: Protocol = DECATHLON,
) -> list[str]:
    """Predict the official test images of each run's domain and write them as results.json; returns the domains.

    runs: one finished run for each domain, trained on decathlon:DOMAIN. root: where the prepared domains are, by
    default $MADLAB_DATA or the user's cache folder. Needs no test labels.
    Raises MadlabError for a run of another kind of domain, and for two runs of one domain.
    """
    where = torch.device(device) if device is not None else default_device()
    predictions: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for run in runs:
        config = read_json(Path(run) / CONFIG)
        benchmark, _, name = (config["source"] or "").partition(":")
        if benchmark != protocol.name:
            raise MadlabError(f"{run} was not trained on {protocol.name}:DOMAIN, so the challenge does not know it.")
        if name in predictions:
            raise MadlabError(f"{run} is a second run of {name}: give one run for each domain.")
        network, normalization, base = restore(run, None, where)
        split = Split(*test_images(name, cache_folder() if root is None else root, protocol))
        split = split.shrunk(getattr(base, "resize", split.images.shape[1]))
        crop = config["recipe"]["crop"] or getattr(base, "crop", split.images.shape[1])
        predictions[name] = split.labels, _predict(network, split.images.to(where), normalization, crop)
    write_results(path, predictions, protocol)
    return list(predictions)


def score_submission(path: Path | str, labels: Path | str, protocol: Protocol = DECATHLON) -> str:
    """The test accuracies in a results.json and the score S over its domains, as text.

    labels: a folder or zip with the labelled test files, DOMAIN_test.json.
    """
    accuracies = score_results(path, labels, protocol)
    lines = [f"{name:15s} {accuracy:6.2f} %" for name, accuracy in accuracies.items()]
    return "\n".join(
        [*lines, f"S over {len(accuracies)} of {len(protocol.domains)} domains: {decathlon_score(accuracies):.0f}"]
    )


@torch.no_grad()
def _predict(
    network: torch.nn.Module, images: torch.Tensor, normalization: dict[str, list[float]], crop: int
) -> torch.Tensor:
    """The most likely class of each centre crop, int64 (N,) on the CPU; images: uint8 (N, H, W, 3)."""
    nothing = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    found = []
    for batch, _ in batches(images, nothing, 250, crop, normalization=normalization):
        with autocast(images.device):
            found.append(network(batch).argmax(1).cpu())
    return torch.cat(found)
