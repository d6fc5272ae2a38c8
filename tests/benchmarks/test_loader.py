"""The loader against explicit loops over single images, and against torchvision."""

import torch
from torchvision.transforms import functional as TF

from madlab.benchmarks.loader import batches, crop_and_flip, normalise


def pictures(count=7, height=10, width=12):
    """Every pixel has a value of its own, so that one that is moved shows."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def cut_one_by_one(images, index, crop, flip, generator):
    """The same random draws, one window at a time."""
    top = torch.randint(images.shape[1] - crop + 1, (len(index), 1), generator=generator)
    left = torch.randint(images.shape[2] - crop + 1, (len(index), 1), generator=generator)
    mirrored = torch.rand(len(index), 1, generator=generator) < 0.5
    windows = []
    for place, sample in enumerate(index.tolist()):
        y, x = int(top[place]), int(left[place])
        window = images[sample, y : y + crop, x : x + crop].permute(2, 0, 1)
        windows.append(TF.hflip(window) if flip and mirrored[place] else window)
    return torch.stack(windows), mirrored


def test_each_sample_gets_its_own_window_and_its_own_flip():
    images, index = pictures(), torch.tensor([6, 0, 0, 3, 5, 1, 0, 0])
    for flip in (True, False):
        expected, mirrored = cut_one_by_one(images, index, 8, flip, torch.Generator().manual_seed(1))
        cut = crop_and_flip(images, index, 8, flip, torch.Generator().manual_seed(1))
        assert 0 < mirrored.sum() < len(index)  # both kinds are among them
        assert cut.dtype == torch.uint8 and torch.equal(cut, expected)
        assert cut.is_contiguous(memory_format=torch.channels_last)
    assert len({cut[place].numpy().tobytes() for place in (1, 2, 6, 7)}) > 1  # four times image 0


def test_without_a_generator_the_centre_is_cut():
    images = pictures()
    cut = crop_and_flip(images, torch.arange(7), 6, True, None)
    assert torch.equal(cut, TF.center_crop(images.permute(0, 3, 1, 2), [6, 6]))


def test_normalise_is_torchvisions():
    images = pictures().permute(0, 3, 1, 2)
    mean, std = [0.2, 0.5, 0.7], [0.1, 0.25, 0.3]
    expected = TF.normalize(images.float() / 255, mean, std)
    torch.testing.assert_close(normalise(images, {"mean": mean, "std": std}), expected, rtol=1e-5, atol=1e-5)


def test_without_a_generator_every_image_comes_once_and_in_order():
    images, labels = pictures(), torch.arange(7)
    found = list(batches(images, labels, 3, 10, flip=True))
    assert [part.tolist() for _, part in found] == [[0, 1, 2], [3, 4, 5], [6]]
    whole = torch.cat([part for part, _ in found])
    assert torch.equal(whole, TF.center_crop(images.permute(0, 3, 1, 2), [10, 10]))


def test_with_a_generator_the_order_is_its_permutation_and_no_batch_has_one_sample():
    images, labels = pictures(), torch.arange(7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(5)).tolist()
    found = [part.tolist() for _, part in batches(images, labels, 3, 8, generator=torch.Generator().manual_seed(5))]
    assert found == [order[:3], order[3:6]] != [[0, 1, 2], [3, 4, 5]]
    found = [part.tolist() for _, part in batches(images, labels, 4, 8, generator=torch.Generator().manual_seed(5))]
    assert found == [order[:4], order[4:]]
