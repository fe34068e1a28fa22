"""Compares the Jobs that nimctl applies with the schemas of Kubernetes' API, of every version since Jobs can retry by index.

Usage: check_jobs.py --nimctl PATH [--cache FOLDER]

The schemas are in the Python package kubernetes-validate, which pip fetches the first time; they are read from the wheel as it is. The
strict ones are used: a key that the API does not know is an error. That they refuse anything at all is checked first.
"""

import argparse
import copy
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "operators"))
import packages  # noqa: E402
import run as operators  # noqa: E402

SCHEMAS = ("kubernetes-validate", "1.37.0", "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9")
VALIDATOR = {
    "jsonschema": "4.26.0",
    "attrs": "26.1.0",
    "jsonschema-specifications": "2025.9.1",
    "referencing": "0.37.0",
    "rpds-py": "0.30.0",
    "typing_extensions": "4.16.0",
}
# `backoffLimitPerIndex` is on by default since then.
FIRST = (1, 29)
FLEET = """\
schema: nimctl.fleet/1
executors:
  plain:
    kubernetes: { image: 'registry.example/nimctl:1', exchange: 'oci://registry.example/scratch' }
    offers: { backends: [tensorrt-rtx] }
  everything-there-is-in-a-name-that-is-longer-than-any-name-of-kubernetes-may-be:
    kubernetes:
      context: prod
      namespace: builds
      image: registry.example/nimctl@sha256:0000000000000000000000000000000000000000000000000000000000000000
      exchange: oci://registry.example/scratch
      plain_http: true
      registry_secret: scratch-login
      image_pull_secret: pull.secret
      node_selector: { nvidia.com/gpu.product: NVIDIA-L4 }
      tolerations:
      - { key: nvidia.com/gpu, operator: Exists, effect: NoSchedule }
      - { key: team, operator: Equal, value: ml }
      resources: { nvidia.com/gpu: 2 }
      cpus: 4
      memory_mib: 16000
      time: 01:00:00
      nodes: 3
      environment: { NIMCTL_TENSORRT_LIB: /opt/tensorrt }
    offers: { gpus: [l4], backends: [tensorrt] }
"""


def pip(arguments):
    done = subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise packages.Skipped(f"pip can't fetch what it needs: {done.stderr.strip().splitlines()[-1:]}")


def wheel(cache):
    """Returns the wheel with the schemas."""
    name, version, sha256 = SCHEMAS
    folder = pathlib.Path(cache) / f"{name}-{version}"
    found = list(folder.glob("*.whl"))
    if found:
        return found[0]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as new:
        requirements = pathlib.Path(new) / "requirements.txt"
        requirements.write_text(f"{name}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
        pip(["download", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-d", new, "-r", str(requirements)])
        folder.mkdir(exist_ok=True)
        (path,) = pathlib.Path(new).glob("*.whl")
        os.rename(path, folder / path.name)
    return folder / path.name


def make_validator_importable(cache):
    folder = pathlib.Path(cache) / f"jsonschema-{VALIDATOR['jsonschema']}-py{sys.version_info.major}.{sys.version_info.minor}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = tempfile.mkdtemp(dir=folder.parent)
        pip(["install", "--no-deps", "--only-binary", ":all:", "--target", new, *(f"{n}=={v}" for n, v in VALIDATOR.items())])
        os.rename(new, folder)
    sys.path.insert(0, str(folder))


def validators(path):
    """Returns a validator of Jobs for each version of the API."""
    import jsonschema
    import referencing

    found = {}
    with zipfile.ZipFile(path) as archive:
        pattern = re.compile(r"(.*/v(\d+)\.(\d+)\.\d+-local-strict/)job-batch-v1\.json")
        for name in archive.namelist():
            match = pattern.fullmatch(name)
            if match is None or (int(match[2]), int(match[3])) < FIRST:
                continue
            definitions = json.loads(archive.read(match[1] + "_definitions.json"))
            draft = referencing.jsonschema.DRAFT202012
            registry = referencing.Registry().with_resource("_definitions.json", draft.create_resource(definitions))
            schema = json.loads(archive.read(name))
            found[int(match[2]), int(match[3])] = jsonschema.Draft202012Validator(schema, registry=registry)
    return dict(sorted(found.items()))


def jobs(nimctl):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "fleet.yaml"
        path.write_text(FLEET, encoding="utf-8")
        command = [nimctl, "fleet", "manifests", str(path), "--example", "--output", "json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["jobs"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nimctl", required=True, type=os.path.abspath)
    parser.add_argument("--cache", default=operators.default_cache())
    arguments = parser.parse_args()
    try:
        path = wheel(arguments.cache)
        make_validator_importable(arguments.cache)
    except packages.Skipped as skipped:
        print(f"Jobs of Kubernetes: SKIPPED, because {skipped}")
        return 0
    found, printed = validators(path), jobs(arguments.nimctl)
    if len(found) < 2 or len(printed) != 2:
        sys.exit(f"expected several versions and two Jobs: {list(found)}, {len(printed)}")
    failed = 0
    for version, validator in found.items():
        wrong = copy.deepcopy(printed[0])
        wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = []
        if validator.is_valid(wrong):
            sys.exit(f"the schemas of {version} refuse nothing")
        for job in printed:
            for error in validator.iter_errors(job):
                failed += 1
                print(f"{version}: {job['metadata']['name']}: {error.json_path}: {error.message}")
    names = ", ".join(f"{major}.{minor}" for major, minor in found)
    print(f"Jobs of Kubernetes: {len(printed)} Jobs, {failed} errors against the API's schemas of {names}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
