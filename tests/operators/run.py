"""Lowers the models of ONNX's own operator tests with `nimctl lower`, and compares each with its original.

The models are the node tests inside the Python package `onnx`: one or more for each operator. Of those with an FP32
tensor anywhere, each is run in ONNX Runtime (CPU) on the test's own inputs; then it is lowered to FP16, checked with
`onnx.checker` (shapes and types too), run again, and its outputs compared. A model that ONNX Runtime can't run as it is
says nothing about lowering, and is counted apart.

Tolerances: FP16 has 11 bits, so one rounding is wrong by at most 2^-11 of the value. ONNX Runtime's CPU provider computes
most FP16 operators in FP32, so three roundings are due: of the inputs, of the weights, of the result. A sum may cancel, so
that what was lost is small only in relation to what went in; therefore floating-point outputs may differ by ROUNDINGS = 3
roundings (0.15 %) of the largest element, or of 1 if all are smaller. All other outputs must be equal, but for the cases
listed in EXPLAINED. What random operators give is compared by type and shape.

Packages come from pip, in the versions pinned in `packages.py`, unless this Python has them already.
"""

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings

# What lies beside this file is not worth a cache of its own in the repository.
sys.dont_write_bytecode = True

from packages import Skipped, make_importable

LEAST_PERCENT = 97
ROUNDINGS = 3
FP16_ROUNDING = 2.0**-11
FP16_MOST = 65504.0
SECONDS_A_MODEL = 120

# Operators whose results are drawn anew in every run.
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}

# Differences that are no fault of anybody, such as another index of two that tie: a test's name (a regular expression),
# and why. None so far.
EXPLAINED = {}

STAGES = ("lower", "checker", "load", "run", "numbers")


# What became of one model: passed, explained, not runnable, or failed at a stage; how many nodes compute in FP16; the
# largest difference of its outputs, in roundings.
Result = collections.namedtuple("Result", "outcome stage reason nodes_lowered roundings", defaults=(None, None, None, None))


class Failed(Exception):
    """A model failed at a stage."""

    def __init__(self, stage, reason):
        super().__init__(reason)
        self.stage, self.reason = stage, one_line(reason)


def one_line(reason):
    text = re.sub(r"\s+", " ", str(reason)).strip()
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", text)
    text = re.sub(r"^(FAIL|INVALID_GRAPH|NOT_IMPLEMENTED|INVALID_ARGUMENT|RUNTIME_EXCEPTION) : ", r"\1: ", text)
    return text if len(text) <= 300 else text[:299] + "…"


# ---------------------------------------------------------------------------------------------------------- models


