"""Flat folders and tables of images, split once for all: by class, look-alikes together, and told in a sentence."""

import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.sparse.csgraph import connected_components

import madlab
from madlab.benchmarks import dividing, load_domain, lookalikes
from madlab.benchmarks.dividing import divide, division_digest, division_file, read_division
from madlab.benchmarks.lookalikes import groups_of, perceptual_hash
from madlab.benchmarks.split import SPLITS
from madlab.errors import MadlabError, MadlabWarning

COUNTS = {"cat": 20, "dog": 11, "elk": 5, "fox": 3}


def picture(seed: int, side: int = 48) -> Image.Image:
    """Smooth blobs of colour, as a photograph has them; each seed another."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    seed = iter(range(1000))
    for name, count in COUNTS.items():
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(count):
            picture(next(seed)).save(tmp_path / "pets" / name / f"{number:02d}.png")
    return tmp_path / "pets"


def parts(place: Path) -> Iterator[tuple[str, str, set[str]]]:
    for split, classes in read_division(division_file(place)).files.items():
        for name, paths in classes.items():
            yield split, name, set(paths)


def test_every_class_keeps_its_share_and_every_image_is_in_one_part(flat: Path) -> None:
    divide(flat, "70/15/15")
    found = {(split, name): len(paths) for split, name, paths in parts(flat)}
    assert [found[split, "cat"] for split in SPLITS] == [14, 3, 3]
    assert [found[split, "elk"] for split in SPLITS] == [3, 1, 1]
    assert [found[split, "fox"] for split in SPLITS] == [1, 1, 1]
    listed = [path for _, _, paths in parts(flat) for path in paths]
    assert sorted(listed) == sorted(path.relative_to(flat).as_posix() for path in flat.rglob("*.png"))


def test_the_split_is_written_down_and_used_again(flat: Path) -> None:
    first = divide(flat, "70/15/15").read_bytes()
    assert divide(flat, "70/15/15").read_bytes() == first  # also in other words:
    assert divide(flat, "14/3/3").read_bytes() == first
    with pytest.raises(MadlabError, match=r"is split 70/15/15 already, with seed 0: ask for that, or remove"):
        divide(flat, "80/10/10")
    division_file(flat).unlink()
    assert divide(flat, "70/15/15").read_bytes() == first
    division_file(flat).unlink()
    assert divide(flat, "70/15/15", seed=1).read_bytes() != first


def test_the_domain_has_the_images_of_the_split(flat: Path) -> None:
    divide(flat, "60/20/20")
    domain = load_domain(str(flat), size=48)
    assert (domain.name, domain.class_names) == ("pets", sorted(COUNTS))
    division = read_division(division_file(flat))
    for split in SPLITS:
        images = [np.asarray(Image.open(flat / path)) for paths in division.files[split].values() for path in paths]
        np.testing.assert_array_equal(getattr(domain, split).images.numpy(), np.stack(images))


def test_look_alikes_lie_on_one_side(tmp_path: Path) -> None:
    """Bursts of three: each picture once more a little darker, and once as a JPEG of half the size."""
    for name, start in (("a", 0), ("b", 100)):
        (tmp_path / "bursts" / name).mkdir(parents=True)
        for number in range(start, start + 12):
            original = picture(number)
            original.save(tmp_path / "bursts" / name / f"{number}-0.png")
            ImageEnhance.Brightness(original).enhance(0.9).save(tmp_path / "bursts" / name / f"{number}-1.png")
            original.resize((24, 24)).save(tmp_path / "bursts" / name / f"{number}-2.jpg", quality=90)
    divide(tmp_path / "bursts")
    side: dict[str, set[str]] = {}
    for split, _, paths in parts(tmp_path / "bursts"):
        for path in paths:
            side.setdefault(Path(path).name.partition("-")[0], set()).add(split)
    assert len(side) == 24 and all(len(splits) == 1 for splits in side.values())
    assert {split for splits in side.values() for split in splits} == set(SPLITS)


def test_hashes_are_alike_for_what_looks_alike_and_for_nothing_else() -> None:
    originals = [np.asarray(picture(seed, 32)) for seed in range(40)]
    file = io.BytesIO()
    copies = [np.clip(image * 0.9, 0, 255).astype(np.uint8) for image in originals]
    Image.fromarray(originals[0]).save(file, "JPEG", quality=30)
    hashes = np.stack([perceptual_hash(image) for image in [*originals, *copies, np.asarray(Image.open(file))]])
    groups = groups_of(hashes)
    assert groups[:40].tolist() == groups[40:80].tolist() and groups[80] == groups[0]
    assert len(set(groups.tolist())) == 40
    # By the definition, bit by bit: a pair is alike where at most six bits differ; here all pairs are far from that.
    differing = (hashes[:40, None] != hashes[None, :40]).sum(-1)
    assert (differing[~np.eye(40, dtype=bool)] > 6).all()


def test_groups_are_those_of_all_pairs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever chunks they are joined, and numbered in the order of their first images."""
    rng = np.random.default_rng(0)
    kinds = rng.random((7, 64)) < 0.5
    hashes = kinds[rng.integers(7, size=60)] ^ (rng.random((60, 64)) < 0.03)
    graph = (hashes[:, None] != hashes[None]).sum(2) <= lookalikes.ALIKE
    expected = connected_components(graph, directed=False)[1]
    for chunk in (2048, 7, 1):
        monkeypatch.setattr(lookalikes, "CHUNK", chunk)
        assert groups_of(hashes).tolist() == expected.tolist()
    assert len(set(expected)) > 3


