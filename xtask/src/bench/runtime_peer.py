"""Times our worker beside ONNX Runtime without it on the same graph, for one pair of rounds. Prints a JSON array of two objects.

Arguments: worker, library, model, folder for files, batch, number of the pair, turns, seconds of a turn. The sides:

* `ours`: our worker, with the library;
* `python`: Python's package onnxruntime of the same version;
* `alone`: the library itself, called through its C API from a Python process that loads no other package.

Each round starts each side anew, one at a time: "first_s" is the time from the start of the process to its first result, as seen
from here. Then the sides alternate: one runs while the others are stopped (SIGSTOP). All have two threads, the same warm-up, and
time the same call: one run of the session with inputs in memory. A fourth process, timed for its first result only, is our worker
on the graph that ONNX Runtime writes after its own optimizations. ONNX Runtime sends no telemetry on any side.

Other load on the machine changes a run's time by several percent within seconds, far more than the sides differ. So each turn's
median is compared with that of the other side's turn in the same lap: "ratio" has, for each other side, the median over the laps.
Processes of the same program differ by more than the bound too, so rounds are many and laps are few. Which memory a process gets
depends on which side starts first, so the second round of a pair starts the sides in reverse order. A call that spans a stop marks
the end of a turn and is dropped, on all sides.
"""
import json
import os
import signal
import statistics
import subprocess
import sys
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
def run():
    session.run(None, inputs)
"""

# What both Python programs do with their `run`.
TIMED = """
run()
print("first", flush=True)
end = time.perf_counter() + float(warm_up)
while time.perf_counter() < end:
    run()
samples, end = [], time.perf_counter() + float(seconds)
while time.perf_counter() < end:
    start = time.perf_counter()
    run()
    samples.append(time.perf_counter() - start)
print(*samples)
"""

# ONNX Runtime through its C API. The functions are numbered as in onnxruntime_c_api.h, where their order never changes.
ALONE = """
import ctypes, sys, time
library, model, data, threads, warm_up, seconds = sys.argv[1:]
P = ctypes.c_void_p
class Base(ctypes.Structure):
    _fields_ = [("get_api", ctypes.CFUNCTYPE(P, ctypes.c_uint32)), ("get_version", P)]
library = ctypes.CDLL(library)
library.OrtGetApiBase.restype = ctypes.POINTER(Base)
functions = ctypes.cast(library.OrtGetApiBase().contents.get_api(20), ctypes.POINTER(P))
def function(index, *arguments, result=P):
    return ctypes.CFUNCTYPE(result, *arguments)(functions[index])
get_error_message = function(2, P, result=ctypes.c_char_p)
release_value = function(96, P, result=None)
session_run = function(9, P, P, P, P, ctypes.c_size_t, P, ctypes.c_size_t, P)
def check(status):
    if status:
        sys.exit(get_error_message(status).decode())
def create(index, *arguments):
    made = P()
    types = [type(argument) for argument in arguments]
    check(function(index, *types, P)(*arguments, ctypes.addressof(made)))
    return made
environment = create(3, ctypes.c_int(2), ctypes.c_char_p(b"alone"))
options = create(10)
check(function(24, P, ctypes.c_int)(options, int(threads)))
session = create(7, environment, ctypes.c_char_p(model.encode()), options)
with open(data, "rb") as file:
    assert file.read(8) == b"\\x93NUMPY\\x01\\x00"
    file.read(int.from_bytes(file.read(2), "little"))
    elements = file.read()
