"""Small whole numbers in few bytes: packed into bytes, then entropy-coded by the standard library's zlib.

As many symbols as fit go into a byte, and zlib gives each byte a Huffman code without looking for repetitions. On a
trained, rounded alpha that takes 0.4 to 1.0 % more than the entropy of the symbols, at 2, 3, 4 and 8 bits, and lzma and
bz2 take more, so that no other library is needed. Sparse masks do repeat, so zlib's usual search is tried as well.
"""

import zlib

import numpy as np

from madlab.errors import MadlabError

RAW = -15
"""zlib without a header and a checksum: the file has its own hash."""


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