def test_parts_that_look_alikes_spoil_are_told(tmp_path: Path) -> None:
    """As pictures of a fixed camera do, which show one scene."""
    for name, first in (("good", 0), ("bad", 100)):
        (tmp_path / "belt" / name).mkdir(parents=True)
        for number in range(34):
            image = picture(first if number < 30 else first + number)
            image.save(tmp_path / "belt" / name / f"{number}.png")
    with pytest.warns(MadlabWarning, match=r"stay in one part, so that class 'bad' has 2 in test and not 5"):
        divide(tmp_path / "belt")
    (tmp_path / "same" / "a").mkdir(parents=True)
    (tmp_path / "same" / "b").mkdir()
    for number in range(8):
        for name in "ab":
            picture(0).save(tmp_path / "same" / name / f"{number}.png")
    with pytest.raises(MadlabError, match="list them in a table with a column split"):
        divide(tmp_path / "same")


def test_an_image_that_is_repaired_after_the_split_is_told_of(flat: Path) -> None:
    broken = flat / "cat" / "05.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    with pytest.warns(MadlabWarning, match="1 cannot be read"):
        divide(flat)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MadlabWarning)
        load_domain(str(flat))  # nothing new: it is still broken
    broken.write_bytes(whole)
    with pytest.warns(MadlabWarning, match=r"was split without 05\.png, which could not be read then: remove"):
        load_domain(str(flat))


def test_chains_of_look_alikes_are_one_group() -> None:
    chain = np.zeros((4, 64), dtype=bool)
    for place in (1, 2):
        chain[place, : 6 * place] = True  # 6 bits from the one before, the last 12 from the first
    chain[3] = True
    assert groups_of(chain).tolist() == [0, 0, 0, 1]


def test_what_cannot_be_read_is_left_out_and_named_once(flat: Path) -> None:
    (flat / "cat" / "05.png").write_bytes(b"\x89PNG no more")
    with pytest.warns(MadlabWarning, match=r"of 39 images 1 cannot be read and is left out \(05\.png\)"):
        divide(flat)
    assert "cat/05.png" not in {path for _, _, paths in parts(flat) for path in paths}
    assert len(load_domain(str(flat)).train) == sum(len(paths) for split, _, paths in parts(flat) if split == "train")


def test_images_that_come_later_are_told(flat: Path) -> None:
    divide(flat)
    picture(2000).save(flat / "dog" / "new.png")
    with pytest.warns(MadlabWarning, match=r"came after its split \(new\.png\).*remove .*madlab-split\.json"):
        load_domain(str(flat))


def test_a_class_needs_three_images_that_do_not_look_alike(flat: Path) -> None:
    for number in (1, 2):
        (flat / "fox" / f"{number:02d}.png").write_bytes((flat / "fox" / "00.png").read_bytes())
    with pytest.raises(MadlabError, match=r"'fox' .* fewer than three images that do not look alike \(3 in all\)"):
        divide(flat)
    assert not division_file(flat).exists()


