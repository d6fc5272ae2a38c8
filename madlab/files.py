"""Files that are either whole or absent: everything is written to a temporary name and then renamed.

Tensors travel as safetensors, the rest as JSON: nothing that madlab reads can run code.
"""

import errno
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from madlab.errors import MadlabError


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one, never a part."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        raise MadlabError(
            f"Could not write {path} ({error.strerror}): free some space or choose another folder."
        ) from error


def check_writable(path: Path | str) -> None:
    """Raise the MadlabError that `write_bytes` would raise for this path, before the work whose outcome goes there."""
    path = Path(path)
    place = path.parent
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    temporary = place / f".{path.name}.{os.getpid()}.tmp"
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with open(temporary, "wb"):
            pass
        temporary.unlink()
    except OSError as error:
        raise MadlabError(f"Could not write {path} ({error.strerror}): choose another folder.") from error


def write_json(path: Path | str, data: Any) -> None:
    """Write `data` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a missing or damaged one is a MadlabError that names it."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise MadlabError(f"There is no file {path}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MadlabError(f"{path} is damaged ({error}): remove it and make it anew.") from error


def save_tensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON-able metadata into one safetensors file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One JSON string, because the safetensors library writes several metadata entries in no fixed order.
    write_bytes(path, save(tensors, {"madlab": json.dumps(metadata)}))


def load_tensors(path: Path | str, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors on `device`, and the metadata."""
    if not Path(path).is_file():
        raise MadlabError(f"There is no file {path}.")
    try:
        with safe_open(str(path), "pt", device=str(device)) as file:
            metadata = json.loads((file.metadata() or {}).get("madlab", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, metadata
    except SafetensorError as error:
        raise MadlabError(f"{path} is not a whole safetensors file ({error}): make or fetch it anew.") from error
