"""What this host's Python measures beside nimctl: the GPU's limits with torch, and the same graphs in torch and onnxruntime.

    python3 peer.py FP32.onnx FP16.onnx

Prints one JSON object, nimctl.gpu-kit-peer/1, and on stderr its main figures. What is not installed is named under "missing"; a part that fails has its error
in place of its figures. On SIGTERM it prints what it has.
"""

import json
import platform
import signal
import statistics
import sys
import time

found = {"schema": "nimctl.gpu-kit-peer/1", "finished": False, "python": platform.python_version(), "missing": []}
BATCHES = (1, 8, 64)


def print_and_end(*_):
    print(json.dumps(found, indent=1), flush=True)
    for case in found.get("torch_graphs", {}).get("cases", []):
        for way in ("eager", "eager_from_host", "cuda_graph"):
            if "median_ms" in case.get(way, {}):
                print(f"torch {case['graph']} batch {case['batch']} {way}: {case[way]['median_ms']:.3f} ms", file=sys.stderr)
    limits = found.get("torch_limits", {})
    for product in limits.get("matmul", []):
        print(f"torch matmul {product['precision']}: {product['tflops']:.1f} TFLOP/s", file=sys.stderr)
    for way in ("copy", "upload"):
        if way in limits:
            print(f"torch {way}: {limits[way]['gb_per_s']:.0f} GB/s", file=sys.stderr)
    for case in found.get("onnxruntime", {}).get("cases", []):
        print(f"onnxruntime {case['graph']} batch {case['batch']} on {case['providers'][0]}: {case['median_ms']:.3f} ms",
              file=sys.stderr)
    sys.exit(0)


signal.signal(signal.SIGTERM, print_and_end)


def package(name):
    try:
        return __import__(name)
    except Exception as error:  # a broken package is as good as none
        found["missing"].append(f"{name}: {error}"[:300])
        return None


def part(name, work):
    start = time.perf_counter()
    try:
        found[name] = work()
    except Exception as error:
        found[name] = {"error": f"{type(error).__name__}: {error}"[:600]}
    found[name]["seconds"] = round(time.perf_counter() - start, 2)


def times_ms(call, wait, least_runs=10, most_s=0.5):
    """The median and the least of at least `least_runs` runs, after three that do not count."""
    for _ in range(3):
        call()
    wait()
    times, end = [], time.perf_counter() + most_s
    while len(times) < least_runs or (time.perf_counter() < end and len(times) < 1000):
        start = time.perf_counter()
        call()
        wait()
        times.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": statistics.median(times), "min_ms": min(times), "runs": len(times)}


class Torch:
    """The GPU through torch."""

    def __init__(self, torch):
        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def describe(self):
        torch = self.torch
        told = {"torch": torch.__version__, "cuda": torch.version.cuda, "device": "cpu"}
        if self.device == "cuda":
            gpu = torch.cuda.get_device_properties(0)
            told.update(device=gpu.name, compute_capability=f"{gpu.major}.{gpu.minor}", memory_bytes=gpu.total_memory,
                        multiprocessors=gpu.multi_processor_count, cudnn=torch.backends.cudnn.version())
        return told

    def limits(self):
        """Matrix products, attention and copies: what the hardware gives through torch."""
        torch, told = self.torch, {"matmul": [], "attention": []}
        if self.device == "cpu":
            return {"skipped": "torch sees no GPU"}
        for name, kind, tf32, size in [("fp32", torch.float32, False, 4096), ("tf32", torch.float32, True, 8192),
                                       ("fp16", torch.float16, False, 8192), ("bf16", torch.bfloat16, False, 8192)]:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a, b = (torch.randn(size, size, device="cuda").to(kind) for _ in range(2))
            took = times_ms(lambda: a @ b, self.wait)
            took.update(precision=name, size=size, tflops=2 * size**3 / took["median_ms"] / 1e9)
            told["matmul"].append(took)
        torch.backends.cuda.matmul.allow_tf32 = False
        for name, kind in [("fp32", torch.float32), ("fp16", torch.float16)]:
            # As in one layer of CLIP ViT-B/32's image tower.
            q, k, v = (torch.randn(64, 12, 50, 64, device="cuda").to(kind) for _ in range(3))
            took = times_ms(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v), self.wait)
            told["attention"].append(dict(took, precision=name, shape=[64, 12, 50, 64]))
        a, b = (torch.empty(1 << 28, device="cuda") for _ in range(2))
        took = times_ms(lambda: b.copy_(a), self.wait)
        told["copy"] = dict(took, bytes_moved=2 << 30, gb_per_s=(2 << 30) / took["median_ms"] / 1e6)
        host = torch.empty(1 << 26, pin_memory=True)
        took = times_ms(lambda: a[: 1 << 26].copy_(host, non_blocking=True), self.wait)
        told["upload"] = dict(took, bytes_moved=1 << 28, gb_per_s=(1 << 28) / took["median_ms"] / 1e6)
        return told

    def graphs(self, onnx, numpy, paths):
        """The ONNX files, node by node in torch, eager and as a CUDA graph."""
        torch, told, kept = self.torch, {"cases": []}, {}
        batches = BATCHES if self.device == "cuda" else BATCHES[:1]
        images = numpy.random.default_rng(0).standard_normal((max(batches), 3, 224, 224), dtype="float32")
        with torch.inference_mode():
            for path in paths:
                try:
                    graph = Graph(self, onnx, path)
                    for batch in batches:
                        told["cases"].append(self.case(graph, path, torch.from_numpy(images[:batch].copy()), kept))
                except Exception as error:
                    told["cases"].append({"graph": path, "error": f"{type(error).__name__}: {error}"[:300]})
        return told

    def case(self, graph, path, image, kept):
        """One graph at one batch: from device memory, from host memory to host memory as nimctl measures, and captured."""
        torch, batch = self.torch, image.shape[0]
        on_device = image.to(self.device)
        pinned = image.pin_memory() if self.device == "cuda" else image
        result = graph(on_device).float().cpu()
        case = {"graph": path, "batch": batch, "eager": times_ms(lambda: graph(on_device), self.wait),
                "eager_from_host": times_ms(lambda: graph(pinned.to(self.device, non_blocking=True)).cpu(), self.wait)}
        if batch in kept:
            cosine = torch.nn.functional.cosine_similarity(result, kept[batch])
            case["min_cosine_with_first_graph"] = cosine.min().item()
        kept.setdefault(batch, result)
        if self.device == "cuda":
            case["cuda_graph"] = self.captured(graph, on_device)
        return case

    def captured(self, graph, image):
        torch = self.torch
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    graph(image)
            torch.cuda.current_stream().wait_stream(side)
            capture = torch.cuda.CUDAGraph()
            with torch.cuda.graph(capture):
                graph(image)
            return times_ms(capture.replay, self.wait)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"[:300]}


