"""Write the address of the public repository into pyproject.toml, README.md, docs and the notebooks.

make badges REPOSITORY=owner/name      or, without REPOSITORY, what `git remote get-url origin` names on GitHub
"""

import re
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
NAME = r"[\w.-]+/[\w.-]+?"
# pyproject.toml's Repository, the notebooks' `repository`, the docs' `git clone`; badges
PLACES = re.compile(
    rf'((?:[Rr]epository = \\?"|git clone )https://github\.com/|colab\.research\.google\.com/github/){NAME}'
    r'(?=["`\s\\]|/blob/)'
)


def main(name: str) -> None:
    """Write `owner/name`, or what the remote `origin` says, into all places; print which files have changed."""
    if not name:
        command = ["git", "-C", str(HOME), "remote", "get-url", "origin"]
        address = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        name = re.sub(r"^.*github\.com[/:]|(\.git)?/?$", "", address)
    if not re.fullmatch(NAME, name):
        sys.exit(f"'{name}' is not owner/name of a repository on GitHub: make badges REPOSITORY=owner/name")
    for path in [
        HOME / "pyproject.toml",
        HOME / "README.md",
        HOME / "docs" / "notebooks.md",
        *sorted(HOME.glob("notebooks/task*.ipynb")),
    ]:
        before = path.read_text(encoding="utf-8")
        after = PLACES.sub(rf"\g<1>{name}", before)
        if after != before:
            path.write_text(after, encoding="utf-8", newline="\n")
            print(path.relative_to(HOME))


if __name__ == "__main__":
    main("".join(sys.argv[1:]))
