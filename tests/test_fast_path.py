"""What makes madlab quick changes no result: memory formats, what autograd keeps, mixed batches, compiled steps."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import madlab
from madlab.adapters import FactorisedModulation, FullModulation, modulate
from madlab.benchmarks.domain import Domain, Split
from madlab.errors import MadlabError
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet

FORMATS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(6, 5, 3, 3), (6, 5, 1, 1), (8, 1, 3, 3), (4, 3, 1, 5)]


def double(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradients_by_loop(weight, alpha, upstream):
    """The modulated filters and the gradient of alpha, one slice after the other."""
    filters, gradient = torch.empty_like(weight), torch.empty_like(alpha)
    for m in range(weight.shape[0]):
        for n in range(weight.shape[1]):
            filters[m, n] = weight[m, n] * alpha[m, n].item()
            gradient[m, n] = (upstream[m, n] * weight[m, n]).sum()
    return filters, gradient


def layouts(gradient):
    """The same gradient as different layers pass it back: in rows, in channels_last, and with gaps between entries."""
    gaps = gradient.new_zeros(*gradient.shape[:3], 2 * gradient.shape[3])[..., ::2].copy_(gradient)
    return [gradient.contiguous(), gradient.contiguous(memory_format=torch.channels_last), gaps]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_modulation_and_its_gradient_are_a_loop_in_every_layout(shape, memory_format):
    weight, alpha = double(*shape), double(*shape[:2], seed=1)
    filters, gradient = gradients_by_loop(weight, alpha, double(*shape, seed=2))
    stored = weight.contiguous(memory_format=memory_format)
    for upstream in layouts(double(*shape, seed=2)):
        learned = alpha.clone().requires_grad_()
        modulated = modulate(stored, learned)
        modulated.backward(upstream)
        torch.testing.assert_close(modulated.detach(), filters)
        torch.testing.assert_close(learned.grad, gradient)
        assert modulated.stride() == stored.stride()


def test_factors_get_the_chain_rule_of_that_gradient():
    conv = nn.Conv2d(5, 6, 3).double().to(memory_format=torch.channels_last).requires_grad_(False)
    adapter = FactorisedModulation(conv, rank=2).double()
    upstream = double(6, 5, 3, 3, seed=2)
    with torch.no_grad():
        adapter.gamma.copy_(double(2, 5, seed=3))
    adapter(conv.weight).backward(upstream)
    beta, gamma = adapter.beta.detach(), adapter.gamma.detach()
    _, gradient = gradients_by_loop(conv.weight, beta @ gamma, upstream)
    torch.testing.assert_close(adapter.beta.grad, gradient @ gamma.T)
    torch.testing.assert_close(adapter.gamma.grad, beta.T @ gradient)


def test_autograd_keeps_the_frozen_filters_and_no_copy_for_the_backward_pass():
    conv = nn.Conv2d(8, 16, 3).requires_grad_(False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        FullModulation(conv)(conv.weight)
    assert [tensor.data_ptr() for tensor in kept] == [conv.weight.data_ptr()]


def test_the_gradient_reaches_the_product_in_channels_last():
    """Otherwise every layer's backward pass would rearrange its filters, whatever the memory format of the images."""
    net = MultiDomainNet(madlab.resnet26(4, width=8)).train()
    net.add_domain("d", 3)
    layouts_seen = []
    real, patch = F.conv2d, pytest.MonkeyPatch()

    def watched(x, weight, *rest):
        weight.register_hook(lambda g: layouts_seen.append(g.is_contiguous(memory_format=torch.channels_last)))
        return real(x, weight, *rest)

    with patch.context() as m:
        m.setattr(F, "conv2d", watched)
        net(torch.randn(2, 3, 16, 16), domain="d").square().sum().backward()
    assert len(layouts_seen) == 25
    assert all(layouts_seen)


class Counting(nn.Conv2d):
    """A layer whose own code counts on the order of its filters in memory."""

    def forward(self, x):
        return self._conv_forward(x, self.weight.view(self.out_channels, -1).view(self.weight.shape), self.bias)


class Mixed(nn.Sequential):
    """A plain convolution, one with a forward of its own, one with a weight norm, and a head."""

    def __init__(self):
        norm = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
        super().__init__(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), Counting(8, 8, 3), norm, *pooled)


def test_filters_are_laid_out_for_the_product_and_no_value_changes():
    torch.manual_seed(0)
    base = Mixed()
    before, sha256, weight = copy.deepcopy(base.state_dict()), fingerprint(base), base[0].weight
    net = MultiDomainNet(base)
    net.add_domain("d", 3)
    assert base[0].weight is weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert base[2].weight.is_contiguous()
    assert net.guard.sha256 == sha256
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    assert net.view("d").adapted_layers()["0"].conv.weight is weight
    net(torch.randn(2, 3, 16, 16), domain="d")


