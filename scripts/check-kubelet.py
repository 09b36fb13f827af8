#!/usr/bin/env python3
"""`sconce monitor` beside a real gRPC server in the kubelet's place: grpcio's, which is not ours.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install grpcio
    /tmp/venv/bin/python scripts/check-kubelet.py SCONCE

The server answers v1.PodResourcesLister/List over a Unix socket; its messages are made by hand, so that no protoc is
needed. The GPUs are those of the tests' fake NVML (needs cc). Says what it found, and ends with 1 where something is wrong.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

GPU = "GPU-00000000-0000-0000-0000-000000000000"
METHOD = "/v1.PodResourcesLister/List"


def field(number: int, content: bytes) -> bytes:
    length, out = len(content), bytearray([number << 3 | 2])
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    return bytes(out) + bytes([length]) + content


def pod(name: str, device: str) -> bytes:
    devices = field(1, b"nvidia.com/gpu") + field(2, device.encode())
    container = field(1, b"main") + field(2, devices)
    return field(1, field(1, name.encode()) + field(2, b"ml") + field(3, container))


class Kubelet(grpc.GenericRpcHandler):
    def __init__(self):
        self.answer, self.asked, self.seen = (lambda context: b""), 0, {}

    def service(self, details):
        if details.method != METHOD:
            return None
        self.seen = dict(details.invocation_metadata)
        return grpc.unary_unary_rpc_method_handler(self.list)

    def list(self, request: bytes, context) -> bytes:
        assert request == b"", request
        self.asked += 1
        return self.answer(context)


def main() -> int:
    sconce = str(Path(sys.argv[1]).resolve())
    root = Path(__file__).resolve().parent.parent
    work = Path(tempfile.mkdtemp(prefix="sconce-kubelet-"))
    library = work / "libnvidia-ml.so.1"
    source = root / "crates/testkit/src/nvml.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-pthread", "-o", library, source], check=True)
    values = "util 0|memory_total 85520809984|memory_used 0|temperature_c 31|processes |drawing |mig_mode 0|minor 0"
    lines = ["driver 580.159.04", "gpus 1", f"gpu.0.uuid {GPU}", "gpu.0.bus_id 00000000:18:00.0"]
    lines += [f"gpu.0.{value}" for value in values.split("|")]
    (work / "world").write_text("\n".join(lines) + "\n")
    socket = work / "kubelet.sock"
    environment = dict(os.environ, LD_LIBRARY_PATH=str(work), FAKE_NVML_WORLD=str(work / "world"), HOME=str(work))
    words = [sconce, "monitor", "--once", "--interval", "100ms", "--kubelet-socket", str(socket)]

    kubelet = Kubelet()
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((kubelet,))
    server.add_insecure_port(f"unix:{socket}")
    server.start()

    def refuses(context):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls")

    def hangs(context):
        time.sleep(4)
        return b""

    many = b"".join(pod(f"pod-{at}", f"GPU-{at:0200}") for at in range(10_000))
    large = b"".join(pod(f"pod-{at}", f"GPU-{at:0250}") for at in range(60_000))
    mine, label = pod("train-0", GPU), 'container="main",namespace="ml",pod="train-0"'
    cases = [
        ("one pod", lambda _: mine, label, ""),
        ("no pods", lambda _: b"", None, ""),
        (f"10,000 pods, {len(many) >> 20} MiB", lambda _: many + mine, label, ""),
        (f"60,000 pods, {len(large) >> 20} MiB", lambda _: large + mine, None, "at most are read"),
        ("refused", refuses, None, "gRPC status 8 (resource exhausted): too many calls"),
        ("hangs", hangs, None, "no answer within 2 s"),
        ("no protobuf", lambda _: b"\xff\xff", None, "it is no list of pods"),
    ]
    wrong = 0
    print("grpcio", grpc.__version__)
    for name, answer, wanted, words_of_note in cases:
        kubelet.answer, kubelet.asked, began = answer, 0, time.monotonic()
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
        took = time.monotonic() - began
        labelled = 'pod="' in done.stdout
        right = done.returncode == 0 and "DCGM_FI_DEV_GPU_TEMP{" in done.stdout and kubelet.asked >= 1
        right &= wanted in done.stdout if wanted else not labelled
        right &= words_of_note in done.stderr if words_of_note else done.stderr == ""
        wrong += not right
        print(f"{'right' if right else 'WRONG'}: {name}: {took:.2f} s {done.stderr.strip()}")
        if not right:
            print(done.stdout[:2000])
    print("it was asked by", kubelet.seen)
    server.stop(None)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
