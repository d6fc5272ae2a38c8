"""Ways to damage a file, each a function (content, random numbers) -> damaged content.

BYTES needs to know nothing of the file; JSON and JSON_LINES change the structure of what is parsed; TENSORS that of
safetensors. The same random numbers give the same damage.
"""

import copy
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

Damage = Callable[[bytes, Random], bytes]

# Bytes


def _piece(data: bytes, random: Random, most: int = 200) -> tuple[int, int]:
    """A random stretch: where it starts and where it ends."""
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.randint(1, most))


def flip(data: bytes, random: Random) -> bytes:
    """One to four bits."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(data: bytes, random: Random) -> bytes:
    """The file ends early, as a killed copy leaves it."""
    return data[: random.randrange(len(data))]


def drop(data: bytes, random: Random) -> bytes:
    start, end = _piece(data, random)
    return data[:start] + data[end:]


def insert(data: bytes, random: Random) -> bytes:
    start, _ = _piece(data, random)
    return data[:start] + random.randbytes(random.randint(1, 50)) + data[start:]


def swap(data: bytes, random: Random) -> bytes:
    """Two stretches of equal length change places."""
    length = random.randint(1, max(1, len(data) // 4))
    first = random.randrange(len(data) - 2 * length + 1)
    second = random.randint(first + length, len(data) - length)
    one, other = data[first : first + length], data[second : second + length]
    return data[:first] + other + data[first + length : second] + one + data[second + length :]


def zero(data: bytes, random: Random) -> bytes:
    """What a crash of the machine leaves of blocks that never reached the disk."""
    start, end = _piece(data, random, 5000)
    return data[:start] + bytes(end - start) + data[end:]


def duplicate(data: bytes, random: Random) -> bytes:
    start, end = _piece(data, random, 5000)
    return data[:end] + data[start:]


def _named(*damages: Damage) -> Mapping[str, Damage]:
    return MappingProxyType({damage.__name__: damage for damage in damages})


BYTES = _named(flip, cut, drop, insert, swap, zero, duplicate)

# JSON: what the standard library's writer would never write is put in as text afterwards

HUGE, DEEP, INFINITE = "@huge@", "@deep@", "@infinite@"
TEXTS = {HUGE: "9" * 5000, DEEP: "[" * 100_000 + "]" * 100_000, INFINITE: "1e999"}
OTHER_TYPES = (
    None,
    True,
    0,
    -1,
    2.5,
    10**30,
    "",
    "x",
    "../../x",
    "\x1b[31m\n\u202e",
    "\ud800",
    [],
    [1, "x"],
    {},
    {"": 0},
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) within `value`, containers before what they contain."""
    found, waiting = [], [value]
    while waiting:
        container = waiting.pop()
        if isinstance(container, dict | list):
            keys = list(container) if isinstance(container, dict) else range(len(container))
            found += [(container, key) for key in keys]
            waiting += [container[key] for key in keys]
    return found


def _somewhere(change: Callable[[Any, Any, Random], None]) -> Callable[[Any, Random], Any]:
    """`change` applied to one random place of a copy; a value without places is put into a list first."""

    def changed(value: Any, random: Random) -> Any:
        value = copy.deepcopy(value)
        places = _places(value)
        if not places:
            value = [value]
            places = [(value, 0)]
        change(*random.choice(places), random)
        return value

    return changed


def _delete(container: Any, key: Any, random: Random) -> None:
    del container[key]


def _rename(container: Any, key: Any, random: Random) -> None:
    if isinstance(container, dict):
        container[f"{key}_"] = container.pop(key)
    else:
        container.insert(random.randrange(len(container)), container.pop(key))


def _retype(container: Any, key: Any, random: Random) -> None:
    container[key] = copy.deepcopy(random.choice(OTHER_TYPES))


def _number(container: Any, key: Any, random: Random) -> None:
    container[key] = random.choice((HUGE, INFINITE, float("nan"), float("-inf"), 2**63, -(2**63) - 1, 1e308))


def _nest(container: Any, key: Any, random: Random) -> None:
    container[key] = random.choice(([container[key]], {"x": container[key]}, DEEP))


def _copy(container: Any, key: Any, random: Random) -> None:
    other, its_key = random.choice(_places(container))
    container[key] = copy.deepcopy(other[its_key])


CHANGES = {
    "delete": _somewhere(_delete),
    "rename": _somewhere(_rename),
    "retype": _somewhere(_retype),
    "number": _somewhere(_number),
    "nest": _somewhere(_nest),
    "copy": _somewhere(_copy),
}


