"""Where a notebook's files lie: a shared folder that may only be read, or Google Drive."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import types
import zipfile
from pathlib import Path

import layouts
import papermill
import pytest

from nnti.data import VOC, Cityscapes, DataError, download
from nnti.data import download as cityscapes_download
from nnti.errors import SettingError
from nnti.experiment import Experiment
from nnti.folders import cache_dir, data_roots, figures_dir, runs_dir
from nnti.notebook import colab as session
from nnti.notebook.colab import prepare
from nnti.training.loop import fit

HOME = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HOME / "notebooks").glob("task*.ipynb"))
NOBODY = 65534
TINY = {
    "name": "tiny", "dataset": "camvid", "train_split": "train", "batch_size": 2, "epochs": 1, "val_every": 1,
    "base_size": 64, "crop_size": 48, "val_size": 32, "precision": "float32", "device": "cpu", "num_workers": 0,
    "cache": "none",
}  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A checkout of its own, without data; what `prepare` does to the environment ends with the test."""
    for name in ("NNTI_DATA", "NNTI_RUNS", "NNTI_FIGURES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path / "project")
    monkeypatch.setattr(session, "home", lambda: tmp_path / "project")
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "project"
    session._take_back()


@pytest.fixture
def colab(project, tmp_path, monkeypatch) -> Path:
    """Google Colab as far as `prepare` sees it; returns the Drive folder nnti/."""

    def mount(place: str) -> None:
        (Path(place) / "MyDrive").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(session, "MOUNT", tmp_path / "content" / "drive")
    package = types.ModuleType("google.colab")
    package.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google.colab", package)
    return tmp_path / "content" / "drive" / "MyDrive" / "nnti"


# a folder of one's own


def test_a_data_root_is_looked_at_first(project, tmp_path, monkeypatch):
    before = data_roots()
    prepare()
    assert data_roots() == before
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "hub"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        prepare(name)
        assert data_roots()[:2] == [tmp_path / name, tmp_path / "hub"]
    prepare()
    assert os.environ["NNTI_DATA"] == str(tmp_path / "hub")


def test_what_is_set_by_hand_meanwhile_stays(project, tmp_path, monkeypatch):
    prepare(tmp_path)
    monkeypatch.setenv("NNTI_DATA", "elsewhere")
    prepare()
    assert os.environ["NNTI_DATA"] == "elsewhere"


def test_a_data_root_that_is_none_is_named(project, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "a:b").mkdir()
    for wrong, message in (("gone", "no such folder"), ("file", "no such folder"), ("a:b", "':' separates")):
        with pytest.raises(SettingError, match=f"data_root='{wrong}': .*{message}"):
            prepare(wrong)
    assert "NNTI_DATA" not in os.environ


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_settings(path, project, tmp_path, capsys):
    assert set(papermill.inspect_notebook(path)) >= {
        "preset", "epochs", "seed", "device", "data_root", "drive", "restart"
    }  # fmt: skip
    layouts.write_voc(tmp_path / "shared")
    layouts.write_cityscapes(tmp_path / "shared")
    first = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"][1:4]
    imports, settings, load = ("".join(cell["source"]) for cell in first)
    names = {}
    for code in (imports, settings, "preset, epochs, seed, device, data_root = 'short', 3, 4, 'cpu', 'shared'", load):
        exec(code, names)
    data, adjusted = names["train_data"], [x for x in names.values() if isinstance(x, Experiment) and x.seed == 4]
    assert data.root.is_relative_to(tmp_path / "shared") and len(data) == 3
    assert {(x.epochs, x.device) for x in adjusted} == {(3, "cpu")}
    assert "3 training and 2 validation images" in capsys.readouterr().out


# Google Drive


def test_runs_and_figures_go_to_drive_and_decoded_copies_stay(colab, project, monkeypatch):
    local = runs_dir(), figures_dir()
    monkeypatch.delenv("NNTI_CACHE")
    prepare(drive=True)
    assert (runs_dir(), figures_dir()) == (colab / "runs", colab / "figures")
    assert cache_dir() == project / "data" / "cache"
    prepare(drive=False)
    assert (runs_dir(), figures_dir()) == local


def test_a_training_goes_on_after_the_machine_was_taken_away(colab, project, tmp_path, capsys):
    layouts.write_camvid(tmp_path / "data" / "camvid")
    experiment = Experiment(**{**TINY, "epochs": 2})
    prepare(drive=True)
    next(iter(fit(experiment, progress=False)))
    shutil.rmtree(project, ignore_errors=True)
    session._take_back()
    prepare(drive=True)
    assert [row["epoch"] for row in fit(experiment, progress=False)] == [2]
    assert "goes on after epoch 1" in capsys.readouterr().out
    assert (colab / "runs" / "tiny" / "record.json").exists() and not project.exists()


def test_drive_elsewhere_and_refused(project, colab, monkeypatch):
    def refuse(place):
        raise ValueError("mount failed")

    monkeypatch.setattr(sys.modules["google.colab"].drive, "mount", refuse)
    with pytest.raises(SettingError, match=r"could not be mounted \(mount failed\).*allow the access.*drive = False"):
        prepare(drive=True)
    monkeypatch.setitem(sys.modules, "google.colab", None)
    with pytest.raises(SettingError, match="is for Google Colab, and this is none: set drive = False"):
        prepare(drive=True)
    assert "NNTI_RUNS" not in os.environ


@pytest.fixture
def voc_archive(colab, tmp_path, monkeypatch) -> Path:
    """VOC's archive on Drive."""
    layouts.write_voc(tmp_path / "source")
    archive = colab / "data" / "VOCtrainval_11-May-2012.tar"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "source" / "VOCdevkit", "VOCdevkit")
    monkeypatch.setattr(download, "VOC_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(download, "VOC_COUNTS", {"train": 3, "val": 2})
    return archive


def test_an_archive_is_unpacked_once(voc_archive, project, capsys):
    before = voc_archive.read_bytes()
    prepare(drive=True)
    assert "Unpacking" in capsys.readouterr().out
    assert VOC("train").root == project / "data" / "VOCdevkit" / "VOC2012" and len(VOC("train")[0]) == 2
    prepare(drive=True)
    assert "Unpacking" not in capsys.readouterr().out
    assert voc_archive.read_bytes() == before and os.listdir(project / "data") == ["VOCdevkit"]


def test_only_the_archives_of_this_task_are_unpacked(voc_archive, project):
    prepare(None, True, ["cityscapes"])
    assert not (project / "data").exists()
    with pytest.raises(DataError, match="archive of 'vco' is not one of.*did you mean 'voc'"):
        prepare(None, True, ["vco"])


def test_data_that_is_found_anyway_is_not_unpacked_again(voc_archive, project, tmp_path):
    prepare(tmp_path / "source", drive=True)
    assert VOC("train").root.is_relative_to(tmp_path / "source") and not (project / "data").exists()


def test_unpacking_that_was_cut_off_starts_over(voc_archive, project, monkeypatch, capsys):
    def killed(archive, folder, inside):
        layouts.write_list(folder / "VOCdevkit" / "half", ["half"])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download, "unpack", killed)
        patch.setattr(download.shutil, "rmtree", lambda *args, **kwargs: None)  # it has no time to tidy up
        prepare(drive=True)
    with pytest.raises(DataError, match="was not found"):
        VOC("train")
    prepare(drive=True)
    assert "unpacked again" in capsys.readouterr().out
    assert len(VOC("train")) == 3 and os.listdir(project / "data") == ["VOCdevkit"]