class Viewing(nn.Sequential):
    """Code that looks at a plain layer's filters as vectors, which PyTorch's default format allows alone."""

    def forward(self, x):
        return super().forward(x + self[0].weight.view(len(self[0].weight), -1).norm(dim=1).mean())


def test_a_network_whose_code_counts_on_the_default_format_keeps_it():
    base = Viewing(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    net = MultiDomainNet(base)
    net.add_domain("d", 3)
    assert base[0].weight.is_contiguous()
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(net.merge("d")(images), net(images, domain="d"))


def step_of(net):
    """The loss of a training step and its gradients."""
    images, labels = double(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    loss = F.cross_entropy(net(images, domain="d"), labels)
    return [loss.detach(), *torch.autograd.grad(loss, list(net.trainable_parameters("d")))]


@pytest.mark.parametrize("method", ["mad", "mad:2", "finetune", "piggyback"])
def test_a_training_step_is_the_same_in_both_memory_formats(method, tmp_path):
    """Double precision, so that what is left between the two is rounding and nothing else; the file is the same."""
    results, files = [], []
    for memory_format in FORMATS:
        torch.manual_seed(0)
        net = MultiDomainNet(madlab.resnet26(4, width=8).double()).train()
        net.add_domain("d", 3, method)
        net.to(memory_format=memory_format)
        assert next(iter(net.convs.values())).weight.is_contiguous(memory_format=memory_format)
        net.save_domain("d", tmp_path / "d.safetensors")
        files.append((tmp_path / "d.safetensors").read_bytes())
        results.append(step_of(net))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    assert files[0] == files[1]


def many_domains(count, **options):
    torch.manual_seed(0)
    net = MultiDomainNet(madlab.resnet26(4, width=8))
    for i in range(count):
        net.add_domain(f"d{i}", 2 + i % 4, **options)
        with torch.no_grad():
            for parameter in net.trainable_parameters(f"d{i}"):
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return net


@torch.no_grad()
def test_a_mixed_batch_answers_in_order_what_each_image_gets_alone():
    net = many_domains(3)
    images, names = torch.randn(7, 3, 16, 16), ["d2", "d0", "d1", "d0", "d2", "d2", "d1"]
    logits = net(images, domain=names)
    assert [len(row) for row in logits] == [4, 2, 3, 2, 4, 4, 3]
    for image, name, row in zip(images, names, logits, strict=True):
        torch.testing.assert_close(row, net(image[None], domain=name)[0], rtol=1e-4, atol=1e-5)


def test_a_mixed_batch_trains_every_domain_in_it_and_no_other():
    net = many_domains(3)
    logits = net(torch.randn(4, 3, 16, 16), domain=["d0", "d2", "d0", "d2"])
    sum(row.square().sum() for row in logits).backward()
    trained = [any(p.grad is not None for p in net.trainable_parameters(name)) for name in net.domains]
    assert trained == [True, False, True]


def storages(module):
    """Address -> bytes of everything that a module holds."""
    tensors = [*module.parameters(), *module.buffers()]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


@pytest.mark.slow
def test_a_hundred_domains_hold_one_base_and_a_hundred_adapters():
    net = many_domains(100, method="mad")
    own = 0
    for name in net.domains:
        view = net.view(name)
        own += sum(tensor.numel() * tensor.element_size() for tensor in view.own_state().values())
        shared = storages(net.base).keys() & storages(view).keys()
        assert len(shared) == 25, "each view runs the base's own 25 filter banks"
    assert sum(storages(net).values()) == sum(storages(net.base).values()) + own


def noise():
    """A domain of random pictures, each class a little brighter, that a few steps can learn something from."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(20) % 2
    images = torch.randint(180, (20, 14, 14, 3), generator=generator) + 60 * labels[:, None, None, None]
    split = Split(images.byte(), labels)
    return Domain("noise", ["dark", "bright"], split, split, split)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_run_is_the_plain_run(backend):
    torch.manual_seed(0)
    base = madlab.resnet26(4, width=4)
    base.crop = 12
    run = {"epochs": 2, "batch_size": 8, "progress": False, "device": "cpu", "rank": 2}
    plain = madlab.train(noise(), base=copy.deepcopy(base), **run)
    compiled = madlab.train(noise(), base=copy.deepcopy(base), compile=backend, **run)
    assert dataclasses.replace(compiled, seconds=plain.seconds, cost=plain.cost) == plain


def test_a_backend_that_does_not_exist_is_said_so():
    with pytest.raises(MadlabError, match="no backend 'magic'"):
        madlab.train(noise(), base=madlab.resnet26(4, width=4), compile="magic")
