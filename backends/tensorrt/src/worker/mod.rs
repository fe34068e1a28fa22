//! Both TensorRT workers: one source, built once with the feature `tensorrt-rtx` and once with `tensorrt`, because the
//! bindings know only one of the two libraries at a time.
//!
//! * [`flavour`]: what differs.
//! * [`driver`], of the kit: is there an NVIDIA driver? Asked before TensorRT is, which dies without an answer.
//! * [`library`]: finds TensorRT's files and asks their version.
//! * [`log`]: what TensorRT says while it works.
//! * [`loaded`]: the library and its logger, once a process.
//! * [`compile`]: from a graph to a plan. [`shapes`]: do the shape ranges fit the graph? [`refusals`]: which nodes does the
//!   parser refuse? [`memory`]: where builds allocate.
//! * [`run`]: `run` and `bench`. A [`plan`] is loaded, its [`contexts`] differ by flavour, and each caller has a [`lane`].
//! * [`cuda`]: the GPU's memory and streams.
//!
//! The `trtx` crate, which says of itself that it is experimental, is used by `loaded`, `compile`, `plan`, `contexts` and `lane`;
//! `cudarc` by `cuda` and `lane`.

#[cfg(all(feature = "tensorrt", feature = "tensorrt-rtx"))]
compile_error!(
    "the features `tensorrt` and `tensorrt-rtx` exclude each other: build the two workers one after the other"
);

mod compile;
mod contexts;
mod cuda;
mod flavour;
mod lane;
mod library;
mod loaded;
mod log;
mod memory;
mod plan;
mod refusals;
mod run;
mod shapes;

use std::path::Path;
use std::process::ExitCode;

use nimctl_backend_kit::compute_capability::ComputeCapability;
use nimctl_backend_kit::driver;
use nimctl_backend_kit::protocol::{
    BenchRequest, BenchResult, BuildRequest, BuildResult, CheckRequest, CheckResult, Description, Digests,
    ErrorCode, Execution, InspectRequest, Inspection, Library, PROTOCOL_VERSION, Problem, RunRequest,
    RunResult, Support, WorkerDevice,
};
use nimctl_backend_kit::serve::{Backend, Events, mapped_files, serve};

use cuda::Gpu;
use loaded::Loaded;
use plan::Plan;

/// Serves requests.
pub(crate) fn main() -> ExitCode {
    serve(|| TensorRt { loaded: None, is_used: false })
}

struct TensorRt {
    /// Present once the library was loaded; a library that is missing now may be there at the next request.
    loaded: Option<Loaded>,
    /// Whether the library has done anything yet but say its version.
    is_used: bool,
}

impl TensorRt {
    fn loaded(&mut self) -> Result<&Loaded, Problem> {
        if self.loaded.is_none() {
            self.loaded = Some(Loaded::load(&library::find()?)?);
        }
        self.loaded
            .as_ref()
            .ok_or_else(|| Problem::new(ErrorCode::WorkerBug, "the library is no longer loaded"))
    }

    /// What building and inspecting graphs need: the library, and, where it can't do without, the driver.
    fn builder(&mut self) -> Result<&Loaded, Problem> {
        if flavour::NEEDS_GPU_TO_BUILD {
            self.device_needed()?;
        }
        self.loaded()
    }

    fn device_needed(&mut self) -> Result<Vec<WorkerDevice>, Problem> {
        driver::devices().map_err(|problem| match self.loaded() {
            Ok(_) => problem,
            Err(missing) => missing.needs.into_iter().fold(problem, Problem::needing),
        })
    }

    /// What running plans needs. The driver comes first: without one the library ends the process.
    fn runner(&mut self) -> Result<&Loaded, Problem> {
        self.device_needed()?;
        self.loaded()
    }
}

