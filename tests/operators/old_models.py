"""Models of old operator sets, each with inputs to run it on."""

import collections
import itertools
import pathlib
import sys
import warnings

OLDEST, NEWEST = 7, 22

# A model, its operator set, its operators, and a list of inputs by name.
Case = collections.namedtuple("Case", "name opset model operators feeds")

# Where an attribute has another name than the input that it became.
INPUT_NAMES = {"k": "K", "value": "constant_value"}


def make_case(name, model, feeds):
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    operators = {node.op_type for node in model.graph.node}
    return Case(name, opset, model, operators, feeds)


# ------------------------------------------------------------------------------------------------- from ONNX's own tests


def from_tests(count=None):
    """Returns ONNX's operator tests at their own operator set and, where the operator was another before, at older ones; with
    `count`, at most that many of them, each at the oldest."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = sorted(collect_testcases(None), key=lambda test: test.name)
    if count is None:
        return [case for test in tests for case in versions(test)]
    oldest = (min(versions(test), key=lambda case: case.opset, default=None) for test in sample(tests, count))
    return [case for case in oldest if case]


def sample(rows, count):
    """Returns so many rows, spread evenly."""
    count = min(count, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def from_real_models(cache):
    """Returns the models of tests/real_models, with their inputs; they are fetched with pip."""
    import onnx

    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "real_models"))
    from compare import cached, fetch
    from models import MODELS

    cases = []
    for model in MODELS:
        fetch([model], cache)
        case = make_case(model.name, onnx.load(cached(cache, model, next(iter(model.files)))), [model.inputs])
        if OLDEST <= case.opset <= NEWEST:
            cases.append(case)
    return cases


def versions(test):
    from onnx import defs

    own = [one.version for one in test.model.opset_import if one.domain in ("", "ai.onnx")]
    if not own:
        return
    names = [value.name for value in test.model.graph.input]
    feeds = [dict(zip(names, inputs)) for inputs, _ in test.data_sets]
    if OLDEST <= own[0] <= NEWEST:
        yield make_case(test.name, test.model, feeds)
    nodes = test.model.graph.node
    if len(nodes) != 1 or nodes[0].domain or not feeds or test.model.functions:
        return
    history = [
        schema.since_version
        for schema in defs.get_all_schemas_with_history()
        if schema.name == nodes[0].op_type and not schema.domain and schema.since_version < own[0]
    ]
    for opset in sorted({max(OLDEST, since) for since in history} - {own[0]}):
        adapted = dict(feeds[0])
        if opset <= NEWEST and (older := as_older(test.model, adapted, own[0], opset)):
            yield make_case(test.name, older, [adapted])


def as_older(model, feeds, opset, older_opset):
    """Returns a model of one node as an older operator set has it, and adapts its inputs; None if it doesn't have it."""
    import numpy
    import onnx
    from onnx import defs, helper

    older = onnx.ModelProto()
    older.CopyFrom(model)
    node = older.graph.node[0]
    schema, old = defs.get_schema(node.op_type, opset), defs.get_schema(node.op_type, older_opset)
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    for name, attribute in old.attributes.items():
        if name in schema.attributes or name in attributes:
            continue
        index = next((i for i, one in enumerate(schema.inputs) if one.name == INPUT_NAMES.get(name, name)), None)
        if index is None or index >= len(node.input) or not node.input[index]:
            continue
        values = feeds.get(node.input[index])
        if values is None:
            return None
        if numpy.size(values):
            attributes[name] = as_attribute(values, attribute.type)
        taken = node.input[index]
        node.input[index] = ""
        for place, value in enumerate(older.graph.input):
            if value.name == taken and taken not in node.input:
                del older.graph.input[place]
                del feeds[taken]
                break
    while node.input and not node.input[-1]:
        node.input.pop()
    for name in list(attributes):
        if name not in old.attributes:
            default = schema.attributes[name].default_value if name in schema.attributes else None
            if default is None or helper.get_attribute_value(default) != attributes[name]:
                if name != "num_outputs":
                    return None
            del attributes[name]
    if node.op_type == "GridSample" and older_opset < 20:
        mode = attributes.get("mode", b"linear")
        attributes["mode"] = {b"linear": b"bilinear", b"cubic": b"bicubic"}.get(mode, mode)
    if node.op_type == "GroupNormalization" and older_opset < 21:
        for name in node.input[1:]:
            step = len(feeds[name]) // attributes["num_groups"]
            feeds[name] = feeds[name][::step].copy()
            for value in older.graph.input:
                if value.name == name:
                    value.type.tensor_type.shape.dim[0].dim_value = attributes["num_groups"]
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    del older.opset_import[:]
    older.opset_import.append(helper.make_opsetid("", older_opset))
    older.ir_version = helper.find_min_ir_version_for(older.opset_import)
    try:
        onnx.checker.check_model(older)
    except Exception:
        return None
    return older


