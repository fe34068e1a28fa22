// Plays TensorRT for tests: libtensorrt_rtx.so.1 with -DRTX, libnvinfer.so.11 without, for the headers that the bindings were
// made of. It runs toy plans on the stand-in for CUDA:
//
//     vtrt toy
//     input x float32 -1,4
//     most 8
//     output y float32 -1,3
//
// y[i][j] is the sum of x[i], plus j. `most` is the largest first dimension. What is not played here is in stubs.inc, which
// the tests generate of the headers, and ends the process.

#include <NvInferRuntime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <sstream>
#include <string>
#include <vector>

using namespace nvinfer1;

[[noreturn]] static void unexpected(char const* what)
{
    std::fprintf(stderr, "the stand-in for TensorRT does not play %s\n", what);
    std::abort();
}

#include "stubs.inc"

namespace
{
ILogger* logger;

void complain(std::string const& text)
{
    logger->log(ILogger::Severity::kERROR, text.c_str());
}

/// A function of the stand-in for CUDA.
template <typename F>
F cuda(char const* name)
{
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    void* function = library ? dlsym(library, name) : nullptr;
    if (!function)
        unexpected("a host without the stand-in for CUDA");
    return reinterpret_cast<F>(function);
}

struct Tensor
{
    std::string name;
    bool isInput;
    bool onHost;
    DataType type;
    Dims shape;
};

struct Plan
{
    std::vector<Tensor> tensors;
    int64_t most = INT64_MAX;

    Tensor const& operator[](std::string const& name) const
    {
        for (auto const& tensor : tensors)
            if (tensor.name == name)
                return tensor;
        unexpected(("a question for the tensor " + name).c_str());
    }
};

bool parse(std::string const& text, Plan& plan)
{
    std::istringstream lines{text};
    std::string line;
    std::getline(lines, line);
    if (line != "vtrt toy")
        return false;
    while (std::getline(lines, line))
    {
        std::istringstream words{line};
        std::string kind, name, type, shape, length;
        words >> kind >> name >> type >> shape;
        if (kind == "most")
        {
            plan.most = std::stoll(name);
            continue;
        }
        if (kind == "padding" || kind.empty())
            continue;
        Tensor tensor{name, kind == "input", type == "host", type == "int64" ? DataType::kINT64 : DataType::kFLOAT, {}};
        std::istringstream lengths{shape};
        while (std::getline(lengths, length, ','))
            tensor.shape.d[tensor.shape.nbDims++] = std::stoll(length);
        plan.tensors.push_back(tensor);
    }
    return true;
}

struct Memory final : StubHostMemory
{
    std::string bytes;
    void* data() const noexcept override { return const_cast<char*>(bytes.data()); }
    std::size_t size() const noexcept override { return bytes.size(); }
};

struct MemoryHandle final : IHostMemory
{
    Memory memory;
    explicit MemoryHandle(std::string bytes)
    {
        memory.bytes = std::move(bytes);
        mImpl = &memory;
    }
};

#ifdef RTX
struct Cache final : StubRuntimeCache
{
    mutable std::string kernels;
    IHostMemory* serialize() const noexcept override { return new MemoryHandle{"toy kernels:" + kernels}; }
    bool deserialize(void const* blob, size_t size) noexcept override
    {
        std::string text{static_cast<char const*>(blob), size};
        if (text.rfind("toy kernels:", 0) != 0)
        {
            complain("this cache was written by another version");
            return false;
        }
        kernels = text.substr(std::strlen("toy kernels:"));
        return true;
    }
};

struct CacheHandle final : IRuntimeCache
{
    Cache cache;
    CacheHandle() { mImpl = &cache; }
};
#endif

struct Config final : StubRuntimeConfig
{
#ifdef RTX
    CacheHandle const* cache = nullptr;
    CudaGraphStrategy graphs = CudaGraphStrategy::kDISABLED;
    IRuntimeCache* createRuntimeCache() const noexcept override { return new CacheHandle; }
    bool setRuntimeCache(IRuntimeCache const& wanted) noexcept override
    {
        cache = static_cast<CacheHandle const*>(&wanted);
        return true;
    }
    void setDynamicShapesKernelSpecializationStrategy(DynamicShapesKernelSpecializationStrategy) noexcept override {}
    bool setCudaGraphStrategy(CudaGraphStrategy strategy) noexcept override
    {
        graphs = strategy;
        return true;
    }
#endif
};

struct ConfigHandle final : IRuntimeConfig
{
    Config config;
    ConfigHandle() { mImpl = &config; }
};

int64_t volume(Dims const& shape)
{
    int64_t product = 1;
    for (int32_t i = 0; i < shape.nbDims; ++i)
        product *= shape.d[i];
    return product;
}

struct Context final : StubExecutionContext
{
    Plan const* plan;
    Config* config = nullptr;
    std::map<std::string, Dims> shapes;
    std::map<std::string, void*> addresses;

    bool setInputShape(char const* name, Dims const& shape) noexcept override
    {
        Dims const& wanted = (*plan)[name].shape;
        bool fits = shape.nbDims == wanted.nbDims && shape.d[0] <= plan->most;
        for (int32_t i = 0; fits && i < shape.nbDims; ++i)
            fits = wanted.d[i] < 0 || wanted.d[i] == shape.d[i];
        if (!fits)
        {
            complain(std::string{"the shape of "} + name + " is outside of the optimization profile");
            return false;
        }
        shapes[name] = shape;
        return true;
    }

