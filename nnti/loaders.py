"""From a data set to batches: what the host does for each sample, in the same order whatever the number of workers."""

import os
import signal
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nnti.augment import Batch, collate, cut, draw, place_random, place_report, place_resized
from nnti.data import SegmentationDataset, attach_cache, evenly_spread, load_dataset
from nnti.errors import SettingError
from nnti.experiment import Experiment, crop_shape
from nnti.training.parallel import ALONE, World

__all__ = ["attach_caches", "load_split", "loader_workers", "train_loader", "val_loader"]


def load_split(experiment: Experiment, split: str, limit: int | None = None) -> SegmentationDataset:
    """Open one split of the experiment's data set, thinned evenly to `limit` images."""
    dataset = load_dataset(experiment.dataset, split, arguments=experiment.dataset_arguments)
    if limit is not None:
        dataset.files = [dataset.files[at] for at in evenly_spread(len(dataset), limit)]
    return dataset


def attach_caches(
    datasets: Sequence[SegmentationDataset], mode: str, world: World = ALONE, progress: bool = True
) -> None:
    """Let data sets read decoded copies (see `attach_cache`); the first process of each machine makes them."""
    for first in (True, False):
        if (world.local_rank == 0) == first:
            for dataset in datasets:
                attach_cache(dataset, mode, progress=progress)
        world.wait()


def train_loader(
    experiment: Experiment, dataset: SegmentationDataset, device: torch.device, world: World = ALONE
) -> DataLoader:
    """Return batches in random order; call `loader.sampler.set_epoch(epoch)` before each epoch.

    The last, incomplete batch is dropped: one of a single image would break batch normalisation. Each process of
    `world` gets an equal part of every batch.
    """
    if len(dataset) < experiment.batch_size:
        raise SettingError(
            f"batch_size={experiment.batch_size} is larger than the {len(dataset)} images of {dataset.title} "
            f"'{dataset.split}'; set batch_size to {len(dataset)} or less, or take more images (train_limit)"
        )
    if experiment.batch_size % world.size:
        nearest = max(1, round(experiment.batch_size / world.size)) * world.size
        raise SettingError(
            f"batch_size={experiment.batch_size} is that of all {world.size} processes together and cannot be shared "
            f"equally; set batch_size to {nearest}, or start another number of processes"
        )
    sampler = _EpochSampler(len(dataset), experiment, world)
    samples, share = _TrainSamples(experiment, dataset), experiment.batch_size // world.size
    return _loader(experiment, samples, device, share, sampler=sampler, drop_last=True)


def val_loader(
    experiment: Experiment,
    dataset: SegmentationDataset,
    device: torch.device,
    protocol: str | None = None,
    world: World = ALONE,
) -> DataLoader:
    """Return the whole split in order, cropped as `protocol` ('report' or 'full'; default: the experiment's) says.

    Each process of `world` gets other images.
    """
    protocol = protocol or experiment.protocol
    samples = _ValSamples(experiment, dataset, protocol)
    # images of the full protocol differ in size
    batch_size = max(1, experiment.batch_size // world.size) if protocol == "report" else 1
    return _loader(experiment, samples, device, batch_size, sampler=world.share(len(dataset)))


def loader_workers(experiment: Experiment, device: torch.device) -> int:
    """Return the number of reading processes: as set, else none on a CPU, where they would slow the training."""
    if experiment.num_workers >= 0:
        return experiment.num_workers
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's word for those on this machine
    return 0 if device.type == "cpu" else min(8, max(1, (os.cpu_count() or 1) // processes))


class _EpochSampler:
    """Yield (epoch, index) of whole batches in an order that depends on seed and epoch alone, one process's share."""

    def __init__(self, size: int, experiment: Experiment, world: World):
        self.size, self.seed, self.batch, self.world = size, experiment.seed, experiment.batch_size, world
        self.epoch = self.first_step = 0

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """Choose the epoch, and the step of it to begin with."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return self.size // self.batch * (self.batch // self.world.size)  # of a whole epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        batches = order[: self.size // self.batch * self.batch].reshape(
            -1, self.world.size, self.batch // self.world.size
        )
        return iter([(self.epoch, int(index)) for index in batches[self.first_step :, self.world.rank].flatten()])


class _TrainSamples(Dataset):
    def __init__(self, experiment: Experiment, dataset: SegmentationDataset):
        self.experiment, self.dataset = experiment, dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, at: tuple[int, int]):
        epoch, index = at
        image, label = self.dataset[index]
        crop = crop_shape(self.experiment.crop_size)
        if self.experiment.augment:
            drawn = draw(self.experiment, epoch, index)
            placement = place_random(drawn, label.shape, self.experiment.base_size, crop)
        else:
            placement = place_resized(label.shape, crop)
        return cut(image, label, placement, index)


class _ValSamples(Dataset):
    def __init__(self, experiment: Experiment, dataset: SegmentationDataset, protocol: str):
        self.dataset, self.protocol, self.size = dataset, protocol, crop_shape(experiment.val_size)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        image, label = self.dataset[index]
        if self.protocol == "report":
            return cut(image, label, place_report(label.shape, self.size), index)
        return cut(image, label, place_resized(label.shape, tuple(label.shape)), index)  # the identity map


def _loader(experiment: Experiment, samples: Dataset, device: torch.device, batch_size: int, **options) -> DataLoader:
    workers = loader_workers(experiment, device)
    return DataLoader(
        samples,
        batch_size=batch_size,
        collate_fn=_collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_signals_to_the_training,
        **options,
    )


def _collate(samples: list[Batch]) -> Batch:
    """Stack samples; in a worker into shared memory, here where a lack of it is an error: later it would hang."""
    batch = collate(samples)
    if torch.utils.data.get_worker_info() is not None:
        for value in vars(batch).values():
            if isinstance(value, torch.Tensor):
                value.share_memory_()
    return batch


def _leave_signals_to_the_training(worker: int) -> None:
    """Ctrl-C in a terminal reaches the workers too, but the step that is under way still needs them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
