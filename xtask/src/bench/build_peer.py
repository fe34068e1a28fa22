"""Builds one plan with nothing but TensorRT-RTX's own Python API: what `nimctl build` is measured against.

Usage: build_peer.py GRAPH PLAN COMPUTE_CAPABILITY INPUT MIN OPT MAX (shapes as 1x3x224x224)
"""

import sys

import tensorrt_rtx_bindings as trt


def main():
    graph, plan, target, name, *shapes = sys.argv[1:]
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(graph):
        sys.exit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, "SM" + target.replace(".", "")), 0)
    profile = builder.create_optimization_profile()
    profile.set_shape(name, *(tuple(map(int, shape.split("x"))) for shape in shapes))
    config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    if built is None:
        sys.exit("the build failed")
    with open(plan, "wb") as file:
        file.write(built)


main()
