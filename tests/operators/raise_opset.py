"""Raises the operator set of models with `nimctl lower --precision fp32 --opset`, and compares each with its original.

Models of old operator sets are made from ONNX's own operator tests: the node of a test is written as an older operator set
has it, by the definitions of the operator in the Python package `onnx` (what became an input is an attribute again), and
where it stands is changed by hand-made models: old forms that the tests don't have any more, with subgraphs, functions and
unknown shapes. Each runs in ONNX Runtime (CPU), is raised to the operator sets 19, 21 and 23, checked with `onnx.checker`
(shapes and types too), and run again: the outputs must be the same, bit for bit, but for what EXPLAINED lists. Where
`onnx.version_converter` converts the model as well, and the result runs, its outputs must be those of ours.

A model that can't be raised must be refused for a reason that REFUSED lists.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings

# What lies beside this file is not worth a cache of its own in the repository.
sys.dont_write_bytecode = True

from old_models import by_hand, from_real_models, from_tests, sample
from packages import Skipped, make_importable
from run import default_cache, default_nimctl, is_random, one_line, session, value_for_runtime

TARGETS = (19, 21, 23)

# Why nimctl refuses a model, by what the message says behind the operator.
REFUSED = (
    r"\(BatchNormalization\) returns statistics",
    r"\(BatchNormalization\) normalizes every position",
    r"\(Dropout\) returns its mask",
    r"\(Resize\) takes the nearest elements with scales below 1",
    r"\(Resize\) has the coordinate transformation tf_half_pixel_for_nn",
    r"\(Scan\) is defined over a batch until opset 8",
)

# Where outputs may differ by rounding: the operator, and why.
EXPLAINED = {
    "AveragePool": "ONNX Runtime adds in another order since 19",
    "GroupNormalization": "ONNX Runtime computes it by its definition, which puts other operators together since 21",
    "MeanVarianceNormalization": "ONNX Runtime computes it by its definition, which puts other operators together since 13",
}
EXPLAINED_TOLERANCE = 1e-5

# What became of a model at one target: same, refused, not runnable, no kernel (ONNX Runtime doesn't have the operator in the
# newer operator set), failed; why; how the version converter's result compares: same, different, no conversion,
# not runnable.
Result = collections.namedtuple("Result", "outcome reason converter rewritten", defaults=(None, None, 0))


class Failed(Exception):
    pass


def run_all(path, feeds):
    loaded = session(path)
    names = [value.name for value in loaded.get_inputs()]
    return [loaded.run(None, {name: value_for_runtime(one[name]) for name in names if name in one}) for one in feeds]


def difference(found, wanted, tolerance):
    """Returns how outputs differ; None if they are the same."""
    import numpy

    if isinstance(wanted, (list, tuple)):
        if len(found) != len(wanted):
            return f"{len(found)} elements instead of {len(wanted)}"
        return next(filter(None, (difference(one, other, tolerance) for one, other in zip(found, wanted))), None)
    if not isinstance(wanted, numpy.ndarray):
        return None if found == wanted or wanted != wanted else f"{found!r} instead of {wanted!r}"
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return f"{found.dtype}{list(found.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if wanted.dtype.kind in "fc":
        same = numpy.array_equal(found, wanted, equal_nan=True)
        if not same and tolerance:
            same = numpy.allclose(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        same = numpy.array_equal(found, wanted)
    if same:
        return None
    return f"other numbers: {found.ravel()[:4]} instead of {wanted.ravel()[:4]}"


def test(case, nimctl, keep):
    """Returns what became of one model at each target above its own operator set."""
    import onnx

    targets = [target for target in TARGETS if case.opset < target]
    with tempfile.TemporaryDirectory() as folder:
        original = pathlib.Path(folder, "original.onnx")
        onnx.save(case.model, original)
        try:
            expected = run_all(original, case.feeds)
        except Exception as error:  # Whatever ONNX Runtime raises, or numpy on what it returns.
            return {target: Result("not runnable", one_line(error)) for target in targets}
        results = {}
        for target in targets:
            raised = pathlib.Path(folder, f"raised-{target}.onnx")
            try:
                results[target] = raise_one(case, nimctl, original, raised, target, expected)
            except Failed as failed:
                results[target] = Result("failed", one_line(failed))
                if keep:
                    os.makedirs(keep, exist_ok=True)
                    for path in (original, raised):
                        if path.exists():
                            path.rename(pathlib.Path(keep, f"{case.name}-{case.opset}-{path.name}"))
                    onnx.save(case.model, original)
        return results


def raise_one(case, nimctl, original, raised, target, expected):
    import onnx

    command = [nimctl, "lower", str(original), "-o", str(raised), "--precision", "fp32", "--opset", str(target)]
    done = subprocess.run([*command, "--output", "json"], capture_output=True, text=True)
    if done.returncode != 0:
        if any(re.search(pattern, done.stderr) for pattern in REFUSED):
            return Result("refused", one_line(done.stderr))
        raise Failed(f"nimctl: {done.stderr or done.returncode}")
    rewritten = json.loads(done.stdout)["opset"]["nodes_rewritten"]
    model = onnx.load(raised)
    wanted_ir = max(case.model.ir_version, next(row[1] for row in onnx.helper.VERSION_TABLE if row[2] == target))
    if model.ir_version != wanted_ir:
        raise Failed(f"IR version {model.ir_version} instead of {wanted_ir}")
    if [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")] != [target]:
        raise Failed("another operator set")
    check(case, original, raised, target)
    try:
        found = run_all(raised, case.feeds)
    except Exception as error:
        if missing := re.search(r"Could not find an implementation for (\w+\(\d+\))", str(error)):
            return Result("no kernel", missing[1], None, rewritten)
        raise Failed(f"run: {error}") from error
    if is_random(case.model):
        return Result("same", None, None, rewritten)
    tolerance = EXPLAINED_TOLERANCE if any(name in EXPLAINED for name in case.operators) else 0
    if reason := difference(found, expected, tolerance):
        raise Failed(f"numbers: {reason}")
    converter, reason = with_version_converter(case, target, found, raised.with_suffix(".converted"), tolerance)
    return Result("same", reason, converter, rewritten)


def check(case, original, raised, target):
    """Fails if the checker refuses what it should take."""
    import onnx
    from onnx import version_converter

    try:
        onnx.checker.check_model(str(raised), full_check=True)
        return
    except Exception as error:
        problem = error
    try:
        onnx.checker.check_model(str(original), full_check=True)
        # Shape inference knows more of newer operator sets, and may find a wrong declaration of the original only there.
        onnx.checker.check_model(version_converter.convert_version(case.model, target), full_check=True)
    except Exception:
        return
    raise Failed(f"checker: {problem}") from problem


def with_version_converter(case, target, ours, path, tolerance):
    """Returns how the result of `onnx.version_converter` compares with ours, and the reason."""
    import onnx
    from onnx import version_converter

    try:
        converted = version_converter.convert_version(case.model, target)
    except Exception as error:
        return "no conversion", one_line(error)
    try:
        onnx.save(converted, path)
        theirs = run_all(path, case.feeds)
    except Exception as error:
        return "not runnable", one_line(error)
    reason = difference(theirs, ours, tolerance or 1e-6)
    return ("different", reason) if reason else ("same", None)


# ---------------------------------------------------------------------------------------------------------- all of them


def test_all(cases, arguments):
    """Returns the results of all models, in their order; crashes of a library end a process of its own."""
    results = [None] * len(cases)
    numbers = iter(range(len(cases)))
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                index = next(numbers, None)
            if index is None:
                return
            results[index] = in_child(cases[index], arguments)

    threads = [threading.Thread(target=work) for _ in range(arguments.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def in_child(case, arguments):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            rows = {target: result._asdict() for target, result in test(case, arguments.nimctl, arguments.keep).items()}
        except BaseException as error:  # Nothing may get back into the caller's loop.
            rows = {target: Result("failed", f"this script: {error!r}")._asdict() for target in TARGETS}
        with os.fdopen(writer, "w") as out:
            json.dump(rows, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as source:
        text = source.read()
    _, status = os.waitpid(child, 0)
    if not text:
        return {target: Result("failed", f"crashed, status {status}") for target in TARGETS if case.opset < target}
    return {int(target): Result(**row) for target, row in json.loads(text).items()}


def counted(counter):
    return [f"{count:>4}  {what}" for what, count in sorted(counter.items())]


def report(cases, results, seconds):
    import onnx
    import onnxruntime

    print(f"operator sets raised: tests of onnx {onnx.__version__} in ONNX Runtime {onnxruntime.__version__}\n")
    failed, refused, missing, differing = [], collections.Counter(), collections.Counter(), collections.Counter()
    for target in TARGETS:
        rows = [(case, result[target]) for case, result in zip(cases, results) if target in result]
        count = collections.Counter(result.outcome for _, result in rows)
        converter = collections.Counter(result.converter for _, result in rows if result.converter)
        rewritten = sum(result.rewritten > 0 for _, result in rows)
        print(
            f"to {target}: {count['same']} of {count['same'] + count['failed']} models the same ({rewritten} with rewritten "
            f"nodes); {count['refused']} refused, {count['not runnable']} not runnable before, {count['no kernel']} only before\n"
            f"       version_converter: {converter['same']} the same as ours, {converter['different']} different, "
            f"{converter['no conversion']} not converted, {converter['not runnable']} not runnable, {converter['crashed']} crashed"
        )
        failed += [(target, case, result) for case, result in rows if result.outcome == "failed"]
        missing.update(result.reason for _, result in rows if result.outcome == "no kernel")
        for case, result in rows:
            if result.converter == "different":
                differing[", ".join(sorted(case.operators))] += 1
            if result.outcome == "refused":
                why = re.sub(r".*node `[^`]*` (.*?); export.*", r"\1", result.reason)
                refused[why] += 1
    opsets = collections.Counter(case.opset for case in cases)
    print("models by their operator set: " + ", ".join(f"{count} of {opset}" for opset, count in sorted(opsets.items())))
    for title, lines in (
        ("REFUSED", counted(refused)),
        ("NOT IN ONNX RUNTIME", counted(missing)),
        ("OTHER NUMBERS THAN BEFORE WITH VERSION_CONVERTER", counted(differing)),
        ("FAILED", [f"{case.name} {case.opset} → {to}: {one.reason}" for to, case, one in failed]),
    ):
        if lines:
            print(f"\n{title}")
            print("\n".join(lines))
    print(f"\n{seconds:.1f} s")
    return not failed


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nimctl", type=os.path.abspath, default=default_nimctl(), help="the program [%(default)s]")
    parser.add_argument("--cache", default=default_cache(), help="where packages are installed [%(default)s]")
    parser.add_argument("--filter", type=re.compile, metavar="REGEX", help="only tests in whose name this is found")
    parser.add_argument("--sample", type=int, metavar="N", help="N operator tests and N models made by hand, always the same")
    parser.add_argument("--real-models", action="store_true", help="the models of tests/real_models instead")
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
        models = from_real_models(arguments.cache) if arguments.real_models else None
    except Skipped as skipped:
        print(f"raised operator sets: SKIPPED, because {skipped}")
        return 0
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    warnings.simplefilter("ignore")
    start = time.monotonic()
    if models is not None:
        cases = models
    elif arguments.sample:
        cases = sample(by_hand(), arguments.sample) + from_tests(arguments.sample)
    else:
        cases = by_hand() + from_tests()
    if arguments.filter:
        cases = [case for case in cases if arguments.filter.search(case.name)]
    if not cases:
        sys.exit("no test is selected")
    results = test_all(cases, arguments)
    passed = report(cases, results, time.monotonic() - start)
    if arguments.json:
        rows = [
            {"name": case.name, "opset": case.opset, "to": target, **one._asdict()}
            for case, result in zip(cases, results)
            for target, one in result.items()
        ]
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