@pytest.mark.parametrize("shares", ["", "70", "70/30", "70/15/15/0", "100/0/0", "70/-15/15", "a/b/c", "70/15/15 "])
def test_shares_that_are_none_are_told(flat: Path, shares: str) -> None:
    with pytest.raises(MadlabError, match="is not a split: write the shares"):
        divide(flat, shares)


def test_places_that_cannot_be_split_are_told(flat: Path, tmp_path: Path) -> None:
    for split in SPLITS:
        (tmp_path / "ready" / split / "a").mkdir(parents=True)
    with pytest.raises(MadlabError, match="is split already: leave the split out"):
        divide(tmp_path / "ready")
    with pytest.raises(MadlabError, match="There is no folder or table"):
        divide(tmp_path / "absent")
    with pytest.raises(MadlabError, match=r"neither a folder nor a \.csv file"):
        divide(flat / "cat" / "00.png")
    with pytest.raises(MadlabError, match=r"or have a folder of class folders split \(madlab train --split 70/15/15\)"):
        load_domain(str(flat))


def test_a_class_may_be_called_train(flat: Path) -> None:
    (flat / "cat").rename(flat / "train")
    divide(flat)
    assert load_domain(str(flat)).class_names == ["dog", "elk", "fox", "train"] and division_digest(flat)


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (
            ("train/cat", "train/dog", "test/cat"),
            "has train and test, but no val: move some images of each class into val",
        ),
        (
            ("Training/cat", "Training/dog", "Testing/cat", "Testing/dog"),
            "has Training and Testing, but no val: rename Training to train, and rename Testing to test, and move some",
        ),
        (
            ("train/cat", "train/dog", "valid/cat", "valid/dog", "test/cat", "test/dog"),
            "is split already: rename valid to val, and leave the split out",
        ),
        (("train/cat", "train/dog"), r"has train, which holds folders, .* give .*pets/train to have that split"),
        (("Train/cat", "Train/dog", "Test"), r"has Train, which holds folders, .* move what lies beside it"),
    ],
)
def test_folders_that_are_split_in_part_are_told_and_get_no_split_file(tmp_path: Path, folders, sentence) -> None:
    for seed, folder in enumerate(folders):
        (tmp_path / "pets" / folder).mkdir(parents=True)
        for number in range(4):
            picture(10 * seed + number).save(tmp_path / "pets" / folder / f"{number}.png")
    with pytest.raises(MadlabError, match=sentence):
        divide(tmp_path / "pets")
    assert not division_file(tmp_path / "pets").exists()


def test_classes_may_have_the_names_that_others_give_to_splits(flat: Path) -> None:
    for name, other in zip(("cat", "dog", "elk"), ("Training", "Validation", "dev"), strict=True):
        (flat / name).rename(flat / other)
    divide(flat)
    assert load_domain(str(flat)).class_names == ["Training", "Validation", "dev", "fox"]


def test_where_no_split_file_can_be_written_no_image_is_read(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"{path},{path.parent.name}" for path in sorted(flat.rglob("*.png"))]
    monkeypatch.chdir(flat.parent)
    csv = table(Path(f"{'n' * 245}.csv"), ["path,label", *rows])  # whose split file has a name that no file can have
    monkeypatch.setattr(dividing, "_hashes", lambda *_: pytest.fail("images were read"))
    with pytest.raises(MadlabError, match=r"cannot be split, because .*: copy it .* in a table \(CSV\)"):
        divide(csv)


def test_a_table_behind_a_link_keeps_absolute_paths(flat: Path, tmp_path: Path) -> None:
    """From the folder that the link leads to, "../" leads to other places than from the link."""
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (tmp_path / "data").symlink_to(deep)
    csv = table(tmp_path / "data" / "t.csv", ["path,label", *(f"{p},{p.parent.name}" for p in flat.rglob("*.png"))])
    divide(csv)
    assert sum(len(getattr(load_domain(csv), split)) for split in SPLITS) == sum(COUNTS.values())


def test_an_image_that_is_gone_since_the_split_is_told_as_such(flat: Path) -> None:
    divide(flat)
    (flat / "cat" / "01.png").unlink()
    with pytest.raises(
        MadlabError, match=r"no longer has 1 images of its split \(cat/01.png\): bring them back, or remove"
    ):
        load_domain(str(flat))


