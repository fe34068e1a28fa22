"""Writes a model with other values in one weight: what fine-tuning one layer makes of it.

Usage: change_layer.py IN.onnx OUT.onnx WEIGHT
"""

import sys

import onnx
from onnx import numpy_helper


def main():
    source, destination, name = sys.argv[1:]
    model = onnx.load(source)
    (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    weight.raw_data = (numpy_helper.to_array(weight)[::-1] * 1.001).astype("float32").tobytes()
    onnx.save(model, destination)


main()
