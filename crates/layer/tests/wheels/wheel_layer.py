"""A second implementation of docs/format/wheel-layer.md, for one shared layer.

Usage: wheel_layer.py PREFIX PYTHON WHEEL...
Prints DiffID, digest and size of the layer that all the wheels share. Written from the page
alone, without a check: it is there to show that the page says enough.
"""

import base64
import configparser
import csv
import hashlib
import os
import re
import struct
import sys
import zipfile
import zlib

HEADER = bytes.fromhex("1f8b08000000000000ff")


def stored(data):
    """A gzip member of stored blocks."""
    out = [HEADER]
    for at in range(0, len(data), 65535):
        block = data[at : at + 65535]
        last = at + 65535 >= len(data)
        out.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    out.append(struct.pack("<II", zlib.crc32(data), len(data) % 2**32))
    return b"".join(out)


def deflated(stream, crc, size):
    """A gzip member around a deflate stream."""
    return HEADER + stream + struct.pack("<II", crc, size % 2**32)


def tar_block(flag, name, size, mode):
    fields = [
        bytes(byte if byte < 128 else ord("_") for byte in name.encode())[:100],
        b"%07o\0" % mode, b"%07o\0" % 0, b"%07o\0" % 0, b"%011o\0" % size, b"%011o\0" % 0,
        b" " * 8, flag, b"", b"ustar\x0000", b"", b"", b"%07o\0" % 0, b"%07o\0" % 0, b"", b"",
    ]
    widths = [100, 8, 8, 8, 12, 12, 8, 1, 100, 8, 32, 32, 8, 8, 155, 12]
    block = b"".join(field.ljust(width, b"\0") for field, width in zip(fields, widths))
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def tar_header(path, directory, size, mode):
    name = path + "/" if directory else path
    out = b""
    if len(name.encode()) > 100 or not name.isascii():
        rest = len(b" path=\n") + len(name.encode())
        length = next(n for n in range(rest, rest + 9) if n == rest + len(str(n)))
        record = b"%d path=%s\n" % (length, name.encode())
        out = tar_block(b"x", "././@PaxHeader", len(record), 0o644)
        out += record + b"\0" * (-len(record) % 512)
    return out + tar_block(b"5" if directory else b"0", name, size, mode)


def record_hash(data, algorithm="sha256"):
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest())
    return f"{algorithm}=" + digest.decode().rstrip("=")


class File:
    def __init__(self, mode, content, digest, stream=None):
        self.mode, self.content, self.digest, self.stream = mode, content, digest, stream


def raw_stream(archive, info):
    """The bytes of an entry as they stand in the zip."""
    with open(archive.filename, "rb") as file:
        file.seek(info.header_offset)
        local = file.read(30)
        name, extra = struct.unpack("<HH", local[26:30])
        file.seek(info.header_offset + 30 + name + extra)
        return file.read(info.compress_size)


def entry_points(text):
    parser = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    points = {}
    for section in parser.sections():
        if section in ("console_scripts", "gui_scripts"):
            points.update(parser[section])
    return {name: re.sub(r"\[.*", "", value).strip() for name, value in points.items()}


def hashes(archive, infos, own):
    """The hashes of RECORD by name, or of the files themselves where RECORD is wrong."""
    names = [i.filename for i in infos if i.filename not in (own, f"{own}.jws", f"{own}.p7s")]
    contents = {name: archive.read(name) for name in names}
    rows = list(csv.reader(archive.read(own).decode().splitlines()))
    digests = {row[0]: row[1].rstrip("=") for row in rows}
    sizes = {row[0]: row[2] for row in rows}

    def holds(name):
        algorithm, _, _ = digests.get(name, "").partition("=")
        if algorithm not in ("sha256", "sha384", "sha512"):
            return False
        size = sizes[name] in ("", str(len(contents[name])))
        return size and record_hash(contents[name], algorithm) == digests[name]

    known = {*names, own, f"{own}.jws", f"{own}.p7s"}
    if len(digests) == len(rows) and known.issuperset(digests) and all(map(holds, names)):
        return digests
    return {name: record_hash(content) for name, content in contents.items()}