def collect():
    """Returns the tests whose models have an FP32 tensor, by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return sorted((case for case in cases if has_fp32(case.model)), key=lambda case: case.name)


def has_fp32(message):
    """Returns whether a message, or any in it, is a tensor of FP32 or the type of one, or a cast to it."""
    from onnx import AttributeProto, TensorProto, TypeProto

    if isinstance(message, TensorProto):
        return message.data_type == TensorProto.FLOAT
    if isinstance(message, (TypeProto.Tensor, TypeProto.SparseTensor)):
        return message.elem_type == TensorProto.FLOAT
    if isinstance(message, AttributeProto) and message.name in ("to", "dtype", "output_dtype"):
        return message.i == TensorProto.FLOAT
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            values = value if field_is_repeated(field) else [value]
            if any(has_fp32(one) for one in values):
                return True
    return False


def field_is_repeated(field):
    repeated = getattr(field, "is_repeated", None)
    return repeated if repeated is not None else field.label == field.LABEL_REPEATED


def operators(model):
    """Returns the operators of a model, those of its functions and subgraphs included."""
    found = []

    def nodes(all_of_them):
        for node in all_of_them:
            found.append(node)
            for attribute in node.attribute:
                for graph in [attribute.g, *attribute.graphs]:
                    nodes(graph.node)

    nodes(model.graph.node)
    for function in model.functions:
        nodes(function.node)
    return found


def is_random(model):
    training = lambda node: node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] != ""
    return any(node.op_type in RANDOM or training(node) for node in operators(model))


def sample(cases, count):
    """Returns one model of each of `count` operators, evenly spaced over all operators."""
    by_operator = collections.defaultdict(list)
    for case in cases:
        if not case.name.endswith(("_expanded", "_expanded_ver18")):
            by_operator[case.model.graph.node[-1].op_type].append(case)
    names = sorted(by_operator)
    count = min(count, len(names))
    picked = [by_operator[names[index * len(names) // count]] for index in range(count)]
    return [models[len(models) // 2] for models in picked]


# --------------------------------------------------------------------------------------------------------- one model


def test(case, nimctl, keep):
    """Returns what became of one model."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        original = pathlib.Path(folder, "original.onnx")
        lowered = pathlib.Path(folder, "lowered.onnx")
        onnx.save(case.model, original)
        try:
            expected = [run(session(original), inputs) for inputs, _ in case.data_sets]
        except Exception as error:  # Whatever ONNX Runtime raises, or numpy on what it returns.
            return Result("not runnable", None, one_line(error))
        nodes_lowered = None
        try:
            nodes_lowered = lower(nimctl, original, lowered)
            check(original, lowered)
            roundings = compare_model(case, lowered, expected)
        except Failed as failed:
            for pattern, why in EXPLAINED.items():
                if failed.stage == "numbers" and re.fullmatch(pattern, case.name):
                    return Result("explained", "numbers", f"{failed.reason}: {why}", nodes_lowered)
            if keep:
                kept = pathlib.Path(keep, case.name)
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                kept.joinpath("reason.txt").write_text(f"{failed.stage}: {failed.reason}\n", encoding="utf-8")
            return Result("failed", failed.stage, failed.reason, nodes_lowered)
    return Result("passed", None, None, nodes_lowered, roundings)


def session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(loaded, inputs):
    names = [value.name for value in loaded.get_inputs()]
    return loaded.run(None, {name: value_for_runtime(value) for name, value in zip(names, inputs)})


def value_for_runtime(value):
    """Returns an input as ONNX Runtime takes it; some tests hold scalars, or messages."""
    import numpy
    import onnx

    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return numpy.asarray(value) if isinstance(value, numpy.generic) else value