impl Backend for TensorRt {
    fn describe(&mut self) -> Description {
        let support =
            |result: Result<(), Problem>| result.map_or_else(Support::Unavailable, |()| Support::Available);
        let build = self.builder().map(|_| ());
        let library = self.loaded().ok().map(|loaded| Library {
            name: flavour::LIBRARY_NAME.into(),
            version: loaded.version.clone(),
            files: mapped_files(&flavour::FILE_NAME_PARTS),
        });
        Description {
            protocol_version: PROTOCOL_VERSION,
            backend: flavour::NAME.into(),
            worker_version: env!("CARGO_PKG_VERSION").into(),
            library,
            build: support(build),
            run: support(self.runner().map(|_| ())),
            compute_capabilities: flavour::COMPUTE_CAPABILITIES.to_vec(),
            portable_plans: flavour::PORTABLE_PLANS,
            needs_gpu_to_build: flavour::NEEDS_GPU_TO_BUILD,
            one_build_per_process: flavour::ONE_BUILD_PER_PROCESS,
            build_revision: flavour::BUILD_REVISION,
            devices: driver::devices().unwrap_or_default(),
        }
    }

    fn build(&mut self, request: &BuildRequest, events: &Events) -> Result<BuildResult, Problem> {
        let mut targets = request.compute_capabilities.clone();
        targets.sort();
        targets.dedup();
        let devices = if flavour::NEEDS_GPU_TO_BUILD || targets.is_empty() {
            self.device_needed()?
        } else {
            Vec::new()
        };
        flavour::check_targets(&targets, &devices)?;
        check_readable(&request.graph)?;
        if std::mem::replace(&mut self.is_used, true) && flavour::ONE_BUILD_PER_PROCESS {
            let message = format!(
                "{} keeps something of what it did, which changes the next plan: a build needs a new process of this worker",
                flavour::LIBRARY_NAME
            );
            return Err(Problem::new(ErrorCode::UnsupportedRequest, message));
        }
        let loaded = self.builder()?;
        memory::while_building(|| loaded.build(request, &targets, events))
    }

    fn check(&mut self, request: &CheckRequest, events: &Events) -> Result<CheckResult, Problem> {
        self.is_used = true;
        check_readable(&request.graph)?;
        self.builder()?.check(&request.graph, events)
    }

    fn inspect(&mut self, request: &InspectRequest, events: &Events) -> Result<Inspection, Problem> {
        self.is_used = true;
        if is_plan(&request.path)? {
            let loaded = self.runner()?;
            let gpu = Gpu::open(None)?;
            let (any, execution) = (Digests::new(), Execution::default());
            return Ok(Plan::load(loaded, &gpu, &request.path, &any, &execution, events)?.inspection());
        }
        self.builder()?.inspect(&request.path, events)
    }

    fn run(&mut self, request: &RunRequest, events: &Events) -> Result<RunResult, Problem> {
        self.is_used = true;
        let loaded = self.runner()?;
        check_plan(&request.path)?;
        run::run(loaded, request, events)
    }

    fn bench(&mut self, request: &BenchRequest, events: &Events) -> Result<BenchResult, Problem> {
        self.is_used = true;
        let loaded = self.runner()?;
        check_plan(&request.path)?;
        run::bench(loaded, request, events)
    }
}

fn io_problem(error: &std::io::Error) -> Problem {
    Problem::new(ErrorCode::Io, error.to_string())
}

fn check_readable(path: &Path) -> Result<(), Problem> {
    fs_err::File::open(path).map(|_| ()).map_err(|error| io_problem(&error))
}

fn check_plan(path: &Path) -> Result<(), Problem> {
    if is_plan(path)? {
        return Ok(());
    }
    let message = format!("{} is not a plan; the {} worker runs only plans", path.display(), flavour::NAME);
    Err(Problem::new(ErrorCode::InvalidRequest, message))
}

/// Every plan seen so far begins with one letter and `trt`; a protobuf message can't, for its field 0 doesn't exist or
/// its tag would be of a kind that ONNX doesn't use.
fn is_plan(path: &Path) -> Result<bool, Problem> {
    use std::io::Read as _;
    let file = fs_err::File::open(path).map_err(|error| io_problem(&error))?;
    let mut start = Vec::new();
    file.take(4).read_to_end(&mut start).map_err(|error| io_problem(&error))?;
    Ok(start.get(1..) == Some(b"trt"))
}

fn list(capabilities: &[ComputeCapability]) -> String {
    capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
