"""A safetensors file is taken for what was written only if it is that, to the last bit."""

import hashlib
import json
import os
import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import madlab
from madlab.backbones import WEIGHTS
from madlab.errors import MadlabError
from madlab.files.tensors import load_tensors, save_tensors
from madlab.guard import fingerprint

FACTS = {"name": "birds", "rank": 3, "mean": [0.5, 1e-7], "none": None, "ü\n": {"deep": [True]}}


def some_tensors():
    generator = torch.Generator().manual_seed(0)
    floats = {str(d): torch.randn(3, 4, generator=generator).to(d) for d in (torch.float32, torch.float16)}
    return floats | {
        "bf": torch.randn(5, generator=generator).bfloat16(),
        "double": torch.randn(2, generator=generator).double(),
        "counts": torch.arange(6).reshape(2, 3),
        "bytes": torch.arange(16, dtype=torch.uint8),
        "mask": torch.tensor([True, False, True]),
        "one": torch.tensor(7),
        "none": torch.empty(0, 3),
        "strided": torch.randn(4, 4, generator=generator).t()[::2],
    }


@pytest.fixture
def path(tmp_path):
    save_tensors(tmp_path / "a.safetensors", some_tensors(), FACTS)
    return tmp_path / "a.safetensors"


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def header_of(data: bytes) -> dict:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def with_header(data: bytes, header: dict | bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :]


def refused(path, words):
    with pytest.raises(MadlabError, match=rf"(?s)^[^\n]*{words}[^\n]*\.$") as told:
        load_tensors(path)
    assert path.name in str(told.value) and len(str(told.value)) < 600


def test_what_was_written_is_read_again(path):
    tensors, facts = load_tensors(path)
    expected = some_tensors()
    assert tensors.keys() == expected.keys() and facts == FACTS
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype and torch.equal(tensors[name], value), name
    assert load_file(path).keys() == expected.keys()  # it is a safetensors file like any other
    tensors["one"] += 1
    assert load_tensors(path)[0]["one"] == 7


def test_the_same_content_gives_the_same_bytes(path):
    first = path.read_bytes()
    save_tensors(path, some_tensors(), FACTS)
    assert path.read_bytes() == first


def test_tied_weights_are_written_twice(path):
    weight = torch.arange(6.0).reshape(2, 3)
    save_tensors(path, {"embedding": weight, "head": weight, "row": weight[1]}, {})
    read = load_tensors(path)[0]
    assert read["embedding"].equal(weight) and read["head"].equal(weight) and read["row"].tolist() == [3, 4, 5]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.uint16, torch.float8_e4m3fn])
def test_a_kind_of_number_that_is_not_stored_is_told(dtype, tmp_path):
    with pytest.raises(MadlabError, match=rf"^phase is {dtype}, so .*a\.safetensors was not written"):
        save_tensors(tmp_path / "a.safetensors", {"phase": torch.zeros(2, dtype=dtype)}, {})
    assert not list(tmp_path.iterdir())


