"""Strings random operators between ids, lengths or positions and what must be exact, lowers, and looks for differences.

A graph starts at whole numbers beyond what half precision holds (odd token ids, an odd length, positions), goes through a
chain of random operators that keep them whole (or make times and angles of them), and ends as an integer, an index, a
shape, a comparison, the trip count of a loop or the argument of a sine. ONNX Runtime runs the original graph and the one
that `nimctl lower --emulate` writes, which rounds as the lowered graph would. Integers, truth values and shapes must be
equal, and sines close: a graph that differs, or no longer runs, was lowered silently wrong.

All graphs follow from their number; a failing one is written to the folder of --keep.
"""

import argparse
import collections
import os
import pathlib
import subprocess
import sys
import tempfile
import time

# What lies beside this file is not worth a cache of its own in the repository.
sys.dont_write_bytecode = True

from packages import Skipped, make_importable
from run import default_cache, default_nimctl, one_line, session

LENGTH = 5
ODD_LENGTH = 3001
LONGEST_CHAIN = 6
# A sine of an FP32 angle against one of the same angle: what its own rounding to the lower precision leaves.
SINE_TOLERANCE = {"fp16": 2e-3, "bf16": 1e-2}


class Chain:
    """A graph in the making: `value` names its current numbers, a vector of LENGTH elements."""

    def __init__(self, rng):
        import numpy

        self.numpy, self.rng = numpy, rng
        self.nodes, self.constants, self.inputs, self.outputs, self.feeds = [], [], [], [], {}
        self.operators = []
        self.value = None

    def name(self, prefix="v"):
        return f"{prefix}{len(self.nodes)}_{len(self.constants)}"

    def const(self, values, dtype="float32"):
        from onnx import numpy_helper

        name = self.name("c")
        self.constants.append(numpy_helper.from_array(self.numpy.asarray(values, dtype), name))
        return name

    def add(self, op_type, inputs, outputs=1, **attributes):
        from onnx import helper

        names = [f"{self.name()}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, **attributes))
        self.operators.append(op_type)
        return names[0] if outputs == 1 else names

    def then(self, op_type, *more, **attributes):
        self.value = self.add(op_type, [self.value, *more], **attributes)

    def input(self, name, kind, shape, values):
        from onnx import helper

        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        self.feeds[name] = values
        return name

    def output(self, name, kind):
        from onnx import helper

        # The shape is what is to be found out.
        self.outputs.append(helper.make_value_info(name, helper.make_tensor_type_proto(kind, None)))


# ------------------------------------------------------------------------------------------------------------- sources


def from_ids(chain):
    from onnx import TensorProto as T

    ids = 1 + 2 * chain.rng.integers(2000, 30000, LENGTH)
    chain.value = chain.input("ids", T.INT64, ["n"], ids)
    chain.then("Cast", to=T.FLOAT)


def from_length(chain):
    from onnx import TensorProto as T

    chain.input("x", T.FLOAT, ["frames", 1], chain.numpy.zeros((ODD_LENGTH, 1), "float32"))
    chain.value = chain.add("Shape", ["x"])
    chain.then("Gather", chain.const([0] * LENGTH, "int64"))
    chain.then("Cast", to=T.FLOAT)
    if chain.rng.random() < 0.5:
        ratios = chain.input("ratios", T.FLOAT, [LENGTH], chain.rng.uniform(0.7, 1, LENGTH).astype("float32"))
        chain.then("Mul", ratios)
        chain.then("Round")


def from_positions(chain):
    from onnx import TensorProto as T

    start = chain.input("start", T.INT64, [], chain.numpy.array(1 + 2 * chain.rng.integers(2000, 30000)))
    end = chain.add("Add", [start, chain.const(2 * LENGTH, "int64")])
    chain.value = chain.add("Range", [start, end, chain.const(2, "int64")])
    chain.then("Cast", to=T.FLOAT)


def from_sums(chain):
    from onnx import TensorProto as T

    chain.value = chain.input("bytes", T.UINT8, [LENGTH, 64], chain.rng.integers(0, 256, (LENGTH, 64)).astype("uint8"))
    chain.then("Cast", to=T.INT32)
    chain.then("ReduceSum", chain.const([1], "int64"), keepdims=0)
    chain.then("Cast", to=T.FLOAT)


SOURCES = [from_ids, from_length, from_positions, from_sums]

# ----------------------------------------------------------------------------------------------------------- operators


def wrapped_in_if(chain):
    from onnx import TensorProto as T, helper

    def branch(name, constant):
        node = helper.make_node("Add", [chain.value, constant], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, T.FLOAT, None)])

    here = chain.name("b")
    condition = chain.const(bool(chain.rng.random() < 0.5), "bool")
    one, three = chain.const(1), chain.const(3)
    chain.value = chain.add("If", [condition], then_branch=branch(f"{here}_t", one), else_branch=branch(f"{here}_e", three))


