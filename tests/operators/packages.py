"""The Python packages that the operator tests need: as they are in this Python, or fetched with pip."""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

PACKAGES = {
    "onnx": "1.23.2",
    "onnxruntime": "1.32.0",
    "numpy": "2.4.6",
    # What those need.
    "flatbuffers": "25.12.19",
    "ml_dtypes": "0.6.0",
    "packaging": "26.3",
    "protobuf": "7.36.2",
    "typing_extensions": "4.16.0",
}
DIRECT = ("onnx", "onnxruntime", "numpy")


class Skipped(Exception):
    """The tests can't be run here."""


def make_importable(cache):
    """Makes the pinned packages importable: as they are in this Python, or installed into a folder of the cache."""
    # Microsoft's builds of ONNX Runtime report what they run, unless they are told before they are imported.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if all(version_here(name) == PACKAGES[name] for name in DIRECT):
        return
    key = "-".join(f"{name}{PACKAGES[name]}" for name in DIRECT)
    folder = pathlib.Path(cache) / f"py{sys.version_info.major}.{sys.version_info.minor}-{key}"
    if not folder.is_dir():
        install(folder)
    sys.path.insert(0, str(folder))


def version_here(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def install(folder):
    print(f"installing {', '.join(f'{name} {PACKAGES[name]}' for name in DIRECT)} to {folder}", file=sys.stderr)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = tempfile.mkdtemp(prefix=".new-", dir=folder.parent)
    except OSError as error:
        raise Skipped(f"the cache can't be written: {error}") from error
    try:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--target", new]
        command += [f"{name}=={version}" for name, version in PACKAGES.items()]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            errors = [line for line in lines if "ERROR" in line] or lines
            raise Skipped(f"pip can't install the packages: {errors[-1].strip()}")
        try:
            os.rename(new, folder)
        except OSError:
            # Another run was faster.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
