"""The repository's address: pyproject.toml keeps it, and every other place agrees."""

import importlib.util
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("badges", HOME / "notebooks" / "badges.py")
badges = importlib.util.module_from_spec(spec)
spec.loader.exec_module(badges)


def test_all_places_agree_with_pyproject():
    with (HOME / "pyproject.toml").open("rb") as file:
        address = tomllib.load(file)["project"]["urls"]["Repository"]
    found = {path.name: badges.names(path.read_text(encoding="utf-8")) for path in files(HOME)}
    assert {f"https://github.com/{name}" for names in found.values() for name in names} == {address}
    places = {name: len(names) for name, names in found.items()}
    assert places.pop("pyproject.toml") == 1 and places.pop("README.md") == 4  # three badges, one clone
    assert len(places) == 3 and set(places.values()) == {2}  # a badge and the first cell


@pytest.fixture
def fork(tmp_path, monkeypatch) -> Path:
    (tmp_path / "notebooks").mkdir()
    for path in files(HOME):
        shutil.copy(path, tmp_path / path.relative_to(HOME))
    monkeypatch.setattr(badges, "HOME", tmp_path)
    return tmp_path


def files(home: Path) -> list[Path]:
    return [path for pattern in badges.FILES for path in home.glob(pattern)]


def test_a_fork_writes_its_own_address_and_nothing_else(fork):
    before = {path: path.read_bytes() for path in files(fork)}
    old = badges.names((fork / "pyproject.toml").read_text())[0].encode()
    badges.main(["some-one/my.course"])
    for path, content in before.items():
        assert path.read_bytes() == content.replace(b"/" + old, b"/some-one/my.course")
    badges.main([old.decode()])
    assert before == {path: path.read_bytes() for path in files(fork)}


@pytest.mark.parametrize("wrong", ["name", "https://github.com/owner/name", "a/b c"])
def test_what_is_no_name_is_refused(fork, wrong):
    with pytest.raises(SystemExit, match="owner/name"):
        badges.main([wrong])


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://github.com/a/b.c.git", "a/b.c"), ("https://github.com/a/b", "a/b"), ("git@github.com:a/b.git", "a/b"),
        ("ssh://git@github.com/a/b.git/", "a/b"), ("https://user@github.com/a/b/", "a/b"),
        ("https://gitlab.com/a/b", None), ("/srv/git/a/b", None), ("", None),
    ],
)  # fmt: skip
def test_the_remote_is_the_default_where_it_is_on_github(monkeypatch, address, name):
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: subprocess.CompletedProcess(args, 0, address))
    if name:
        assert badges.remote() == name
    else:
        with pytest.raises(SystemExit, match="is not on GitHub: make badges REPOSITORY=owner/name"):
            badges.remote()
