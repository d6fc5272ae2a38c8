"""`load_run`: a finished run from its folder, which predicts what `evaluate` counted."""

from pathlib import Path

import pytest
import torch
from tiny import write_base, write_folder

import madlab


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("loaded")
    data, base = write_folder(place / "shades", counts=(8, 4, 6)), write_base(place / "small.safetensors")
    madlab.train(data, "mad:2", base=base, out=place / "run", epochs=2, batch_size=8, progress=False, device="cpu")
    return place


def test_predictions_of_the_test_files_are_what_evaluate_counts(trained: Path) -> None:
    run = madlab.load_run(trained / "run", device="cpu")
    files = sorted((trained / "shades" / "test").rglob("*.png"))
    right = sum(
        guesses[0].name == file.parent.name for file, guesses in zip(files, run.predict(files, top=1), strict=True)
    )
    assert 100 * right / len(files) == pytest.approx(madlab.evaluate(trained / "run"))
    assert run.result.test_accuracy == pytest.approx(madlab.evaluate(trained / "run"))


def test_what_a_loaded_run_knows(trained: Path) -> None:
    run = madlab.load_run(trained / "run", device="cpu")
    assert run.class_names == ["class0", "class1", "class2"]
    assert (run.domain, run.config.method, run.size.resize, run.size.crop) == ("shades", "mad", 36, 32)
    assert run.crop(36) == 32 and len(run.log) == 2
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(run.network(images), run.net(images, domain=run.domain))


def test_an_unfinished_run_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(madlab.MadlabError):
        madlab.load_run(tmp_path)
