"""JSON that is not as it should be is told in one sentence that names the file, whatever is wrong with it."""

import json
import math
import os
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pytest
import torch

from madlab.errors import MadlabError
from madlab.files.jsonfiles import parse_json, read_json, write_json
from madlab.files.schemas import validated

DAMAGED = {
    "not JSON": (b"{'a': 1}", "Expecting property name"),
    "empty": (b"", "Expecting value|empty"),
    "cut": (b'{"a": [1, 2', "Expecting"),
    "two": (b'{"a": 1} {"a": 1}', "Extra data"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "5,000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
    "NaN": (b'{"a": NaN}', "NaN is not a number"),
    "infinity": (b"[-Infinity]", "-Infinity is not a number"),
    "too large": (b'{"a": 1e999}', "'1e999' is too large"),
    "Latin-1": ('{"a": "Köln"}'.encode("latin-1"), "utf-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "utf-8"),
    "half an emoji": (('"' + "🙂").encode()[:-1], "utf-8"),
    "nulls": (bytes(100), "Expecting value"),
}


def told(call, *words):
    with pytest.raises(MadlabError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 500 and sentence.endswith("."), sentence
    for word in words:
        assert word in sentence, sentence
    return sentence


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_with_the_name_of_the_file(name, tmp_path):
    data, words = DAMAGED[name]
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(MadlabError, match=rf"(?s)^[^\n]*config\.json is damaged \([^\n]*({words})[^\n]*anew\.$"):
        read_json(path)
    path.unlink()
    told(lambda: read_json(path), f"There is no file {path}: check its name.")


def test_sizes_are_bounded(tmp_path):
    path = tmp_path / "x.json"
    with open(path, "wb") as file:
        file.truncate(10**12)
    told(lambda: read_json(path), "1,000,000,000,000 bytes", "at most 67,108,864")
    path.write_text("[1, 2, 3]")
    assert read_json(path, most=9) == [1, 2, 3]
    told(lambda: read_json(path, most=8), "at most 8")
    os.remove(path)
    os.mkfifo(path)
    told(lambda: read_json(path), "is a FIFO")


def test_what_is_written_is_read_again_and_a_byte_order_mark_is_no_damage(tmp_path):
    data = {"a": [1, 2.5, None, True, -(10**20)], "ü\n\u202e": "🙂", "": {}}
    write_json(tmp_path / "x.json", data)
    assert read_json(tmp_path / "x.json") == data
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "x.json").read_bytes())
    assert read_json(tmp_path / "x.json") == data


def test_what_is_not_finite_is_neither_written_nor_read_unless_it_is_asked_for(tmp_path):
    told(lambda: write_json(tmp_path / "x.json", {"loss": math.nan}), "x.json was not written")
    assert not (tmp_path / "x.json").exists()
    (tmp_path / "x.json").write_text('{"loss": [NaN, 1e999]}')
    told(lambda: read_json(tmp_path / "x.json"), "x.json is damaged (NaN is not a number)")
    first, second = parse_json((tmp_path / "x.json").read_bytes(), "x.json", finite=False)["loss"]
    assert math.isnan(first) and second == math.inf


@dataclass
class Recipe:
    epochs: int
    rates: tuple[float, ...]


HOLDS_ITSELF: list = []
HOLDS_ITSELF.append(HOLDS_ITSELF)
WRONG = [
    ({"epochs": "3", "rates": []}, "epochs is '3'", "valid integer"),
    ({"epochs": True, "rates": []}, "epochs is True", "valid integer"),
    ({"epochs": 3, "rates": [0.1, None]}, "rates.1 is None", "valid number"),
    ({"epochs": 3}, "rates: field required", "correct it"),
    ([1], "it is [1]", "mapping"),
    ({"epochs": 3, "rates": 0.1}, "rates is 0.1", "valid list"),
    ({"epochs": 3, "rates": [1j, None]}, "rates.0 is '1j'", "and 1 more fault)"),
    ({"epochs": 3, "rates": [], (1, 2): 3}, "keys must be", "tuple"),
    ({"epochs": 3, "rates": HOLDS_ITSELF}, "Circular", "correct it"),
    ({"epochs": "\x1b[31m" * 1000, "rates": []}, "epochs is '\\x1b[31m", "valid integer"),
]


@pytest.mark.parametrize(("data", "field", "reason"), WRONG)
def test_a_value_of_another_type_is_told_with_its_field(data, field, reason):
    told(lambda: validated(Recipe, data, "x.json"), "x.json is not valid", field, reason)


def test_values_of_the_right_type():
    assert validated(Recipe, {"epochs": 3, "rates": [1, 0.5]}, "x.json") == Recipe(3, (1.0, 0.5))
    assert validated(dict[str, list[int]], b'{"a": [1]}', "x.json") == {"a": [1]}


def test_arrays_and_their_numbers_count_as_lists_and_numbers(tmp_path):
    given = MappingProxyType({"epochs": np.int16(3), "rates": torch.tensor([0.25, 0.5], requires_grad=True)})
    assert validated(Recipe, given, "x.json") == Recipe(3, (0.25, 0.5))
    told(lambda: validated(Recipe, dict(given) | {"epochs": np.float64(3.5)}, "x.json"), "epochs is 3.5")
    write_json(tmp_path / "a.json", given)
    assert json.loads((tmp_path / "a.json").read_text()) == {"epochs": 3, "rates": [0.25, 0.5]}


@pytest.mark.parametrize("value", [{1}, object(), b"x", {(1,): 2}, HOLDS_ITSELF, 10**5000], ids=type)
def test_what_json_cannot_hold_is_told_and_not_written(value, tmp_path):
    told(lambda: write_json(tmp_path / "a.json", {"a": value}), "a.json was not written", "it can hold texts")
    assert not list(tmp_path.iterdir())
