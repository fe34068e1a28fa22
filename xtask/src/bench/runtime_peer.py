"""Times our worker beside Python's onnxruntime on the same graph, and prints one JSON object.

Arguments: worker, model, batch, rounds, turns, seconds of a turn. Every round starts each side anew, alone: "first" is the
time from starting the process to its first result, as this program sees it. Then the two take turns: one runs while the
other is stopped (SIGSTOP). Both have two threads, warm up as long, and time the same call: one run of the session, inputs
in memory. A third side, for its first result only, is our worker on the graph as ONNX Runtime writes it after its own
optimizations.

What the machine does beside us changes a run's time by several percent within seconds, far more than the sides differ. So
each turn's median is compared with that of the other side's turn next to it: "ratios" has one number a round, the median of
its pairs. A round is two processes, and how fast a process is differs from the next by more than what is looked for: so it is
rounds that are many. In even rounds ours starts first, in odd ones Python's: which memory a process gets depends on that. ONNX
Runtime reports nothing to Microsoft on either side. The call that a stop falls into tells the turns apart and is dropped, on both sides.
"""
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
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
while time.perf_counter() < end:
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


class Peer:
    """Python's onnxruntime: after its first result it warms up and measures by itself."""

    def __init__(self, model, data, seconds):
        started = time.perf_counter()
        command = [sys.executable, "-c", PEER, model, data, str(THREADS), str(WARM_UP_S), str(seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "first\n"
        self.first = time.perf_counter() - started

    def samples(self):
        found = [float(text) for text in self.process.stdout.readline().split()]
        self.process.wait()
        return found


class Ours:
    """Our worker, asked for one `bench`."""

    def __init__(self, worker, model, data, seconds, samples_file):
        started = time.perf_counter()
        self.samples_file = samples_file
        self.process = subprocess.Popen(
            [worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        request = {
            "path": model, "inputs": {"IMAGE": data}, "streams": 1, "warm_up_ms": int(WARM_UP_S * 1000),
            "window_ms": int(seconds * 1000), "budget_ms": int(seconds * 1000), "threads": THREADS, "samples": samples_file,
        }
        for number, body in enumerate([{"describe": {"protocol_versions": [1]}}, {"bench": request}], 1):
            self.process.stdin.write(json.dumps({"id": number, "request": body}) + "\n")
            self.process.stdin.flush()
        while self.event().get("progress", {}).get("stage") != "first_result":
            pass
        self.first = time.perf_counter() - started

    def event(self):
        event = json.loads(self.process.stdout.readline())["event"]
        if "error" in event:
            sys.exit(f"the worker says: {event['error']}")
        return event

    def samples(self):
        while "bench" not in self.event().get("result", {}):
            pass
        self.process.stdin.close()
        self.process.wait()
        return (numpy.load(self.samples_file)[:, 2] / 1e9).tolist()

    def end(self):
        self.process.kill()
        self.process.wait()


def turns_of(samples, turn_s):
    """The medians of a side's turns, from its samples in order: a call longer than a turn was stopped in."""
    turns = [[]]
    for sample in samples:
        if sample > turn_s:
            turns.append([])
        else:
            turns[-1].append(sample)
    return [statistics.median(turn) for turn in turns if turn]


def main():
    worker, model, batch, rounds, turns, turn_s = sys.argv[1:]
    batch, rounds, turns, turn_s = int(batch), int(rounds), int(turns), float(turn_s)
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "image.npy")
        generator = numpy.random.default_rng(20)
        numpy.save(data, generator.standard_normal((batch, 3, 224, 224), dtype=numpy.float32))
        optimized = os.path.join(folder, "optimized.onnx")
        subprocess.run([sys.executable, "-c", OPTIMIZE, model, optimized], check=True, stderr=subprocess.DEVNULL)
        samples_file = os.path.join(folder, "samples.npy")
        # The clocks of both run on while they are stopped.
        seconds = 2 * turns * turn_s
        start = {
            "ours": lambda: Ours(worker, model, data, seconds, samples_file),
            "python": lambda: Peer(model, data, seconds),
        }
        found = {name: {"first_s": [], "median_s": []} for name in [*start, "optimized"]} | {"ratios": []}
        for number in range(rounds):
            # Turning the order: neither is always the one that starts.
            order = list(start) if number % 2 == 0 else list(reversed(start))
            sides = {}
            for name in order:
                sides[name] = start[name]()
                sides[name].process.send_signal(signal.SIGSTOP)
            turn = 0
            while all(side.process.poll() is None for side in sides.values()) and turn < 2 * turns + 2:
                side = sides[order[turn % 2]]
                side.process.send_signal(signal.SIGCONT)
                # The first turn of each is its warm-up.
                time.sleep(WARM_UP_S if turn < 2 else turn_s)
                side.process.send_signal(signal.SIGSTOP)
                turn += 1
            for side in sides.values():
                side.process.send_signal(signal.SIGCONT)
            medians = {}
            for name, side in sides.items():
                medians[name] = turns_of(side.samples(), turn_s)
                found[name]["first_s"].append(side.first)
                found[name]["median_s"].append(statistics.median(medians[name]))
            pairs = zip(medians["ours"], medians["python"])
            found["ratios"].append(statistics.median(ours / peer for ours, peer in pairs))
            third = Ours(worker, optimized, data, seconds, samples_file)
            third.end()
            found["optimized"]["first_s"].append(third.first)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    print(json.dumps(found))


main()
