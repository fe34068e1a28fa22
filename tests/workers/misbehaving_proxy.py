#!/usr/bin/env python3
"""Stands between nimctl and the real worker, and misbehaves with small graphs only: those of one profile.

PROXY_WORKER is the real worker, PROXY_BELOW_BYTES says what is small, and PROXY_FAULT what is done: hang-in-run,
crash-in-bench, hang-in-bench, killed-in-run, killed-in-bench, library-in-run, memory-in-bench, wrong-shape, not-finite, no-samples, slow (samples of a benchmark take ten times as long), swap and overwrite (of the graph, once
nimctl has checked it and before the worker opens it).
"""
import json
import os
import signal
import subprocess
import sys
import time

fault = os.environ["PROXY_FAULT"]
below = int(os.environ["PROXY_BELOW_BYTES"])
worker = subprocess.Popen([os.environ["PROXY_WORKER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def spoil(path):
    """Changes one output as the fault says; its size stays."""
    data = bytearray(open(path, "rb").read())
    start = 10 + int.from_bytes(data[8:10], "little")
    if fault == "not-finite":
        data[start : start + 4] = b"\x00\x00\xc0\x7f"
    else:
        header = data[:start].decode("latin-1")
        shape = header[header.index("(") + 1 : header.index(")")]
        turned = ",".join(reversed([part for part in shape.split(",") if part])) + ","
        data[:start] = header.replace(shape, turned.ljust(len(shape))[: len(shape)]).encode("latin-1")
    open(path, "wb").write(data)


def slow_down(path):
    """Makes every duration ten times as long, the last of three columns of int64: no noise of a busy machine hides that."""
    data = bytearray(open(path, "rb").read())
    start = 10 + int.from_bytes(data[8:10], "little")
    for at in range(start + 16, len(data), 24):
        data[at : at + 8] = (10 * int.from_bytes(data[at : at + 8], "little")).to_bytes(8, "little")
    open(path, "wb").write(data)


def tamper(path):
    """Puts other bytes where the graph is: another file, or the same file with one bit changed."""
    data = bytearray(open(path, "rb").read())
    data[len(data) // 2] ^= 1
    if fault == "swap":
        open(path + ".other", "wb").write(data)
        os.rename(path + ".other", path)
    else:
        with open(path, "r+b") as file:
            file.write(data)


for line in sys.stdin:
    name, body = next(iter(json.loads(line)["request"].items()))
    is_small = "path" in body and os.path.getsize(body["path"]) < below
    if is_small and fault == f"hang-in-{name}":
        time.sleep(1000)
    if is_small and fault == f"crash-in-{name}":
        sys.stderr.write("about to crash\n")
        sys.stderr.flush()
        os.abort()
    if is_small and fault == f"killed-in-{name}":
        os.kill(os.getpid(), signal.SIGKILL)
    for word, code in {"library": "library_missing", "memory": "out_of_memory"}.items():
        if is_small and fault == f"{word}-in-{name}":
            problem = {"code": code, "message": f"the {word} went away"}
            print(json.dumps({"id": json.loads(line)["id"], "event": {"error": problem}}), flush=True)
            sys.exit(0)
    if is_small and fault in ("swap", "overwrite") and body.get("digests"):
        tamper(body["path"])
    worker.stdin.write(line.encode())
    worker.stdin.flush()
    while True:
        event = worker.stdout.readline()
        kind, result = next(iter(json.loads(event)["event"].items()))
        if kind == "result" and is_small and name == "run" and fault in ("wrong-shape", "not-finite"):
            for path in result["run"]["outputs"].values():
                spoil(path)
        if kind == "result" and is_small and name == "bench" and fault == "no-samples":
            os.remove(body["samples"])
        if kind == "result" and is_small and name == "bench" and fault == "slow":
            slow_down(body["samples"])
        sys.stdout.write(event.decode())
        sys.stdout.flush()
        if kind in ("result", "error"):
            break
worker.stdin.close()
worker.wait()