def test_a_name_that_no_split_file_can_hold_is_told(flat: Path) -> None:
    (flat / "cat" / "01.png").rename(flat / "cat" / "caf\udce9.png")
    with pytest.raises(MadlabError, match=r"caf\\udce9.png is not in UTF-8"):
        divide(flat)
    assert not division_file(flat).exists()


def test_a_separator_at_the_end_of_a_row_is_none_too_many(flat: Path) -> None:
    rows = [f"{path.relative_to(flat.parent)},{path.parent.name}," for path in sorted(flat.rglob("*.png"))]
    csv = table(flat.parent / "animals.csv", ["path,label", *rows])
    divide(csv)
    assert load_domain(str(csv)).class_names == sorted(COUNTS)


def test_a_damaged_split_file_is_told(flat: Path) -> None:
    file = divide(flat)
    facts = json.loads(file.read_text())
    del facts["files"]["val"]["cat"]
    file.write_text(json.dumps(facts))
    with pytest.raises(MadlabError, match="does not have the same classes"):
        load_domain(str(flat))
    file.write_text("{}")
    with pytest.raises(MadlabError, match="have the images split anew"):
        load_domain(str(flat))


def table(place: Path, rows: list[str], encoding: str = "utf-8") -> Path:
    place.write_text("\n".join(rows) + "\n", encoding=encoding)
    return place


def test_a_table_of_paths_and_labels_is_split_beside_itself(flat: Path) -> None:
    rows = [f"{path.relative_to(flat.parent)};{path.parent.name}" for path in sorted(flat.rglob("*.png"))]
    csv = table(flat.parent / "animals.csv", ["File;Class", *rows], "utf-8-sig")  # as a spreadsheet writes it
    divide(csv)
    assert division_file(csv).name == "animals.csv.split.json" and division_digest(csv)
    domain = load_domain(str(csv))
    assert (domain.name, domain.class_names) == ("animals", sorted(COUNTS))
    assert sum(len(getattr(domain, split)) for split in SPLITS) == sum(COUNTS.values())


def test_a_table_may_say_the_split_itself(flat: Path) -> None:
    rows = [
        f"{path},{path.parent.name},{SPLITS[min(int(path.stem), 2)]}"  # absolute paths
        for path in sorted(flat.rglob("*.png"))
    ]
    csv = table(flat.parent / "animals.csv", ["path,label,split", *rows])
    domain = madlab.Domain.from_folder(csv)
    assert (len(domain.train), len(domain.val), len(domain.test)) == (4, 4, sum(COUNTS.values()) - 8)
    with pytest.raises(MadlabError, match="is split already"):
        divide(csv)
    # A split that was written down before the table said it itself counts no more, for nobody.
    table(csv, ["path,label", *(row.rpartition(",")[0] for row in rows)])
    divide(csv)
    assert division_digest(csv) is not None
    table(csv, ["path,label,split", *rows])
    assert division_digest(csv) is None
    with pytest.raises(MadlabError, match="is split already"):
        divide(csv)
    table(csv, ["path,label,split", *(row for row in rows if "fox" not in row or not row.endswith("val"))])
    with pytest.raises(MadlabError, match=r"animals.csv, split val, lacks classes that train has \(fox\)"):
        load_domain(csv)
    table(csv, ["path,label,split", *(row for row in rows if not row.endswith("train"))])
    with pytest.raises(MadlabError, match=r"animals.csv, split train, has no class: a classifier needs at least two"):
        load_domain(csv)


