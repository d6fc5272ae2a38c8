"""What must hold for whatever can be written or said, with examples that hypothesis looks for."""

import json
import math

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from madlab.errors import MadlabError, printable
from madlab.files.jsonfiles import read_json, write_json
from madlab.files.tensors import DTYPES, load_tensors, save_tensors
from madlab.runs.record import read_lines

quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
texts = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


@st.composite
def tensors(draw):
    """Any shape up to three sides, any dtype of madlab's files, bytes as they come."""
    kind = draw(st.sampled_from(list(DTYPES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    size = math.prod(shape) * DTYPES[kind].itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if kind == "BOOL":
        data = bytes(byte % 2 for byte in data)
    flat = torch.frombuffer(bytearray(data), dtype=DTYPES[kind]) if data else torch.empty(0, dtype=DTYPES[kind])
    return flat.reshape(shape)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    def bits(value: torch.Tensor) -> np.ndarray:
        return value.reshape(-1).view(torch.uint8).numpy()

    return (one.dtype, one.shape) == (other.dtype, other.shape) and np.array_equal(bits(one), bits(other))


@quick
@given(value=values)
def test_json_comes_back(value, tmp_path):
    write_json(tmp_path / "x.json", value)
    back = read_json(tmp_path / "x.json")
    assert back == value and json.dumps(back) == json.dumps(value)


@quick
@given(rows=st.lists(values, min_size=1))
def test_json_lines_come_back(rows, tmp_path):
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert json.dumps(read_lines(tmp_path / "x.jsonl", lambda line, _: line)) == json.dumps(rows)


names = st.text(min_size=1).filter(lambda name: name != "__metadata__")
facts_of_any_kind = st.dictionaries(texts.filter(lambda key: key not in ("format", "content_sha256")), values)


@quick
@given(stored=st.dictionaries(names, tensors(), max_size=4), facts=facts_of_any_kind)
def test_tensors_and_facts_come_back_to_the_last_bit(stored, facts, tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, stored, facts, finite=False)
    back, told = load_tensors(path, finite=False)
    assert told == facts and json.dumps(told) == json.dumps(facts)
    assert back.keys() == stored.keys() and all(same(back[name], stored[name]) for name in stored)


@quick
@given(stored=st.dictionaries(names, tensors(), min_size=1, max_size=4))
def test_what_may_be_written_may_be_read(stored, tmp_path):
    finite = all(np.isfinite(t.double().numpy()).all() for t in stored.values())
    path = tmp_path / "x.safetensors"
    path.unlink(missing_ok=True)
    try:
        save_tensors(path, stored, {})
    except MadlabError:
        assert not finite and not path.exists()
    else:
        assert finite and load_tensors(path)[0].keys() == stored.keys()


@quick
@given(text=texts)
def test_whatever_is_said_can_be_printed_and_is_said_once(text):
    said = printable(text)
    said.encode()  # no half of a surrogate pair is left
    assert said.isprintable() and printable(said) == said
    assert str(MadlabError(text)) == said
    if text.isprintable():
        assert said == text
