"""Judges one quantized model: the same code for ours and for the peers'.

Usage: judge.py MODEL_FOLDER QUANTIZED.onnx

MODEL_FOLDER is what models.py writes; only its judged rows are used. Each row runs alone, without its padding, in ONNX
Runtime's CPU provider with graph optimizations disabled, once in the FP32 model and once in the quantized one. Prints
a JSON object: `min` and `mean` cosine of a row, `matmuls` with constant weights and how many of them are `quantized`, the
`share` of those weights' numbers that is quantized, and `bytes` of all written files.
"""

import json
import math
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

QUANTIZERS = ("DequantizeLinear", "QuantizeLinear")
# What may stand between a weight and the matmul that reads it.
PASSED = ("Transpose", "Reshape", "Cast", "Mul", "Identity")


def embeddings(path, rows):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, row)[0] for row in rows]).astype(np.float64)


def judged(folder):
    inputs = {path.stem: np.load(path) for path in sorted(pathlib.Path(folder, "judged").glob("*.npy"))}
    for row in range(len(next(iter(inputs.values())))):
        one = {name: values[row : row + 1] for name, values in inputs.items()}
        if "attention_mask" in one:
            length = int(one["attention_mask"].sum())
            one = {name: np.ascontiguousarray(values[:, :length]) for name, values in one.items()}
        yield one


class Weights:
    """The constant weights of a graph's matmuls: how many numbers each has, and whether it is quantized."""

    def __init__(self, path):
        graph = onnx.load(path, load_external_data=False).graph
        self.makers = {output: node for node in graph.node for output in node.output}
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.tensors[node.output[0]] = node.attribute[0].t
        found = [self.find(node) for node in graph.node if node.op_type in ("MatMul", "Gemm", "MatMulNBits")]
        self.found = [weight for weight in found if weight]

    def find(self, node):
        """Returns the numbers of a node's weight, and whether they are quantized; nothing if it has no constant weight."""
        if node.op_type == "MatMulNBits":
            size = {attribute.name: attribute.i for attribute in node.attribute}
            return size["K"] * size["N"], True
        name, quantized = node.input[1], False
        while name not in self.tensors:
            maker = self.makers.get(name)
            if maker is None or maker.op_type not in PASSED + QUANTIZERS:
                return None
            quantized |= maker.op_type in QUANTIZERS
            name = maker.input[0]
        return math.prod(self.tensors[name].dims), quantized


def main():
    folder, path = sys.argv[1:]
    rows = list(judged(folder))
    a, b = embeddings(str(pathlib.Path(folder, "model.onnx")), rows), embeddings(path, rows)
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    # A row that is not a number is as wrong as can be.
    cosine = np.nan_to_num(cosine, nan=-1.0)
    weights = Weights(path).found
    numbers, quantized = (sum(size for size, small in weights if small or every) for every in (True, False))
    print(json.dumps({
        "min": float(cosine.min()), "mean": float(cosine.mean()), "worst_row": int(cosine.argmin()),
        "matmuls": len(weights), "quantized": sum(small for _, small in weights), "share": quantized / numbers,
        "bytes": sum(file.stat().st_size for file in pathlib.Path(path).parent.glob(pathlib.Path(path).name + "*")),
    }))


main()