def as_attribute(values, kind):
    import numpy
    from onnx import defs

    types = defs.OpSchema.AttrType
    flat = numpy.asarray(values).ravel().tolist()
    if kind == types.INT:
        return int(flat[0])
    if kind == types.FLOAT:
        return float(flat[0])
    return [float(value) for value in flat] if kind == types.FLOATS else [int(value) for value in flat]


# ------------------------------------------------------------------------------------------------------------- by hand


class Maker:
    """Makes cases; `feeds` are arrays, shapes are declared only where it says so."""

    def __init__(self):
        import numpy

        self.numpy = numpy
        self.random = numpy.random.default_rng(5)
        self.cases = []

    def numbers(self, *shape, dtype="float32"):
        return self.random.standard_normal(shape).astype(dtype)

    def node(self, op_type, inputs, outputs="y", **attributes):
        from onnx import helper

        return helper.make_node(op_type, inputs.split(), [name.strip("_") for name in outputs.split()], **attributes)

    def value(self, name, dtype="float32", shape=None):
        from onnx import helper

        element = helper.np_dtype_to_tensor_dtype(self.numpy.dtype(dtype))
        return helper.make_value_info(name, helper.make_tensor_type_proto(element, shape))

    def add(self, name, opset, nodes, feeds, outputs=None, weights=None, declared=True, functions=(), domains=(), ir=None):
        """Adds a model; `outputs` are types by name, FP32 without; `declared` says whether ranks of inputs are."""
        from onnx import helper, numpy_helper

        shape = lambda array: [None] * array.ndim if declared else None
        nodes = nodes if isinstance(nodes, list) else [nodes]
        inputs = [self.value(key, array.dtype, shape(array)) for key, array in feeds.items()]
        results = [self.value(key, dtype) for key, dtype in (outputs or {"y": "float32"}).items()]
        constants = [numpy_helper.from_array(self.numpy.asarray(array), key) for key, array in (weights or {}).items()]
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        if opset < 9:
            inputs += [self.value(one.name, numpy_helper.to_array(one).dtype, list(one.dims)) for one in constants]
        graph = helper.make_graph(nodes, name, inputs, results, constants)
        model = helper.make_model(graph, opset_imports=imports, functions=functions)
        model.ir_version = ir or max(helper.find_min_ir_version_for(imports[:1]), 8 if functions else 3)
        self.cases.append(make_case(name, model, [feeds]))

    def body(self, nodes, inputs, outputs):
        from onnx import helper

        values = lambda named: [self.value(name, dtype, shape) for name, dtype, shape in named]
        return helper.make_graph(nodes, "body", values(inputs), values(outputs))


def by_hand():
    make = Maker()
    for add in (
        softmax, upsample, resize, bounds, reductions, splits, training, normalizations, spectra, samples, bodies, functions,
        renamed, attention,
    ):
        add(make)
    return make.cases


def softmax(make):
    x = make.numbers(2, 3, 4, 5)
    for op, opset, axis in itertools.product(("Softmax", "LogSoftmax", "Hardmax"), (7, 11, 12), (0, 1, 2, 3, -1, -2)):
        if axis < 0 and opset < 11:
            continue
        for declared in (True, False):
            node = make.node(op, "x", axis=axis)
            make.add(f"{op}_{axis}_{'known' if declared else 'unknown'}", opset, node, {"x": x}, declared=declared)
    make.add("Softmax_default", 9, make.node("Softmax", "x"), {"x": x})
    make.add("Softmax_of_a_matrix", 9, make.node("Softmax", "x"), {"x": make.numbers(3, 7)})
    pooled = [make.node("GlobalAveragePool", "x", "p"), make.node("Softmax", "p")]
    make.add("Softmax_of_pooled", 9, pooled, {"x": x})
    reshaped = [make.node("Reshape", "x shape", "r"), make.node("Softmax", "r", axis=1)]
    shape = make.numpy.array([2, 12, 5])
    make.add("Softmax_of_any_shape", 11, reshaped, {"x": x, "shape": shape}, declared=False)
    make.add("Softmax_of_a_reshaped", 11, reshaped, {"x": x}, weights={"shape": shape})


