"""`net.predict`: whatever a picture comes as, it is prepared as its domain was trained, and refused if unclear."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

import madlab
from madlab.errors import MadlabError, MadlabWarning
from madlab.files.pictures import read_image
from madlab.network import MultiDomainNet
from madlab.prediction import prepared_size
from madlab.runs.predict import predict_files

NORMALIZATION = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
NAMES = ["ant", "bee", "cat", "dog"]


@pytest.fixture(scope="module")
def net() -> MultiDomainNet:
    torch.manual_seed(0)
    base = madlab.resnet26(num_classes=5, width=4)
    net = MultiDomainNet(base)
    net.add_domain("pets", 4, class_names=NAMES, normalization=NORMALIZATION, resize=36, crop=32)
    other = {"mean": [0.1, 0.1, 0.1], "std": [0.5, 0.5, 0.5]}
    net.add_domain("two", 2, "lora", class_names=["a", "b"], normalization=other, resize=24, crop=24)
    return net


@pytest.fixture
def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (36, 36, 3), dtype=np.uint8)


def by_hand(net: MultiDomainNet, pixels: np.ndarray, domain: str = "pets", crop: int = 32) -> dict[str, float]:
    """Class -> probability of uint8 (S, S, 3), with torchvision's own functions."""
    facts = net.view(domain).facts
    cut = TF.center_crop(TF.to_tensor(pixels), [crop, crop])
    batch = TF.normalize(cut, facts.normalization["mean"], facts.normalization["std"])[None]
    with torch.no_grad():
        row = net.merge(domain)(batch).softmax(1)[0]
    return dict(zip(facts.class_names, row.tolist(), strict=True))


def forms(pixels: np.ndarray, folder: Path) -> dict[str, Any]:
    """One picture in every way in which it may be given."""
    Image.fromarray(pixels).save(folder / "one.png")
    channels_first = torch.from_numpy(pixels).permute(2, 0, 1)
    return {
        "path": folder / "one.png",
        "text": str(folder / "one.png"),
        "PIL": Image.fromarray(pixels),
        "uint8 HWC": pixels,
        "uint8 CHW": channels_first,
        "float HWC": pixels / 255,
        "float CHW": channels_first.float() / 255,
        "half": (channels_first.double() / 255).half(),
    }


FORMS = ["path", "text", "PIL", "uint8 HWC", "uint8 CHW", "float HWC", "float CHW", "half"]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_picture_is_the_same_picture(
    net: MultiDomainNet, photograph: np.ndarray, tmp_path: Path, form: str
) -> None:
    (guesses,) = net.predict([forms(photograph, tmp_path)[form]], domain="pets", top=4)
    expected = by_hand(net, photograph)
    assert [guess.name for guess in guesses] == sorted(expected, key=expected.__getitem__, reverse=True)
    assert {guess.name: guess.probability for guess in guesses} == pytest.approx(expected, abs=1e-5)


def test_a_single_picture_and_a_batch_are_lists_too(net: MultiDomainNet, photograph: np.ndarray) -> None:
    one = net.predict(photograph, "pets")
    assert net.predict(Image.fromarray(photograph), "pets") == one
    batch = torch.from_numpy(np.stack([photograph, photograph[::-1]]))
    both = net.predict(batch, "pets")
    assert len(one) == 1 and len(one[0]) == 3
    assert [guess.name for guess in both[0]] == [guess.name for guess in one[0]]
    assert len(both) == 2


def test_fewer_classes_than_asked_for_are_all_of_them(net: MultiDomainNet, photograph: np.ndarray) -> None:
    (guesses,) = net.predict(photograph, "two", top=5)
    assert sorted(guess.name for guess in guesses) == ["a", "b"]
    assert sum(guess.probability for guess in guesses) == pytest.approx(1)


def test_mixed_domains_each_get_their_own_size_statistics_and_head(net: MultiDomainNet) -> None:
    rng = np.random.default_rng(1)
    large, small = (rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (36, 24))
    guesses = net.predict([small, large, small], domain=["two", "pets", "two"], top=4)
    assert dict(guesses[1]) == pytest.approx(by_hand(net, large), abs=1e-5)
    assert dict(guesses[0]) == dict(guesses[2]) == pytest.approx(by_hand(net, small, "two", 24), abs=1e-5)


