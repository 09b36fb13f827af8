"""TensorBoard: events are written, and their file is whole.

A file of events is a sequence of records: length (u64, little endian), masked CRC-32C of the length,
the bytes, masked CRC-32C of the bytes (tensorflow/core/lib/io/record_writer.h; CRC-32C: RFC 3720, B.4).
"""

import os
import struct
import tempfile

from .outcome import Failed, NotApplicable, require

# More than a file of this check can hold.
MOST = 1 << 20


def table():
    """CRC-32C, one byte at a time: the Castagnoli polynomial, reflected."""
    rows = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return rows


TABLE = table()


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def masked(data):
    """A CRC that may itself be stored among data: rotated and moved by a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(data):
    """The records of a file of events; Failed where it is not one."""
    found, at = [], 0
    while at < len(data):
        require(len(data) - at >= 12, "the file ends within the head of record %d" % len(found))
        (length,) = struct.unpack_from("<Q", data, at)
        (check,) = struct.unpack_from("<I", data, at + 8)
        require(check == masked(data[at : at + 8]), "the length of record %d has a wrong checksum" % len(found))
        require(length <= len(data) - at - 16, "record %d is longer than the file" % len(found))
        body = data[at + 12 : at + 12 + length]
        (check,) = struct.unpack_from("<I", data, at + 12 + length)
        require(check == masked(body), "record %d has a wrong checksum" % len(found))
        found.append(body)
        at += 16 + length
    return found


def tensorboard(gpus):
    """A curve is written by torch's SummaryWriter and read back, value for value."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        if error.name and error.name.split(".")[0] == "tensorboard":
            raise NotApplicable("TensorBoard is not in the image") from error
        raise
    wanted = [(step, 1.0 / (step + 1)) for step in range(100)]
    with tempfile.TemporaryDirectory(prefix="sconce-verify-") as folder:
        with SummaryWriter(folder) as writer:
            for step, value in wanted:
                writer.add_scalar("loss", value, step)
        names = [name for name in os.listdir(folder) if ".tfevents." in name]
        require(len(names) == 1, "%d files of events were written; 1 is right" % len(names))
        with open(os.path.join(folder, names[0]), "rb") as file:
            data = file.read(MOST)
    found = records(data)
    events = [Event.FromString(body) for body in found]
    require(bool(events) and events[0].file_version == "brain.Event:2", "the first record is not a version")
    curve = [(event.step, value.simple_value) for event in events for value in event.summary.value]
    close = len(curve) == len(wanted) and all(
        got[0] == want[0] and abs(got[1] - want[1]) < 1e-6 for got, want in zip(curve, wanted)
    )
    if not close:
        raise Failed("%d values were written, %d came back or differ" % (len(wanted), len(curve)))
    return "%d records, %d values read back" % (len(found), len(curve)), {"records": len(found)}
