"""Packed symbols: unpacked by hand, round trips of every width, near the entropy, and damage told."""

import zlib

import numpy as np
import pytest

from madlab.blobs import pack_symbols, unpack_symbols
from madlab.errors import MadlabError


def by_hand(data, bits, count):
    """Symbols out of zlib's bytes by arithmetic: the first lies in the lowest bits of the first byte."""
    found = []
    for byte in zlib.decompress(data, wbits=-15):
        for _ in range(8 // bits):
            found.append(byte % 2**bits)
            byte //= 2**bits
    return found[:count]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 1000])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_symbols_come_back_and_lie_where_they_should(bits, count) -> None:
    symbols = np.random.default_rng(count).integers(0, 2**bits, count).astype(np.uint8)
    data = pack_symbols(symbols, bits)
    assert by_hand(data, bits, count) == symbols.tolist()
    assert unpack_symbols(data, bits, count).tolist() == symbols.tolist()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_bell_of_symbols_takes_little_more_than_its_entropy(bits) -> None:
    levels = 2 ** (bits - 1) - 1
    bell = np.random.default_rng(0).normal(0, levels / 3, 60_000).round().clip(-levels, levels)
    symbols = (bell + levels).astype(np.uint8)
    shares = np.unique(symbols, return_counts=True)[1] / len(symbols)
    entropy = -(shares * np.log2(shares)).sum() * len(symbols) / 8
    assert entropy < len(pack_symbols(symbols, bits)) < 1.03 * entropy


def test_damaged_symbols_are_told() -> None:
    symbols = np.random.default_rng(0).integers(0, 16, 500).astype(np.uint8)
    data = pack_symbols(symbols, 4)
    for wrong in (data[:-3], data + b"x", b"", pack_symbols(symbols[:-3], 4), pack_symbols(np.tile(symbols, 2), 4)):
        with pytest.raises(MadlabError, match=r"its packed numbers are (not as many|damaged)"):
            unpack_symbols(wrong, 4, 500)
    with pytest.raises(MadlabError, match="damaged"):
        unpack_symbols(b"\xff" * 50, 4, 500)
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    with pytest.raises(MadlabError, match="not as many"):
        unpack_symbols(bomb.compress(bytes(10**8)) + bomb.flush(), 8, 10)