def installed(wheel, prefix, python):
    """All files of one wheel by path in the layer."""
    prefix = prefix.strip("/")
    site = f"{prefix}/lib/python{python}/site-packages"
    archive = zipfile.ZipFile(wheel)
    infos = [info for info in archive.infolist() if not info.is_dir()]
    top = [info.filename.split("/") for info in infos]
    info_dir = next(p[0] for p in top if len(p) == 2 and p[0].endswith(".dist-info"))
    digests = hashes(archive, infos, f"{info_dir}/RECORD")
    points = {}
    if f"{info_dir}/entry_points.txt" in digests:
        points = entry_points(archive.read(f"{info_dir}/entry_points.txt").decode())
    schemes = {
        "purelib": site,
        "platlib": site,
        "scripts": f"{prefix}/bin",
        "data": prefix,
        "headers": f"{prefix}/include/site/python{python}/{info_dir.split('-')[0]}",
    }
    files = {}
    for info in infos:
        name = info.filename
        if name in (f"{info_dir}/RECORD", f"{info_dir}/INSTALLER"):
            continue
        content = archive.read(info)
        unix = info.external_attr >> 16
        program = unix & 0o170000 == 0o100000 and unix & 0o111
        stream = (info.compress_type, raw_stream(archive, info))
        digest = digests.get(name)
        parts = name.split("/", 2)
        if parts[0].endswith(".data"):
            path = f"{schemes[parts[1]]}/{parts[2]}"
            if parts[1] == "scripts":
                program = True
                if re.sub(r"(-script\.py|\.exe|\.pya)$", "", path.split("/")[-1]) in points:
                    continue
                if content.startswith(b"#!python"):
                    rest = content.partition(b"\n")[2]
                    content = b"#!/%s/bin/python\n" % prefix.encode() + rest
                    digest, stream = record_hash(content), None
        else:
            path = f"{site}/{name}"
        files[path] = File(0o755 if program else 0o644, content, digest, stream)
    for name, value in points.items():
        module, function = (part.strip() for part in value.split(":"))
        text = (
            f"#!/{prefix}/bin/python\nimport sys\n\n"
            f"from {module} import {function.split('.')[0]}\n\n"
            f'if __name__ == "__main__":\n    sys.exit({function}())\n'
        ).encode()
        files[f"{prefix}/bin/{name}"] = File(0o755, text, record_hash(text))
    text = b"sconce\n"
    files[f"{site}/{info_dir}/INSTALLER"] = File(0o644, text, record_hash(text))

    def row(path, digest, size):
        path = os.path.relpath(path, site)
        if '"' in path or "," in path:
            path = '"' + path.replace('"', '""') + '"'
        return f"{path},{digest},{size}\n"

    ordered = sorted(files.items(), key=lambda item: item[0].encode())
    record = "".join(
        row(path, file.digest, len(file.content)) if file.digest else row(path, "", "")
        for path, file in ordered
    )
    own = f"{site}/{info_dir}/RECORD"
    files[own] = File(0o644, (record + row(own, "", "")).encode(), None)
    return files


def layer(wheels, prefix, python):
    entries = {}
    name = lambda wheel: re.sub(r"[-_.]+", "-", os.path.basename(wheel).split("-")[0]).lower()
    for wheel in sorted(wheels, key=lambda wheel: (name(wheel), os.path.basename(wheel))):
        for path, file in installed(wheel, prefix, python).items():
            entries.setdefault(path, file)
    for path in list(entries):
        while path := path.rpartition("/")[0]:
            entries[path] = None
    tar, blob, frame = [], [], b""
    for path, file in sorted(entries.items(), key=lambda item: item[0].encode()):
        if file is None:
            frame += tar_header(path, True, 0, 0o755)
            continue
        frame += tar_header(path, False, len(file.content), file.mode)
        if file.content:
            tar += [frame, file.content]
            blob.append(stored(frame))
            if file.stream and file.stream[0] == 8:
                crc = zlib.crc32(file.content)
                blob.append(deflated(file.stream[1], crc, len(file.content)))
            else:
                blob.append(stored(file.content))
            frame = b"\0" * (-len(file.content) % 512)
    frame += b"\0" * 1024
    return b"".join(tar + [frame]), b"".join(blob + [stored(frame)])


tar, blob = layer(sys.argv[3:], sys.argv[1], sys.argv[2])
print(f"sha256:{hashlib.sha256(tar).hexdigest()} sha256:{hashlib.sha256(blob).hexdigest()}", len(blob))