def upsample(make):
    x = make.numbers(1, 2, 3, 4)
    for mode, scales in itertools.product(("nearest", "linear"), ([1, 1, 2, 3], [1, 1, 1.5, 2.5], [1, 1, 1, 1.7])):
        name = f"Upsample_{mode}_{scales[2]}_{scales[3]}"
        scales = make.numpy.array(scales, "float32")
        node = make.node("Upsample", "x", mode=mode, scales=scales.tolist())
        make.add(name, 7, node, {"x": x})
        node = make.node("Upsample", "x s", mode=mode)
        make.add(name, 9, node, {"x": x}, weights={"s": scales})
        make.add(f"{name}_by_input", 9, node, {"x": x, "s": scales})


def resize(make):
    from onnx import helper

    x = make.numbers(1, 2, 4, 6)
    scales = lambda *values: make.numpy.array([1, 1, *values], "float32")
    for mode, of in itertools.product(("nearest", "linear"), ((2, 3), (1.5, 2.5), (0.5, 0.6), (1, 0.7))):
        node = make.node("Resize", "x s", mode=mode)
        make.add(f"Resize_{mode}_{of}", 10, node, {"x": x}, weights={"s": scales(*of)})
        constant = make.node("Constant", "", "s", value=helper.make_tensor("v", 1, [4], scales(*of)))
        make.add(f"Resize_{mode}_{of}_of_a_node", 10, [constant, node], {"x": x})
    make.add("Resize_nearest_by_input", 10, make.node("Resize", "x s"), {"x": x, "s": scales(2, 2)})
    make.add("Resize_linear_by_input", 10, make.node("Resize", "x s", mode="linear"), {"x": x, "s": scales(2, 2)})
    empty, sizes = make.numpy.array([], "float32"), make.numpy.array([1, 2, 7, 5])
    coordinates = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn")
    for mode, coordinate, opset in itertools.product(("nearest", "linear", "cubic"), coordinates, (11, 12)):
        node = lambda inputs, **more: make.node("Resize", inputs, mode=mode, coordinate_transformation_mode=coordinate, **more)
        by_sizes = {"weights": {"roi": empty, "none": empty, "sizes": sizes}}
        make.add(f"Resize_{mode}_{coordinate}_to_sizes", opset, node("x roi none sizes"), {"x": x}, **by_sizes)
        by_scales = {"weights": {"roi": empty, "s": scales(1.5, 0.7)}}
        make.add(f"Resize_{mode}_{coordinate}_by_scales", opset, node("x roi s"), {"x": x}, **by_scales)
        if mode == "nearest":
            for nearest in ("floor", "ceil", "round_prefer_ceil"):
                name = f"Resize_{coordinate}_{nearest}"
                make.add(name, opset, node("x roi s", nearest_mode=nearest), {"x": x}, **by_scales)
                make.add(f"{name}_to_sizes", opset, node("x roi none sizes", nearest_mode=nearest), {"x": x}, **by_sizes)


def bounds(make):
    x = make.numbers(3, 4)
    for name, limits in (("both", {"min": -0.5, "max": 0.25}), ("min", {"min": 0.0}), ("max", {"max": 6.0}), ("none", {})):
        for opset in (7, 10):
            make.add(f"Clip_{name}", opset, make.node("Clip", "x", **limits), {"x": x * 4})
            make.add(f"Clip_{name}_unknown", opset, make.node("Clip", "x", **limits), {"x": x * 4}, declared=False)
    for mode, pads in itertools.product(("constant", "reflect", "edge"), ([0, 1, 2, 1], [1, 0, 0, 0], [0, -1, 0, 2])):
        for value in (0.0, -1.5):
            node = make.node("Pad", "x", mode=mode, pads=pads, value=value)
            make.add(f"Pad_{mode}_{pads}_{value}", 9, node, {"x": x})
    double = {"x": make.numbers(3, 4, dtype="float64")}
    make.add("Pad_double", 9, make.node("Pad", "x", pads=[0, 1, 0, 1], value=0.1), double, {"y": "float64"})
    for name, attributes in {
        "all": {"starts": [1, 0], "ends": [3, 2]},
        "first": {"starts": [1], "ends": [2]},
        "axis": {"starts": [-3], "ends": [-1], "axes": [1]},
        "far": {"starts": [1], "ends": [1000], "axes": [1]},
        "swapped": {"starts": [0, 1], "ends": [2, 3], "axes": [1, 0]},
        "end": {"starts": [0], "ends": [2**63 - 1], "axes": [0]},
    }.items():
        for opset in (7, 9):
            make.add(f"Slice_{name}", opset, make.node("Slice", "x", **attributes), {"x": x})
    for axis, opset in itertools.product((0, 1, -1), (7, 9)):
        outputs = {"y": "float32", "i": "int64"}
        make.add(f"TopK_{axis}", opset, make.node("TopK", "x", "y i", axis=axis, k=2), {"x": x}, outputs)


