"""What others have published, as plain data: shown beside our measurements, never instead of them.

No number here was measured by this project. Shares (IoU, Dice, accuracies) are 0 … 1, sizes bytes, times seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

REPORT = "the 2021 course report"
HARDWARE = "GTX 1080 8 GB, i7-4790K, 32 GB"  # on which the report trained


@dataclass(frozen=True)
class PublishedCost:
    """One row of the report's Table 1.

    Attributes:
        seconds_per_epoch: of training, on `HARDWARE`. parameters: rounded as printed.
        checkpoint_bytes: what the report calls model size: weights and SGD's momentum, 8 bytes a parameter.
    """

    seconds_per_epoch: float
    parameters: float
    checkpoint_bytes: float


@dataclass(frozen=True)
class LiteratureScore:
    """A mean IoU to compare with ours, 0 … 1."""

    model: str
    dataset: str
    split: str
    mean_iou: float
    conditions: str
    source: str


# The report's Table 1, by (model, data set). Its R2U-Net's 30.00 M parameters cannot be derived from the code that was
# published with it, which has about 48.5 M once it is repaired so that it runs; the well-known public one has 39.09 M.
COSTS: Mapping[tuple[str, str], PublishedCost] = {
    ("enet", "voc"): PublishedCost(4 * 60 + 5, 0.36e6, 3.1e6),
    ("r2unet", "cityscapes"): PublishedCost(20 * 60 + 36, 30.00e6, 240.3e6),
    ("pspnet", "cityscapes"): PublishedCost(15 * 60 + 52, 51.44e6, 411.9e6),
}

_COLUMNS = ("dice", "mean_iou", "pixel_accuracy", "sensitivity", "loss")

# The report's Table 2, by model and split. Dice is F1, and what it prints as pixel accuracy is overall accuracy.
# Validation by the `report` protocol: shorter side to the crop's size, then the centre.
SCORES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "enet": {
        "train": dict(zip(_COLUMNS, (0.3098, 0.2236, 0.8131, 0.2935, 0.5091), strict=True)),
        "val": dict(zip(_COLUMNS, (0.3686, 0.2721, 0.8041, 0.3828, 0.6908), strict=True)),
    },
    "r2unet": {
        "train": dict(zip(_COLUMNS, (0.4395, 0.3591, 0.9014, 0.4181, 0.3918), strict=True)),
        "val": dict(zip(_COLUMNS, (0.4056, 0.3312, 0.9016, 0.3889, 0.3378), strict=True)),
    },
    "pspnet": {
        "train": dict(zip(_COLUMNS, (0.8493, 0.7515, 0.9574, 0.8305, 0.1690), strict=True)),
        "val": dict(zip(_COLUMNS, (0.7806, 0.6608, 0.9505, 0.7598, 0.1466), strict=True)),
    },
}

# The validation mean IoU of the report's abstract, by model. It contradicts the report's own Table 2 (`SCORES`):
# PSPNet's is the training value there, the other two are near the table's validation values but not equal to them.
ABSTRACT_MEAN_IOU: Mapping[str, float] = {"enet": 0.2775, "r2unet": 0.3365, "pspnet": 0.7515}

_ENET_PAPER = "Paszke et al. 2016, arXiv:1606.02147"
_ENET_PORT = "github.com/davidtvs/PyTorch-ENet, a port of ENet"
_SEMSEG = "github.com/hszhao/semseg, by PSPNet's first author"
_RECIPE = "713 × 713 crops, batch 16, 200 epochs"
_VOC_RECIPE = "trained on train_aug, 473 × 473 crops, batch 16, 50 epochs"

# R2U-Net on Cityscapes: we found no published mean IoU but the report's own.
LITERATURE: tuple[LiteratureScore, ...] = (
    LiteratureScore("ENet", "CamVid", "test", 0.513, "as in the paper", _ENET_PAPER),
    LiteratureScore("ENet", "CamVid", "test", 0.521, "300 epochs", _ENET_PORT),
    LiteratureScore("ENet", "Cityscapes", "test", 0.583, "as in the paper", _ENET_PAPER),
    LiteratureScore("ENet", "Cityscapes", "val", 0.595, "300 epochs", _ENET_PORT),
    LiteratureScore("PSPNet-R50", "Cityscapes", "val", 0.773, f"{_RECIPE}, single scale", _SEMSEG),
    LiteratureScore("PSPNet-R50", "Cityscapes", "val", 0.784, f"{_RECIPE}, multi-scale", _SEMSEG),
    LiteratureScore("PSPNet-R50", "PASCAL VOC 2012", "val", 0.7705, f"{_VOC_RECIPE}, single scale", _SEMSEG),
    LiteratureScore("PSPNet-R50", "PASCAL VOC 2012", "val", 0.7802, f"{_VOC_RECIPE}, multi-scale", _SEMSEG),
)