def wrapped_in_loop(chain):
    from onnx import TensorProto as T, helper

    here = chain.name("b")
    float_value = lambda name: helper.make_tensor_value_info(name, T.FLOAT, None)
    body = helper.make_graph(
        [helper.make_node("Add", [f"{here}_s", chain.const(1)], [f"{here}_t"]), helper.make_node("Identity", [f"{here}_c"], [f"{here}_d"])],
        here,
        [helper.make_tensor_value_info(f"{here}_i", T.INT64, []), helper.make_tensor_value_info(f"{here}_c", T.BOOL, []), float_value(f"{here}_s")],
        [helper.make_tensor_value_info(f"{here}_d", T.BOOL, []), float_value(f"{here}_t")],
    )
    chain.value = chain.add("Loop", [chain.const(3, "int64"), chain.const(True, "bool"), chain.value], body=body)


def scanned(chain):
    from onnx import TensorProto as T, helper

    here = chain.name("b")
    scalar = lambda name: helper.make_tensor_value_info(name, T.FLOAT, [])
    body = helper.make_graph(
        [helper.make_node("Max", [f"{here}_s", f"{here}_x"], [f"{here}_t"]), helper.make_node("Identity", [f"{here}_t"], [f"{here}_y"])],
        here, [scalar(f"{here}_s"), scalar(f"{here}_x")], [scalar(f"{here}_t"), scalar(f"{here}_y")],
    )
    _, chain.value = chain.add("Scan", [chain.const(1), chain.value], outputs=2, body=body, num_scan_inputs=1)


def padded(chain):
    chain.then("Pad", chain.const([1, 1], "int64"))
    chain.then("Slice", chain.const([1], "int64"), chain.const([1 + LENGTH], "int64"))


def split(chain):
    first, second = chain.add("Split", [chain.value, chain.const([2, LENGTH - 2], "int64")], outputs=2, axis=0)
    chain.value = chain.add("Concat", [second, first], axis=0)


def tiled(chain):
    chain.then("Tile", chain.const([2], "int64"))
    chain.then("Slice", chain.const([2], "int64"), chain.const([2 + LENGTH], "int64"))


def reduced(chain):
    largest = chain.add(str(chain.rng.choice(["ReduceMax", "ReduceMin"])), [chain.value, chain.const([0], "int64")])
    chain.value = chain.add("Sub", [chain.value, chain.add("Sub", [largest, chain.value])])


def summed(chain):
    chain.then("Reshape", chain.const([LENGTH, 1], "int64"))
    chain.then("Expand", chain.const([LENGTH, 3], "int64"))
    chain.then("ReduceSum", chain.const([1], "int64"), keepdims=0)


def where(chain):
    middle = chain.const(chain.rng.integers(3000, 40000))
    larger = chain.add(str(chain.rng.choice(["Greater", "Less", "GreaterOrEqual"])), [chain.value, middle])
    chain.value = chain.add("Where", [larger, chain.value, chain.add("Add", [chain.value, chain.const(7)])])


def scattered(chain):
    if chain.rng.random() < 0.5:
        chain.then("ScatterND", chain.const([[1]], "int64"), chain.const([4097]))
    else:
        chain.then("ScatterElements", chain.const([3], "int64"), chain.const([4099]))


def gathered(chain):
    places = chain.const(chain.rng.permutation(LENGTH), "int64")
    chain.then(str(chain.rng.choice(["Gather", "GatherElements"])), places)


def sorted_by_topk(chain):
    chain.value, _ = chain.add("TopK", [chain.value, chain.const([LENGTH], "int64")], outputs=2)


def multiplied_by_identity(chain):
    unit = chain.numpy.eye(LENGTH)[chain.rng.permutation(LENGTH)]
    kind = chain.rng.integers(3)
    if kind == 0:
        chain.then("MatMul", chain.const(unit))
    elif kind == 1:
        chain.then("Einsum", chain.const(unit), equation="i,ij->j")
    else:
        chain.then("Reshape", chain.const([1, LENGTH], "int64"))
        chain.then("Gemm", chain.const(unit))
        chain.then("Flatten", axis=0)
        chain.then("Squeeze", chain.const([0], "int64"))


def pooled(chain):
    chain.then("Reshape", chain.const([1, 1, LENGTH], "int64"))
    chain.then("MaxPool", kernel_shape=[2], pads=[0, 1])
    chain.then("Reshape", chain.const([LENGTH], "int64"))


def doubled_and_halved(chain):
    chain.then("Mul", chain.const(2))
    chain.then("Div", chain.const(2))


def transposed(chain):
    chain.then("Unsqueeze", chain.const([0], "int64"))
    chain.then("Transpose", perm=[1, 0])
    chain.then("Squeeze", chain.const([1], "int64"))