def reductions(make):
    x = make.numpy.abs(make.numbers(2, 3, 4)) + 0.5
    kinds = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()
    for kind, opset in itertools.product(kinds, (7, 11, 13, 17)):
        for axes, keep in itertools.product((None, [1], [0, 2], [-1], [2, -3]), (0, 1)):
            if (axes and min(axes) < 0 and opset < 11) or (kind == "Sum" and opset >= 13):
                continue
            attributes = {"axes": axes} if axes else {}
            node = make.node(f"Reduce{kind}", "x", keepdims=keep, **attributes)
            make.add(f"Reduce{kind}_{axes}_{keep}", opset, node, {"x": x})
    thin = make.numbers(1, 3, 1, 4)
    for axes in (None, [0], [0, 2], [-2], [2, 0]):
        attributes = {"axes": axes} if axes else {}
        make.add(f"Squeeze_{axes}", 11, make.node("Squeeze", "x", **attributes), {"x": thin})
    for axes in ([0], [1, 3], [-1], [3, 0]):
        make.add(f"Unsqueeze_{axes}", 11, make.node("Unsqueeze", "x", axes=axes), {"x": make.numbers(3, 4)})


def splits(make):
    x = make.numbers(4, 6)
    outputs = {"y": "float32", "z": "float32"}
    for opset in (7, 11):
        make.add("Split_equally", opset, make.node("Split", "x", "y z", axis=1), {"x": x}, outputs)
        make.add("Split_to_sizes", opset, make.node("Split", "x", "y z", axis=0, split=[1, 3]), {"x": x}, outputs)
    make.add("Split_equally", 13, make.node("Split", "x", "y z", axis=-1), {"x": x}, outputs)
    sizes = {"weights": {"sizes": [2, 4]}}
    make.add("Split_to_sizes", 13, make.node("Split", "x sizes", "y z", axis=-1), {"x": x}, outputs, **sizes)


def training(make):
    x = make.numbers(2, 3)
    for opset in (7, 10):
        make.add("Dropout", opset, make.node("Dropout", "x", ratio=0.3), {"x": x})
        make.add("Dropout_unread_mask", opset, make.node("Dropout", "x", "y mask", ratio=0.3), {"x": x})
        mask = {"y": "float32", "mask": "float32" if opset < 10 else "bool"}
        make.add("Dropout_mask", opset, make.node("Dropout", "x", "y mask"), {"x": x}, mask)


def normalizations(make):
    image = make.numbers(2, 4, 3, 3)
    of_channels = {"s": make.numbers(4), "b": make.numbers(4), "m": make.numbers(4), "v": make.numpy.abs(make.numbers(4))}
    for opset, attributes in ((7, {"spatial": 1}), (7, {}), (8, {"epsilon": 0.01}), (9, {"momentum": 0.8}), (13, {})):
        node = make.node("BatchNormalization", "x s b m v", **attributes)
        make.add(f"BatchNormalization_{attributes}", opset, node, {"x": image}, weights=of_channels)
    of_places = {name: make.numpy.abs(make.numbers(4, 3, 3)) for name in "sbmv"}
    node = make.node("BatchNormalization", "x s b m v", spatial=0)
    make.add("BatchNormalization_of_places", 7, node, {"x": image}, weights=of_places)
    for groups, declared, rank in itertools.product((1, 2, 4), (True, False), (3, 4)):
        weights = {"s": make.numbers(groups), "b": make.numbers(groups)}
        x = make.numbers(2, 4, *[3] * (rank - 2))
        node = make.node("GroupNormalization", "x s b", num_groups=groups)
        name = f"GroupNormalization_{groups}_{rank}_{'known' if declared else 'unknown'}"
        make.add(name, 18, node, {"x": x}, weights=weights, declared=declared)
        make.cases[-1].model.graph.input[0].CopyFrom(make.value("x", shape=[2, 4, *[3] * (rank - 2)] if declared else None))


