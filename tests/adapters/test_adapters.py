"""Each method's mathematics, against loops, hand-built weights, finite differences and networks built by hand."""

import numpy as np
import pytest
import torch
from any_networks import randomise
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from madlab.adapters import (
    BinaryTransform,
    FactorisedModulation,
    Frame,
    FullModulation,
    LowRankDelta,
    ModulatedTransform,
    ParallelAdapter,
    Piggyback,
    SeriesAdapter,
    modulate,
)
from madlab.adapters.layer import AdaptedConv2d
from madlab.adapters.masks import pack_bits, unpack_bits
from madlab.errors import MadlabError

CONVS = {
    "3x3": {"kernel_size": 3, "padding": 1, "bias": False},
    "strided, biased": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 8, "out_channels": 16},
    "1x1": {"kernel_size": 1, "bias": False},
    "oblong": {"kernel_size": (1, 5), "padding": (0, 2)},
}


@pytest.fixture(params=CONVS)
def conv(request):
    """A frozen convolution of each kind, 8 channels in, with random weights and bias."""
    torch.manual_seed(0)
    return nn.Conv2d(**({"in_channels": 8, "out_channels": 12} | CONVS[request.param])).requires_grad_(False)


def images(channels=8):
    return torch.randn(2, channels, 9, 9, generator=torch.Generator().manual_seed(1))


def convolve(x, weight, conv):
    """PyTorch's convolution with a weight that a test built."""
    return F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def by_loop(weight, slice_of):
    """slice_of(m, n) for every output channel m and input channel n, put together."""
    return torch.stack([torch.stack([slice_of(m, n) for n in range(weight.shape[1])]) for m in range(weight.shape[0])])


def test_full_modulation_is_a_loop_over_slices(conv):
    adapter = randomise(FullModulation(conv))
    weight = by_loop(conv.weight, lambda m, n: adapter.alpha[m, n].item() * conv.weight[m, n])
    torch.testing.assert_close(AdaptedConv2d(conv, adapter)(images()), convolve(images(), weight, conv))


def test_factorised_modulation_is_a_loop_over_slices(conv):
    adapter = randomise(FactorisedModulation(conv, rank=3))
    beta, gamma = adapter.beta.tolist(), adapter.gamma.tolist()
    weight = by_loop(conv.weight, lambda m, n: sum(beta[m][i] * gamma[i][n] for i in range(3)) * conv.weight[m, n])
    torch.testing.assert_close(AdaptedConv2d(conv, adapter)(images()), convolve(images(), weight, conv))


@pytest.mark.parametrize("rank", [None, 1, 3])
def test_modulation_starts_at_the_base_weights_and_counts_its_parameters(conv, rank):
    adapter = FullModulation(conv) if rank is None else FactorisedModulation(conv, rank)
    assert torch.equal(adapter(conv.weight), conv.weight)
    out_channels, in_channels = conv.weight.shape[:2]
    assert adapter.size() == (out_channels * in_channels if rank is None else rank * (out_channels + in_channels))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_agree_with_finite_differences(memory_format):
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64).to(memory_format=memory_format)
    alpha = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: modulate(weight, a), alpha)
    beta = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    gamma = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    adapter = FactorisedModulation(nn.Conv2d(3, 4, 3), rank=2)
    adapted = torch.autograd.gradcheck(
        lambda b, c: functional_call(adapter, {"beta": b, "gamma": c}, (weight,)), (beta, gamma)
    )
    assert adapted


def trained(beta, gamma, steps=5):
    """Numerical rank of beta gamma after some steps towards random filters, by PyTorch's own product and optimiser."""
    generator = torch.Generator().manual_seed(3)
    weight, target = torch.randn(2, 10, 8, 3, 3, generator=generator, dtype=torch.float64)
    beta, gamma = (nn.Parameter(x.detach().double()) for x in (beta, gamma))
    optimiser = torch.optim.SGD([beta, gamma], lr=0.001)
    for _ in range(steps):
        optimiser.zero_grad()
        (weight * (beta @ gamma)[:, :, None, None] - target).square().sum().backward()
        optimiser.step()
    return torch.linalg.matrix_rank(beta @ gamma, rtol=1e-8).item()


@pytest.mark.parametrize("rank", [1, 2, 4, 8])
def test_factors_reach_their_rank_where_the_symmetric_start_is_trapped_at_one(rank):
    torch.manual_seed(0)
    adapter = FactorisedModulation(nn.Conv2d(8, 10, 3), rank)
    assert trained(adapter.beta, adapter.gamma, steps=0) == 1
    assert trained(adapter.beta, adapter.gamma) == rank
    assert trained(torch.ones(10, rank), torch.full((rank, 8), 1 / rank)) == 1


