"""A step that is recorded, as a CUDA graph is, is the step that is launched kernel by kernel."""

import warnings

import pytest
import torch
from torch import nn

import madlab
from madlab.adapters import METHODS
from madlab.benchmarks.domain import Domain, Split
from madlab.errors import MadlabError, MadlabWarning
from madlab.runs.epoch import loss_weights, train_epoch
from madlab.runs.rates import make_optimiser
from madlab.runs.recipe import Recipe
from madlab.runs.step import WARM_UP, Kind, RecordedStep, Step, make_step
from madlab.runs.train import check_backend

CROP, CLASSES = 16, 3
CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and PyTorch sees none here"
)


def noise(device=CPU, images=36):
    """A domain of random pictures: with 8 a batch, four whole batches and half of one."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, CROP + 4, CROP + 4, 3), generator=generator, dtype=torch.uint8)
    split = Split(pixels, torch.arange(images) % CLASSES)
    return Domain("noise", [str(i) for i in range(CLASSES)], split, split, split).to(device)


def recipe_of(**changes):
    return Recipe(**{"epochs": 4, "batch_size": 8, "coarse": 0.5, "crop": CROP} | changes)


def view_of(method, device=CPU, base=None):
    torch.manual_seed(0)
    net = madlab.MultiDomainNet(madlab.resnet26(5, width=4) if base is None else base)
    own, _, rank = method.partition("@")
    net.add_domain("noise", CLASSES, own, rank=int(rank) if rank else None, crop=CROP)
    return net.to(device).view("noise")


class Repeater:
    """What records by remembering: each repetition must find rates and inputs where they were, as a graph would."""

    def __init__(self, optimiser):
        self.optimiser, self.aside_runs, self.repeats = optimiser, 0, 0

    def places(self, run):
        return [group["lr"].data_ptr() for group in self.optimiser.param_groups] + [t.data_ptr() for t in run.args[:2]]

    def aside(self, run):
        self.aside_runs += 1
        return run()

    def record(self, run):
        places = self.places(run)

        def repeat():
            assert self.places(run) == places
            self.repeats += 1
            return run()

        return repeat


class Failing(Repeater):
    """What cannot record, from the first warm-up on or only then."""

    def __init__(self, optimiser, method):
        super().__init__(optimiser)
        self.method = method

    def aside(self, run):
        if self.method == "aside":
            raise RuntimeError("no stream\nat all")
        return super().aside(run)

    def record(self, run):
        try:
            raise ValueError("a copy to the host")
        finally:
            raise RuntimeError("the capture was invalidated")


def trained(method, recipe, recorder=None, device=CPU, compile="none", base=None):
    """State, momentum, losses and the step; recorder: makes one for an optimiser; None leaves it to `make_step`."""
    view, domain, losses = view_of(method, device, base), noise(device), []
    optimiser, weights = make_optimiser(view, recipe), loss_weights(domain, recipe)
    if recorder is None:
        step = make_step(view, recipe, optimiser, weights, compile)
    else:
        step = RecordedStep(view, recipe, optimiser, weights, recorder(optimiser))
    for epoch in range(recipe.epochs):
        train_epoch(view, domain, recipe, optimiser, epoch, losses.append, step)
    momentum = [optimiser.state[p].get("momentum_buffer") for g in optimiser.param_groups for p in g["params"]]
    return view.own_state(), momentum, losses, step


def assert_equal(one, other):
    assert one[0].keys() == other[0].keys()
    assert [name for name, tensor in one[0].items() if not torch.equal(tensor, other[0][name])] == []
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    assert torch.equal(torch.stack(one[2]), torch.stack(other[2]))


@pytest.mark.slow
@pytest.mark.parametrize("method", [*METHODS, "mad@2"])
def test_static_buffers_and_rates_as_tensors_change_no_bit(method):
    """Four epochs of two sizes of images, each with a smaller last batch: four kinds of step."""
    recipe = recipe_of()
    plain, fed = trained(method, recipe), trained(method, recipe, Repeater)
    assert type(plain[3]) is Step
    assert_equal(plain, fed)
    kinds = {(shape[0], kind.side): held.taken for (shape, kind), held in fed[3].recordings.items()}
    assert kinds == {(8, 10): WARM_UP, (4, 10): 2, (8, None): WARM_UP, (4, None): 2}
    assert fed[3].recorder.aside_runs == 2 * (WARM_UP + 2)
    assert fed[3].recorder.repeats == 2 * (8 - WARM_UP)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"finish_bits": 3}, {"momentum": 0.0}, {"balance": "loss"}, {"adapter_decay": 0.01}]
)
def test_and_none_with_another_recipe(changes):
    recipe = recipe_of(**changes)
    assert_equal(trained("mad@2", recipe), trained("mad@2", recipe, Repeater))


@pytest.mark.parametrize(("method", "cause"), [("aside", "RuntimeError: no stream"), ("record", "ValueError: a copy")])
def test_where_recording_fails_one_sentence_says_so_and_the_training_is_the_plain_one(method, cause):
    recipe = recipe_of(epochs=2)
    plain = trained("mad", recipe)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fed = trained("mad", recipe, lambda optimiser: Failing(optimiser, method))
    (warning,) = said
    assert warning.category is MadlabWarning
    assert cause in str(warning.message) and "\n" not in str(warning.message)
    assert "--compile none" in str(warning.message)
    assert_equal(plain, fed)
    assert fed[3].recordings == {}


def test_a_base_that_is_changed_while_a_recording_runs_is_noticed():
    recipe = recipe_of()
    view, domain = view_of("mad"), noise()
    optimiser = make_optimiser(view, recipe)
    step = RecordedStep(view, recipe, optimiser, None, Repeater(optimiser))
    train_epoch(view, domain, recipe, optimiser, 0, step=step)
    kind, images = Kind(side=10), torch.randn(8, 3, CROP, CROP)
    held = step.recordings[images.shape, kind]
    held.taken, held.repeat = WARM_UP, lambda: torch.zeros(())  # a replay runs nothing of the network
    view.guard.base.conv.weight.data.mul_(2)
    with pytest.raises(MadlabError, match="base network was changed"):
        step(images, torch.zeros(8, dtype=torch.int64), 0.1, kind)


def test_the_last_batches_of_an_epoch_may_be_fewer_together():
    recipe, kinds = recipe_of(epochs=1, accumulate=3, coarse=0.0), []
    view = view_of("mad")
    optimiser = make_optimiser(view, recipe)
    step = make_step(view, recipe, optimiser)
    step.run = lambda images, labels, kind: (kinds.append(kind[2:]), torch.zeros(()))[1]
    train_epoch(view, noise(), recipe, optimiser, 0, step=step)
    three = [(3, True, False), (3, False, False), (3, False, True)]
    assert kinds == [*three, (2, True, False), (2, False, True)]


@pytest.mark.parametrize("name", [None, "none", "inductor", "eager"])
def test_what_a_step_can_be_compiled_with(name):
    check_backend(name)


@pytest.mark.parametrize("name", ["graph", "cudagraphs", "None"])
def test_what_it_cannot(name):
    with pytest.raises(MadlabError, match=f"no backend '{name}'.*choose one of none, "):
        check_backend(name)


@pytest.fixture
def same_kernels(monkeypatch):
    """cuDNN without its kernels that add in any order: what differs then is the recording."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


