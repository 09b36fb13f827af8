"""torch's DataLoader: how many samples a second it makes with how many workers, and what passes through shared memory."""

import os
import statistics
import time
import zlib

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from . import Unavailable, Wrong
from .clock import figure

BATCH = 64
# Pixels of an image before it is cropped: the middle of ImageNet's.
WIDE, HIGH = 500, 375
# Bytes of a batch that only passes through, and the batches that wait for each worker.
PASSING, PREFETCH = 64 << 20, 2


class Images(Dataset):
    """What is usual for images: inflated from memory (as PNG is), a crop, a resize, a flip, float32, the mean taken off."""

    def __init__(self, count):
        self.count = count
        generator = torch.Generator().manual_seed(1)
        x, y = torch.arange(WIDE).view(1, 1, WIDE), torch.arange(HIGH).view(1, HIGH, 1)
        smooth = (x * torch.tensor([1, 2, 3]).view(3, 1, 1) + y * 2) // 4
        image = (smooth + torch.randint(6, (3, HIGH, WIDE), generator=generator)).to(torch.uint8)
        self.deflated = zlib.compress(bytes(image.flatten().tolist()))
        self.mean, self.deviation = (torch.tensor(v).view(3, 1, 1) for v in ([120.0, 115.0, 104.0], [58.0, 57.0, 57.0]))

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        pixels = bytearray(zlib.decompress(self.deflated))
        image = torch.frombuffer(pixels, dtype=torch.uint8).view(3, HIGH, WIDE)
        top, left = index % 75, index // 75 % 200
        image = image[:, top : top + 300, left : left + 300].float()
        image = F.interpolate(image[None], size=(224, 224), mode="bilinear", antialias=True)[0]
        if index % 2:
            image = image.flip(-1)
        return (image - self.mean) / self.deviation, index


class Blocks(Dataset):
    """Numbers that cost nothing to make."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.full((PASSING // 4,), float(index))


def whole(batch):
    return batch[0]


class Loader:
    def __init__(self, args):
        torch.set_num_threads(1)
        self.seconds = 4.0 if args.effort == "full" else 1.5

    def measure(self, name):
        return {"loader": self.samples, "loader-passing": self.passing}[name]()

    def samples(self):
        cores = len(os.sched_getaffinity(0))
        counts = sorted({0, 1, cores, *(1 << power for power in range(1, 7) if 1 << power < cores)})
        curve, best = [], [0.0]
        for workers in counts:
            rates = self.rate(workers)
            curve.append((workers, statistics.median(rates)))
            if statistics.median(rates) > statistics.median(best):
                best = rates
        method = "batches of %d images of 500x375 (inflate, crop, resize to 224x224, flip, normalise), the best of %s workers on %d cores, torch %s" % (
            (BATCH, ", ".join(map(str, counts)), cores, torch.__version__)
        )
        return figure("loader", best, method, curve=curve, gpus=())

    def rate(self, workers):
        """Samples a second, batch by batch, after the first that each worker made."""
        dataset = Images(1 << 20)
        loader = DataLoader(dataset, BATCH, num_workers=workers, persistent_workers=False)
        batches = iter(loader)
        for number in range(max(1, PREFETCH * workers)):
            images, indices = next(batches)
            if indices.tolist() != list(range(number * BATCH, (number + 1) * BATCH)):
                raise Wrong("the DataLoader gave other samples, or in another order")
        rates, end = [], time.perf_counter() + self.seconds
        # Of groups of batches: a single one may have been made before it was asked for.
        group = max(1, workers)
        while len(rates) < 3 or time.perf_counter() < end:
            begun = time.perf_counter()
            for _ in range(group):
                images, _ = next(batches)
            # Within the time: the workers go on meanwhile.
            if not torch.isfinite(images).all():
                raise Wrong("an image is no number")
            rates.append(group * BATCH / (time.perf_counter() - begun))
        return rates

    def passing(self):
        workers = min(4, len(os.sched_getaffinity(0)))
        needed = PASSING * (PREFETCH + 1) * workers
        there = os.statvfs("/dev/shm")
        size, free = there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize
        if free < needed:
            raise Unavailable(
                "/dev/shm has %d MiB free, and %d workers with batches of %d MiB need %d: --shm-size=1g"
                % (free >> 20, workers, PASSING >> 20, needed >> 20)
            )
        loader = DataLoader(Blocks(1 << 20), 1, num_workers=workers, collate_fn=whole, prefetch_factor=PREFETCH)
        batches = iter(loader)
        for number in range(PREFETCH * workers):
            block = next(batches)
            if block[0].item() != number or block[-1].item() != number:
                raise Wrong("the DataLoader gave another batch")
        rates, end = [], time.perf_counter() + self.seconds
        while len(rates) < 3 or time.perf_counter() < end:
            begun = time.perf_counter()
            for _ in range(workers):
                block = next(batches)
            rates.append(workers * PASSING / (time.perf_counter() - begun) / 1e9)
        method = "batches of %d MiB from %d workers through /dev/shm (%d MiB), torch %s" % (
            (PASSING >> 20, workers, size >> 20, torch.__version__)
        )
        return figure("loader-passing", rates, method, gpus=())
