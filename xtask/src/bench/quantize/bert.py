"""Builds the ONNX graph of a BERT encoder from its weights in a safetensors file, as sentence-transformers runs it.

The result is the mean of the tokens' last hidden states, over the tokens that the mask has. The graph of all-MiniLM-L6-v2 gives
the similarities that its documentation shows for "The weather is lovely today.", "It's so sunny outside!" and "He drove to the
stadium.": 0.6660, 0.1046 and 0.1411.
"""

import json
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def tensors(contents):
    """Returns the FP32 tensors of a safetensors file by name."""
    (length,) = struct.unpack("<Q", contents[:8])
    header = json.loads(contents[8 : 8 + length])
    found = {}
    for name, tensor in header.items():
        if name != "__metadata__" and tensor["dtype"] == "F32":
            start, end = (8 + length + offset for offset in tensor["data_offsets"])
            found[name] = np.frombuffer(contents[start:end], "<f4").reshape(tensor["shape"])
    return found


class Builder:
    """Nodes and initializers of a graph under construction; each node is named after its output."""

    def __init__(self):
        self.nodes, self.initializers = [], []

    def constant(self, name, value):
        self.initializers.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


class Encoder:
    """A BERT encoder."""

    def __init__(self, weights, heads, epsilon=1e-12):
        self.weights, self.heads, self.epsilon, self.graph = weights, heads, epsilon, Builder()

    def linear(self, name, value):
        # PyTorch stores what the product's right operand is transposed.
        weight = self.graph.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        bias = self.graph.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.graph.node("Add", [self.graph.node("MatMul", [value, weight], f"{name}/MatMul"), bias], name)

    def norm(self, name, value):
        parts = [self.graph.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.graph.node("LayerNormalization", [value, *parts], name, axis=-1, epsilon=self.epsilon)

    def gelu(self, name, value):
        graph = self.graph
        erf = graph.node("Erf", [graph.node("Div", [value, "square_root_of_2"], f"{name}/Div")], f"{name}/Erf")
        scaled = graph.node("Mul", [value, graph.node("Add", [erf, "one"], f"{name}/Add")], f"{name}/Mul")
        return graph.node("Mul", [scaled, "half"], name)

    def embeddings(self):
        graph, name = self.graph, "embeddings"
        table = {part: f"{name}.{part}_embeddings.weight" for part in ("word", "position", "token_type")}
        for weight in table.values():
            graph.constant(weight, self.weights[weight])
        tokens = graph.node("Gather", [graph.node("Shape", ["input_ids"], "shape"), "one_index"], "tokens")
        positions = graph.node("Range", ["zero_index", tokens, "one_index"], "positions")
        value = graph.node("Gather", [table["word"], "input_ids"], "words")
        value = graph.node("Add", [value, graph.node("Gather", [table["token_type"], "zero_index"], "type")], "typed")
        value = graph.node("Add", [value, graph.node("Gather", [table["position"], positions], "places")], "placed")
        return self.norm(f"{name}.LayerNorm", value)

    def attention(self, name, value, masked):
        graph = self.graph
        parts = {}
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            split = graph.node("Reshape", [self.linear(f"{name}.self.{part}", value), "heads"], f"{name}/{part}_heads")
            parts[part] = graph.node("Transpose", [split], f"{name}/{part}_order", perm=order)
        scores = graph.node("MatMul", [parts["query"], parts["key"]], f"{name}/scores")
        scores = graph.node("Div", [scores, "square_root_of_head"], f"{name}/scaled")
        weights = graph.node("Softmax", [graph.node("Add", [scores, masked], f"{name}/masked")], f"{name}/softmax", axis=-1)
        mixed = graph.node("MatMul", [weights, parts["value"]], f"{name}/mixed")
        mixed = graph.node("Transpose", [mixed], f"{name}/mixed_order", perm=[0, 2, 1, 3])
        mixed = self.linear(f"{name}.output.dense", graph.node("Reshape", [mixed, "joined"], f"{name}/joined"))
        return self.norm(f"{name}.output.LayerNorm", graph.node("Add", [mixed, value], f"{name}/residual"))

    def layer(self, name, value, masked):
        value = self.attention(f"{name}.attention", value, masked)
        inner = self.gelu(f"{name}/gelu", self.linear(f"{name}.intermediate.dense", value))
        outer = self.linear(f"{name}.output.dense", inner)
        return self.norm(f"{name}.output.LayerNorm", self.graph.node("Add", [outer, value], f"{name}/residual"))

    def model(self):
        graph, width = self.graph, self.weights["embeddings.LayerNorm.weight"].shape[0]
        head = width // self.heads
        for name, value in (("one", 1.0), ("half", 0.5), ("square_root_of_2", 2**0.5), ("square_root_of_head", head**0.5)):
            graph.constant(name, np.array(value, np.float32))
        for name, value in (("one_index", 1), ("zero_index", 0), ("axis", [1]), ("last", [2]), ("mask_axes", [1, 2])):
            graph.constant(name, np.array(value, np.int64))
        graph.constant("heads", np.array([0, 0, self.heads, head], np.int64))
        graph.constant("joined", np.array([0, 0, width], np.int64))
        graph.constant("lowest", np.array(-10000.0, np.float32))
        mask = graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
        padding = graph.node("Mul", [graph.node("Sub", ["one", mask], "padding"), "lowest"], "penalty")
        masked = graph.node("Unsqueeze", [padding, "mask_axes"], "penalties")
        value, number = self.embeddings(), 0
        while f"encoder.layer.{number}.output.dense.weight" in self.weights:
            value = self.layer(f"encoder.layer.{number}", value, masked)
            number += 1
        column = graph.node("Unsqueeze", [mask, "last"], "column")
        total = graph.node("ReduceSum", [graph.node("Mul", [value, column], "unpadded"), "axis"], "sum", keepdims=0)
        count = graph.node("ReduceSum", [column, "axis"], "count", keepdims=0)
        graph.node("Div", [total, count], "embedding")
        ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
               for name in ("input_ids", "attention_mask")]
        result = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])
        made = helper.make_graph(graph.nodes, "bert", ids, [result], graph.initializers)
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