@pytest.mark.parametrize("rank", [5, 20])
def test_random_directions_pass_the_gradient_of_alpha_on_as_it_is_on_average(rank):
    torch.manual_seed(0)
    conv, passed = nn.Conv2d(3, 6, 1), torch.zeros(6, 6)
    for _ in range(2000):  # a step along the gradient g of alpha moves gamma by beta^T g, and so alpha by beta beta^T g
        beta = FactorisedModulation(conv, rank).beta.detach()[:, 1:]
        passed += beta @ beta.T / 2000
    torch.testing.assert_close(passed, torch.eye(6) * (rank - 1) / rank, atol=0.06, rtol=0)


# Masks


def with_random_mask(adapter, seed=4):
    """m on both sides of the threshold, at the distances that training gives it."""
    noise = torch.randn(adapter.mask.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        adapter.mask.copy_(adapter.threshold + adapter.margin * noise)
    return adapter


def masked(weight, mask, threshold, value):
    """value(w, bit) of every single weight, in a loop over all of them."""
    pairs = zip(weight.flatten().tolist(), mask.flatten().tolist(), strict=True)
    return torch.tensor([value(w, 1.0 if m > threshold else 0.0) for w, m in pairs]).view(weight.shape)


def test_piggyback_keeps_the_weights_above_the_published_threshold(conv):
    adapter = Piggyback(conv)
    assert torch.equal(adapter(conv.weight), conv.weight)
    assert (adapter.mask == 1e-2).all()
    with_random_mask(adapter)
    weight = masked(conv.weight, adapter.mask, 5e-3, lambda w, bit: w * bit)
    assert 0.2 < (weight == 0).float().mean() < 0.8
    torch.testing.assert_close(AdaptedConv2d(conv, adapter)(images()), convolve(images(), weight, conv))


def test_wtpb_is_the_affine_transformation_of_weights_and_mask(conv):
    adapter = BinaryTransform(conv)
    assert torch.equal(adapter(conv.weight), conv.weight)
    assert (adapter.mask >= 1e-5).all() and (adapter.mask <= 2e-5).all()
    with_random_mask(adapter)
    with torch.no_grad():
        adapter.k.copy_(torch.tensor([0.5, -0.3, 0.7, 1.1]))
    k0, k1, k2, k3 = adapter.k.tolist()
    s = conv.weight.square().mean().sqrt().item()
    weight = masked(conv.weight, adapter.mask, 0.0, lambda w, bit: k0 * w + s * k1 + s * k2 * bit + k3 * w * bit)
    torch.testing.assert_close(AdaptedConv2d(conv, adapter)(images()), convolve(images(), weight, conv))


@pytest.mark.parametrize("rank", [None, 2])
def test_the_hybrid_masks_modulated_filters(conv, rank):
    adapter = ModulatedTransform(conv, rank)
    assert torch.equal(adapter(conv.weight), conv.weight)
    randomise(adapter.mad)
    with_random_mask(adapter.wtpb)
    with torch.no_grad():
        adapter.wtpb.k.copy_(torch.tensor([0.5, -0.3, 0.7, 1.1]))
    alpha = adapter.mad.alpha if rank is None else adapter.mad.beta @ adapter.mad.gamma
    modulated = by_loop(conv.weight, lambda m, n: alpha[m, n].item() * conv.weight[m, n])
    s = conv.weight.square().mean().sqrt().item()
    weight = masked(modulated, adapter.wtpb.mask, 0.0, lambda v, bit: (0.5 + 1.1 * bit) * v + s * (0.7 * bit - 0.3))
    torch.testing.assert_close(adapter(conv.weight), weight)


def test_straight_through_hands_the_gradient_of_the_bits_to_the_mask():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3).requires_grad_(False)
    adapter, x = with_random_mask(Piggyback(conv)), torch.randn(2, 3, 7, 7)
    F.conv2d(x, adapter(conv.weight)).square().sum().backward()
    bits = (adapter.mask > 5e-3).float().requires_grad_()
    F.conv2d(x, conv.weight * bits).square().sum().backward()
    torch.testing.assert_close(adapter.mask.grad, bits.grad)


def test_smooth_part_of_wtpb_agrees_with_finite_differences():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3).double().requires_grad_(False)
    adapter = with_random_mask(BinaryTransform(conv).double())
    k = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: functional_call(adapter, {"k": k}, (conv.weight,)), k)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_bits_are_packed_as_numpy_packs_them(count):
    bits = np.random.default_rng(count).integers(0, 2, count)
    packed = pack_bits(torch.tensor(bits, dtype=torch.float32))
    assert packed.dtype == torch.uint8
    assert packed.tolist() == np.packbits(bits).tolist()
    assert unpack_bits(packed, count).tolist() == bits.tolist()


