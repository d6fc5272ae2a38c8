"""Many tensors as one blob of bytes, because the name and shape of a tensor take a hundred bytes of a file.

A blob holds three streams, each behind its length: the units of the rows that are rounded, one byte each, their levels,
and the bytes of all other tensors. Which tensors there are, in which order and shapes, whoever reads it must know.

Each stream is entropy-coded by the standard library's zlib. As many symbols as fit go into a byte, and zlib gives each
byte a Huffman code without looking for repetitions. On a trained, rounded alpha that takes 0.4 to 1.0 % more than the
entropy of the symbols, at 2, 3, 4 and 8 bits, and lzma and bz2 take more, so that no other library is needed. Sparse
masks do repeat, so zlib's usual search is tried as well.
"""

import zlib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from madlab.adapters.rounding import FEW, as_rows, restore_numbers, round_numbers
from madlab.errors import MadlabError

LENGTH = 4
"""Bytes in which a blob tells the length of each of its streams."""
RAW = -15
"""zlib without a header and a checksum: the file has its own hash."""


def pack_blob(
    tensors: Mapping[str, Tensor],
    rests: Mapping[str, Tensor],
    bits: int,
    weights: Mapping[str, Tensor] = MappingProxyType({}),
) -> Tensor:
    """One blob, uint8: units, levels, and the bytes of what has no rest or is too small to round, each coded.

    weights: of the squared errors of some tensors, in their shapes.
    """
    units, levels, exact = ([np.zeros(0, np.uint8)] for _ in range(3))
    for name, tensor in tensors.items():
        check_finite(name, tensor)
        if name in rests and tensor.numel() >= FEW:
            codes, signed = (part.cpu() for part in round_numbers(tensor, rests[name], bits, weights.get(name)))
            units.append(codes.numpy())
            levels.append((signed.reshape(-1).short() + _middle(bits)).to(torch.uint8).numpy())
        else:
            exact.append(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    streams = [pack_symbols(np.concatenate(part), b) for part, b in ((units, 8), (levels, bits), (exact, 8))]
    data = b"".join(len(stream).to_bytes(LENGTH, "little") + stream for stream in streams)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def unpack_blob(
    blob: Tensor | None, like: Mapping[str, Tensor], rests: Mapping[str, Tensor], bits: int
) -> dict[str, Tensor]:
    """The tensors of `pack_blob`, in the shapes and number formats of `like`."""
    if blob is None or blob.dtype != torch.uint8:
        raise MadlabError("its packed numbers are missing: make or fetch it anew.")
    rows = {n: as_rows(t).shape for n, t in like.items() if n in rests and t.numel() >= FEW}
    exact = {name: tensor.numel() * tensor.element_size() for name, tensor in like.items() if name not in rows}
    counts = (sum(r for r, _ in rows.values()), sum(r * n for r, n in rows.values()), sum(exact.values()))
    data, streams = blob.cpu().numpy().tobytes(), []
    for count, b in zip(counts, (8, bits, 8), strict=True):
        length = int.from_bytes(data[:LENGTH], "little")
        streams.append(torch.from_numpy(unpack_symbols(data[LENGTH : LENGTH + length], b, count)))
        data = data[LENGTH + length :]
    if data:
        raise MadlabError("its packed numbers are more than this domain has: make or fetch it anew.")
    units, levels, rest = streams
    found, u, v, e = {}, 0, 0, 0
    for name, tensor in like.items():
        if name in rows:
            r, n = rows[name]
            signed = (levels[v : v + r * n].short() - _middle(bits)).view(r, n).to(tensor.device)
            found[name] = restore_numbers(units[u : u + r].to(tensor.device), signed, rests[name])
            u, v = u + r, v + r * n
        else:
            raw = rest[e : e + exact[name]].clone()
            found[name] = raw.view(tensor.dtype).view(tensor.shape).to(tensor.device)
            e += exact[name]
            check_finite(name, found[name])
    return found


def check_finite(name: str, tensor: Tensor) -> None:
    """`files.tensors` looks at tensors, not into blobs."""
    if not torch.isfinite(tensor).all():
        raise MadlabError(f"{name} holds NaN or infinity, which cannot be stored: train with lower learning rates.")


def _middle(bits: int) -> int:
    """The symbol of level 0."""
    return int(2 ** (bits - 1) - 1)


def pack_symbols(symbols: np.ndarray, bits: int) -> bytes:
    """Symbols 0 to 2^bits - 1, uint8 (n,), as bytes; bits: 1 to 8."""
    each = 8 // bits
    groups = np.concatenate([symbols, np.zeros(-len(symbols) % each, np.uint8)]).reshape(-1, each)
    packed = np.zeros(len(groups), np.uint8)
    for place in range(each):
        packed |= groups[:, place] << (bits * place)
    coded = []
    for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY):
        coder = zlib.compressobj(9, zlib.DEFLATED, RAW, 9, strategy)
        coded.append(coder.compress(packed.tobytes()) + coder.flush())
    return min(coded, key=len)


def unpack_symbols(data: bytes, bits: int, count: int) -> np.ndarray:
    """The `count` symbols that `pack_symbols` packed, uint8 (count,); MadlabError if the data hold anything else."""
    each = 8 // bits
    expected = -(-count // each)
    decoder = zlib.decompressobj(RAW)
    try:
        packed = decoder.decompress(data, expected + 1)  # a byte more would show; what expands to gigabytes is cut off
    except zlib.error as error:
        raise MadlabError(f"its packed numbers are damaged ({error}): make or fetch it anew.") from error
    if len(packed) != expected or not decoder.eof or decoder.unused_data:
        raise MadlabError("its packed numbers are not as many as this domain has: make or fetch it anew.")
    groups = np.frombuffer(packed, np.uint8)[:, None] >> (bits * np.arange(each, dtype=np.uint8))
    return (groups & (2**bits - 1)).astype(np.uint8).reshape(-1)[:count]
