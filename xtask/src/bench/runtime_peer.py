"""Times our worker beside Python's onnxruntime on the same graph, in turns, and prints one JSON object.

Arguments: worker, model, batch, rounds, seconds. Both sides are started anew in every round, have two threads, warm up as
long, and time the same call: one run of the session, inputs in memory. "First" is the time from starting the process
to its first result, as this program sees it. A third side is our worker on the graph as ONNX Runtime writes it after its own
optimizations.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

THREADS = 2
WARM_UP_S = 1.0

PEER = """
import sys, time, numpy, onnxruntime
model, data, threads, warm_up, seconds = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
inputs = {"IMAGE": numpy.load(data)}
session.run(None, inputs)
print("first", flush=True)
end = time.perf_counter() + float(warm_up)
while time.perf_counter() < end:
    session.run(None, inputs)
samples, end = [], time.perf_counter() + float(seconds)
while time.perf_counter() < end or len(samples) < 10:
    start = time.perf_counter()
    session.run(None, inputs)
    samples.append(time.perf_counter() - start)
print(*samples)
"""

OPTIMIZE = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.optimized_model_filepath = sys.argv[2]
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""


def peer(model, data, seconds):
    started = time.perf_counter()
    command = [sys.executable, "-c", PEER, model, data, str(THREADS), str(WARM_UP_S), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "first\n"
        first = time.perf_counter() - started
        samples = [float(text) for text in process.stdout.readline().split()]
    return first, samples


def ours(worker, model, data, seconds, samples_file):
    started = time.perf_counter()
    process = subprocess.Popen([worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    request = {
        "path": model, "inputs": {"IMAGE": data}, "streams": 1, "warm_up_ms": int(WARM_UP_S * 1000),
        "window_ms": int(seconds * 1000), "budget_ms": int(seconds * 1000), "threads": THREADS, "samples": samples_file,
    }
    for number, body in enumerate([{"describe": {"protocol_versions": [1]}}, {"bench": request}], 1):
        process.stdin.write(json.dumps({"id": number, "request": body}) + "\n")
        process.stdin.flush()
    first = None
    while True:
        event = json.loads(process.stdout.readline())["event"]
        if event.get("progress", {}).get("stage") == "first_result":
            first = time.perf_counter() - started
        if "error" in event:
            sys.exit(f"the worker says: {event['error']}")
        if "bench" in event.get("result", {}):
            break
    process.stdin.close()
    process.wait()
    return first, (numpy.load(samples_file)[:, 2] / 1e9).tolist()


def main():
    worker, model, batch, rounds, seconds = sys.argv[1:]
    batch, rounds, seconds = int(batch), int(rounds), float(seconds)
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "image.npy")
        generator = numpy.random.default_rng(20)
        numpy.save(data, generator.standard_normal((batch, 3, 224, 224), dtype=numpy.float32))
        optimized = os.path.join(folder, "optimized.onnx")
        subprocess.run([sys.executable, "-c", OPTIMIZE, model, optimized], check=True, stderr=subprocess.DEVNULL)
        samples_file = os.path.join(folder, "samples.npy")
        sides = {
            "ours": lambda: ours(worker, model, data, seconds, samples_file),
            "python": lambda: peer(model, data, seconds),
            "optimized": lambda: ours(worker, optimized, data, seconds, samples_file),
        }
        found = {name: {"first_s": [], "median_s": []} for name in sides}
        for number in range(rounds):
            # Turning the order: none is always the one after a break.
            for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
                first, samples = sides[name]()
                found[name]["first_s"].append(first)
                found[name]["median_s"].append(statistics.median(samples))
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    print(json.dumps(found))


main()
