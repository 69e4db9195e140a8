"""The reader of Cityscapes, on tiny copies with the real names and folders."""

import json

import layouts
import numpy as np
import pytest
import torch
import torchvision
from cityscapesscripts.helpers.labels import id2label, name2label, trainId2label
from PIL import Image

from nnti.data import Cityscapes, DataError, available, load_dataset
from nnti.data.cityscapes import count_files, find_split, to_label_ids, to_train_ids


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch, tmp_path):
    """No data of the machine is in reach, only what a test writes."""
    monkeypatch.setattr("nnti.folders.data_roots", lambda: [tmp_path / "empty", tmp_path / "My Drive"])


@pytest.fixture
def root(tmp_path):
    """A folder of data sets, with a space in its name as on a cloud drive."""
    return tmp_path / "My Drive"


def names(dataset):
    return [image.name.removesuffix("_leftImg8bit.png") for image, _ in dataset.files]


def by_the_table(label_ids: np.ndarray) -> np.ndarray:
    """Train ids, pixel by pixel."""
    return np.array([[id2label[int(value)].trainId for value in row] for row in label_ids], dtype=np.uint8)


ALL = ("train", "val", "test", "train_extra")


PLACES = [(layout, "") for layout in layouts.CITYSCAPES_LAYOUTS] + [
    (layout, place) for layout in ("plain", "archives") for place in ("cityscapes", "Cityscapes")
]


@pytest.mark.parametrize(("layout", "place"), PLACES)
def test_every_layout_gives_the_same_samples(root, layout, place):
    layouts.write_cityscapes(root / place, layout, ALL)
    for split in ("train", "val", "test"):
        dataset = Cityscapes(split, root)
        assert names(dataset) == layouts.CITYSCAPES[split] and dataset.split == split
        for name, (image, label) in zip(layouts.CITYSCAPES[split], dataset, strict=True):
            np.testing.assert_array_equal(image.permute(1, 2, 0), layouts.draw_image(name))
            np.testing.assert_array_equal(label, by_the_table(layouts.cityscapes_label(name, split)))
            assert image.dtype == label.dtype == torch.uint8 and (label == 255).any()
    for split, folder in (("train_extra", "train_extra"), ("train_coarse", "train"), ("val_coarse", "val")):
        dataset = Cityscapes(split, root)
        assert names(dataset) == layouts.CITYSCAPES[folder]
        for name, (image, label) in zip(layouts.CITYSCAPES[folder], dataset, strict=True):
            np.testing.assert_array_equal(image.permute(1, 2, 0), layouts.draw_image(name))
            np.testing.assert_array_equal(label, by_the_table(layouts.cityscapes_label(name, "coarse")))


def test_default_roots_trainval_and_order(root):
    layouts.write_cityscapes(root / "cityscapes")
    both = layouts.CITYSCAPES["train"] + layouts.CITYSCAPES["val"]
    assert names(Cityscapes("trainval")) == both
    assert names(Cityscapes()) == layouts.CITYSCAPES["train"] == sorted(layouts.CITYSCAPES["train"])
    assert Cityscapes().root == root / "cityscapes"
    assert available("cityscapes") and load_dataset("cityscapes", "val").name == "cityscapes"


def test_images_equal_torchvision(root):
    layouts.write_cityscapes(root)
    for path in [*root.rglob("._*"), *root.rglob(".DS_Store")]:
        path.unlink()  # torchvision stumbles over these
    reference = torchvision.datasets.Cityscapes(root, split="train", mode="fine", target_type="semantic")
    expected = {path: np.asarray(label) for path, (_, label) in zip(reference.images, reference, strict=True)}
    dataset = Cityscapes("train", root)
    assert {str(image) for image, _ in dataset.files} == set(expected)
    for (path, _), (_, label) in zip(dataset.files, dataset, strict=True):
        np.testing.assert_array_equal(label, by_the_table(expected[str(path)]))


def test_only_the_coarse_archives(root):
    layouts.write_cityscapes(root, "archives", ("train_extra",))
    assert names(Cityscapes("train_extra", root)) == layouts.CITYSCAPES["train_extra"]
    assert find_split("gtCoarse", "train_extra", root) == root / "gtCoarse/gtCoarse/train_extra"
    assert count_files(find_split("leftImg8bit", "train_extra", root), "leftImg8bit") == 3
    with pytest.raises(DataError, match=r"leftImg8bit/train was not found"):
        Cityscapes("train", root)
    assert not available("cityscapes")