class Graph:
    """An ONNX graph as torch runs it. Shapes stay on the CPU, as numbers that torch's functions take."""

    def __init__(self, on, onnx, path):
        self.torch = on.torch
        model = onnx.load(path).graph
        self.input, self.output = model.input[0].name, model.output[0].name
        self.constants = {}
        for tensor in model.initializer:
            value = self.torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            self.constants[tensor.name] = value.tolist() if value.dtype == self.torch.int64 else value.to(on.device)
        self.nodes = [(node.op_type, list(node.input), node.output[0],
                       {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}) for node in model.node]
        self.types = {1: self.torch.float32, 10: self.torch.float16, 16: self.torch.bfloat16}
        unknown = {kind for kind, *_ in self.nodes} - {n[3:] for n in dir(self) if n.startswith("do_")}
        if unknown:
            raise NotImplementedError(f"operators that this script has not: {sorted(unknown)}")

    def __call__(self, image):
        values = {**self.constants, self.input: image, "": None}
        for kind, inputs, output, attributes in self.nodes:
            values[output] = getattr(self, "do_" + kind)(attributes, *(values[name] for name in inputs))
        return values[self.output]

    def do_Abs(self, _, x): return x.abs()
    def do_Add(self, _, a, b): return a + b
    def do_Cast(self, at, x): return x.to(self.types[at["to"]])
    def do_Conv(self, at, x, w, b=None): return self.torch.nn.functional.conv2d(x, w, b, stride=at["strides"])
    def do_Div(self, _, a, b): return a / b
    def do_Erf(self, _, x): return x.erf()
    def do_Expand(self, _, x, shape): return x.expand(*shape)
    def do_MatMul(self, _, a, b): return a @ b
    def do_Mul(self, _, a, b): return a * b
    def do_ReduceL2(self, _, x, axes): return x.norm(dim=axes, keepdim=True)
    def do_ReduceMax(self, _, x, axes): return x.amax(dim=axes, keepdim=True)
    def do_Softmax(self, at, x): return x.softmax(at.get("axis", -1))
    def do_Transpose(self, at, x): return x.permute(*at["perm"])

    def do_Shape(self, at, x):
        return list(x.shape)[at.get("start", 0):at.get("end", len(x.shape))]

    def do_Concat(self, at, *parts):
        return sum(parts, []) if isinstance(parts[0], list) else self.torch.cat(parts, at["axis"])

    def do_Gather(self, at, x, index):
        axis = at.get("axis", 0)
        # Of what is gathered here there is one: a scalar index drops the dimension, a list of one keeps it.
        return x.select(axis, index) if isinstance(index, int) else x.narrow(axis, *index, 1)

    def do_LayerNormalization(self, at, x, scale, bias=None):
        return self.torch.nn.functional.layer_norm(x, scale.shape, scale, bias, at.get("epsilon", 1e-5))

    def do_Reshape(self, _, x, shape):
        return x.reshape([x.shape[at] if size == 0 else size for at, size in enumerate(shape)])


def onnxruntime_sessions(onnxruntime, numpy, paths):
    """The same files through onnxruntime's Python package, on the best provider that it has."""
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    told = {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers(), "cases": []}
    for path in paths if has_cuda else paths[:1]:
        provider = ("CUDAExecutionProvider", {"use_tf32": 0}) if has_cuda else "CPUExecutionProvider"
        session = onnxruntime.InferenceSession(path, providers=[provider])
        for batch in BATCHES if has_cuda else BATCHES[:1]:
            image = numpy.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype="float32")
            case = times_ms(lambda: session.run(None, {"IMAGE": image}), lambda: None)
            told["cases"].append(dict(case, graph=path, batch=batch, providers=session.get_providers()))
    return told


def main():
    paths = sys.argv[1:]
    numpy, torch, onnx = package("numpy"), package("torch"), package("onnx")
    if torch:
        on = Torch(torch)
        part("torch", on.describe)
        if numpy and onnx:
            part("torch_graphs", lambda: on.graphs(onnx, numpy, paths))
        part("torch_limits", on.limits)
    onnxruntime = package("onnxruntime")
    if onnxruntime and numpy:
        part("onnxruntime", lambda: onnxruntime_sessions(onnxruntime, numpy, paths))
    found["finished"] = True
    print_and_end()


main()
