"""Rounding against loops and a search over all units, and the straight-through estimator against autograd."""

import pytest
import torch
from torch import nn

from madlab.adapters import METHODS, FactorisedModulation, FullModulation
from madlab.adapters.rounding import (
    BITS,
    as_rows,
    check_bits,
    from_rows,
    restore_numbers,
    round_numbers,
    rounded,
    rounded_numbers,
)
from madlab.errors import MadlabError

UNITS = [2.0 ** (16 - code / 4) for code in range(256)]


def least_error(row, bits, weights=None):
    """The least (weighed) squared error of a row of numbers with any of the 256 units."""
    most = 2 ** (bits - 1) - 1
    found, weights = [], weights or [1.0] * len(row)
    for unit in UNITS:
        back = [unit * max(-most, min(most, round(value / unit))) for value in row]
        found.append(sum(w * (one - other) ** 2 for w, one, other in zip(weights, row, back, strict=True)))
    return min(found)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("moved", [1.0, 0.05])
@pytest.mark.parametrize("spread", [1e-5, 0.05, 30.0])
def test_rows_get_the_unit_with_the_least_squared_error(bits, spread, moved) -> None:
    """Where few numbers moved, a coarser unit than the one that clips nothing may meet them better."""
    torch.manual_seed(bits)
    alpha = 1 + spread * torch.randn(5, 40) * torch.rand(5, 40) ** 2  # a bell with heavy tails
    alpha = torch.where(torch.rand(5, 40) < moved, alpha, 1.0)
    one = torch.ones_like(alpha)
    back = restore_numbers(*round_numbers(alpha, one, bits), one)
    for row, got in zip((alpha - 1).tolist(), (back - 1).tolist(), strict=True):
        least = least_error(row, bits)
        assert sum((a - b) ** 2 for a, b in zip(row, got, strict=True)) <= least * (1 + 1e-3) + 1e-11
        assert len({round(number / spread, 3) for number in got}) <= 2**bits - 1


@pytest.mark.parametrize("bits", BITS)
def test_weighed_rows_get_the_unit_with_the_least_weighed_error(bits) -> None:
    """A number that weighs nothing may be of any size: it sets no unit."""
    torch.manual_seed(bits)
    numbers, weights = torch.randn(4, 40), torch.rand(4, 40)
    numbers[:, 5], weights[:, 5] = 800.0, 1e-9
    rest = torch.zeros_like(numbers)
    back = restore_numbers(*round_numbers(numbers, rest, bits, weights), rest)
    for row, got, own in zip(numbers.tolist(), back.tolist(), weights.tolist(), strict=True):
        error = sum(w * (a - b) ** 2 for w, a, b in zip(own, row, got, strict=True))
        assert error <= least_error(row, bits, own) * (1 + 1e-3)


@pytest.mark.parametrize("bits", BITS)
def test_what_was_rounded_rounds_to_itself_and_what_rests_stays(bits) -> None:
    torch.manual_seed(0)
    rest = torch.randn(6, 50)
    numbers = rest + 0.1 * torch.randn(6, 50)
    numbers[2] = rest[2]
    numbers[:, 7] = rest[:, 7]
    once = rounded_numbers(numbers, rest, bits)
    assert torch.equal(rounded_numbers(once, rest, bits), once)
    assert torch.equal(once[2], rest[2]) and torch.equal(once[:, 7], rest[:, 7])
    assert not torch.equal(once, numbers)


def test_few_numbers_stay_as_they_are() -> None:
    k = torch.tensor([0.9, 0.1, -0.2, 0.3])
    assert torch.equal(rounded_numbers(k, torch.zeros(4), 2), k)
    assert rounded_numbers(torch.ones(7, 0), torch.ones(7, 0), 2).shape == (7, 0)


ROWS = [((64, 32), (64, 32)), ((64, 8), (8, 64)), ((8, 64), (8, 64)), ((16,), (1, 16)), ((1, 16, 1, 1), (1, 16))]
ROWS += [((16, 1), (1, 16)), ((12, 8, 3, 3), (12, 72)), ((1, 9, 9), (9, 9)), ((16, 3), (3, 16)), ((2, 4, 4), (2, 16))]


@pytest.mark.parametrize(("shape", "rows"), ROWS)
def test_a_row_is_a_filter_unless_it_is_short(shape, rows) -> None:
    tensor = torch.randn(shape)
    assert as_rows(tensor).shape == rows
    assert torch.equal(from_rows(as_rows(tensor), tensor.shape), tensor)


def test_bits_that_cannot_be_are_told() -> None:
    for wrong in (0, 1, 5, 16, True, 2.0, "4", None):
        with pytest.raises(MadlabError, match="choose one of 2, 3, 4, 8"):
            check_bits(wrong)


class Straight(torch.autograd.Function):
    """Rounding whose gradient is that of the identity, as one writes it by hand."""

    @staticmethod
    def forward(ctx, numbers, rest):
        return rounded_numbers(numbers, rest, 3)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@pytest.mark.parametrize("build", [FullModulation, lambda conv: FactorisedModulation(conv, 2)])
def test_inside_gradients_are_straight_through_and_outside_nothing_moved(build) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(10, 12, 3).requires_grad_(False)
    adapter, pull = build(conv), torch.randn(12, 10, 3, 3)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    rest = adapter.rest()
    pairs = [(parameter, rest[name]) for name, parameter in adapter.named_parameters()]
    exact = [parameter.detach().clone() for parameter, _ in pairs]
    with rounded(pairs, 3):
        assert not any(torch.equal(p, e) for (p, _), e in zip(pairs, exact, strict=True))
        (adapter(conv.weight) * pull).sum().backward()
    assert all(torch.equal(p, e) for (p, _), e in zip(pairs, exact, strict=True))
    copies = {n: p.detach().clone().requires_grad_() for n, p in adapter.named_parameters()}
    inside = {name: Straight.apply(copy, rest[name]) for name, copy in copies.items()}
    (torch.func.functional_call(adapter, inside, (conv.weight,)) * pull).sum().backward()
    for name, parameter in adapter.named_parameters():
        torch.testing.assert_close(parameter.grad, copies[name].grad)


def test_an_error_inside_leaves_the_exact_numbers() -> None:
    parameter = nn.Parameter(torch.randn(4, 40))
    exact = parameter.detach().clone()
    with pytest.raises(KeyError):
        with rounded([(parameter, torch.zeros(4, 40))], 2):
            raise KeyError
    assert torch.equal(parameter, exact)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.adapter])
def test_numbers_that_rest_elsewhere_than_at_zero_start_there(method) -> None:
    if method.startswith("peft:"):
        pytest.importorskip("peft", reason="PEFT is in the extra 'peers'")
    conv = nn.Conv2d(8, 12, 3).requires_grad_(False)
    adapter = METHODS[method].build(conv, {k: v for k, v in METHODS[method].options.items() if v is not None})
    rests, packed = adapter.rest(), adapter.pack()
    for name, rest in rests.items():
        assert torch.equal(packed[name], rest), name
    elsewhere = ("mad", "mad+wtpb", "wtpb", "ksm", "peft:dora", "peft:ia3")
    assert bool(rests) == (method in elsewhere)


def test_factors_rest_at_the_direction_that_carries_the_one() -> None:
    adapter = FactorisedModulation(nn.Conv2d(8, 12, 3), 3)
    rest = adapter.rest()
    assert torch.equal(rest["beta"] @ rest["gamma"], torch.ones(12, 8))
    assert torch.equal(rest["gamma"], adapter.gamma)
