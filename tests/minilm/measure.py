"""Measures what FP16 costs paraphrase-MiniLM-L3-v2, with its real weights, on 64 sentences of different lengths.

Usage: measure.py --nimctl PATH [--cache FOLDER]

ONNX Runtime's CPU provider computes FP16 graphs in FP32 between casts and hides the loss. So the graph that is measured
is the emulated one (`nimctl lower --emulate`): FP32 types, every lowered weight and every output of every lowered node
rounded to FP16. That it rounds is checked first. Each sentence runs alone, and all of them run as one padded batch; the
least cosine of any row of any FP32 output against the FP32 graph must be at least 0.9999.

`sentences.jsonl` has the sentences with their tokens: the pieces of BERT's uncased vocabulary, longest first. The model
comes from its Python package, pinned in recipes/minilm.yaml; packages as in tests/operators/run.py.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "operators"))
import packages  # noqa: E402
import run as operators  # noqa: E402

LEAST_COSINE = 0.9999
TARGETS = ("any", "tensorrt-rtx", "onnxruntime")


def fetch_model(cache):
    """Returns the path of the model, fetched with pip the first time."""
    recipe = (ROOT / "recipes/minilm.yaml").read_text(encoding="utf-8")
    pin = {key: re.search(rf"^ +{key}: (\S+)$", recipe, re.M).group(1) for key in ("package", "version", "sha256", "file")}
    model = pathlib.Path(cache) / f"{pin['package']}-{pin['version']}" / os.path.basename(pin["file"])
    if model.is_file():
        return model
    model.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model.parent) as work:
        requirements = pathlib.Path(work) / "requirements.txt"
        requirements.write_text(f"{pin['package']}=={pin['version']} --hash={pin['sha256']}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "-d", work, "-r", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise packages.Skipped(f"pip can't fetch the model: {done.stderr.strip().splitlines()[-1:]}")
        (wheel,) = pathlib.Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            new = pathlib.Path(work) / "model.onnx"
            new.write_bytes(archive.read(pin["file"]))
        new.rename(model)
    return model


def feeds(sentences):
    """Yields the inputs of each sentence alone, then of all, padded."""
    import numpy as np

    rows = [np.array(sentence["input_ids"], dtype=np.int64) for sentence in sentences]
    for row in rows:
        yield {"input_ids": row[None], "attention_mask": np.ones_like(row)[None]}
    longest = max(map(len, rows))
    padded = [np.pad(row, (0, longest - len(row))) for row in rows]
    masks = [np.arange(longest) < len(row) for row in rows]
    yield {"input_ids": np.stack(padded), "attention_mask": np.stack(masks).astype(np.int64)}


def session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def least_cosine(reference, other, feed):
    """Returns the least cosine of a row, over all FP32 outputs; rows of padding are left out."""
    import numpy as np

    least = 1.0
    for a, b in zip(reference, other):
        if a.dtype != np.float32:
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        if a.ndim == 3:
            tokens = feed["attention_mask"].astype(bool)
            a, b = a[tokens], b[tokens]
        cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
        least = min(least, float(np.min(np.nan_to_num(cosine, nan=-1.0))))
    return least


def check_rounding(path, feed):
    """Checks that the values after lowered nodes are FP16 numbers, and were not before."""
    import numpy as np
    import onnx

    model = onnx.load(path)
    names = [name for node in model.graph.node for name in node.output if name.endswith("_unrounded")]
    names = names[:: max(1, len(names) // 20)]
    for name in names:
        for value in (name, name.removesuffix("_unrounded")):
            model.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    running = session(model.SerializeToString())
    values = dict(zip((output.name for output in running.get_outputs()), running.run(None, feed)))
    changed = 0
    for name in names:
        before, after = values[name], values[name.removesuffix("_unrounded")]
        wanted = before.astype(np.float16).astype(np.float32)
        if not np.array_equal(after, wanted, equal_nan=True):
            sys.exit(f"the emulated graph does not round {name}")
        changed += int(not np.array_equal(before, after))
    if not names or changed < len(names) / 2:
        sys.exit("the emulated graph rounds nothing")
    return len(names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nimctl", required=True, type=os.path.abspath)
    parser.add_argument("--cache", default=operators.default_cache())
    arguments = parser.parse_args()
    try:
        packages.make_importable(arguments.cache)
        model = fetch_model(arguments.cache)
    except packages.Skipped as skipped:
        print(f"MiniLM: SKIPPED, because {skipped}")
        return 0
    with open(HERE / "sentences.jsonl", encoding="utf-8") as file:
        sentences = [json.loads(line) for line in file]
    inputs = list(feeds(sentences))
    reference = session(str(model))
    wanted = [reference.run(None, feed) for feed in inputs]
    print(f"paraphrase-MiniLM-L3-v2, FP16 against FP32, {len(sentences)} sentences of "
          f"{min(len(s['input_ids']) for s in sentences)} to {max(len(s['input_ids']) for s in sentences)} tokens")
    failed = False
    for target in TARGETS:
        with tempfile.TemporaryDirectory() as work:
            figures = []
            for emulate in (["--emulate"], []):
                path = os.path.join(work, "emulated.onnx" if emulate else "fp16.onnx")
                command = [arguments.nimctl, "--quiet", "lower", str(model), "-o", path, "--precision", "fp16"]
                subprocess.run(command + ["--target", target] + emulate, check=True, stdout=subprocess.DEVNULL)
                checked = check_rounding(path, inputs[-1]) if emulate else None
                running = session(path)
                least = min(least_cosine(a, running.run(None, feed), feed) for a, feed in zip(wanted, inputs))
                figures.append((least, checked))
        (emulated, checked), (hidden, _) = figures
        failed |= not emulated >= LEAST_COSINE
        print(f"  --target {target:13} least row cosine {emulated:.7f} emulated ({checked} roundings checked), "
              f"{hidden:.7f} as ONNX Runtime's CPU provider computes it; at least {LEAST_COSINE} wanted")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
