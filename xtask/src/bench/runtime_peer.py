"""Times our worker beside ONNX Runtime without it on the same graph, and prints one JSON object.

Arguments: worker, library, model, batch, rounds, turns, seconds of a turn. The sides:

* `ours`: our worker, with the library;
* `python`: Python's package onnxruntime of the same version;
* `alone`: the library itself, called through its C API from Python that has no other package loaded.

Every round starts each side anew, alone: "first" is the time from starting the process to its first result, as this program
sees it. Then they take turns: one runs while the others are stopped (SIGSTOP). All have two threads, warm up as long, and
time the same call: one run of the session, inputs in memory. A fourth, for its first result only, is our worker on the graph as
ONNX Runtime writes it after its own optimizations. ONNX Runtime reports nothing to Microsoft on any side.

What the machine does beside us changes a run's time by several percent within seconds, far more than the sides differ. So
each turn's median is compared with that of the other side's turn in the same lap: "ratios" has one number a round for each other
side, the median of its laps. A round is a process of each, and how fast a process is differs from the next by more than what is
looked for: so it is rounds that are many. Which memory a process gets depends on who starts first, so a round with an odd
number has the reverse of the order before it. The call that a stop falls into tells the turns apart and is dropped, on all sides.
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
def run():
    session.run(None, inputs)
"""

# What both programs do with their `run`.
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

# ONNX Runtime by its C API. The functions are in the order of onnxruntime_c_api.h, which never changes.
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
            sys.exit("a program that is timed ended before its first result; what it said is above")
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
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the worker ended before it was done")
        event = json.loads(line)["event"]
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


# Each order, then its reverse.
ORDERS = [
    ["ours", "python", "alone"],
    ["alone", "python", "ours"],
    ["python", "ours", "alone"],
    ["alone", "ours", "python"],
    ["ours", "alone", "python"],
    ["python", "alone", "ours"],
]


def take_turns(sides, turns, turn_s):
    """Lets one run while the others are stopped, in laps. All are stopped before."""
    for lap in range(turns + 1):
        for side in sides:
            if any(side.process.poll() is not None for side in sides):
                return
            side.process.send_signal(signal.SIGCONT)
            # The first lap is their warm-up.
            time.sleep(turn_s if lap else WARM_UP_S)
            side.process.send_signal(signal.SIGSTOP)


def one_round(start, turns, turn_s, found):
    """Starts all sides and lets them take turns. Returns the medians of their turns."""
    sides = {}
    try:
        for name, begin in start.items():
            sides[name] = begin()
            sides[name].process.send_signal(signal.SIGSTOP)
        take_turns(list(sides.values()), turns, turn_s)
        medians = {}
        for side in sides.values():
            side.process.send_signal(signal.SIGCONT)
        for name, side in sides.items():
            medians[name] = turns_of(side.samples(), turn_s)
            found[name]["first_s"].append(side.first)
            found[name]["median_s"].append(statistics.median(medians[name]))
        return medians
    finally:
        # One that is stopped would stay for ever.
        for side in sides.values():
            side.process.kill()


def main():
    worker, library, model, batch, rounds, turns, turn_s = sys.argv[1:]
    batch, rounds, turns, turn_s = int(batch), int(rounds), int(turns), float(turn_s)
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "image.npy")
        generator = numpy.random.default_rng(20)
        numpy.save(data, generator.standard_normal((batch, 3, 224, 224), dtype=numpy.float32))
        optimized = os.path.join(folder, "optimized.onnx")
        subprocess.run([sys.executable, "-c", OPTIMIZE, model, optimized], check=True, stderr=subprocess.DEVNULL)
        samples_file = os.path.join(folder, "samples.npy")
        # The clocks of all run on while they are stopped.
        seconds = len(ORDERS[0]) * turns * turn_s
        times = [model, data, str(THREADS), str(WARM_UP_S), str(seconds)]
        start = {
            "ours": lambda: Ours(worker, model, data, seconds, samples_file),
            "python": lambda: Peer(PEER + TIMED, *times),
            "alone": lambda: Peer(ALONE + TIMED, library, *times),
        }
        found = {name: {"first_s": [], "median_s": []} for name in [*start, "optimized"]}
        found["ratios"] = {"python": [], "alone": []}
        for number in range(rounds):
            medians = one_round({name: start[name] for name in ORDERS[number % len(ORDERS)]}, turns, turn_s, found)
            for name, ratios in found["ratios"].items():
                laps = zip(medians["ours"], medians[name])
                ratios.append(statistics.median(ours / peer for ours, peer in laps))
            fourth = Ours(worker, optimized, data, seconds, samples_file)
            fourth.end()
            found["optimized"]["first_s"].append(fourth.first)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    print(json.dumps(found))


main()