def spectra(make):
    real, length = make.numbers(2, 8, 6, 1), make.numpy.array(6)
    for axis, inverse in itertools.product((None, 1, 2, -2), (0, 1)):
        attributes = {"inverse": inverse} | ({} if axis is None else {"axis": axis})
        x = make.numbers(2, 8, 6, 2)
        make.add(f"DFT_{axis}_{inverse}", 17, make.node("DFT", "x", **attributes), {"x": x})
        make.add(f"DFT_{axis}_{inverse}_length", 17, make.node("DFT", "x n", **attributes), {"x": x}, weights={"n": length})
    make.add("DFT_onesided", 17, make.node("DFT", "x", onesided=1), {"x": real})


def samples(make):
    x, grid = make.numbers(1, 2, 4, 5), make.random.uniform(-1.2, 1.2, (1, 3, 3, 2)).astype("float32")
    modes, corners = ("bilinear", "nearest", "bicubic", None), (0, 1)
    for mode, padding, corner in itertools.product(modes, ("zeros", "border", "reflection"), corners):
        attributes = {"mode": mode} if mode else {}
        node = make.node("GridSample", "x g", padding_mode=padding, align_corners=corner, **attributes)
        make.add(f"GridSample_{mode}_{padding}_{corner}", 16, node, {"x": x, "g": grid})
    rois = make.numpy.array([[0, 0, 3, 3], [1, 1, 4, 2.5]], "float32")
    feeds = {"x": make.numbers(1, 2, 8, 8), "r": rois, "b": make.numpy.array([0, 0])}
    for mode, opset in itertools.product(("avg", "max"), (10, 15)):
        sizes = {"output_height": 3, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 0.8}
        make.add(f"RoiAlign_{mode}", opset, make.node("RoiAlign", "x r b", mode=mode, **sizes), feeds)


def bodies(make):
    x = make.numbers(2, 3, 4)
    flag = {"c": make.numpy.array(True)}
    for opset, taken in itertools.product((7, 11), (True, False)):
        then = make.body([make.node("Squeeze", "u", "t", axes=[0])], [], [("t", "float32", None)])
        other = make.body(
            [make.node("Clip" if opset < 11 else "Relu", "x", "e", **({"max": 0.5} if opset < 11 else {}))],
            [], [("e", "float32", None)],
        )
        nodes = [
            make.node("Unsqueeze", "x", "u", axes=[0]),
            make.node("If", "c", "i", then_branch=then, else_branch=other),
            make.node("Softmax", "i", axis=1),
        ]
        make.add(f"If_{taken}", opset, nodes, {"x": x, "c": make.numpy.array(taken)})
        body = make.body(
            [
                make.node("ReduceMean", "s", "r", axes=[2], keepdims=1),
                make.node("Add", "s r", "t"),
                make.node("Slice", "t", "z", starts=[0], ends=[1], axes=[0])
                if opset < 10 else make.node("Squeeze", "o", "z", axes=[0]),
                make.node("Unsqueeze", "r", "o", axes=[0]),
                make.node("Identity", "k", "d"),
            ],
            [("i", "int64", []), ("k", "bool", []), ("s", "float32", None)],
            [("d", "bool", []), ("t", "float32", None), ("z", "float32", None)],
        )
        # In topological order, whatever the operator set.
        ordered = sorted(body.node, key=lambda node: node.op_type == "Squeeze")
        del body.node[:]
        body.node.extend(ordered)
        loop = make.node("Loop", "n c x", "y z", body=body)
        feeds = {"x": x, "n": make.numpy.array(3), **flag}
        make.add("Loop", opset, loop, feeds, {"y": "float32", "z": "float32"})
    body = make.body(
        [make.node("Softmax", "a", "m", axis=0), make.node("Add", "m s", "t"), make.node("Clip", "t", "o", max=0.4)],
        [("s", "float32", [4]), ("a", "float32", [4])],
        [("t", "float32", [4]), ("o", "float32", [4])],
    )
    scan = make.node("Scan", "s x", "y z", body=body, num_scan_inputs=1)
    feeds = {"s": make.numbers(4), "x": make.numbers(5, 4)}
    make.add("Scan", 9, scan, feeds, {"y": "float32", "z": "float32"})
    batched = make.node("Scan", "none s x", "y z", body=body, num_scan_inputs=1)
    batched.input[0] = ""
    feeds = {"s": make.numbers(2, 4), "x": make.numbers(2, 5, 4)}
    make.add("Scan_over_a_batch", 8, batched, feeds, {"y": "float32", "z": "float32"})


