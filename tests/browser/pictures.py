"""Draw README's picture of the explorer: the ENet that ships with the project, on CamVid.

NNTI_DATA=FOLDER python tests/browser/pictures.py
"""

import os
import tempfile
from pathlib import Path

from lab import Lab

PROJECT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Write figures/explorer.png."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder), {"NNTI_DATA": os.environ["NNTI_DATA"], "PYTHONPATH": str(PROJECT)})
        try:
            lab.run("explorer.ipynb", "from nnti import explore", "explore('enet_camvid')")
            lab.wait_for("1 of 101", ".nnti-explorer")
            lab.button("prediction", ".nnti-explorer").click()
            lab.find(".nnti-explorer .nnti-canvas")[0].click()
            lab.wait_for("predicted:", ".nnti-explorer")
            explorer = lab.show(lab.find(".nnti-explorer")[0])
            explorer.screenshot(str(PROJECT / "figures" / "explorer.png"))
        finally:
            lab.close()


if __name__ == "__main__":
    main()
