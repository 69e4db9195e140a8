"""From a data set to batches, in the same order for any number of workers."""

import os
import signal
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nnti.augment import Batch, collate, cut, draw, place_random, place_report, place_resized
from nnti.data import SegmentationDataset, evenly_spread, load_dataset
from nnti.errors import SettingError, UserError
from nnti.experiment import Experiment, crop_shape


def load_split(experiment: Experiment, split: str, limit: int | None = None) -> SegmentationDataset:
    """Open one split of the experiment's data set, thinned evenly to `limit` images."""
    dataset = load_dataset(experiment.dataset, split, arguments=experiment.dataset_arguments)
    if limit is not None:
        dataset.files = [dataset.files[at] for at in evenly_spread(len(dataset), limit)]
    return dataset


def train_loader(
    experiment: Experiment, dataset: SegmentationDataset, device: torch.device, rank: int = 0, processes: int = 1
) -> DataLoader:
    """Return a loader of batches in random order; call `loader.sampler.set_epoch(epoch)` before each epoch.

    The last, incomplete batch is dropped: one of a single image would break batch normalisation. With several
    processes, each gets an equal part of every batch.
    """
    batch = experiment.batch_size
    if len(dataset) < batch:
        raise SettingError(
            f"batch_size={batch} is larger than the {len(dataset)} images of {dataset.title} '{dataset.split}'; set "
            f"batch_size to {len(dataset)} or less, or take more images (train_limit)"
        )
    if batch % processes:
        nearest = max(1, round(batch / processes)) * processes
        raise SettingError(
            f"batch_size={batch} is that of all {processes} processes together and cannot be split equally; set "
            f"batch_size to {nearest}, or start another number of processes"
        )
    sampler = _EpochSampler(len(dataset), experiment, rank, processes)
    samples = _TrainSamples(experiment, dataset)
    return _loader(experiment, samples, device, batch // processes, sampler=sampler, drop_last=True)


def val_loader(
    experiment: Experiment,
    dataset: SegmentationDataset,
    device: torch.device,
    protocol: str | None = None,
    rank: int = 0,
    processes: int = 1,
) -> DataLoader:
    """Return a loader of the split in order, for `protocol` 'report' or 'full' (default: the experiment's).

    With several processes, each gets different images.
    """
    protocol = protocol or experiment.protocol
    samples = _ValSamples(experiment, dataset, protocol)
    # images of the full protocol differ in size
    batch_size = max(1, experiment.batch_size // processes) if protocol == "report" else 1
    return _loader(experiment, samples, device, batch_size, sampler=range(rank, len(dataset), processes))


class _EpochSampler:
    """Yield (epoch, index) of whole batches in an order that depends on seed and epoch alone, one process's share."""

    def __init__(self, size: int, experiment: Experiment, rank: int, processes: int):
        self.size, self.seed, self.batch = size, experiment.seed, experiment.batch_size
        self.rank, self.processes = rank, processes
        self.epoch = self.first_step = 0

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """Set the epoch, and the step to begin with."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return self.size // self.batch * (self.batch // self.processes)  # of a whole epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        whole = order[: self.size // self.batch * self.batch]
        batches = whole.reshape(-1, self.processes, self.batch // self.processes)
        return iter([(self.epoch, int(index)) for index in batches[self.first_step :, self.rank].flatten()])


class _TrainSamples(Dataset):
    def __init__(self, experiment: Experiment, dataset: SegmentationDataset):
        self.experiment, self.dataset = experiment, dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, at: tuple[int, int]) -> Batch | UserError:
        epoch, index = at
        try:
            image, label = self.dataset[index]
        except UserError as error:
            return error  # see `_Loader`
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

    def __getitem__(self, index: int) -> Batch | UserError:
        try:
            image, label = self.dataset[index]
        except UserError as error:
            return error
        if self.protocol == "report":
            return cut(image, label, place_report(label.shape, self.size), index)
        return cut(image, label, place_resized(label.shape, tuple(label.shape)), index)  # the identity map


class _Loader(DataLoader):
    """A loader that raises a sample's error unchanged; PyTorch would bury it in the worker's traceback."""

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def _loader(experiment: Experiment, samples: Dataset, device: torch.device, batch_size: int, **options) -> DataLoader:
    workers = experiment.num_workers
    if workers < 0:  # none on a CPU, where they would slow the training
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's name for those on this machine
        workers = 0 if device.type == "cpu" else min(8, max(1, (os.cpu_count() or 1) // processes))
    return _Loader(
        samples,
        batch_size=batch_size,
        collate_fn=_collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_signals_to_the_training,
        **options,
    )


def _collate(samples: list[Batch | UserError]) -> Batch | UserError:
    """Stack samples; workers move them to shared memory here, where a lack of it is an error, not a hang."""
    faults = [sample for sample in samples if isinstance(sample, UserError)]
    if faults:
        return faults[0]
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