@pytest.mark.parametrize("build", [Piggyback, BinaryTransform, ModulatedTransform, lambda c: ModulatedTransform(c, 2)])
def test_masks_are_counted_and_stored_in_bits(conv, build):
    adapter = build(conv)
    mask = adapter if isinstance(adapter, (Piggyback, BinaryTransform)) else adapter.wtpb
    with_random_mask(mask)
    others = sum(p.numel() for p in adapter.parameters()) - conv.weight.numel()
    assert adapter.size() == conv.weight.numel() / 32 + others
    packed = {name: tensor.clone() for name, tensor in adapter.pack().items()}
    stored = sum(tensor.numel() * tensor.element_size() for tensor in packed.values())
    assert stored == -(-conv.weight.numel() // 8) + 4 * others
    other = build(conv)
    other.unpack(packed)
    assert torch.equal(other(conv.weight), adapter(conv.weight))


# Residual adapters


def test_parallel_is_a_second_branch(conv):
    adapter = ParallelAdapter(conv)
    assert torch.equal(adapter(conv.weight), conv.weight)
    randomise(adapter)
    branch = nn.Conv2d(8, conv.out_channels, 1, conv.stride, groups=conv.groups, bias=False).requires_grad_(False)
    branch.weight.copy_(adapter.a[:, :, None, None])
    torch.testing.assert_close(AdaptedConv2d(conv, adapter)(images()), conv(images()) + branch(images()))
    assert adapter.size() == branch.weight.numel()


def test_series_is_identity_plus_a_convolution_behind(conv):
    adapter = SeriesAdapter(conv)
    assert torch.equal(adapter(conv.weight), conv.weight)
    randomise(adapter)
    behind = nn.Conv2d(conv.out_channels, conv.out_channels, 1, groups=conv.groups, bias=False).requires_grad_(False)
    behind.weight.copy_(adapter.a.flatten(0, 1)[:, :, None, None])
    filtered = convolve_without_bias(conv, images())
    bias = 0 if conv.bias is None else conv.bias[:, None, None]
    torch.testing.assert_close(AdaptedConv2d(conv, adapter)(images()), filtered + behind(filtered) + bias)
    assert adapter.size() == behind.weight.numel()


def convolve_without_bias(conv, x):
    return F.conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)


# LoRA


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_lora_is_two_convolutions_in_a_row_beside(conv, alpha):
    adapter = LowRankDelta(conv, rank=3, alpha=alpha)
    assert torch.equal(adapter(conv.weight), conv.weight)
    randomise(adapter)
    kernel = conv.kernel_size[0] * conv.kernel_size[1]
    assert adapter.size() == 3 * (kernel * 8 // conv.groups + conv.out_channels)
    factor = 1 if alpha is None else 2
    beside = torch.zeros_like(conv.weight)
    for m in range(conv.out_channels):
        for i in range(3):
            beside[m] += factor * adapter.b[m, i].item() * adapter.a[i].detach()
    torch.testing.assert_close(adapter(conv.weight), conv.weight + beside)
    if conv.groups == 1:
        down = F.conv2d(images(), adapter.a, None, conv.stride, conv.padding, conv.dilation)
        up = F.conv2d(down, adapter.b[:, :, None, None])
        output = AdaptedConv2d(conv, adapter)(images())
        torch.testing.assert_close(output, conv(images()) + factor * up, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [ParallelAdapter, SeriesAdapter, lambda conv: LowRankDelta(conv, 2, 3.0)])
def test_smooth_rivals_agree_with_finite_differences(build):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, groups=2).double().requires_grad_(False)
    adapter = randomise(build(conv).double())
    names, values = zip(*((n, p.detach().requires_grad_()) for n, p in adapter.named_parameters()), strict=True)
    assert torch.autograd.gradcheck(
        lambda *v: functional_call(adapter, dict(zip(names, v, strict=True)), (conv.weight,)), values
    )


# Prompt


def test_prompt_adds_a_frame_and_leaves_the_inside():
    frame = Frame(3, frame=2, size=10)
    x = torch.randn(2, 3, 10, 10)
    assert torch.equal(frame(x), x)
    assert frame.size() == 3 * (10 * 10 - 6 * 6)
    randomise(frame)
    added = frame(x) - x
    assert torch.equal(added[:, :, 2:8, 2:8], torch.zeros(2, 3, 6, 6))
    torch.testing.assert_close(added[0], added[1])
    for channel in range(3):  # row by row, as one reads
        ring = [added[0, channel, r, c] for r in range(10) for c in range(10) if not (2 <= r < 8 and 2 <= c < 8)]
        torch.testing.assert_close(torch.stack(ring), frame.pixels[channel].detach(), rtol=1e-4, atol=1e-5)


def test_prompt_refuses_other_sizes_and_frames_that_do_not_fit():
    with pytest.raises(MadlabError, match="24 x 24 pixels, not 20 x 24"):
        Frame(3, 4, 24)(torch.zeros(1, 3, 24, 20))
    for wrong in (0, 13, 2.5):
        with pytest.raises(MadlabError, match="from 1 to 12"):
            Frame(3, wrong, 24)
