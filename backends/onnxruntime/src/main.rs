//! The `onnxruntime` worker: the generic profile, and the reference for all numbers.
//!
//! It loads ONNX Runtime from the file that `NIMCTL_ONNXRUNTIME_LIB` names, else from the loader's path, and runs
//! graphs on the CPU, or on a GPU if it is asked to and the library can. There is nothing to build: the generic profile is the ONNX file itself.
//!
//! * [`library`]: loads ONNX Runtime, once a process.
//! * [`session`]: loads graphs, runs them once. [`model_by_reference`]: loads weights without copying them.
//! * [`profile`]: records a run. [`nodes`]: what ran each node, from that record.
//! * [`provider`]: the CPU or CUDA.
//! * [`mod@bench`]: runs them against the clock.

mod bench;
mod library;
mod model_by_reference;
mod nodes;
mod profile;
mod provider;
mod session;

use std::process::ExitCode;

use nimctl_backend_kit::protocol::{
    BenchRequest, BenchResult, BuildRequest, BuildResult, Description, ErrorCode, InspectRequest, Inspection,
    PROTOCOL_VERSION, Problem, RunRequest, RunResult, Support,
};
use nimctl_backend_kit::serve::{Backend, Events, serve};

fn main() -> ExitCode {
    report_nothing_to_microsoft();
    serve(|| OnnxRuntime { loaded: None, kept: None })
}

/// Microsoft's builds for Linux report what is run, from version 1.29 on: they begin when an environment is created, with
/// a number for the device that they leave in the user's cache folder. Switching it off in the environment comes
/// after that, so it is done by the variable that ONNX Runtime reads first.
#[expect(unsafe_code, reason = "there is no other way to set a variable that a C library reads")]
fn report_nothing_to_microsoft() {
    // SAFETY: this is the first that `main` does, so no other thread reads or writes variables.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

struct OnnxRuntime {
    /// The graph that was run last. Unloaded before the library is.
    kept: Option<session::Kept>,
    /// Present once the library was loaded; a library that is missing now may be there at the next request.
    loaded: Option<library::Loaded>,
}

impl OnnxRuntime {
    fn loaded(&mut self) -> Result<&library::Loaded, Problem> {
        if self.loaded.is_none() {
            self.loaded = Some(library::load()?);
        }
        self.loaded.as_ref().ok_or_else(not_loaded)
    }
}

fn not_loaded() -> Problem {
    Problem::new(ErrorCode::WorkerBug, "the library is no longer loaded")
}

fn nothing_to_build() -> Problem {
    Problem::new(
        ErrorCode::UnsupportedRequest,
        "the onnxruntime backend builds no plans: its profile is the ONNX file itself",
    )
}

impl Backend for OnnxRuntime {
    fn describe(&mut self) -> Description {
        let (library, run, devices) = match self.loaded() {
            Ok(loaded) => (Some(loaded.describe()), Support::Available, provider::devices()),
            Err(problem) => (None, Support::Unavailable(problem), Vec::new()),
        };
        Description {
            protocol_version: PROTOCOL_VERSION,
            backend: "onnxruntime".into(),
            worker_version: env!("CARGO_PKG_VERSION").into(),
            library,
            build: Support::Unavailable(nothing_to_build()),
            run,
            compute_capabilities: Vec::new(),
            portable_plans: false,
            needs_gpu_to_build: false,
            one_build_per_process: false,
            build_revision: 0,
            devices,
        }
    }

    fn build(&mut self, _request: &BuildRequest, _events: &Events) -> Result<BuildResult, Problem> {
        Err(nothing_to_build())
    }

    fn inspect(&mut self, request: &InspectRequest, events: &Events) -> Result<Inspection, Problem> {
        events.progress("load", None, None);
        self.kept = None;
        session::inspect(&self.loaded()?.environment, &request.path)
    }

    fn run(&mut self, request: &RunRequest, events: &Events) -> Result<RunResult, Problem> {
        self.loaded()?;
        let Self { loaded: Some(loaded), kept } = self else { return Err(not_loaded()) };
        session::run(&loaded.environment, kept, request, events)
    }

    fn bench(&mut self, request: &BenchRequest, events: &Events) -> Result<BenchResult, Problem> {
        self.kept = None;
        bench::bench(&self.loaded()?.environment, request, events)
    }
}
