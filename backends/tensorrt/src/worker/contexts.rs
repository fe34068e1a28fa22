//! How the two libraries make execution contexts: TensorRT for RTX compiles kernels for the GPU when a plan is loaded, keeps
//! them in a cache if it is asked to, and captures CUDA graphs itself; TensorRT does neither.

#[cfg(not(feature = "tensorrt-rtx"))]
pub(crate) use ahead_of_time::Contexts;
#[cfg(feature = "tensorrt-rtx")]
pub(crate) use just_in_time::Contexts;

#[cfg(feature = "tensorrt-rtx")]
mod just_in_time {
    use std::path::{Path, PathBuf};
    use std::rc::Rc;
    use std::sync::Arc;

    use nimctl_backend_kit::atomic_file;
    use nimctl_backend_kit::protocol::{Execution, Problem, RuntimeCacheUse};
    use trtx::{
        CudaEngine, CudaGraphStrategy, DynamicShapesKernelSpecializationStrategy, ExecutionContext,
        RuntimeCache, RuntimeConfig,
    };

    use super::super::io_problem;

    /// Makes the contexts of one plan.
    pub(crate) struct Contexts {
        config: Rc<RuntimeConfig<'static>>,
        cache: Option<Cache>,
    }

    struct Cache {
        cache: Arc<RuntimeCache>,
        path: PathBuf,
        /// What the file held.
        read: Vec<u8>,
        used: RuntimeCacheUse,
    }

    impl Contexts {
        /// Whether a context captures CUDA graphs itself.
        pub(crate) const CAPTURES_ITSELF: bool = true;

        pub(crate) fn new(
            engine: &mut CudaEngine<'static>,
            execution: &Execution,
        ) -> Result<Self, trtx::Error> {
            let mut config = engine.create_runtime_config()?;
            // Kernels for a new shape are compiled before it runs, and not beside runs that are being timed.
            config.set_dynamic_shapes_kernel_specialization_strategy(
                DynamicShapesKernelSpecializationStrategy::kEAGER,
            );
            config.set_cuda_graph_strategy(match execution.cuda_graph {
                Some(true) => CudaGraphStrategy::kWHOLE_GRAPH_CAPTURE,
                Some(false) | None => CudaGraphStrategy::kDISABLED,
            })?;
            let cache = match &execution.runtime_cache {
                None => None,
                Some(path) => {
                    let cache = Cache::open(&config, path)?;
                    config.set_runtime_cache(Arc::clone(&cache.cache))?;
                    Some(cache)
                }
            };
            Ok(Self { config: Rc::new(config), cache })
        }

        pub(crate) fn make(
            &self,
            engine: &mut CudaEngine<'static>,
        ) -> Result<ExecutionContext<'static>, trtx::Error> {
            engine.create_execution_context_with_config(Rc::clone(&self.config))
        }

        pub(crate) fn cache_use(&self) -> Option<RuntimeCacheUse> {
            self.cache.as_ref().map(|cache| cache.used)
        }

        /// Writes the cache into its file, if there is more in it than was read.
        pub(crate) fn keep(&self) -> Result<(), Problem> {
            let Some(Cache { cache, path, read, used: _ }) = &self.cache else { return Ok(()) };
            // A cache that can't be written is compiled anew next time: no reason to fail.
            let Ok(memory) = cache.serialize() else { return Ok(()) };
            if *memory == **read {
                return Ok(());
            }
            atomic_file::write(path, &memory).map_err(|error| io_problem(&error))
        }
    }

    impl Cache {
        fn open(config: &RuntimeConfig<'static>, path: &Path) -> Result<Self, trtx::Error> {
            let cache = Arc::new(config.create_runtime_cache()?);
            let read = fs_err::read(path).unwrap_or_default();
            // The library refuses what another version or another GPU wrote.
            let taken = !read.is_empty() && cache.deserialize(&read).is_ok();
            let used = if taken { RuntimeCacheUse::Warm } else { RuntimeCacheUse::Cold };
            Ok(Self { cache, path: path.into(), read, used })
        }
    }
}

#[cfg(not(feature = "tensorrt-rtx"))]
mod ahead_of_time {
    use nimctl_backend_kit::protocol::{Execution, Problem, RuntimeCacheUse};
    use trtx::{CudaEngine, ExecutionContext};

    /// Makes the contexts of one plan.
    pub(crate) struct Contexts;

    impl Contexts {
        /// Whether a context captures CUDA graphs itself.
        pub(crate) const CAPTURES_ITSELF: bool = false;

        pub(crate) fn new(_: &mut CudaEngine<'static>, _: &Execution) -> Result<Self, trtx::Error> {
            Ok(Self)
        }

        pub(crate) fn make(
            &self,
            engine: &mut CudaEngine<'static>,
        ) -> Result<ExecutionContext<'static>, trtx::Error> {
            engine.create_execution_context()
        }

        pub(crate) fn cache_use(&self) -> Option<RuntimeCacheUse> {
            None
        }

        pub(crate) fn keep(&self) -> Result<(), Problem> {
            Ok(())
        }
    }
}