def test_the_hash_is_that_of_the_documented_bytes(path):
    """Written once more with numpy: JSON of facts, names, dtypes and shapes, then the bytes in the order of names."""
    names = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
    names |= {"int64": "I64", "uint8": "U8", "bool": "BOOL"}
    tensors = some_tensors()
    shapes = {n: [names[str(t.dtype).removeprefix("torch.")], list(t.shape)] for n, t in tensors.items()}
    digest = hashlib.sha256(json.dumps([FACTS, shapes], sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update((value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy().tobytes())
    assert json.loads(header_of(path.read_bytes())["__metadata__"]["madlab"])["content_sha256"] == digest.hexdigest()


def test_every_flipped_bit_of_the_values_is_seen(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for position in range(start, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        refused(path, "is damaged or was changed|is of no use")


def change_facts(change):
    def structural(data):
        header = header_of(data)
        facts = json.loads(header["__metadata__"]["madlab"])
        change(facts)
        header["__metadata__"]["madlab"] = json.dumps(facts)
        return with_header(data, header)

    return structural


def change_header(change):
    def structural(data):
        header = header_of(data)
        change(header)
        return with_header(data, header)

    return structural


def swap(header):
    header["torch.float32"], header["double"] = header["double"], header["torch.float32"]


def swap_places(header):
    one, other = header["bytes"], header["double"]
    one["data_offsets"], other["data_offsets"] = other["data_offsets"], one["data_offsets"]


STRUCTURAL = {
    "another fact": (change_facts(lambda f: f.update(rank=4)), "damaged or was changed"),
    "a fact more": (change_facts(lambda f: f.update(more=1)), "damaged or was changed"),
    "a fact less": (change_facts(lambda f: f.pop("none")), "damaged or was changed"),
    "a float for a whole number": (change_facts(lambda f: f.update(rank=3.0)), "damaged or was changed"),
    "no hash": (change_facts(lambda f: f.pop("content_sha256")), "damaged or was changed"),
    "no format": (change_facts(lambda f: f.pop("format")), "damaged or was changed"),
    "a newer format": (change_facts(lambda f: f.update(format=3)), "newer madlab"),
    "a format of another type": (change_facts(lambda f: f.update(format="3")), "damaged or was changed"),
    "a hash of another type": (change_facts(lambda f: f.update(content_sha256=[1])), "damaged or was changed"),
    "swapped names": (change_header(swap), "damaged or was changed"),
    "swapped places": (change_header(swap_places), "damaged or was changed"),
    "renamed": (change_header(lambda h: h.update(two=h.pop("one"))), "damaged or was changed"),
    "relabelled": (change_header(lambda h: h["bf"].update(dtype="F16")), "damaged or was changed"),
    "reshaped": (change_header(lambda h: h["counts"].update(shape=[3, 2])), "damaged or was changed"),
    "another kind of numbers": (change_header(lambda h: h["bytes"].update(dtype="F8_E4M3")), "damaged or was changed"),
    "no metadata": (change_header(lambda h: h.pop("__metadata__")), "not a file that madlab wrote"),
    "empty metadata": (change_header(lambda h: h.update(__metadata__={})), "not a file that madlab wrote"),
    "null metadata": (change_header(lambda h: h.update(__metadata__=None)), "not a (file|whole)"),
    "metadata that are a list": (
        change_header(lambda h: h.update(__metadata__={"madlab": "[1]"})),
        "metadata of .* are no JSON object",
    ),
    "metadata that are no JSON": (
        change_header(lambda h: h.update(__metadata__={"madlab": "{"})),
        "metadata of .* is damaged",
    ),
    "deep metadata": (
        change_header(lambda h: h.update(__metadata__={"madlab": "[" * 10**5})),
        "metadata of .* nested too deeply",
    ),
    "metadata with NaN": (change_facts(lambda f: f.update(mean=[float("nan")])), "NaN is not a number"),
    "tensors of absurd size": (change_header(lambda h: h["one"].update(shape=[2**62, 2**62])), "not a whole"),
    "offsets past the end": (change_header(lambda h: h["one"].update(data_offsets=[0, 2**60])), "not a whole"),
    "no tensors": (change_header(lambda h: [h.pop(n) for n in list(h) if n != "__metadata__"]), "not a whole"),
    "empty": (lambda data: b"", "not a whole"),
    "short": (lambda data: data[:7], "not a whole"),
    "cut": (lambda data: data[:-1], "not a whole"),
    "too long": (lambda data: data + b"\0", "not a whole"),
    "header past the end": (lambda data: (len(data) * 2).to_bytes(8, "little") + data[8:], "not a whole"),
    "absurd header": (lambda data: b"\xff" * 8 + data[8:], "not a whole"),
    "header that is no JSON": (lambda data: with_header(data, b"{" * 64), "not a whole"),
    "deep header": (lambda data: with_header(data, b'{"a":' * 10**5), "not a whole"),
    "header that is a list": (lambda data: with_header(data, b"[1, 2]"), "not a whole"),
    "header that is not UTF-8": (lambda data: with_header(data, b'{"\xff": 1}'), "not a whole"),
    "a pickle": (lambda data: b"\x80\x04\x95" + data, "not a whole"),
}


@pytest.mark.parametrize("name", STRUCTURAL)
def test_whatever_was_changed_is_refused(name, path):
    change, words = STRUCTURAL[name]
    path.write_bytes(change(path.read_bytes()))
    refused(path, words)


def test_what_is_no_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    refused(path, "There is no file")
    path.mkdir()
    refused(path, "is a folder")
    path.rmdir()
    os.mkfifo(path)
    refused(path, "is a FIFO")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(path, "is a device")
    path.unlink()
    path.symlink_to("a.safetensors")
    refused(path, "Too many levels of symbolic links")


def test_values_that_are_not_finite_are_for_checkpoints(tmp_path):
    path = tmp_path / "a.safetensors"
    for value in (float("nan"), float("inf")):
        tensors = {"ok": torch.ones(3), "bad": torch.tensor([1.0, value]).half()}
        with pytest.raises(MadlabError, match=r"bad holds NaN or infinity, so .*a.safetensors was not written"):
            save_tensors(path, tensors, {})
        with pytest.raises(MadlabError, match=r"a\.safetensors was not written"):
            save_tensors(path, {}, {"loss": value})
        assert not path.exists()
    save_tensors(path, tensors, {"loss": value}, finite=False)
    loaded, facts = load_tensors(path, finite=False)
    assert torch.equal(loaded["bad"], tensors["bad"]) and facts == {"loss": value}
    refused(path, "Infinity is not a number")
    save_tensors(path, tensors, {}, finite=False)
    refused(path, "bad holds NaN or infinity, so .* is of no use")
    path.unlink()


def test_a_file_without_a_hash_is_read_with_a_warning(tmp_path):
    path = tmp_path / "old.safetensors"
    save_file({"a": torch.ones(2)}, path, {"madlab": json.dumps(FACTS)})
    with pytest.warns(UserWarning, match=r"old\.safetensors carries no hash") as told:
        tensors, facts = load_tensors(path)
    assert torch.equal(tensors["a"], torch.ones(2)) and facts == FACTS
    assert told[0].filename == __file__
    for entry, size, words in (
        ({"dtype": "F8_E4M3", "shape": [4]}, 4, "of a kind that madlab does not use"),
        ({"dtype": "F32", "shape": [0, 2**40, 2**40]}, 0, "an impossible shape"),
    ):
        header = {"a": entry | {"data_offsets": [0, size]}, "__metadata__": {"madlab": "{}"}}
        path.write_bytes(with_header(bytes(8 + size), header))
        with pytest.warns(UserWarning, match="carries no hash"):
            refused(path, words)


def test_what_ships_with_madlab_carries_its_hash_and_is_what_the_log_says():
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        log = json.loads(path.with_suffix(".json").read_text())
        assert fingerprint(madlab.load_base(path.stem)) == log["sha256"]


LIMITED = """
import resource, sys
from pathlib import Path
from madlab.errors import MadlabError
from madlab.files.jsonfiles import read_json
from madlab.files.tensors import load_tensors

# PyTorch alone maps up to 3.5 GB, most of it never touched, so the limit is one above that.
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**30, resource.RLIM_INFINITY))
for path in sys.argv[1:]:
    try:
        (read_json if ".json" in path else load_tensors)(path)
    except MadlabError as error:
        print(error)
    else:
        print("read", path)
"""


@pytest.mark.slow
def test_nothing_takes_more_than_a_gigabyte(tmp_path, path):
    data, files = path.read_bytes(), []

    def put(name, content, size=None):
        files.append(tmp_path / name)
        with open(files[-1], "wb") as file:
            file.write(content)
            if size is not None:
                file.truncate(size)

    put("sparse.safetensors", data, 2**40)
    put("just.safetensors", data, 2**31)
    size = 2**30
    big = {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}, "__metadata__": {"madlab": "{}"}}
    text = json.dumps(big).encode()
    put("whole.safetensors", len(text).to_bytes(8, "little") + text, 8 + len(text) + size)
    half = with_header(data, json.dumps({"a": big["a"]}).encode())
    put("declared.safetensors", half)
    put("header.safetensors", (90 * 2**20).to_bytes(8, "little"), 100 * 2**20)
    put("sparse.json", b"[", 2**40)
    put("nulls.json", b"", 2**26)
    put("nested.json", b"[" * 2**26)
    put("lines.jsonl", b"[\n" * 2**20)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIMITED, *map(str, files)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = ran.stdout.splitlines()
    assert len(lines) == len(files)
    for line in lines:
        assert not line.startswith("read"), line