def lower(nimctl, original, lowered):
    """Lowers a model, and returns how many of its nodes compute in FP16."""
    command = [nimctl, "lower", str(original), "-o", str(lowered), "--precision", "fp16", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed("lower", done.stderr or f"exit {done.returncode}")
    return json.loads(done.stdout)["report"]["nodes_lowered"]


def check(original, lowered):
    import onnx

    try:
        onnx.checker.check_model(str(lowered), full_check=True)
    except Exception as error:
        try:
            onnx.checker.check_model(str(original), full_check=True)
        except Exception:
            return  # Nor does the checker take the original.
        raise Failed("checker", error) from error


def compare_model(case, lowered, expected):
    """Runs a lowered model, and returns the largest difference from what is expected, in roundings."""
    try:
        loaded = session(lowered)
    except Exception as error:
        raise Failed("load", error) from error
    names = [value.name for value in loaded.get_outputs()]
    random = is_random(case.model)
    largest = 0.0
    for (inputs, _), wanted in zip(case.data_sets, expected):
        try:
            found = run(loaded, inputs)
        except Exception as error:
            raise Failed("run", error) from error
        for name, one_found, one_wanted in zip(names, found, wanted, strict=True):
            largest = max(largest, compare(one_found, one_wanted, name, random))
    return largest


def compare(found, wanted, name, random):
    """Compares two outputs, each a tensor, a sequence of them, or nothing; returns their difference in roundings."""
    import numpy

    if isinstance(wanted, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(found) != len(wanted):
            raise Failed("numbers", f"{name}: another number of elements")
        pairs = zip(found, wanted)
        return max((compare(one_found, one_wanted, name, random) for one_found, one_wanted in pairs), default=0.0)
    if not isinstance(wanted, numpy.ndarray):
        if found != wanted and not random:
            raise Failed("numbers", f"{name}: {found!r} instead of {wanted!r}")
        return 0.0
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        form = lambda array: f"{array.dtype}{list(array.shape)}"
        raise Failed("numbers", f"{name}: {form(found)} instead of {form(wanted)}")
    if random:
        return 0.0
    if numpy.issubdtype(wanted.dtype, numpy.floating):
        return compare_floats(numpy.atleast_1d(found), numpy.atleast_1d(wanted), name)
    found, wanted = numpy.atleast_1d(found), numpy.atleast_1d(wanted)
    different = found != wanted
    if different.any():
        at = tuple(int(index[0]) for index in numpy.nonzero(different))
        pair = f"{found[at]} instead of {wanted[at]} at {list(at)}"
        raise Failed("numbers", f"{name}: {different.sum()} of {wanted.size} differ: {pair}")
    return 0.0


def compare_floats(found, wanted, name):
    import numpy

    # What FP16 can't hold ends at its limit, or beyond.
    found = numpy.clip(found.astype(numpy.float64), -FP16_MOST, FP16_MOST)
    wanted = numpy.clip(wanted.astype(numpy.float64), -FP16_MOST, FP16_MOST)
    largest = float(numpy.max(numpy.abs(wanted), initial=0.0, where=~numpy.isnan(wanted)))
    both_nan = numpy.isnan(found) & numpy.isnan(wanted)
    difference = numpy.where(both_nan, 0.0, numpy.abs(found - wanted)) / (FP16_ROUNDING * max(1.0, largest))
    difference = numpy.where(numpy.isnan(difference), numpy.inf, difference)
    if difference.size == 0 or difference.max() <= ROUNDINGS:
        return float(difference.max(initial=0.0))
    at = numpy.unravel_index(numpy.argmax(difference), difference.shape)
    pair = f"{found[at]:.6g} instead of {wanted[at]:.6g} at {[int(index) for index in at]}"
    count = int((difference > ROUNDINGS).sum())
    raise Failed("numbers", f"{name}: {count} of {found.size} differ, by {difference[at]:.3g} roundings: {pair}")


# ---------------------------------------------------------------------------------------------------------- all of them


def serve(connection, cases, nimctl, keep):
    """Tests the models whose numbers come in; a process of its own, since a library may crash."""
    os.environ["ALLOW_RELEASED_ONNX_OPSET_ONLY"] = "0"
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    warnings.simplefilter("ignore")
    while (index := connection.recv()) is not None:
        try:
            result = test(cases[index], nimctl, keep)
        except Exception as error:
            result = Result("failed", "run", f"this script: {type(error).__name__}: {one_line(error)}")
        connection.send(result)


class Worker:
    """A process that tests models, started again when it dies."""

    def __init__(self, *arguments):
        self.arguments = arguments
        self.start()

    def start(self):
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *self.arguments), daemon=True)
        self.process.start()
        theirs.close()

    def test(self, index):
        self.connection.send(index)
        try:
            if self.connection.poll(SECONDS_A_MODEL):
                return self.connection.recv()
            result = Result("failed", "run", f"no answer after {SECONDS_A_MODEL} s")
        except EOFError:
            self.process.join()
            result = Result("failed", "run", f"crashed, exit code {self.process.exitcode}")
        self.process.kill()
        self.process.join()
        self.start()
        return result


def test_all(cases, arguments):
    """Returns the results of all models, in their order."""
    results = [None] * len(cases)
    numbers = iter(range(len(cases)))
    lock = threading.Lock()

    def work(worker):
        while True:
            with lock:
                index = next(numbers, None)
            if index is None:
                worker.connection.send(None)
                return
            results[index] = worker.test(index)

    workers = [Worker(cases, arguments.nimctl, arguments.keep) for _ in range(arguments.jobs)]
    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# -------------------------------------------------------------------------------------------------------------- report


def why_not_runnable(reason):
    """Returns a reason without what differs from model to model."""
    if found := re.search(r"Could not find an implementation for (\w+)\((\d+)\)", reason):
        return f"no kernel for {found[1]}({found[2]})"
    reason = re.sub(r"(Load model|Error in loading|from) \S*original\.onnx( failed)?:?", "", reason)
    return re.sub(r"(name|Name|node|Node)[ :]*'[^']*'", r"\1 …", reason)[:140]