def test_a_photograph_is_turned_upright_scaled_and_cut_like_a_training_image(
    net: MultiDomainNet, tmp_path: Path
) -> None:
    upright = Image.fromarray(np.random.default_rng(2).integers(0, 256, (36, 50, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the file holds the picture rotated by 90 degrees against the clock
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    (guesses,) = net.predict([tmp_path / "phone.png"], "pets", top=4)
    assert dict(guesses) == pytest.approx(by_hand(net, np.array(upright.crop((7, 0, 43, 36)))), abs=1e-5)


def test_grey_is_three_equal_channels(net: MultiDomainNet, photograph: np.ndarray) -> None:
    grey = photograph[..., 0]
    expected = by_hand(net, np.repeat(grey[..., None], 3, 2))
    for form in (grey, grey[..., None], torch.from_numpy(grey)[None], Image.fromarray(grey)):
        assert dict(net.predict(form, "pets", top=4)[0]) == pytest.approx(expected, abs=1e-5)


def test_predicting_leaves_the_mode_and_the_statistics_alone(net: MultiDomainNet, photograph: np.ndarray) -> None:
    before = {name: value.clone() for name, value in net.view("pets").own_state().items()}
    expected = net.predict(photograph, "pets")
    net.train()
    try:
        assert net.predict(photograph, "pets") == expected
        assert net.view("pets").training
    finally:
        net.eval()
    assert all(torch.equal(value, before[name]) for name, value in net.view("pets").own_state().items())


def test_more_pictures_than_fit_into_a_batch_keep_their_order(
    net: MultiDomainNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = np.random.default_rng(3).integers(0, 256, (7, 36, 36, 3), dtype=np.uint8)
    at_once = [dict(guesses) for guesses in net.predict(pictures, "pets")]
    monkeypatch.setattr("madlab.prediction.BATCH", 3)
    for guesses, expected in zip(net.predict(pictures, "pets"), at_once, strict=True):
        assert dict(guesses) == pytest.approx(expected, abs=1e-5)


REFUSED = {
    "normalised": (torch.randn(3, 36, 36), "floats from .* which may be normalised or not"),
    "0 to 255": (np.full((36, 36, 3), 200.0), "floats from 200 to 200"),
    "not a number": (np.full((36, 36, 3), np.nan), "floats from nan"),
    "whole numbers": (np.ones((36, 36, 3), int), "pixels of type int64"),
    "mask": (np.ones((36, 36), bool), "pixels of type bool"),
    "both ends": (np.zeros((3, 36, 3), np.uint8), "channels first or last"),
    "no channels": (np.zeros((36, 36, 4), np.uint8), "not a picture of one or three channels"),
    "empty": (np.zeros((0, 36, 3), np.uint8), "not a picture"),
    "bytes": (b"abc", "of type bytes"),
    "sparse": (torch.zeros(3, 36, 36).to_sparse(), "give a dense one"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_unclear_is_refused_in_one_sentence(net: MultiDomainNet, kind: str) -> None:
    picture, sentence = REFUSED[kind]
    with pytest.raises(madlab.MadlabError, match=sentence) as refused:
        net.predict([np.zeros((36, 36, 3), np.uint8), picture], "pets")
    assert len(refused.value.args) == 1


def test_what_cannot_be_read_is_named(net: MultiDomainNet, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    for path in (tmp_path / "broken.jpg", tmp_path):
        with pytest.raises(madlab.MadlabError, match=f"{path.name} cannot be read as an image"):
            net.predict([path], "pets")
    with pytest.raises(madlab.MadlabError, match=r"There is no image .*absent\.jpg: check its path"):
        net.predict([tmp_path / "absent.jpg"], "pets")


def test_wrong_calls_are_told(net: MultiDomainNet, photograph: np.ndarray) -> None:
    with pytest.raises(madlab.MadlabError, match="from 1 on"):
        net.predict(photograph, "pets", top=0)
    with pytest.raises(madlab.MadlabError, match="one name per picture"):
        net.predict([photograph, photograph], ["pets"])
    with pytest.raises(madlab.MadlabError, match="Unknown domain 'dogs'"):
        net.predict(photograph, "dogs")
    with pytest.raises(madlab.MadlabError, match="are paths"):
        net.predict(7, "pets")  # type: ignore[arg-type]
    assert net.predict([], "pets") == []


def test_a_domain_without_normalization_says_so(photograph: np.ndarray) -> None:
    base = madlab.resnet26(num_classes=5, width=4)
    del base.normalization
    net = MultiDomainNet(base)
    net.add_domain("pets", 2, resize=36, crop=32)
    with pytest.raises(madlab.MadlabError, match="added without a normalization"):
        net.predict(photograph, "pets")


def test_deep_greys_are_scaled_as_those_of_training_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label, most in (("bright", 60_000), ("dark", 3000)):
            (tmp_path / "deep" / split / label).mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, most, (36, 36)).astype(np.uint16)
                Image.fromarray(pixels).save(tmp_path / "deep" / split / label / f"{number}.png")
    with pytest.warns(MadlabWarning, match="65535 white"):
        domain = madlab.load_domain(tmp_path / "deep", size=36)
    torch.manual_seed(0)
    base = madlab.resnet26(num_classes=5, width=4)
    base.resize, base.crop = 36, 32
    with pytest.warns(MadlabWarning, match="65535 white"):
        madlab.train(tmp_path / "deep", "batchnorm", base=base, out=tmp_path / "run", epochs=1, progress=False)
    run = madlab.load_run(tmp_path / "run", base=base)
    dark = tmp_path / "deep" / "test" / "dark"
    for file, pixels in zip(sorted(dark.iterdir()), domain.test.images[3:], strict=True):
        (from_file,), (from_array,) = run.predict(file, top=2), run.predict(pixels.numpy(), top=2)
        assert from_file == from_array
        (from_pillow,) = run.predict(Image.open(file), top=2)
        assert from_pillow == from_array
    (dark / "0.png").rename(tmp_path / "0.png")
    assert np.array_equal(read_image(tmp_path / "0.png", 36, grey=run.facts.grey_scale), domain.test.images[3])


def test_whole_pictures_are_pressed_into_the_square_where_those_of_training_were(tmp_path: Path) -> None:
    """As in five domains of the benchmarks: the right third of a wide picture is what a cut would lose."""
    torch.manual_seed(0)
    base = madlab.resnet26(num_classes=5, width=4)
    base.resize = base.crop = 36
    shade = iter(range(100))
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for label, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
            (tmp_path / "wide" / split / label).mkdir(parents=True)
            for number in range(count):
                picture = Image.new("RGB", (108, 36), (next(shade),) * 3)
                picture.paste(colour, (72, 0, 108, 36))
                picture.save(tmp_path / "wide" / split / label / f"{number}.png")
    domain = madlab.load_domain(tmp_path / "wide", squash=True)
    assert (domain.test.images[:, 18, 35].argmax(1) == torch.tensor([2, 2, 0, 0])).all()
    madlab.train(domain, "mad", base=base, out=tmp_path / "run", epochs=1, progress=False)
    run = madlab.load_run(tmp_path / "run", base=base)
    assert run.facts.squash and "squash" in run.facts.to_json()
    files = sorted((tmp_path / "wide" / "test").rglob("*.png"))
    from_files, from_squares = run.predict(files, top=2), run.predict(list(domain.test.images.numpy()), top=2)
    assert from_files == from_squares
    assert from_files != run.predict([read_image(file, 36) for file in files], top=2), "else this test could not fail"
    assert [guesses for _, guesses in predict_files(run, files, 2)] == from_files
    assert run.predict([Image.open(file) for file in files], top=2) == from_files
    assert madlab.evaluate(tmp_path / "run", tmp_path / "wide", base=base) == madlab.evaluate(
        tmp_path / "run", domain, base=base
    )


def test_one_size_stands_for_both() -> None:
    net = MultiDomainNet(madlab.resnet26(num_classes=5, width=4))
    net.add_domain("small", 2, crop=24, normalization=NORMALIZATION)
    net.add_domain("large", 2, resize=40, normalization=NORMALIZATION)
    assert [(prepared_size(net.view(name)).resize, prepared_size(net.view(name)).crop) for name in net.domains] == [
        (24, 24),
        (40, 40),
    ]
    with pytest.raises(MadlabError, match="crop of 64 pixels, larger than its images of 18"):
        net.add_domain("wrong", 2, resize=18, crop=64)