def test_names_colours_and_groups():
    assert Cityscapes.class_names[0] == "road" and Cityscapes.class_names[18] == "bicycle"
    assert len(Cityscapes.class_names) == 19 == len(Cityscapes.palette) == len(Cityscapes.category_of_class)
    assert Cityscapes.palette.dtype == np.uint8
    for number, name in enumerate(Cityscapes.class_names):
        entry = name2label[name]
        assert entry == trainId2label[number]
        assert tuple(Cityscapes.palette[number]) == entry.color
        assert Cityscapes.categories[Cityscapes.category_of_class[number]] == entry.category
    assert len(Cityscapes.categories) == 8 and Cityscapes.categories[0] == "void"
    distances = np.abs(Cityscapes.palette.astype(int) - Cityscapes.void_color).sum(1)
    assert distances.min() > 60


def test_lookup_is_the_table():
    stored = np.array([*range(34), 255], dtype=np.uint8)
    expected = [id2label[value].trainId for value in range(34)] + [255]
    assert to_train_ids(stored).tolist() == expected and to_train_ids(stored).dtype == np.uint8
    assert to_train_ids(np.array([[-1, 7]], dtype=np.int64)).tolist() == [[255, 0]]
    assert to_train_ids(np.zeros((0, 3), dtype=np.uint8)).shape == (0, 3)
    back = to_label_ids(torch.tensor([*range(19), 255]))
    assert back.tolist() == [trainId2label[value].id for value in range(19)] + [0] and back.dtype == np.uint8
    assert to_train_ids(back).tolist() == [*range(19), 255]
    for wrong in ([34], [254], [-2], [256], [1000], [7.0], [True]):
        with pytest.raises(ValueError, match="are not label ids of Cityscapes"):
            to_train_ids(np.array(wrong))
    for wrong in ([19], [254], [300]):
        with pytest.raises(ValueError, match=rf"\[{wrong[0]}\] are not classes of Cityscapes"):
            to_label_ids(np.array([0, 18, 255, *wrong]))


def convert(root, published: bool, licence_plate: int = 255) -> None:
    """Write labelTrainIds.png as converters do, keep or remove the published labelIds.png."""
    for path in root.rglob("gtFine/*/*/*_labelIds.png"):
        train_ids = by_the_table(np.asarray(Image.open(path)))
        train_ids[0, 0] = licence_plate
        layouts.save_image(path.with_name(path.name.replace("labelIds", "labelTrainIds")), train_ids)
        if not published:
            path.unlink()


@pytest.mark.parametrize("licence_plate", [255, 254])
def test_converted_labels_where_the_published_are_missing(root, licence_plate):
    layouts.write_cityscapes(root)
    original = [label for _, label in Cityscapes("train", root)]
    convert(root, published=False, licence_plate=licence_plate)
    dataset = Cityscapes("train", root)
    assert all(path.name.endswith("_gtFine_labelTrainIds.png") for _, path in dataset.files)
    for (_, label), expected in zip(dataset, original, strict=True):
        assert label[0, 0] == 255
        assert torch.equal(label[1:], expected[1:])


def test_published_labels_come_first(root):
    layouts.write_cityscapes(root)
    convert(root, published=True)
    assert all(path.name.endswith("_gtFine_labelIds.png") for _, path in Cityscapes("train", root).files)


def test_jpeg_images_are_found(root):
    layouts.write_cityscapes(root)
    path = Cityscapes("val", root).files[0][0]
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    dataset = Cityscapes("val", root)
    assert dataset.files[0][0] == path.with_suffix(".jpg") and len(dataset) == 2
    assert dataset[0][0].shape[1:] == dataset[0][1].shape


@pytest.mark.parametrize(("encoding", "value"), [("labelIds", 34), ("labelIds", 254), ("labelTrainIds", 19)])
def test_wrong_label_values_name_the_file(root, encoding, value):
    layouts.write_cityscapes(root)
    convert(root, published=encoding == "labelIds")
    name = layouts.CITYSCAPES["val"][0]
    path = root / "gtFine/val/frankfurt" / f"{name}_gtFine_{encoding}.png"
    layouts.save_image(path, np.full(layouts.size_of(name), value, dtype=np.uint8))
    with pytest.raises(DataError, match=rf"{path.name}.*\[{value}\].*0 to"):
        Cityscapes("val", root)[0]


def test_damaged_and_mixed_up_files_are_named(root):
    layouts.write_cityscapes(root)
    image, label = Cityscapes("val", root).files[0]
    colour = label.with_name(label.name.replace("labelIds", "color"))
    label.write_bytes(colour.read_bytes())
    with pytest.raises(DataError, match=rf"{label.name} has mode RGBA; a label file"):
        Cityscapes("val", root)[0]
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{image.name} cannot be read"):
        Cityscapes("val", root)[0]