def report(cases, results, seconds):
    import onnx
    import onnxruntime

    count = collections.Counter(result.outcome for result in results)
    runnable = len(results) - count["not runnable"]
    passed = count["passed"] + count["explained"]
    percent = 100 * passed / runnable if runnable else 0.0
    stages = collections.Counter(result.stage for result in results if result.outcome == "failed")
    in_fp16 = sum(bool(result.nodes_lowered) for result in results)
    listed = [(case.name, result) for case, result in zip(cases, results)]
    roundings, worst = max(((result.roundings or 0.0, name) for name, result in listed), default=(0.0, ""))
    print(f"operator tests of onnx {onnx.__version__} in ONNX Runtime {onnxruntime.__version__}, lowered to FP16\n")
    rows = [
        ("models with an FP32 tensor", len(results), ""),
        ("not runnable in ONNX Runtime", count["not runnable"], "left out"),
        ("runnable", runnable, f"{in_fp16} of them with nodes that compute in FP16"),
        ("passed", passed, f"{percent:.1f} %, at least {LEAST_PERCENT} % wanted"),
        ("  with an explained difference", count["explained"], ""),
        *((f"failed: {stage}", stages[stage], "") for stage in STAGES),
    ]
    for what, number, remark in rows:
        print(f"{what:<32}{number:>6}  {remark}".rstrip())
    print(f"largest difference that passed: {roundings:.2f} of {ROUNDINGS} roundings, in {worst}")
    for outcome, title in [("failed", "FAILED"), ("explained", "EXPLAINED")]:
        lines = sorted((result.stage, name, result.reason) for name, result in listed if result.outcome == outcome)
        if lines:
            print(f"\n{title}")
            for stage, name, reason in lines:
                print(f"{stage:<8} {name}: {reason}")
    reasons = collections.Counter(
        why_not_runnable(result.reason) for result in results if result.outcome == "not runnable"
    )
    if reasons:
        print("\nNOT RUNNABLE IN ONNX RUNTIME")
        for reason, number in reasons.most_common():
            print(f"{number:>4}  {reason}")
    print(f"\n{seconds:.1f} s")
    return percent


def default_cache():
    if data := os.environ.get("NIMCTL_DATA_DIR"):
        return pathlib.Path(data, "operator-tests")
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache, "nimctl", "operator-tests")


def default_nimctl():
    repository = pathlib.Path(__file__).resolve().parents[2]
    target = os.environ.get("CARGO_TARGET_DIR") or repository / "target"
    return pathlib.Path(target, "debug", "nimctl").absolute()


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nimctl", type=os.path.abspath, default=default_nimctl(), help="the program [%(default)s]")
    parser.add_argument("--cache", default=default_cache(), help="where packages are installed [%(default)s]")
    parser.add_argument("--filter", type=re.compile, metavar="REGEX", help="only tests in whose name this is found")
    parser.add_argument("--sample", type=int, metavar="N", help="one model of each of N operators, always the same")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="models at a time [%(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write all results there, too")
    parser.add_argument("--keep", metavar="DIR", help="keep the models that fail there")
    return parser.parse_args()


def main():
    arguments = parse()
    if not os.path.isfile(arguments.nimctl):
        sys.exit(f"there is no {arguments.nimctl}: build it with `cargo build`, or name it with --nimctl")
    try:
        make_importable(arguments.cache)
    except Skipped as skipped:
        print(f"operator tests: SKIPPED, because {skipped}")
        return 0
    start = time.monotonic()
    cases = collect()
    if arguments.filter:
        cases = [case for case in cases if arguments.filter.search(case.name)]
    if arguments.sample is not None:
        cases = sample(cases, arguments.sample)
    if not cases:
        sys.exit("no test is selected")
    results = test_all(cases, arguments)
    percent = report(cases, results, time.monotonic() - start)
    if arguments.json:
        rows = [{"name": case.name, **result._asdict()} for case, result in zip(cases, results)]
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if percent >= LEAST_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
