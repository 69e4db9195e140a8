"""csDownload, driven against a web server on this machine that has the login, the lists and tiny archives."""

import dataclasses
import io
import json
import shutil
import zipfile
from pathlib import Path

import layouts
import pytest
import requests
from cityscapes_server import ACCOUNT, Server, running_server
from cityscapesscripts.download import downloader

from nnti.data import Cityscapes, DataError
from nnti.data import download as module
from nnti.data.download import credentials_file, download_cityscapes

FINE, IMAGES = "gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"
COARSE, EXTRA = "gtCoarse.zip", "leftImg8bit_trainextra.zip"
COUNTS = {split: len(names) for split, names in layouts.CITYSCAPES.items()}


@pytest.fixture
def server(monkeypatch):
    with running_server() as served:

        class Session(requests.Session):
            def request(self, method, url, **options):
                return super().request(method, url.replace(module.SITE, served.url), **options)

        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(downloader.requests, "Session", Session)
        yield served


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A data folder, which NNTI_DATA names; csDownload's own folder is another one."""
    folder = tmp_path / "My Drive" / "data"
    monkeypatch.setenv("NNTI_DATA", str(folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal, even where the tests have one
    monkeypatch.setattr(downloader.appdirs, "user_data_dir", lambda *names: str(tmp_path / "appdir"))
    return folder


@pytest.fixture
def site(server, root, tmp_path, monkeypatch) -> Server:
    """The server with all archives, and packages that count what is in them."""
    source = layouts.write_cityscapes(tmp_path / "source", splits=("train", "val", "test", "train_extra"))
    server.files = {
        FINE: zip_of(source, "gtFine/*"),
        IMAGES: zip_of(source, "leftImg8bit/t*t", "leftImg8bit/train", "leftImg8bit/val"),
        COARSE: zip_of(source, "gtCoarse/*"),
        EXTRA: zip_of(source, "leftImg8bit/train_extra"),
    }
    for packages in ("FINE_PACKAGES", "COARSE_PACKAGES"):
        small = [
            dataclasses.replace(
                package, counts={split: COUNTS[split] for split in package.counts}, size=0.05, unpacked=0.05
            )
            for package in getattr(module, packages)
        ]
        monkeypatch.setattr(module, packages, tuple(small))
    return server


@pytest.fixture
def stored(root) -> Path:
    """The account, stored where csDownload looks."""
    credentials_file().parent.mkdir(parents=True)
    credentials_file().write_text(json.dumps(ACCOUNT))
    return credentials_file()


def zip_of(folder: Path, *patterns: str, **further: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        for name, content in {"README": "read", "license.txt": "me", **further}.items():
            zipped.writestr(name, content)
        for top in sorted(top for pattern in patterns for top in folder.glob(pattern) if top.is_dir()):
            for path in sorted(path for path in top.rglob("*") if not path.name.startswith(".")):
                zipped.write(path, path.relative_to(folder))
    return stream.getvalue()


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.iterdir())


def assert_complete(root: Path) -> None:
    for split in ("train", "val", "test"):
        dataset = Cityscapes(split, root)
        assert [image.stem.removesuffix("_leftImg8bit") for image, _ in dataset.files] == layouts.CITYSCAPES[split]
        assert all(label.shape == image.shape[1:] for image, label in dataset)


def test_what_is_known_of_the_archives():
    fine, coarse = module.FINE_PACKAGES, module.COARSE_PACKAGES
    assert [package.name for package in (*fine, *coarse)] == [FINE, IMAGES, COARSE, EXTRA]
    assert all(package.counts == {"train": 2975, "val": 500, "test": 1525} for package in fine)
    assert all(package.counts["train_extra"] == 19998 for package in coarse)


def test_download(root, site, stored, capsys):
    assert download_cityscapes() == root / "cityscapes"
    assert_complete(root)
    assert below(root) == ["cityscapes"] and below(root / "cityscapes") == ["gtFine", "leftImg8bit"]
    assert site.asked.count("POST login") == 1 and site.asked.count("file-handling") == 2
    assert json.loads(stored.read_text()) == ACCOUNT
    site.asked.clear()
    assert download_cityscapes() == root / "cityscapes"
    assert site.asked == [] and "already" in capsys.readouterr().out


def test_coarse_is_added_to_what_is_there(root, site, stored):
    download_cityscapes()
    site.asked.clear()
    assert download_cityscapes(coarse=True) == root / "cityscapes"
    assert site.asked.count("file-handling") == 2
    assert len(Cityscapes("train_extra")) == 3 and len(Cityscapes("val_coarse")) == 2
    assert_complete(root)


def test_only_the_missing_splits_are_added(root, site, stored):
    layouts.write_cityscapes(root, "archives", ("train", "val"))
    assert download_cityscapes() == root / "leftImg8bit_trainvaltest"
    assert below(root / "cityscapes" / "gtFine") == ["test"]
    assert_complete(root)


def test_chosen_root(tmp_path, root, site, stored, capsys):
    assert download_cityscapes(tmp_path / "chosen") == tmp_path / "chosen" / "cityscapes"
    assert f"NNTI_DATA={tmp_path / 'chosen'}" in capsys.readouterr().out and not root.exists()


@pytest.mark.parametrize("account", [{**ACCOUNT, "password": "wrong"}, {}])
def test_refused_login(root, site, stored, account):
    stored.write_text(json.dumps(account))
    with pytest.raises(DataError) as error:
        download_cityscapes()
    for part in ("refused the user name or the password", str(stored), "Try again", "By hand", FINE, IMAGES, str(root)):
        assert part in str(error.value)
    assert site.asked.count("file-handling") == 0 and below(root) == []


def test_damaged_credentials_are_named(site, stored):
    stored.write_text("student@example.org")
    with pytest.raises(DataError, match=r"credentials\.json is not a file of csDownload .*delete it"):
        download_cityscapes()


def test_without_a_terminal_nobody_is_asked(root, site):
    with pytest.raises(DataError) as error:
        download_cityscapes()
    for part in ("register", "in a terminal", str(credentials_file()), '{"username": "NAME OR EMAIL", "password":'):
        assert part in str(error.value)
    assert site.asked == []


@pytest.mark.parametrize("failure", [EOFError, NotImplementedError])
def test_a_prompt_that_fails_is_explained(root, site, monkeypatch, failure):
    def no_page(question):
        raise failure

    monkeypatch.setattr("builtins.input", no_page)  # as a notebook's kernel does
    monkeypatch.setattr(downloader, "input", no_page)
    with pytest.raises(DataError, match="There is nobody to ask"):
        download_cityscapes()


def test_in_a_notebook_the_account_is_asked_for(root, site, monkeypatch, capsys):
    answers = {"Cityscapes username or email address: ": ACCOUNT["username"]}
    monkeypatch.setattr("builtins.input", lambda question: answers.get(question, "n"))
    monkeypatch.setattr(downloader, "input", lambda question: answers.get(question, "n"))
    monkeypatch.setattr(downloader.getpass, "getpass", lambda question: ACCOUNT["password"])
    download_cityscapes()
    assert_complete(root)
    assert "register" in capsys.readouterr().out and not credentials_file().exists()


def test_a_cut_download_goes_on(root, site, stored):
    site.cut_at = 2048
    with pytest.raises(DataError, match=rf"{FINE} could not be downloaded(.|\n)*next run goes on"):
        download_cityscapes()
    assert (root / ".cityscapes_download" / FINE).stat().st_size == 2048 and not (root / "cityscapes").exists()
    site.cut_at = None
    download_cityscapes()
    assert site.ranges == [None, "bytes=2048-", None]
    assert_complete(root)
    assert below(root) == ["cityscapes"]


@pytest.mark.parametrize("arrived", ["other bytes", "too many", "no ranges"])
def test_what_cannot_be_gone_on_with_is_fetched_anew(root, site, stored, arrived):
    content = site.files[FINE]
    site.knows_ranges = arrived != "no ranges"
    part = root / ".cityscapes_download" / FINE
    part.parent.mkdir(parents=True)
    part.write_bytes({"other bytes": b"x" * 500, "too many": b"x" * len(content), "no ranges": content[:500]}[arrived])
    download_cityscapes()
    assert site.ranges == [f"bytes={500 if arrived != 'too many' else len(content)}-", None, None]
    assert_complete(root)
    assert below(root) == ["cityscapes"]


def test_a_wrong_sum_leaves_nothing(root, site, stored):
    site.wrong_md5 = True
    with pytest.raises(DataError, match=rf"{FINE} could not be downloaded \(MD5 sum .* does not match"):
        download_cityscapes()
    assert below(root) == []


def test_no_access_to_an_archive(root, site, stored):
    del site.files[IMAGES]
    with pytest.raises(DataError, match="don't have access(.|\n)*By hand"):
        download_cityscapes()
    assert below(root / "cityscapes") == ["gtFine"]  # the other one is there and stays


def test_no_network(root, site, stored):
    site.url = "http://127.0.0.1:9"
    with pytest.raises(DataError, match=f"{module.SITE} cannot be reached"):
        download_cityscapes()


def test_archives_put_in_place_are_used_and_stay(root, site):
    (root / "cityscapes").mkdir(parents=True)
    (root / FINE).write_bytes(site.files[FINE])
    (root / "cityscapes" / IMAGES).write_bytes(site.files[IMAGES])
    assert download_cityscapes() == root / "cityscapes"
    assert_complete(root)
    assert site.asked == [] and below(root) == ["cityscapes", FINE]
    assert (root / "cityscapes" / IMAGES).read_bytes() == site.files[IMAGES]


def test_a_damaged_archive_in_place_stays_and_another_is_fetched(root, site, stored, capsys):
    root.mkdir(parents=True)
    (root / FINE).write_bytes(site.files[FINE][:-300])
    download_cityscapes()
    assert_complete(root)
    assert (root / FINE).read_bytes() == site.files[FINE][:-300]
    assert f"{root / FINE} stays as it is but is of no use" in capsys.readouterr().out


def test_an_archive_with_too_little_in_it(root, site, stored, tmp_path):
    next((tmp_path / "source/gtFine/val").rglob("*_labelIds.png")).unlink()
    site.files[FINE] = zip_of(tmp_path / "source", "gtFine/*")
    with pytest.raises(DataError, match="arrived but is of no use: gtFine/val holds files of 1 instead of 2 images"):
        download_cityscapes()
    assert below(root) == []


def test_killed_while_unpacking(root, site, stored, monkeypatch):
    def killed(archive, folder, inside):
        folder.mkdir()
        (folder / "half").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "unpack", killed)
        patch.setattr(module.shutil, "rmtree", lambda *args, **kwargs: None)  # it has no time to tidy up
        download_cityscapes()
    assert below(root) == [".cityscapes_download", ".unpacking_cityscapes"]
    download_cityscapes()
    assert_complete(root)
    assert site.asked.count("file-handling") == 2 and below(root) == ["cityscapes"]


def test_an_incomplete_folder_is_left_alone(root, site, stored):
    download_cityscapes()
    site.asked.clear()
    Cityscapes("val").files[0][0].unlink()
    with pytest.raises(DataError, match=r"leftImg8bit/val is there but incomplete: .* 1 instead of 2 images\nMove it"):
        download_cityscapes()
    assert site.asked == []


@pytest.mark.parametrize("name", ["gtFine/../../evil.txt", "/tmp/evil.txt", "..\\evil.txt"])
def test_hostile_archives_are_refused(root, site, stored, tmp_path, name):
    site.files[FINE] = zip_of(tmp_path / "source", "gtFine/*", **{name: "bad"})
    with pytest.raises(DataError, match="the archive is refused, nothing was unpacked"):
        download_cityscapes()
    assert not list(tmp_path.rglob("*evil.txt")) and not Path("/tmp/evil.txt").exists()
    assert not (root / "cityscapes").exists()


def test_too_little_room(root, site, stored, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 15 * 10**7))
    with pytest.raises(DataError, match=r"Cityscapes needs 0\.2 GB in .*0\.1 GB are free.*NNTI_DATA"):
        download_cityscapes()
    assert site.asked == [] and below(root) == []
    for name in (FINE, IMAGES):  # an archive that is there takes no further room
        (root / name).write_bytes(site.files[name])
    download_cityscapes()
    assert_complete(root)


def test_folder_that_cannot_be_written(tmp_path, root, site, stored):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write to .*set NNTI_DATA"):
        download_cityscapes(tmp_path / "file" / "data")