def test_images_without_label_are_counted(root):
    layouts.write_cityscapes(root)
    for path in (root / "gtFine" / "train").rglob("*_labelIds.png"):
        path.unlink()
    with pytest.raises(DataError) as error:
        Cityscapes("train", root)
    for part in ("3 images have no label", "aachen/aachen_000000_000019", "gtFine_trainvaltest.zip", "labelTrainIds"):
        assert part in str(error.value)
    (root / "gtFine/val/munster").rename(root / "gtFine/val/muenster")
    with pytest.raises(DataError, match=r"1 images have no label.*val: munster/munster_000173_000019\. Unpack"):
        Cityscapes("val", root)


def test_releases_of_train_extra_differ_by_two_images(root):
    layouts.write_cityscapes(root, splits=("train_extra",))
    labels = sorted((root / "gtCoarse").rglob("*_labelIds.png"))
    for path in labels[:2]:
        path.unlink()
    assert names(Cityscapes("train_extra", root)) == layouts.CITYSCAPES["train_extra"][2:]
    labels[2].unlink()
    with pytest.raises(DataError, match=r"3 images have no label.*gtCoarse\.zip"):
        Cityscapes("train_extra", root)


def test_test_split_without_labels_says_that_predict_needs_none(root):
    layouts.write_cityscapes(root)
    for path in (root / "gtFine" / "test").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="1 images have no label(.|\n)*python -m nnti predict"):
        Cityscapes("test", root)
    (root / "gtFine" / "test").rename(root / "elsewhere")
    with pytest.raises(DataError, match="gtFine/test was not found(.|\n)*python -m nnti predict"):
        Cityscapes("test", root)


def test_missing_data_says_where_it_looked_and_what_to_do(root, tmp_path):
    for place in (None, tmp_path / "typo"):
        with pytest.raises(DataError) as error:
            Cityscapes("train", place)
        for part in (
            str(place or root),
            "leftImg8bit/train was not found",
            "leftImg8bit_trainvaltest/leftImg8bit",
            "https://www.cityscapes-dataset.com/register/",
            "csDownload",
            "python -m nnti data cityscapes",
            "gtFine_trainvaltest.zip",
            "NNTI_DATA",
            'dataset="cityscapes_miniature"',
        ):
            assert part in str(error.value)
    (root / "leftImg8bit" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="gtFine/train was not found"):
        Cityscapes("train")
    (root / "gtFine" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="leftImg8bit/train holds no images"):
        Cityscapes("train")
    with pytest.raises(DataError, match="split 'tarin'.*did you mean 'train'"):
        Cityscapes("tarin")


def test_listing_asks_for_no_file(root, monkeypatch):
    """20,000 names in 23 cities, as in train_extra: one listing a folder, no question about a single file."""
    listed = {f"city{city:02}": [f"city{city:02}_{n:06}_000019" for n in range(870)] for city in range(23)}
    for city in listed:
        (root / "leftImg8bit/train_extra" / city).mkdir(parents=True)
        (root / "gtCoarse/train_extra" / city).mkdir(parents=True)
    asked = []

    def listdir(folder):
        asked.append(folder)
        ending = "leftImg8bit" if "leftImg8bit" in folder.parts else "gtCoarse_labelIds"
        return [f"{name}_{ending}.png" for name in reversed(listed[folder.name])]

    stats = []
    monkeypatch.setattr("nnti.data.cityscapes.os.listdir", listdir)
    with monkeypatch.context() as patch:
        real = type(root).stat
        patch.setattr(type(root), "stat", lambda self, **options: stats.append(self) or real(self, **options))
        dataset = Cityscapes("train_extra", root)
    assert names(dataset) == sorted(name for city in listed.values() for name in city)
    assert len(asked) == 2 * 23
    assert not [path for path in stats if path.suffix == ".png"] and len(stats) < 100


def test_miniature_is_rendered_on_first_use(root, monkeypatch, capsys):
    def render(root):
        folder = layouts.write_cityscapes(root / "cityscapes")
        (folder / "miniature.json").write_text(json.dumps({}))
        return folder

    monkeypatch.setattr("nnti.data.miniature.cityscapes.write_miniature_cityscapes", render, raising=False)
    for printed in (True, False):
        dataset = load_dataset("cityscapes_miniature", "train", root)
        assert (dataset.name, dataset.title) == ("cityscapes_miniature", "Cityscapes miniature (rendered)")
        assert ("Rendering the Cityscapes miniature" in capsys.readouterr().out) == printed
    assert available("cityscapes_miniature") and Cityscapes.title == "Cityscapes"