UNRECORDABLE = {"peft:oft"}
"""Methods that may fall back: the solver behind PEFT's OFT asks the device whether a matrix was singular."""


@needs_gpu
@pytest.mark.filterwarnings("ignore:The training step could not be recorded")
@pytest.mark.parametrize("method", [*METHODS, "mad@2"])
def test_a_graph_trains_what_plain_steps_train(method, same_kernels):
    """Twenty steps, ten of them on coarse images; half of each size out of a graph."""
    recipe, gpu = recipe_of(), torch.device("cuda")
    plain, captured = (trained(method, recipe, device=gpu, compile=compile) for compile in ("none", None))
    assert (type(plain[3]), type(captured[3])) == (Step, RecordedStep)
    assert len(captured[2]) == 20
    graphs = [held for held in captured[3].recordings.values() if held.repeat is not None]
    assert len(graphs) == 2 or (method in UNRECORDABLE and captured[3].recorder is None)
    for name, tensor in plain[0].items():
        torch.testing.assert_close(captured[0][name], tensor, rtol=0, atol=1e-5, msg=name)


@needs_gpu
def test_a_graph_rounds_as_plain_steps_do(same_kernels):
    recipe, gpu = recipe_of(finish_bits=3), torch.device("cuda")
    plain, captured = (trained("mad", recipe, device=gpu, compile=compile) for compile in ("none", None))
    for name, tensor in plain[0].items():
        torch.testing.assert_close(captured[0][name], tensor, rtol=0, atol=1e-5, msg=name)


class Asking(nn.Module):
    """A network that reads a number from the device, which no graph can hold."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x):
        x = self.norm(self.conv(x)).mean((2, 3))
        return self.fc(x if x.sum().item() == x.sum().item() else 2 * x)


@needs_gpu
def test_a_network_that_no_graph_can_hold_is_trained_kernel_by_kernel():
    with pytest.warns(MadlabWarning, match="could not be recorded as a CUDA graph"):
        state, _, losses, step = trained("mad", recipe_of(), device=torch.device("cuda"), compile=None, base=Asking())
    assert step.recorder is None
    assert len(losses) == 20
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert torch.randn(3, device="cuda").isfinite().all(), "the device works after the failed capture"


@needs_gpu
def test_a_run_on_a_gpu_ends_alike_with_graphs_and_without(same_kernels):
    torch.manual_seed(0)
    base = madlab.resnet26(5, width=8)
    base.crop = CROP
    options = {"epochs": 4, "batch_size": 8, "progress": False, "device": "cuda"}
    plain, captured = (madlab.train(noise(), base=base, compile=compile, **options) for compile in ("none", None))
    assert captured.test_accuracy == plain.test_accuracy
