//! TensorRT, loaded once a process, with the one logger that it may have.
//!
//! The logger must outlive everything, so it is never freed.

use std::ops::ControlFlow;
use std::sync::Arc;

use nimctl_backend_kit::protocol::{ErrorCode, Problem};
use nimctl_backend_kit::serve::Events;
use trtx::interfaces::MonitorProgress;
use trtx::{DataType, LogHandler, Logger, Severity};

use super::flavour::LIBRARY_NAME;
use super::library::{self, LibraryFiles};
use super::log::Log;

/// TensorRT, loaded.
pub(crate) struct Loaded {
    pub(crate) version: String,
    pub(crate) logger: &'static Logger,
    log: Arc<Log>,
}

impl Loaded {
    /// Loads the library and its parser, for the rest of the process.
    pub(crate) fn load(files: &LibraryFiles) -> Result<Self, Problem> {
        let LibraryFiles { library, parser } = files;
        let version = library::version(library)?;
        trtx::dynamically_load_tensorrt(Some(library.as_os_str()))
            .map_err(|e| library::missing(&e.to_string()))?;
        trtx::dynamically_load_tensorrt_onnxparser(Some(parser.as_os_str()))
            .map_err(|error| library::missing(&error.to_string()))?;
        let log = Arc::new(Log::default());
        let logger = Logger::new(Listener(Arc::clone(&log))).map_err(|error| bug(&error))?;
        Ok(Self { version, logger: Box::leak(Box::new(logger)), log })
    }

    /// Begins a request: what the library says from now on belongs to it.
    pub(crate) fn begin(&self, events: &Events) {
        self.log.begin(events);
    }

    /// Returns the warnings of the request.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.log.warnings()
    }

    /// Returns every error of the request as the library logged it.
    pub(crate) fn logged_errors(&self) -> Vec<String> {
        self.log.logged()
    }

    /// Returns what reports the progress of a build to the host.
    pub(crate) fn progress_monitor(&self) -> Box<dyn MonitorProgress> {
        Box::new(Listener(Arc::clone(&self.log)))
    }

    /// Says what the library could not do, and why in its own words.
    pub(crate) fn failed(&self, code: ErrorCode, what: &str) -> Problem {
        Problem::new(code, format!("{LIBRARY_NAME} {} could not {what}:{}", self.version, self.log.errors()))
    }
}

struct Listener(Arc<Log>);

impl LogHandler for Listener {
    fn log(&self, severity: Severity, message: &str) {
        match severity {
            Severity::InternalError | Severity::Error => self.0.error(message),
            Severity::Warning => self.0.warning(message),
            Severity::Info | Severity::Verbose => {}
        }
    }
}

impl MonitorProgress for Listener {
    fn phase_start(&self, phase_name: &str, _parent_phase: Option<&str>, num_steps: i32) {
        self.0.phase_start(phase_name, num_steps);
    }

    fn step_complete(&self, phase_name: &str, step: i32) -> ControlFlow<()> {
        self.0.step(phase_name, step);
        // The host cancels by ending the process.
        ControlFlow::Continue(())
    }

    fn phase_finish(&self, phase_name: &str) {
        self.0.phase_finish(phase_name);
    }
}

/// Returns the protocol's name of a type.
pub(crate) fn element_type(data_type: DataType) -> &'static str {
    match data_type {
        DataType::kFLOAT => "float32",
        DataType::kHALF => "float16",
        DataType::kINT8 => "int8",
        DataType::kINT32 => "int32",
        DataType::kBOOL => "bool",
        DataType::kUINT8 => "uint8",
        DataType::kFP8 => "float8e4m3",
        DataType::kBF16 => "bfloat16",
        DataType::kINT64 => "int64",
        DataType::kINT4 => "int4",
        DataType::kFP4 => "float4e2m1",
        DataType::kE8M0 => "float8e8m0",
    }
}

/// A call that can't fail did.
pub(crate) fn bug(error: &trtx::Error) -> Problem {
    Problem::new(ErrorCode::WorkerBug, format!("the TensorRT bindings failed: {error}"))
}