def functions(make):
    from onnx import helper

    x = make.numbers(2, 6)
    for opset in (15, 17):
        function = helper.make_function(
            "test", "Center", ["a"], ["b"],
            [
                make.node("ReduceMean", "a", "m", axes=[1]),
                make.node("Sub", "a m", "d"),
                make.node("Split", "d", "p q", axis=1),
                make.node("Concat", "q p", "b", axis=1),
            ],
            [helper.make_opsetid("", opset)],
        )
        nodes = [make.node("Center", "x", "c"), make.node("ReduceMax", "c", axes=[0])]
        nodes[0].domain = "test"
        make.add("function", opset, nodes, {"x": x}, functions=[function], domains=["test"])


def renamed(make):
    feeds = {"x": make.numbers(3, 4), "i": make.numpy.array([[0, 2], [1, 0]]), "u": make.numbers(2, 2)}
    for axis, opset in itertools.product((0, 1), (9, 10)):
        make.add(f"Scatter_{axis}", opset, make.node("Scatter", "x i u", axis=axis), feeds)
    weights = {"w": make.numbers(3, 4)}
    make.add("weights_among_inputs", 8, make.node("Add", "x w"), {"x": make.numbers(3, 4)}, weights=weights)
    hot = {"i": make.numpy.array([0, 2, 5]), "d": make.numpy.array(4), "v": make.numbers(2)}
    make.add("OneHot", 9, make.node("OneHot", "i d v", axis=0), hot)
    image = {"x": make.numbers(1, 1, 5, 5), "w": make.numbers(1, 1, 3, 3)}
    for pad, opset in itertools.product(("SAME_UPPER", "SAME_LOWER", "VALID"), (7, 10)):
        transposed = make.node("ConvTranspose", "x w", auto_pad=pad, strides=[2, 2])
        make.add(f"ConvTranspose_{pad}", opset, transposed, image)
        make.add(f"Conv_{pad}", opset, make.node("Conv", "x w", auto_pad=pad, strides=[2, 2]), image)
        pooled = make.node("AveragePool", "x", auto_pad=pad, kernel_shape=[2, 2], strides=[2, 2])
        make.add(f"AveragePool_{pad}", opset, pooled, {"x": image["x"]})
        pooled = make.node("MaxPool", "x", auto_pad=pad, kernel_shape=[2, 2], strides=[2, 2])
        make.add(f"MaxPool_{pad}", opset, pooled, {"x": image["x"]})
    shaped = make.node("ConvTranspose", "x w", output_shape=[10, 10], strides=[2, 2])
    make.add("ConvTranspose_output_shape", 7, shaped, image)


def attention(make):
    """A transformer block as exporters of the time wrote it, with ranks that follow from constants only."""
    width, heads, length = 8, 2, 5
    weights = {
        "q": make.numbers(width, width), "k": make.numbers(width, width), "v": make.numbers(width, width),
        "two": make.numpy.float32(2), "tiny": make.numpy.float32(1e-5), "root": make.numpy.float32(2),
        "heads": make.numpy.array([-1, length, heads, width // heads]), "flat": make.numpy.array([-1, length, width]),
    }
    for opset in (9, 11, 13, 17):
        nodes = [
            make.node("ReduceMean", "x", "mean", axes=[-1] if opset >= 11 else [2]),
            make.node("Sub", "x mean", "centered"),
            make.node("Pow", "centered two", "squares"),
            make.node("ReduceMean", "squares", "variance", axes=[-1] if opset >= 11 else [2]),
            make.node("Add", "variance tiny", "safe"),
            make.node("Sqrt", "safe", "deviation"),
            make.node("Div", "centered deviation", "normed"),
        ]
        for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            nodes += [
                make.node("MatMul", f"normed {name}", f"{name}1"),
                make.node("Reshape", f"{name}1 heads", f"{name}2"),
                make.node("Transpose", f"{name}2", f"{name}3", perm=perm),
            ]
        nodes += [
            make.node("MatMul", "q3 k3", "scores"),
            make.node("Div", "scores root", "scaled"),
            make.node("Softmax", "scaled", "weights", axis=3),
            make.node("MatMul", "weights v3", "mixed"),
            make.node("Transpose", "mixed", "back", perm=[0, 2, 1, 3]),
            make.node("Reshape", "back flat", "joined"),
            make.node("Add", "joined x", "y"),
        ]
        make.add("attention", opset, nodes, {"x": make.numbers(3, length, width)}, weights=weights, declared=False)
