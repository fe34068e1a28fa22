"""Lowers one model to FP16 with `onnxconverter-common`: what `nimctl lower` is measured against.

Usage: lower_peer.py IN.onnx OUT.onnx
"""

import sys

import onnx
from onnxconverter_common.float16 import convert_float_to_float16


def main():
    source, destination = sys.argv[1:]
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), destination)


main()
