"""torch.export: the network as one graph, which PyTorch runs without any of its Python code."""

import json
import warnings
from pathlib import Path

import torch

from madlab.errors import MadlabError
from madlab.exports.deployable import Deployable, staged
from madlab.hub import weights_only

NOTE = "madlab.json"
"""Where the metadata lie in the archive: `torch.export.load(path, extra_files={"madlab.json": ""})` reads them."""


def traced(deployable: Deployable) -> torch.export.ExportedProgram:
    """The network as torch.export's program, for any number of images; MadlabError for one that cannot be traced."""
    batch = torch.export.Dim("batch")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of PyTorch, to those who develop it
            return torch.export.export(deployable.network, (deployable.images(2),), dynamic_shapes=({0: batch},))
    except Exception as error:  # the tracer runs the network's own code, and raises whatever stops it
        reason = str(error).strip().splitlines()[0]
        raise MadlabError(f"torch.export cannot trace this network ({reason:.200}): export its weights.") from error


def write_program(deployable: Deployable, path: Path) -> None:
    """Write a domain as torch.export's archive, float32 (batch, C, side, side) -> logits (batch, classes), any batch.

    Raises MadlabError for a network that cannot be traced, and if the archive answers anything but the merged network.
    """
    note = {NOTE: json.dumps(deployable.metadata(), ensure_ascii=False)}
    with staged(path) as place:
        torch.export.save(traced(deployable), place, extra_files=note)
        with weights_only():  # of what was written this moment, in a folder of our own
            program = torch.export.load(place)
        deployable.check(program.module(), f"the archive {path.name}")
