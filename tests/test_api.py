"""What the package offers: every public name explained, and all that notebooks use at the top."""

import importlib
import inspect
import pkgutil
import pydoc
from pathlib import Path

import nbformat
import pytest

import nnti

MODULES = [module.name for module in pkgutil.walk_packages(nnti.__path__, "nnti.") if module.name != "nnti.__main__"]
NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("task*.ipynb"))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_explained(name):
    module = importlib.import_module(name)
    assert inspect.getdoc(module), f"{name} has no docstring"
    assert module.__all__, f"{name} does not say what is public"
    for public in module.__all__:
        thing = getattr(module, public)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{name}.{public} has no docstring"
        for method, function in vars(thing).items() if inspect.isclass(thing) else ():
            function = function.fget if isinstance(function, property) else getattr(function, "__func__", function)
            if inspect.isfunction(function) and not method.startswith("_"):
                assert function.__doc__, f"{name}.{public}.{method} has no docstring"


def test_everything_that_notebooks_import_is_at_the_top():
    used = {}
    for path in NOTEBOOKS:
        source = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        for line in source.splitlines():
            if line.startswith("from nnti"):
                home, _, names = line.removeprefix("from ").partition(" import ")
                used |= {name: home for name in names.split(", ")}
    hidden = {name for name in used if f"nnti.{name}" in MODULES} - set(nnti._MODULES)
    assert all(f"from {used[name]} import {name}`" in nnti.__doc__ for name in hidden)
    assert used.keys() - hidden <= set(nnti.__all__)
    for name, home in ((name, used[name]) for name in used.keys() - hidden):
        assert getattr(nnti, name) is getattr(importlib.import_module(home), name)


def test_no_export_hides_behind_a_module_of_its_name():
    modules = {name.rpartition(".")[2] for name in MODULES if name.count(".") == 1}
    assert modules & set(nnti.__all__) == set(nnti._MODULES)


def test_help_lists_what_there_is():
    text = pydoc.plain(pydoc.render_doc(nnti))
    for name in nnti.__all__:
        assert name in text
    assert "watch(run" in text and "Data flows one way" in text
    with pytest.raises(AttributeError, match="'nnti' has no attribute 'fitt'"):
        nnti.fitt  # noqa: B018