def with_constant(op_type, low, high):
    return lambda chain: chain.then(op_type, chain.const(chain.rng.integers(low, high)))


def plain(op_type, **attributes):
    return lambda chain: chain.then(op_type, **attributes)


def with_itself(op_type):
    return lambda chain: setattr(chain, "value", chain.add(op_type, [chain.value, chain.value]))


OPERATORS = [
    wrapped_in_if, wrapped_in_loop, scanned, padded, split, tiled, reduced, summed, where, scattered, gathered,
    sorted_by_topk, multiplied_by_identity, pooled, doubled_and_halved, transposed,
    with_constant("Add", 1, 5000), with_constant("Sub", 1, 100), with_constant("Max", 1, 9000),
    with_constant("Min", 20000, 60000), with_constant("Mul", 1, 3), with_constant("PRelu", 1, 9),
    with_constant("Sum", 1, 9), with_constant("Pow", 1, 2),
    plain("Identity"), plain("Relu"), plain("LeakyRelu"), plain("Abs"), plain("Floor"), plain("Ceil"), plain("Round"),
    plain("Elu"), plain("Celu"), plain("ThresholdedRelu"), with_itself("Mean"), with_itself("Max"), with_itself("Min"),
]

# --------------------------------------------------------------------------------------------------------------- sinks


def to_integers(chain):
    from onnx import TensorProto as T

    chain.then("Cast", to=int(chain.rng.choice([T.INT64, T.INT32])))
    chain.then("Cast", to=T.INT64)


def to_float_output(chain):
    # Whole numbers that leave the graph in FP32 must be the same.
    pass


def to_index(chain):
    from onnx import TensorProto as T

    chain.then("Cast", to=T.INT64)
    chain.then("Mod", chain.const(97, "int64"))
    chain.value = chain.add("Gather", [chain.const(chain.numpy.arange(97), "int64"), chain.value])


def to_shape(chain):
    from onnx import TensorProto as T

    chain.then("Cast", to=T.INT64)
    chain.then("ReduceMax", keepdims=0)
    chain.then("Mod", chain.const(5001, "int64"))
    chain.then("Reshape", chain.const([1], "int64"))
    kind = chain.rng.integers(3)
    if kind == 0:
        chain.then("ConstantOfShape")
    elif kind == 1:
        chain.value = chain.add("Expand", [chain.const([1]), chain.value])
    else:
        chain.then("Squeeze")
        chain.value = chain.add("Range", [chain.const(0, "int64"), chain.value, chain.const(1, "int64")])
    chain.then("Shape")


def to_float_range(chain):
    chain.then("ReduceMin", keepdims=0)
    end = chain.add("Add", [chain.value, chain.const(4)])
    chain.value = chain.add("Range", [chain.value, end, chain.const(1)])
    to_integers(chain)


def to_equality(chain):
    other = chain.add("Add", [chain.value, chain.const([0, 1, 0, 2, -1])])
    chain.then("Equal", other)


def to_comparison(chain):
    other = chain.add("Add", [chain.value, chain.const([0, 1, 0, 2, -1])])
    chain.then(str(chain.rng.choice(["Less", "Greater", "LessOrEqual"])), other)


def to_place(chain):
    if chain.rng.random() < 0.5:
        chain.then("ArgMax", axis=0)
    else:
        _, chain.value = chain.add("TopK", [chain.value, chain.const([LENGTH], "int64")], outputs=2)


def to_one_hot(chain):
    from onnx import TensorProto as T

    chain.then("Mod", chain.const(4001), fmod=1)
    chain.then("Abs")
    chain.value = chain.add("OneHot", [chain.value, chain.const(4001, "int64"), chain.const([0, 1], "int64")])
    chain.then("ArgMax", axis=1)


def to_trip_count(chain):
    from onnx import TensorProto as T, helper

    chain.then("ReduceMax", keepdims=0)
    chain.then("Cast", to=T.INT64)
    chain.then("Mod", chain.const(301, "int64"))
    here = chain.name("b")
    body = helper.make_graph(
        [helper.make_node("Identity", [f"{here}_c"], [f"{here}_d"]), helper.make_node("Identity", [f"{here}_i"], [f"{here}_y"])],
        here,
        [helper.make_tensor_value_info(f"{here}_i", T.INT64, []), helper.make_tensor_value_info(f"{here}_c", T.BOOL, [])],
        [helper.make_tensor_value_info(f"{here}_d", T.BOOL, []), helper.make_tensor_value_info(f"{here}_y", T.INT64, [])],
    )
    chain.value = chain.add("Loop", [chain.value, chain.const(True, "bool")], body=body)


def to_truth(chain):
    from onnx import TensorProto as T

    chain.then("Sub", chain.const(4097))
    chain.then("Cast", to=T.BOOL)
    chain.then("NonZero")


