"""Runs a model in our worker on each row alone, as it is: the least that calibration costs.

Usage: plain.py WORKER MODEL FOLDER INPUT.npy... (NIMCTL_ONNXRUNTIME_LIB: where ONNX Runtime is; FOLDER: for files)

Prints a JSON object: `seconds` from the start of the worker to its last result, and `peak_kib` of the worker.
"""

import json
import pathlib
import subprocess
import sys
import time

import numpy as np


def rows(files, folder):
    """Writes each row to files of its own, without its padding."""
    inputs = {path.stem: np.load(path) for path in map(pathlib.Path, files)}
    for number in range(len(next(iter(inputs.values())))):
        row = {name: values[number : number + 1] for name, values in inputs.items()}
        if "attention_mask" in row:
            length = int(row["attention_mask"].sum())
            row = {name: values[:, :length] for name, values in row.items()}
        paths = {name: str(folder / f"{number}-{name}.npy") for name in row}
        for name, path in paths.items():
            np.save(path, np.ascontiguousarray(row[name]))
        yield paths


def main():
    worker, model, folder, *files = sys.argv[1:]
    folder = pathlib.Path(folder)
    requests = [{"run": {"path": model, "inputs": paths, "output_folder": str(folder)}} for paths in rows(files, folder)]
    start = time.perf_counter()
    process = subprocess.Popen(
        [worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for number, request in enumerate([{"describe": {"protocol_versions": [1]}}, *requests], 1):
        process.stdin.write(json.dumps({"id": number, "request": request}) + "\n")
        process.stdin.flush()
        while True:
            line = process.stdout.readline()
            event = json.loads(line)["event"] if line else {"error": "it ended"}
            if "error" in event:
                sys.exit(f"the worker failed: {event['error']}")
            if "result" in event:
                break
    seconds = time.perf_counter() - start
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    process.stdin.close()
    process.wait()
    print(json.dumps({"seconds": seconds, "peak_kib": int(peak)}))


main()
