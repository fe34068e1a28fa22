#!/usr/bin/env python3
"""Stands between nimctl and the real worker, and changes plans once they are built, as PROXY_PLAN says: the numbering of the compiler's
own values alone (renumber), as it was before plans were the same every time; one name in a text (rename); one weight (weight); an ONNX
file that is a plan (note: it gets one more comment); or nothing.

PROXY_WORKER is the real worker. A plan keeps its size, but with a note.
"""
import json
import os
import re
import subprocess
import sys

change = os.environ.get("PROXY_PLAN", "")
worker = subprocess.Popen([os.environ["PROXY_WORKER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def section(data, tag):
    """Returns where the section with this tag is, by the table that begins at byte 64."""
    for at in range(64, 64 + 8 * 24, 24):
        if data[at : at + 4] == tag:
            return int.from_bytes(data[at + 8 : at + 16], "little"), int.from_bytes(data[at + 16 : at + 24], "little")
    sys.exit(f"the plan has no section {tag}")


def spoil(path):
    with open(path, "rb") as file:
        data = file.read()
    if change == "note":
        with open(path, "ab") as file:
            # The model's `doc_string`.
            file.write(b"\x32\x01x")
        return 3
    if change == "renumber":
        # Another number for each, of as many digits.
        other = bytes.maketrans(b"0123456789", b"5678901234")
        changed = re.sub(rb"__mye[0-9]+", lambda found: b"__mye" + found[0][5:].translate(other), data)
    elif change == "rename":
        changed = data.replace(b"__myl_", b"__myX_", 1)
    elif change == "weight":
        offset, size = section(data, b"THGW")
        changed = bytearray(data)
        changed[offset + size // 2] ^= 1
    else:
        return 0
    if changed == data or len(changed) != len(data):
        sys.exit("the plan has nothing to change")
    with open(path, "wb") as file:
        file.write(changed)
    return 0


for line in sys.stdin:
    name, body = next(iter(json.loads(line)["request"].items()))
    worker.stdin.write(line.encode())
    worker.stdin.flush()
    while True:
        event = worker.stdout.readline()
        kind = next(iter(json.loads(event)["event"]))
        if kind == "result" and name == "build":
            answer = json.loads(event)
            answer["event"]["result"]["build"]["plan_size_bytes"] += spoil(body["plan"])
            event = (json.dumps(answer) + "\n").encode()
        sys.stdout.write(event.decode())
        sys.stdout.flush()
        if kind in ("result", "error"):
            break
worker.stdin.close()
worker.wait()
