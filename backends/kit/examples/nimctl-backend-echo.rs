//! A backend that compiles nothing: its plan is the ONNX file with a line in front.

use std::io::Write as _;
use std::process::ExitCode;

use nimctl_backend_kit::compute_capability::ComputeCapability;
use nimctl_backend_kit::protocol::{
    BuildRequest, BuildResult, Description, ErrorCode, PROTOCOL_VERSION, Problem, Support,
};
use nimctl_backend_kit::{Backend, Events, serve};

const TARGETS: [ComputeCapability; 2] = [ComputeCapability::new(8, 0), ComputeCapability::new(8, 9)];

struct Echo;

impl Backend for Echo {
    fn describe(&mut self) -> Description {
        let only_builds = Problem::new(ErrorCode::UnsupportedRequest, "echo only builds");
        Description {
            protocol_version: PROTOCOL_VERSION,
            backend: "echo".into(),
            worker_version: env!("CARGO_PKG_VERSION").into(),
            library: None,
            build: Support::Available,
            run: Support::Unavailable(only_builds),
            compute_capabilities: TARGETS.to_vec(),
            portable_plans: false,
            needs_gpu_to_build: false,
            one_build_per_process: false,
            build_revision: 0,
            devices: Vec::new(),
        }
    }

    fn build(&mut self, request: &BuildRequest, events: &Events) -> Result<BuildResult, Problem> {
        let [target] = request.compute_capabilities[..] else {
            return Err(Problem::new(ErrorCode::UnsupportedTarget, "echo builds for one GPU at a time"));
        };
        if !TARGETS.contains(&target) {
            return Err(Problem::new(ErrorCode::UnsupportedTarget, "echo builds for 8.0 and 8.9 only"));
        }
        events.progress("build", None, None);
        let write = || -> std::io::Result<u64> {
            let mut plan = fs_err::File::create(&request.plan)?;
            writeln!(plan, "echo for {target}")?;
            std::io::copy(&mut fs_err::File::open(&request.graph)?, &mut plan)?;
            Ok(plan.metadata()?.len())
        };
        let plan_size_bytes = write().map_err(|error| Problem::new(ErrorCode::Io, error.to_string()))?;
        Ok(BuildResult { plan_size_bytes, ..BuildResult::default() })
    }
}

fn main() -> ExitCode {
    serve(|| Echo)
}