def test_a_damaged_archive_is_named_and_stays(voc_archive, project):
    voc_archive.write_bytes(voc_archive.read_bytes()[:-1000])
    with pytest.raises(DataError, match=rf"{voc_archive} is of no use: .*cut short.*Copy it there again"):
        prepare(drive=True)
    assert voc_archive.exists() and os.listdir(project / "data") == []


def test_too_little_room_on_the_local_disk(voc_archive, project, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 10**9))
    with pytest.raises(DataError, match=rf"needs 4\.2 GB in {project}/data, but 1\.0 GB are free; make room"):
        prepare(drive=True)


def test_archives_of_cityscapes(colab, project, tmp_path, monkeypatch, capsys):
    counts = {split: len(layouts.CITYSCAPES[split]) for split in ("train", "val", "test")}
    small = [dataclasses.replace(one, counts=counts, unpacked=0.01) for one in cityscapes_download.FINE_PACKAGES]
    monkeypatch.setattr(cityscapes_download, "FINE_PACKAGES", tuple(small))
    source = layouts.write_cityscapes(tmp_path / "source")
    (colab / "data").mkdir(parents=True)
    for package, name in zip(small, ("gtFine_trainvaltest (1).zip", "leftImg8bit_trainvaltest.zip"), strict=True):
        (colab / "data" / name).write_bytes(_zip(source, package.part))
    prepare(None, True, ["cityscapes"])
    assert Cityscapes("train").root == project / "data" / "cityscapes" and len(Cityscapes("val")) == 2
    capsys.readouterr()
    prepare(None, True, ["cityscapes"])
    assert "Unpacking" not in capsys.readouterr().out