    Dims getTensorShape(char const* name) const noexcept override
    {
        Dims shape = (*plan)[name].shape;
        if (!shapes.empty() && shape.nbDims > 0 && shape.d[0] == -1)
            shape.d[0] = shapes.begin()->second.d[0];
        return shape;
    }

    bool setTensorAddress(char const* name, void* address) noexcept override
    {
        addresses[name] = address;
        return true;
    }

    bool enqueueV3(cudaStream_t stream) noexcept override
    {
        for (auto const& tensor : plan->tensors)
            if (!addresses.count(tensor.name))
            {
                complain("no address for " + tensor.name);
                return false;
            }
#ifdef RTX
        if (config->cache)
            config->cache->cache.kernels = "all";
#endif
        auto launch = cuda<int (*)(void*, void (*)(void*), void*)>("stand_in_launch");
        return launch(stream, &Context::compute, this) == 0;
    }

    static void compute(void* argument)
    {
        auto const* self = static_cast<Context*>(argument);
        auto memory = cuda<void* (*)(uintptr_t, size_t)>("stand_in_memory");
        auto at = [&](Tensor const& tensor) {
            auto bytes = volume(self->getTensorShape(tensor.name.c_str())) * sizeof(float);
            auto address = reinterpret_cast<uintptr_t>(self->addresses.at(tensor.name));
            auto* found = static_cast<float*>(memory(address, bytes));
            if (!found && bytes)
                unexpected("a tensor in memory that was not allocated for it");
            return found;
        };
        Tensor const* input = nullptr;
        for (auto const& tensor : self->plan->tensors)
            if (tensor.isInput)
                input = &tensor;
        float const* x = at(*input);
        Dims const in = self->shapes.at(input->name);
        for (auto const& tensor : self->plan->tensors)
        {
            if (tensor.isInput)
                continue;
            float* y = at(tensor);
            Dims const out = self->getTensorShape(tensor.name.c_str());
            for (int64_t i = 0; i < out.d[0]; ++i)
                for (int64_t j = 0; j < out.d[1]; ++j)
                {
                    float sum = static_cast<float>(j);
                    for (int64_t k = 0; k < in.d[1]; ++k)
                        sum += x[i * in.d[1] + k];
                    y[i * out.d[1] + j] = sum;
                }
        }
    }
};

struct ContextHandle final : IExecutionContext
{
    Context context;
    ContextHandle(Plan const& plan, Config* config)
    {
        context.plan = &plan;
        context.config = config;
        mImpl = &context;
    }
};

struct Engine final : StubCudaEngine
{
    Plan plan;
    uintptr_t weights = 0;

    ~Engine() override
    {
        if (weights)
            cuda<int (*)(uintptr_t)>("cuMemFree_v2")(weights);
    }
    int32_t getNbLayers() const noexcept override { return 7; }
    int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(plan.tensors.size()); }
    char const* getIOTensorName(int32_t index) const noexcept override { return plan.tensors[index].name.c_str(); }
    TensorIOMode getTensorIOMode(char const* name) const noexcept override
    {
        return plan[name].isInput ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    TensorLocation getTensorLocation(char const* name) const noexcept override
    {
        return plan[name].onHost ? TensorLocation::kHOST : TensorLocation::kDEVICE;
    }
    Dims getTensorShape(char const* name) const noexcept override { return plan[name].shape; }
    DataType getTensorDataType(char const* name) const noexcept override { return plan[name].type; }
    IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy) noexcept override
    {
        return new ContextHandle{plan, nullptr};
    }
    IRuntimeConfig* createRuntimeConfig() noexcept override { return new ConfigHandle; }
    IExecutionContext* createExecutionContextWithRuntimeConfig(IRuntimeConfig* config) noexcept override
    {
        return new ContextHandle{plan, &static_cast<ConfigHandle*>(config)->config};
    }
};

struct EngineHandle final : ICudaEngine
{
    Engine engine;
    EngineHandle() { mImpl = &engine; }
};

struct Runtime final : StubRuntime
{
    ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept override
    {
        auto* handle = new EngineHandle;
        if (!parse({static_cast<char const*>(blob), size}, handle->engine.plan))
        {
            complain("the serialized engine was made for another version");
            delete handle;
            return nullptr;
        }
        auto allocate = cuda<int (*)(uintptr_t*, size_t)>("cuMemAlloc_v2");
        if (allocate(&handle->engine.weights, size) != 0)
        {
            complain("out of memory for weights");
            delete handle;
            return nullptr;
        }
        return handle;
    }
};

struct RuntimeHandle final : IRuntime
{
    Runtime runtime;
    RuntimeHandle() { mImpl = &runtime; }
};
} // namespace

extern "C" void* createInferRuntime_INTERNAL(void* given, int32_t version) noexcept
{
    if (version != NV_TENSORRT_VERSION)
        unexpected("another version of the headers");
    logger = static_cast<ILogger*>(given);
    return static_cast<IRuntime*>(new RuntimeHandle);
}

extern "C" int32_t getInferLibMajorVersion() noexcept { return NV_TENSORRT_MAJOR; }
extern "C" int32_t getInferLibMinorVersion() noexcept { return NV_TENSORRT_MINOR; }
extern "C" int32_t getInferLibPatchVersion() noexcept { return NV_TENSORRT_PATCH; }
extern "C" int32_t getInferLibBuildVersion() noexcept { return NV_TENSORRT_BUILD; }