def to_angle(chain):
    frequencies = 1 / 10000 ** (chain.numpy.arange(LENGTH) / LENGTH)
    chain.then("Mul", chain.const(frequencies))
    chain.then(str(chain.rng.choice(["Sin", "Cos"])))


SINKS = [
    to_integers, to_float_output, to_index, to_shape, to_float_range, to_equality, to_comparison, to_place, to_one_hot,
    to_trip_count, to_truth, to_angle,
]

# ---------------------------------------------------------------------------------------------------------------- runs


def make(number):
    """Returns the chain of this number."""
    import numpy

    rng = numpy.random.default_rng(number)
    chain = Chain(rng)
    SOURCES[rng.integers(len(SOURCES))](chain)
    for _ in range(rng.integers(1, LONGEST_CHAIN + 1)):
        OPERATORS[rng.integers(len(OPERATORS))](chain)
    SINKS[number % len(SINKS)](chain)
    return chain


def model(chain):
    from onnx import TensorProto as T, helper

    kinds = {"Equal": T.BOOL, "Less": T.BOOL, "Greater": T.BOOL, "LessOrEqual": T.BOOL, "Sin": T.FLOAT, "Cos": T.FLOAT}
    last = chain.nodes[-1].op_type
    ints = {"Cast", "Gather", "Shape", "ArgMax", "TopK", "Loop", "NonZero"}
    # A chain that ends in its numbers gives them out in FP32.
    chain.output(chain.value, kinds.get(last, T.INT64 if chain.sink is not to_float_output and last in ints else T.FLOAT))
    graph = helper.make_graph(chain.nodes, "chain", chain.inputs, chain.outputs, chain.constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 9
    return made


def test(number, nimctl, folder):
    """Returns "not runnable", "same", or what differs."""
    import numpy
    import onnx

    chain = make(number)
    chain.sink = SINKS[number % len(SINKS)]
    precision = "bf16" if number % 3 == 2 else "fp16"
    original, emulated = folder / "original.onnx", folder / "emulated.onnx"
    onnx.save(model(chain), original)
    try:
        wanted = session(original).run(None, chain.feeds)[0]
    except Exception as error:
        return "not runnable", one_line(error), chain
    command = [nimctl, "lower", original, "-o", emulated, "--precision", precision, "--emulate"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return "refused", one_line(done.stderr), chain
    try:
        found = session(emulated).run(None, chain.feeds)[0]
    except Exception as error:
        return "differs", f"{precision}: does not run: {one_line(error)}", chain
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return "differs", f"{precision}: {found.dtype}{list(found.shape)} for {wanted.dtype}{list(wanted.shape)}", chain
    if chain.sink is to_angle:
        same = numpy.abs(found - wanted).max(initial=0) <= SINE_TOLERANCE[precision]
    else:
        same = numpy.array_equal(found, wanted, equal_nan=wanted.dtype.kind == "f")
    return ("same", "", chain) if same else ("differs", f"{precision}: {found.ravel()[:6]} for {wanted.ravel()[:6]}", chain)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nimctl", type=os.path.abspath, default=default_nimctl(), help="the program [%(default)s]")
    parser.add_argument("--cache", default=default_cache(), help="where packages are installed [%(default)s]")
    parser.add_argument("--graphs", type=int, default=2000, metavar="N", help="how many graphs [%(default)s]")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first graph [%(default)s]")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="keep the graphs that differ there")
    arguments = parser.parse_args()
    try:
        make_importable(arguments.cache)
    except Skipped as skipped:
        print(f"chains of exact numbers: SKIPPED, because {skipped}")
        return 0
    start = time.monotonic()
    count, used, listed = collections.Counter(), set(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.first, arguments.first + arguments.graphs):
            outcome, reason, chain = test(number, arguments.nimctl, pathlib.Path(folder))
            count[outcome] += 1
            if outcome == "same":
                used.update(chain.operators)
            else:
                listed.append(f"{outcome:<12} {number}: {' '.join(chain.operators)}: {reason}")
            if outcome == "differs" and arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                for name in ("original.onnx", "emulated.onnx"):
                    source = pathlib.Path(folder, name)
                    if source.exists():
                        (arguments.keep / f"{number}-{name}").write_bytes(source.read_bytes())
    print("\n".join(listed))
    print(
        f"chains of exact numbers: {count['same']} of {arguments.graphs} graphs the same, {count['differs']} differ, "
        f"{count['refused']} refused, {count['not runnable']} not runnable in ONNX Runtime; {len(used)} operators; "
        f"{time.monotonic() - start:.1f} s"
    )
    return 1 if count["differs"] or count["refused"] or count["same"] < 0.9 * arguments.graphs else 0


if __name__ == "__main__":
    sys.exit(main())