def _zip(folder: Path, part: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        for path in sorted((folder / part).rglob("*.png")):
            zipped.write(path, path.relative_to(folder))
    return stream.getvalue()


# a hub's data folder, which its users may only read


@pytest.fixture
def hub():
    """A data folder that nobody may write to, and a folder of the user's own, outside of pytest's, which is private."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    layouts.write_camvid(top / "shared" / "camvid")
    (top / "home").mkdir()
    (top / "home").chmod(0o777)
    for path in [top / "shared", *(top / "shared").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield top
    for path in [top / "shared", *(top / "shared").rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(top)


def test_a_user_without_rights_trains_on_a_shared_folder(hub):
    shared, own = hub / "shared", hub / "home"
    places = {f"NNTI_{name}": str(own / name.lower()) for name in ("RUNS", "FIGURES", "CACHE")}
    environment = {**os.environ, **places, "HOME": str(own), "PYTHONPATH": str(HOME)}
    environment.pop("NNTI_DATA", None)
    before = _state(shared)
    command = [sys.executable, "-c", AS_USER, str(shared), str(own), json.dumps({**TINY, "cache": "disk"})]
    done = subprocess.run(command, env=environment, cwd=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "epoch 1, cache disk"
    assert _state(shared) == before
    assert (own / "runs" / "tiny" / "record.json").exists() and len(list((own / "cache").glob("*.decoded"))) == 2


# root gives up its rights for good, after everything is imported: the user may not be allowed to read this Python
AS_USER = f"""if True:
    import json, os, sys
    from pathlib import Path
    from nnti.experiment import Experiment
    from nnti.notebook.colab import prepare
    from nnti.training.loop import fit
    shared, own, experiment = Path(sys.argv[1]), Path(sys.argv[2]), Experiment(**json.loads(sys.argv[3]))
    if os.geteuid() == 0:
        prepare(shared)
        list(fit(experiment.replace(cache="none"), own / "first", progress=False))
        os.setgroups([])
        os.setgid({NOBODY})
        os.setuid({NOBODY})
    try:
        (shared / "x").write_text("")
    except PermissionError:
        prepare(shared)
        run = fit(experiment, progress=False)
        for row in run:
            print(f"epoch {{row['epoch']}}, cache {{run.train_data.cache}}")
"""


def _state(folder: Path) -> dict[str, tuple]:
    """Names, times and contents of everything below a folder."""
    found = {path: path.stat() for path in [folder, *folder.rglob("*")]}
    return {
        str(path): (state.st_mtime_ns, state.st_mode, path.read_bytes() if path.is_file() else b"")
        for path, state in found.items()
    }