image = ctypes.create_string_buffer(elements, len(elements))
shape = (ctypes.c_int64 * 4)(len(elements) // (3 * 224 * 224 * 4), 3, 224, 224)
memory = create(69, ctypes.c_int(0), ctypes.c_int(0))
size, rank, float32 = ctypes.c_size_t(len(elements)), ctypes.c_size_t(4), ctypes.c_int(1)
value = create(49, memory, P(ctypes.addressof(image)), size, P(ctypes.addressof(shape)), rank, float32)
inputs, outputs = (ctypes.c_char_p * 1)(b"IMAGE"), (ctypes.c_char_p * 1)(b"LOGITS_PER_IMAGE")
values = (P * 1)(value)
def run():
    results = (P * 1)(None)
    check(session_run(session, None, inputs, values, 1, outputs, 1, results))
    release_value(results[0])
"""

OPTIMIZE = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.optimized_model_filepath = sys.argv[2]
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""


class Peer:
    """A program that warms up and measures by itself after its first result."""

    def __init__(self, program, *arguments):
        started = time.perf_counter()
        command = [sys.executable, "-c", program, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "first\n":
            sys.exit("a timed program ended before its first result; its output is above")
        self.first = time.perf_counter() - started

    def samples(self):
        found = [float(text) for text in self.process.stdout.readline().split()]
        self.process.wait()
        return found


class Ours:
    """Our worker, with one `bench` request."""

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
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the worker ended before it finished")
        event = json.loads(line)["event"]
        if "error" in event:
            sys.exit(f"the worker reported an error: {event['error']}")
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
    """The medians of a side's turns, from its samples in order: a call longer than a turn spans a stop."""
    turns = [[]]
    for sample in samples:
        if sample > turn_s:
            turns.append([])
        else:
            turns[-1].append(sample)
    return [statistics.median(turn) for turn in turns if turn]


# A pair of rounds uses one of these and its reverse.
ORDERS = [["ours", "python", "alone"], ["python", "ours", "alone"], ["ours", "alone", "python"]]


def alternate(sides, turns, turn_s):
    """Lets one side run while the others are stopped, in laps. All are stopped before."""
    for lap in range(turns + 1):
        for side in sides:
            if any(side.process.poll() is not None for side in sides):
                return
            side.process.send_signal(signal.SIGCONT)
            # The first lap is their warm-up.
            time.sleep(turn_s if lap else WARM_UP_S)
            side.process.send_signal(signal.SIGSTOP)


def one_round(start, order, turns, turn_s):
    """Starts all sides in this order and lets them alternate."""
    sides = {}
    try:
        for name in order:
            sides[name] = start[name]()
            sides[name].process.send_signal(signal.SIGSTOP)
        alternate(list(sides.values()), turns, turn_s)
        for side in sides.values():
            side.process.send_signal(signal.SIGCONT)
        medians = {name: turns_of(side.samples(), turn_s) for name, side in sides.items()}
        ratio = {
            name: statistics.median(ours / peer for ours, peer in zip(medians["ours"], medians[name]))
            for name in ["python", "alone"]
        }
        return {
            "ratio": ratio,
            "median_s": {name: statistics.median(turns) for name, turns in medians.items()},
            "first_s": {name: side.first for name, side in sides.items()},
        }
    finally:
        # A stopped process would stay forever.
        for side in sides.values():
            side.process.kill()


def main():
    worker, library, model, folder, batch, pair, turns, turn_s = sys.argv[1:]
    turns, turn_s = int(turns), float(turn_s)
    data = os.path.join(folder, f"image-{batch}.npy")
    optimized = os.path.join(folder, "optimized.onnx")
    samples_file = os.path.join(folder, "samples.npy")
    if not os.path.exists(data):
        generator = numpy.random.default_rng(20)
        numpy.save(data, generator.standard_normal((int(batch), 3, 224, 224), dtype=numpy.float32))
    if not os.path.exists(optimized):
        subprocess.run([sys.executable, "-c", OPTIMIZE, model, optimized], check=True, stderr=subprocess.DEVNULL)
    # The clocks of all sides run on while they are stopped.
    order = ORDERS[int(pair) % len(ORDERS)]
    seconds = len(order) * turns * turn_s
    times = [model, data, str(THREADS), str(WARM_UP_S), str(seconds)]
    start = {
        "ours": lambda: Ours(worker, model, data, seconds, samples_file),
        "python": lambda: Peer(PEER + TIMED, *times),
        "alone": lambda: Peer(ALONE + TIMED, library, *times),
    }
    rounds = []
    for names in [order, order[::-1]]:
        found = one_round(start, names, turns, turn_s)
        fourth = Ours(worker, optimized, data, seconds, samples_file)
        fourth.end()
        found["first_s"]["optimized"] = fourth.first
        rounds.append(found)
    print(json.dumps(rounds))


main()
