"""Write the address of the public repository into pyproject.toml, README.md and the notebooks.

    make badges REPOSITORY=owner/name      or, without REPOSITORY, what `git remote get-url origin` names on GitHub

pyproject.toml is where the address is kept; a test compares the others with it. Nothing but the standard library is
needed.
"""

import re
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "README.md", "notebooks/task*.ipynb")
NAME = r"[\w.-]+/[\w.-]+"
PLACES = tuple(
    re.compile(pattern)
    for pattern in (
        rf'(?<=Repository = "https://github\.com/){NAME}',  # pyproject.toml
        rf'(?<=repository = \\"https://github\.com/){NAME}',  # the notebooks' first cells, as JSON has them
        rf"(?<=git clone https://github\.com/){NAME}",
        rf"(?<=colab\.research\.google\.com/github/){NAME}(?=/blob/)",  # badges
    )
)


def main(arguments: list[str]) -> None:
    """Write `owner/name`, the argument or the remote's, into all places; print which files have changed."""
    name = arguments[0] if arguments else remote()
    if not re.fullmatch(NAME, name):
        sys.exit(f"'{name}' is not of the form owner/name: make badges REPOSITORY=owner/name")
    for path in (path for pattern in FILES for path in sorted(HOME.glob(pattern))):
        before = path.read_text(encoding="utf-8")
        after = renamed(before, name)
        if after != before:
            path.write_text(after, encoding="utf-8", newline="\n")
            print(path.relative_to(HOME))


def remote() -> str:
    """Return the owner/name of the remote `origin`; exit with the fix where it is not on GitHub."""
    command = ["git", "-C", str(HOME), "remote", "get-url", "origin"]
    address = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    found = re.fullmatch(rf"(?:https://(?:[^@/]*@)?|ssh://git@|git@)github\.com[/:]({NAME}?)(?:\.git)?/?", address)
    if found is None:
        sys.exit(f"origin ({address or 'none'}) is not on GitHub: make badges REPOSITORY=owner/name")
    return found[1]


def names(text: str) -> list[str]:
    """Return the owner/name in every place of a file."""
    return [found for place in PLACES for found in place.findall(text)]


def renamed(text: str, name: str) -> str:
    """Return a file's text with `name` in every place."""
    for place in PLACES:
        text = place.sub(name, text)
    return text


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if argument])
