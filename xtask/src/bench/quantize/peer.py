"""Quantizes one model with a tool that people would otherwise use, in one setting.

Usage: peer.py SETTING MODEL_FOLDER OUT.onnx

What prevents it is written to the file `reason` beside OUT.onnx.

MODEL_FOLDER is what models.py writes; only its calibration rows are used. Each row runs alone and without its padding, unless
the tool can't take rows of different lengths: then all are padded to one length, and stderr says so. Activations are
symmetric and weights per channel, as TensorRT needs them, unless the setting's name says otherwise.

Settings of ONNX Runtime (those that call themselves tuned were fixed before any result was seen):

    ort-all        quantize_static, all operators that it knows, MinMax
    ort-matmul     quantize_static, MatMul alone, MinMax
    ort-tuned-MinMax, ort-tuned-Percentile
                   MatMul alone, no quantized outputs, matmuls of two activations excluded by name
    ort-rtn-32     MatMulNBitsQuantizer, INT4 round to nearest, symmetric, block 32
    ort-gptq-32    MatMulNBitsQuantizer, INT4 GPTQ, block 32
    ort-hqq-32     MatMulNBitsQuantizer, INT4 HQQ, block 32 (needs torch)

Settings of modelopt, with FP32 left where nothing is quantized, so that its quantization alone is judged:

    modelopt-int8-max, modelopt-int8-entropy, modelopt-fp8-max,
    modelopt-int4-awq_lite, modelopt-int4-awq_clip, modelopt-int4-rtn_dq
"""

import pathlib
import sys

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType


class Rows(CalibrationDataReader):
    """Yields the calibration rows one by one."""

    def __init__(self, folder, padded=False):
        self.inputs = {path.stem: np.load(path) for path in sorted(pathlib.Path(folder, "calibration").glob("*.npy"))}
        self.padded = padded
        self.rewind()

    def __len__(self):
        return len(next(iter(self.inputs.values())))

    def rewind(self):
        self.row = 0

    def get_next(self):
        if self.row == len(self):
            return None
        row = {name: values[self.row : self.row + 1] for name, values in self.inputs.items()}
        self.row += 1
        if "attention_mask" in row and not self.padded:
            length = int(row["attention_mask"].sum())
            row = {name: np.ascontiguousarray(values[:, :length]) for name, values in row.items()}
        return row

    def get_first(self):
        self.rewind()
        return self.get_next()


def attention(path):
    """Returns the names of the matmuls that have no constant operand."""
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and not constants & set(node.input)]


def static(model, folder, out, method, tuned=False, operators=("MatMul",)):
    options = {"ActivationSymmetric": True, "WeightSymmetric": True}
    excluded = []
    if tuned:
        options["OpTypesToExcludeOutputQuantization"] = ["MatMul"]
        excluded = attention(model)
    # Histograms of rows of different lengths end in an error of NumPy's.
    padded = method != "MinMax" and "attention_mask" in Rows(folder).inputs
    if padded:
        print("the rows are padded to one length", file=sys.stderr)
    quantization.quantize_static(
        model, out, Rows(folder, padded), quant_format=QuantFormat.QDQ, op_types_to_quantize=list(operators or []) or None,
        per_channel=True, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, nodes_to_exclude=excluded,
        calibrate_method=getattr(CalibrationMethod, method), extra_options=options,
    )


def blocks(model, folder, out, algorithm):
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    if algorithm == "rtn":
        how = nbits.DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=True, quant_format=QuantFormat.QDQ)
    elif algorithm == "gptq":
        how = nbits.GPTQWeightOnlyQuantConfig(calibration_data_reader=Rows(folder), block_size=32)
    else:
        how = nbits.HQQWeightOnlyQuantConfig(block_size=32)
    quantizer = nbits.MatMulNBitsQuantizer(onnx.load(model), block_size=32, is_symmetric=True, algo_config=how)
    quantizer.process()
    quantizer.model.save_model_to_file(out)


def modelopt(model, folder, out, mode, method):
    from modelopt.onnx.quantization import quantize as quantize_with_modelopt

    # Histograms and AWQ join what all rows have.
    padded = method in ("entropy", "awq_lite", "awq_clip") and "attention_mask" in Rows(folder).inputs
    if padded:
        print("the rows are padded to one length", file=sys.stderr)
    quantize_with_modelopt(
        model, quantize_mode=mode, calibration_method=method, calibration_data_reader=Rows(folder, padded),
        calibration_eps=["cpu"], output_path=out, high_precision_dtype="fp32", log_level="WARNING",
    )


def quantize(setting, folder, out):
    model = str(pathlib.Path(folder, "model.onnx"))
    tool, *rest = setting.split("-")
    if tool == "modelopt":
        modelopt(model, folder, out, *rest)
    elif rest[0] == "all":
        static(model, folder, out, "MinMax", operators=None)
    elif rest[0] == "matmul":
        static(model, folder, out, "MinMax")
    elif rest[0] == "tuned":
        static(model, folder, out, rest[1], tuned=True)
    else:
        blocks(model, folder, out, rest[0])


def main():
    setting, folder, out = sys.argv[1:]
    try:
        quantize(setting, folder, out)
    except Exception as error:
        pathlib.Path(out).with_name("reason").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        raise


main()