WRONG = {
    "no header": (["pets/cat/00.png,cat"], "needs a first line that names the columns path and label"),
    "no rows": (["path,label"], "has no rows"),
    "no label": (["path,label", "a.png,"], "line 2, lacks a label"),
    "no path": (["path,label", ",cat"], "line 2, lacks a path"),
    "short": (["path,label", "a.png"], "line 2, lacks a label"),
    "twice": (["path,label", "a.png,cat", "a.png,dog"], "twice"),
    "split": (["path,label,split", "a.png,cat,dev"], "the split 'dev': write train, val or test"),
    "some": (["path,label,split", "a.png,cat,val", "b.png,cat,"], "a split for some images only"),
    "comma in a label": (["path,split,label", "a.png,train,crane, bird"], "line 2, has more cells than the first line"),
    "quote": (["path,label", '"a.png,cat'], "is not CSV"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_tables_that_are_wrong_are_told(tmp_path: Path, kind: str) -> None:
    rows, sentence = WRONG[kind]
    with pytest.raises(MadlabError, match=sentence):
        load_domain(str(table(tmp_path / "wrong.csv", rows)))


def test_a_table_in_another_encoding_is_told(tmp_path: Path) -> None:
    with pytest.raises(MadlabError, match="not in UTF-8"):
        load_domain(str(table(tmp_path / "wrong.csv", ["path,label", "a.png,Käse"], "latin-1")))


def test_a_table_that_nobody_has_split_says_how(tmp_path: Path) -> None:
    with pytest.raises(MadlabError, match="--split 70/15/15"):
        load_domain(str(table(tmp_path / "animals.csv", ["path,label", "a.png,cat", "b.png,dog"])))


def test_a_table_that_changes_after_its_split_is_told(flat: Path) -> None:
    rows = {path.relative_to(flat.parent).as_posix(): path.parent.name for path in sorted(flat.glob("*/*.png"))}
    table = flat.parent / "photos.csv"

    def write(rows: dict[str, str]) -> None:
        table.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows.items()))

    write(rows)
    divide(table)
    load_domain(str(table))
    first, *others = rows
    picture(3000).save(flat / "dog" / "late.png")
    write({path: rows[path] for path in others} | {f"{flat.name}/dog/late.png": "dog"})
    with pytest.warns(MadlabWarning) as told:
        load_domain(str(table))
    texts = " ".join(str(one.message) for one in told)
    assert "(late.png) and are left out: remove" in texts
    assert f"no longer has 1 images of its split ({first})" in texts
    write(rows | {first: "dog"})
    with pytest.raises(MadlabError, match=f"other labels than when it was split .*{Path(first).name}.*: remove"):
        load_domain(str(table))


def test_shares_that_are_no_text_are_told(flat: Path) -> None:
    with pytest.raises(MadlabError, match="70 is not a split"):
        divide(flat, 70)  # type: ignore[arg-type]


def test_where_no_image_can_be_read_the_first_reason_is_given(tmp_path: Path) -> None:
    rows = "".join(f"{name}/{number}.png,{name}\n" for name in ("cat", "dog") for number in range(4))
    (tmp_path / "pets.csv").write_text(f"path,label\n{rows}")
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            picture(number + 10 * len(name + name[0])).save(tmp_path / "images" / name / f"{number}.png")
    with pytest.raises(
        MadlabError, match=r"No image of .* paths are relative to the table; of the first: There is no image"
    ):
        divide(tmp_path / "pets.csv")


def test_the_same_picture_in_two_classes_is_told(flat: Path) -> None:
    Image.open(flat / "cat/00.png").save(flat / "dog/copy.png")
    with pytest.warns(MadlabWarning, match=r"have several classes .00.png in cat, copy.png in dog.: if they"):
        divide(flat)


def test_labels_of_a_table_are_compared_as_names_of_folders_are(tmp_path: Path) -> None:
    """Accents composed or not are one class, another case is another one and told."""
    labels = ["caf\u00e9"] * 2 + ["cafe\u0301"] * 2 + ["Caf\u00e9"] * 4
    for number in range(len(labels)):
        picture(number).save(tmp_path / f"{number}.png")
    rows = "".join(f"{number}.png,{label}\n" for number, label in enumerate(labels))
    (tmp_path / "drinks.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    with pytest.warns(MadlabWarning, match="differ only in case or spaces"):
        divide(tmp_path / "drinks.csv")
    with pytest.warns(MadlabWarning, match="differ only in case or spaces"):
        assert sorted(load_domain(tmp_path / "drinks.csv").class_names) == ["Caf\u00e9", "caf\u00e9"]


def test_a_warning_names_the_line_that_led_to_it_whichever_way_it_took(flat: Path) -> None:
    (flat / "cat" / "notes.txt").write_text("no image")
    divide(flat)
    with pytest.warns(MadlabWarning, match="left out") as caught:
        load_domain(flat)
    assert {warning.filename for warning in caught} == {__file__}