def as_text(value: Any) -> str:
    text = json.dumps(value)
    for mark, raw in TEXTS.items():
        text = text.replace(json.dumps(mark), raw)
    return text


def _of_json(change: Callable[[Any, Random], Any]) -> Damage:
    return lambda data, random: as_text(change(json.loads(data), random)).encode()


def _of_a_line(change: Callable[[Any, Random], Any]) -> Damage:
    def damage(data: bytes, random: Random) -> bytes:
        lines = data.splitlines()
        place = random.randrange(len(lines))
        lines[place] = as_text(change(json.loads(lines[place]), random)).encode()
        return b"\n".join(lines) + b"\n"

    return damage


JSON: Mapping[str, Damage] = MappingProxyType({name: _of_json(change) for name, change in CHANGES.items()})
JSON_LINES: Mapping[str, Damage] = MappingProxyType({name: _of_a_line(change) for name, change in CHANGES.items()})

# Safetensors: eight bytes of length, a JSON header, the tensors

SAME_SIZE = (("F32", "I32"), ("F16", "BF16", "I16"), ("F64", "I64"), ("U8", "I8", "BOOL", "F8_E4M3"))


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file."""
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), data[start:]


def join(header: Any, tensors: bytes) -> bytes:
    text = as_text(header).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def _names(header: dict[str, Any]) -> list[str]:
    return [name for name in header if name != "__metadata__"]


def rename_tensor(data: bytes, random: Random) -> bytes:
    header, tensors = split(data)
    name = random.choice(_names(header))
    header[random.choice((f"{name}_", "", "\x1b[2J", name[1:]))] = header.pop(name)
    return join(header, tensors)


def exchange_tensors(data: bytes, random: Random) -> bytes:
    """Two tensors get each other's name; mostly their shapes differ, sometimes not."""
    header, tensors = split(data)
    one, other = random.sample(_names(header), 2)
    header[one], header[other] = header[other], header[one]
    return join(header, tensors)


def exchange_twins(data: bytes, random: Random) -> bytes:
    """Two tensors of one dtype and one shape: nothing but their values tells them apart."""
    header, tensors = split(data)
    name = random.choice(_names(header))
    entry = header[name]
    twins = [n for n in _names(header) if (header[n]["dtype"], header[n]["shape"]) == (entry["dtype"], entry["shape"])]
    other = random.choice(twins)
    header[name], header[other] = header[other], header[name]
    return join(header, tensors)


def relabel(data: bytes, random: Random) -> bytes:
    """A tensor is called one of another dtype of the same size."""
    header, tensors = split(data)
    entry = header[random.choice(_names(header))]
    group = next(group for group in SAME_SIZE if entry["dtype"] in group)
    entry["dtype"] = random.choice([dtype for dtype in group if dtype != entry["dtype"]])
    return join(header, tensors)


def reshape(data: bytes, random: Random) -> bytes:
    header, tensors = split(data)
    entry = header[random.choice(_names(header))]
    entry["shape"] = random.choice((entry["shape"][::-1], [1, *entry["shape"]], [-1], [2**62, 4], [0, *entry["shape"]]))
    return join(header, tensors)


def one_value(data: bytes, random: Random) -> bytes:
    """Two bytes anywhere among the values."""
    header, tensors = split(data)
    place = random.randrange(len(tensors) - 1)
    return join(header, tensors[:place] + random.randbytes(2) + tensors[place + 2 :])


def change_header(data: bytes, random: Random) -> bytes:
    header, tensors = split(data)
    return join(random.choice(list(CHANGES.values()))(header, random), tensors)


def change_facts(data: bytes, random: Random) -> bytes:
    """Something in madlab's own metadata, the hash among them."""
    header, tensors = split(data)
    facts = json.loads(header["__metadata__"]["madlab"])
    header["__metadata__"]["madlab"] = as_text(random.choice(list(CHANGES.values()))(facts, random))
    return join(header, tensors)


TENSORS = _named(
    rename_tensor, exchange_tensors, exchange_twins, relabel, reshape, one_value, change_header, change_facts
)


# What stands where a file should be


def put(way: str, path: Path) -> None:
    """Put one of IN_ITS_PLACE where `path` is, whatever is there."""
    clear(path)
    IN_ITS_PLACE[way](path)


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


IN_ITS_PLACE: Mapping[str, Callable[[Path], object]] = {
    "gone": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "a full folder": lambda path: (path / "x").mkdir(parents=True),
    "a FIFO": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to its folder": lambda path: path.symlink_to("."),
    "a link to a device without end": lambda path: path.symlink_to("/dev/zero"),
    "four terabytes": _giant,
}
