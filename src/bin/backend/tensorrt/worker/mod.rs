//! Both TensorRT workers: one source, built once with the feature `tensorrt-rtx` and once with `tensorrt`, because the
//! bindings know only one of the two libraries at a time.
//!
//! * [`flavour`]: what differs.
//! * [`driver`]: is there an NVIDIA driver? Asked before TensorRT is, which dies without an answer.
//! * [`library`]: finds TensorRT's files and asks their version.
//! * [`log`]: what TensorRT says while it works.
//! * [`engine`]: the only file that uses the `trtx` crate.
//! * [`shapes`]: do the shape ranges fit the graph?
//!
//! Loading and running plans is not done yet: `run`, and `inspect` of a plan, are answered `no_driver` or
//! `unsupported_request`.

#[cfg(all(feature = "tensorrt", feature = "tensorrt-rtx"))]
compile_error!(
    "the features `tensorrt` and `tensorrt-rtx` exclude each other: build the two workers one after the other"
);

mod driver;
mod engine;
mod flavour;
mod library;
mod log;
mod shapes;

use std::path::Path;
use std::process::ExitCode;

use nimctl::compute_capability::ComputeCapability;
use nimctl::worker::protocol::{
    BuildRequest, BuildResult, Description, ErrorCode, InspectRequest, Inspection, Library, PROTOCOL_VERSION,
    Problem, RunRequest, RunResult, Support, WorkerDevice,
};
use nimctl::worker::serve::{Backend, Events, mapped_files, serve};

use engine::Engine;

/// Serves requests.
pub(crate) fn main() -> ExitCode {
    serve(|| TensorRt { engine: None })
}

struct TensorRt {
    /// Present once the library was loaded; a library that is missing now may be there at the next request.
    engine: Option<Engine>,
}

impl TensorRt {
    fn engine(&mut self) -> Result<&Engine, Problem> {
        if self.engine.is_none() {
            self.engine = Some(Engine::load(&library::find()?)?);
        }
        self.engine.as_ref().ok_or_else(|| Problem::new(ErrorCode::WorkerBug, "the library is gone again"))
    }

    /// What building and inspecting graphs need: the library, and, where it can't do without, the driver.
    fn builder(&mut self) -> Result<&Engine, Problem> {
        if flavour::NEEDS_GPU_TO_BUILD {
            self.device_needed()?;
        }
        self.engine()
    }

    fn device_needed(&mut self) -> Result<Vec<WorkerDevice>, Problem> {
        driver::devices().map_err(|problem| match self.engine() {
            Ok(_) => problem,
            Err(missing) => missing.needs.into_iter().fold(problem, Problem::needing),
        })
    }

    fn plans_problem(&mut self, what: &str) -> Problem {
        match self.device_needed() {
            Err(problem) => problem,
            Ok(_) => Problem::new(
                ErrorCode::UnsupportedRequest,
                format!("this version of the {} worker can't {what} plans yet", flavour::NAME),
            ),
        }
    }
}

impl Backend for TensorRt {
    fn describe(&mut self) -> Description {
        let support =
            |result: Result<(), Problem>| result.map_or_else(Support::Unavailable, |()| Support::Available);
        let build = self.builder().map(|_| ());
        let library = self.engine().ok().map(|engine| Library {
            name: flavour::LIBRARY_NAME.into(),
            version: engine.version.clone(),
            files: mapped_files(&flavour::FILE_NAME_PARTS),
        });
        Description {
            protocol_version: PROTOCOL_VERSION,
            backend: flavour::NAME.into(),
            worker_version: env!("CARGO_PKG_VERSION").into(),
            library,
            build: support(build),
            run: Support::Unavailable(self.plans_problem("run")),
            compute_capabilities: flavour::COMPUTE_CAPABILITIES.to_vec(),
            portable_plans: flavour::PORTABLE_PLANS,
            needs_gpu_to_build: flavour::NEEDS_GPU_TO_BUILD,
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
        self.builder()?.build(request, &targets, events)
    }

    fn inspect(&mut self, request: &InspectRequest, events: &Events) -> Result<Inspection, Problem> {
        if is_plan(&request.path)? {
            return Err(self.plans_problem("inspect"));
        }
        self.builder()?.inspect(&request.path, events)
    }

    fn run(&mut self, _request: &RunRequest, _events: &Events) -> Result<RunResult, Problem> {
        Err(self.plans_problem("run"))
    }
}

fn io_problem(error: &std::io::Error) -> Problem {
    Problem::new(ErrorCode::Io, error.to_string())
}

fn check_readable(path: &Path) -> Result<(), Problem> {
    fs_err::File::open(path).map(|_| ()).map_err(|error| io_problem(&error))
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
