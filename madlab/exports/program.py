"""The network as one graph: by torch.export for PyTorch without any of its Python code, and as ONNX for any runtime."""

import json
import logging
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from madlab.errors import MadlabError, reason
from madlab.exports.deployable import Deployable, refuse_to_replace, staged
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
        raise MadlabError(f"torch.export cannot trace this network ({reason(error)}): export its weights.") from error


def write_program(deployable: Deployable, path: Path) -> None:
    """Write a domain as torch.export's archive, float32 (batch, C, side, side) -> logits (batch, classes), any batch.

    Raises MadlabError for a network that cannot be traced, and if the archive answers anything but the merged network.
    """
    refuse_to_replace(path, _has_note)
    note = {NOTE: json.dumps(deployable.metadata(), ensure_ascii=False)}
    with staged(path) as place:
        archive = BytesIO()  # what PyTorch writes into a file itself fails with no OSError where the disk is full
        torch.export.save(traced(deployable), archive, extra_files=note)
        place.write_bytes(archive.getbuffer())
        with weights_only():  # of what was written this moment, in a folder of our own
            program = torch.export.load(place)
        deployable.check(program.module(), f"the archive {path.name}")


def _has_note(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(f"/{NOTE}") for name in archive.namelist())


INPUT, OUTPUT = "images", "logits"


def write_onnx(deployable: Deployable, path: Path) -> None:
    """Write a domain as ONNX: input "images" (batch, C, side, side), output "logits" (batch, classes), any batch.

    The file's metadata name classes, normalisation and sizes (`Deployable.metadata`). Raises MadlabError without the
    extra "export", for a network that ONNX cannot express, and if onnxruntime answers anything but the merged network.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - PyTorch's exporter imports it
    except ImportError as error:
        raise MadlabError(f"ONNX needs {error.name}: pip install 'madlab[export]'.") from None
    refuse_to_replace(path, _has_metadata)
    with staged(path) as place:
        model = _model(deployable)
        onnx.helper.set_model_props(model, deployable.metadata())
        onnx.save_model(model, str(place))
        session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])

        def answer(images: Tensor) -> Tensor:
            return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

        deployable.check(answer, f"the ONNX file {path.name}")


def _has_metadata(path: Path) -> bool:
    import onnx

    held = {entry.key for entry in onnx.load(str(path), load_external_data=False).metadata_props}
    return {"class_names", "method"} <= held


def _model(deployable: Deployable) -> Any:
    """The network as onnx's ModelProto."""
    program = traced(deployable)
    options: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT], "dynamo": True, "verbose": False}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch, to those who develop it
            exported: Any = torch.onnx.export(program, (), external_data=False, **options)
            return exported.model_proto
    except Exception as error:  # the exporter raises whatever stops it
        raise MadlabError(f"ONNX cannot express this network ({reason(error)}): export it as .pt2.") from error
    finally:
        logger.setLevel(level)
