"""Adapters, base networks and checkpoints: safetensors files that carry the sha256 of what they hold.

Nothing that is read here can run code, and nothing that was changed by accident is taken for what was written. The hash
is not a signature: whoever can write a file can write its hash.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, deserialize
from safetensors.torch import save
from torch import Tensor

from madlab.errors import MadlabError, remark
from madlab.files.jsonfiles import dump_json, parse_json
from madlab.files.plain import read_bytes, write_bytes

MOST = 16 * 2**30
"""Bytes that a file has at most: a network of a billion numbers with its best epoch and its momentum."""
FORMAT = 2
"""Of files with a hash. It stands beside the hash, so that one of them cannot be damaged or cut out unnoticed."""
MARKS = ("format", "content_sha256")
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
Stored = tuple[str, Sequence[int], Any]
"""A tensor as it lies in the file: its dtype's name, its shape, its bytes."""


def save_tensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, Any], finite: bool = True) -> None:
    """Write tensors and JSON-able metadata into one safetensors file, with the sha256 of both.

    finite: refuse NaN and infinity with a MadlabError; `load_tensors` would not take them either.
    """
    if taken := metadata.keys() & set(MARKS):
        raise ValueError(f"{taken} are names of save_tensors itself")
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES:
            raise MadlabError(f"{name} is {tensor.dtype}, so {path} was not written: convert it to a usual type.")
    # Copies, because the safetensors library refuses tensors that share their memory, as tied weights do.
    tensors = {n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    if finite:
        _check_finite(path, tensors, "was not written: train with lower learning rates")
    stored = {name: (NAMES[t.dtype], t.shape, t.reshape(-1).view(torch.uint8).numpy()) for name, t in tensors.items()}
    facts = json.loads(dump_json(path, metadata, finite))  # as it will be read: a tuple is a list
    marks = dict(zip(MARKS, (FORMAT, _sha256(stored, facts)), strict=True))
    # One JSON string, because the safetensors library writes several metadata entries in no fixed order.
    write_bytes(path, save(tensors, {"madlab": json.dumps(facts | marks)}))


def load_tensors(
    path: Path | str, device: str | torch.device = "cpu", finite: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors on `device`, and the metadata.

    finite: refuse NaN and infinity, in tensors and metadata, for no network computes with them. A checkpoint of
    pre-training may hold them: what goes on from it must come to the same end as a run that was never stopped.
    MadlabError names a file that is missing, no plain file, larger than 16 GiB, damaged, or not madlab's. One without
    a hash, as madlab 0.1 wrote them, is read with a warning.
    """
    data = read_bytes(path, MOST)
    try:
        stored: dict[str, Stored] = {n: (t["dtype"], t["shape"], t["data"]) for n, t in deserialize(data)}
        facts = _metadata(path, data, finite)
        del data
        _check_content(path, stored, facts)
        tensors = {name: _tensor(path, name, *stored.pop(name)).to(device) for name in list(stored)}
        if finite:
            _check_finite(path, tensors, "is of no use: make or fetch it anew")
    except SafetensorError as error:
        raise MadlabError(f"{path} is not a whole safetensors file ({error}): make or fetch it anew.") from error
    except MemoryError as error:
        raise MadlabError(f"{path} does not fit into memory: close other programs, or give the right file.") from error
    return tensors, facts


def _metadata(path: Path | str, data: bytes, finite: bool) -> dict[str, Any]:
    """What madlab wrote into the header, of which the safetensors library has made sure that it is JSON."""
    length = int.from_bytes(data[:8], "little")
    header = parse_json(data[8 : 8 + length], f"The header of {path}")
    text = (header.get("__metadata__") or {}).get("madlab")
    if text is None:
        raise MadlabError(f"{path} is not a file that madlab wrote: give one that madlab saved.")
    facts = parse_json(text.encode(errors="surrogatepass"), f"The metadata of {path}", finite)
    if not isinstance(facts, dict):
        raise MadlabError(f"The metadata of {path} are no JSON object: make or fetch it anew.")
    return facts


def _check_content(path: Path | str, stored: Mapping[str, Stored], facts: dict[str, Any]) -> None:
    """Compare the hash, which is taken out of `facts`; MadlabError if it is not that of the content."""
    number, expected = (facts.pop(mark, None) for mark in MARKS)
    if number is None and expected is None:
        remark(
            f"{path} carries no hash, so nobody can tell whether its values are as they were written: "
            "save it again to give it one."
        )
    elif isinstance(number, int) and number > FORMAT:
        raise MadlabError(f"{path} was written by a newer madlab: bring madlab up to date.")
    elif number != FORMAT or expected != _sha256(stored, facts):
        raise MadlabError(
            f"{path} is damaged or was changed (its content does not have the sha256 that it carries): "
            "make or fetch it anew."
        )


def _sha256(stored: Mapping[str, Stored], facts: dict[str, Any]) -> str:
    """Over facts, names, dtypes and shapes as JSON with sorted keys, then the tensors' bytes in the order of names."""
    shapes = {name: [dtype, list(shape)] for name, (dtype, shape, _) in stored.items()}
    digest = hashlib.sha256(json.dumps([facts, shapes], sort_keys=True).encode())
    for name in sorted(stored):
        digest.update(stored[name][2])
    return digest.hexdigest()


def _tensor(path: Path | str, name: str, dtype: str, shape: Sequence[int], data: bytearray) -> Tensor:
    if dtype not in DTYPES:
        raise MadlabError(f"{path} holds numbers of a kind that madlab does not use ({name}: {dtype}): make it anew.")
    # A tensor without numbers may claim any length along its other sides, and PyTorch cannot count beyond 2**63.
    if math.prod(max(1, side) for side in shape) > MOST:
        raise MadlabError(f"{path} holds a tensor of an impossible shape ({name}: {shape}): make it anew.")
    flat = torch.frombuffer(data, dtype=DTYPES[dtype]) if data else torch.empty(0, dtype=DTYPES[dtype])
    return flat.reshape(tuple(shape))


def _check_finite(path: Path | str, tensors: Mapping[str, Tensor], advice: str) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise MadlabError(f"{name} holds NaN or infinity, so {path} {advice}.")
