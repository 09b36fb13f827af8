"""DataLoader: workers hand batches over through /dev/shm."""

import os

import torch
from torch.utils.data import DataLoader, Dataset

from .outcome import Failed, require

BATCHES, BATCH, WORKERS = 6, 4, 2
# float32 values of a sample: 4 MiB, 16 MiB a batch, 96 MiB held at once.
VALUES = 1 << 20


class Numbers(Dataset):
    """Samples that can be told apart."""

    def __len__(self):
        return BATCHES * BATCH

    def __getitem__(self, index):
        return torch.full((VALUES,), float(index))


def dataloader(gpus):
    """Batches of two workers, more at once than Docker's 64 MB of /dev/shm, arrive as they were sent."""
    stat = os.statvfs("/dev/shm")
    size = stat.f_blocks * stat.f_frsize
    said = "/dev/shm is %d MiB" % (size >> 20)
    loader = DataLoader(Numbers(), batch_size=BATCH, num_workers=WORKERS)
    # All are held until the end: pinned copies would give their place in /dev/shm back.
    held = []
    try:
        held.extend(loader)
    except RuntimeError as error:
        # A worker's error comes with its traceback; the last line says what it is.
        words = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise Failed("%s; %s" % (said, words[-1] if words else "no reason given")) from error
    require(len(held) == BATCHES, "%d of %d batches came" % (len(held), BATCHES))
    for number, batch in enumerate(held):
        batch = batch.pin_memory().cuda(non_blocking=True) if gpus else batch
        wanted = torch.arange(BATCH, dtype=torch.float32) + number * BATCH
        low, high = batch.amin(1).cpu(), batch.amax(1).cpu()
        require(torch.equal(low, wanted) and torch.equal(high, wanted), "batch %d is not what was sent" % number)
    sent = BATCHES * BATCH * VALUES * 4
    return "%d MiB by %d workers; %s" % (sent >> 20, WORKERS, said), {"shm_bytes": size}
