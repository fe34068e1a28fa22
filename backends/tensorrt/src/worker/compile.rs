//! Compiles plans from graphs.
//!
//! Order matters to TensorRT, and `trtx` doesn't hold it all: the parser owns the weights until the build is over, and an
//! optimization profile belongs to its builder although `trtx` gives it a destructor. Nothing is set that depends on timing
//! or on the machine, so that equal requests give equal plans.

#![expect(clippy::disallowed_methods, reason = "the steps of a build are timed")]

use std::ffi::OsStr;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::Instant;

use nimctl_backend_kit::compute_capability::ComputeCapability;
use nimctl_backend_kit::direct_file;
use nimctl_backend_kit::protocol::{
    BuildRequest, BuildResult, CheckResult, ErrorCode, FileKind, Inspection, Problem, Refusal, RefusalReason,
    TensorDescription,
};
use nimctl_backend_kit::serve::Events;
use trtx::builder::MemoryPoolType;
use trtx::host_memory::HostMemory;
use trtx::trtx_sys::Dims64;
use trtx::{Builder, BuilderConfig, NetworkDefinition, OnnxParser, OptProfileSelector, Severity, Tensor};

use super::loaded::{Loaded, bug, element_type};
use super::{io_problem, refusals, shapes};

/// The parser's own detail level: the logger's limit decides.
const PARSER_VERBOSITY: i32 = Severity::Warning as i32;

impl Loaded {
    /// Describes a graph's inputs and outputs.
    pub(crate) fn inspect(&self, path: &Path, events: &Events) -> Result<Inspection, Problem> {
        self.begin(events);
        let mut builder = self.builder()?;
        let parser = self.parse(&mut builder, path)?;
        let (inputs, outputs) = tensors(parser.network())?;
        let layer_count = u64::try_from(parser.network().nb_layers()).ok();
        Ok(Inspection { kind: FileKind::Onnx, inputs, outputs, layer_count })
    }

    /// Names the nodes of a graph that the parser refuses.
    pub(crate) fn check(&self, path: &Path, events: &Events) -> Result<CheckResult, Problem> {
        self.begin(events);
        events.progress("parse", None, None);
        let mut builder = self.builder()?;
        let whole = |reason, message| vec![Refusal { node: None, op_type: None, reason, message }];
        let refusals = match self.parse(&mut builder, path) {
            Ok(parser) => match refuse_shape_tensors(parser.network()) {
                Ok(()) => Vec::new(),
                Err(problem) => whole(RefusalReason::DynamicShape, problem.message),
            },
            Err(problem) if problem.code != ErrorCode::InvalidGraph => return Err(problem),
            Err(problem) => match refusals::read(&self.logged_errors()) {
                none if none.is_empty() => whole(RefusalReason::Other, problem.message),
                some => some,
            },
        };
        Ok(CheckResult { refusals })
    }

    /// Builds a plan for `targets`, or for the device of this machine if there are none.
    pub(crate) fn build(
        &self,
        request: &BuildRequest,
        targets: &[ComputeCapability],
        events: &Events,
    ) -> Result<BuildResult, Problem> {
        self.begin(events);
        // The plan stands alone. What the compiler held is gone here: it is several times as large again.
        let (memory, mut result) = self.compile(request, targets, events)?;
        events.progress("write", None, None);
        let started = Instant::now();
        direct_file::write(&request.plan, &memory).map_err(|e| io_problem(&e))?;
        result.write_ms = milliseconds(started);
        Ok(result)
    }

    /// Compiles a plan into memory; the result lacks the time of writing it.
    fn compile(
        &self,
        request: &BuildRequest,
        targets: &[ComputeCapability],
        events: &Events,
    ) -> Result<(HostMemory<'static>, BuildResult), Problem> {
        let BuildRequest { graph, plan: _, compute_capabilities: _, shape_ranges, workspace_mib } = request;
        events.progress("parse", None, None);
        let started = Instant::now();
        let mut builder = self.builder()?;
        let mut parser = self.parse(&mut builder, graph)?;
        let (inputs, outputs) = tensors(parser.network())?;
        refuse_shape_tensors(parser.network())?;
        shapes::check(shape_ranges, &inputs)?;
        let parse_ms = milliseconds(started);

        events.progress("build", None, None);
        let started = Instant::now();
        let mut config = builder.create_config().map_err(|error| bug(&error))?;
        if let Some(workspace_mib) = workspace_mib {
            let limit_bytes =
                usize::try_from(*workspace_mib).ok().and_then(|mib| mib.checked_mul(1024 * 1024));
            let limit_bytes = limit_bytes.ok_or_else(|| {
                Problem::new(
                    ErrorCode::InvalidRequest,
                    format!("a workspace of {workspace_mib} MiB is too large"),
                )
            })?;
            config.set_memory_pool_limit(MemoryPoolType::kWORKSPACE, limit_bytes);
        }
        self.set_targets(&mut config, targets)?;
        config.set_progress_monitor(self.progress_monitor()).map_err(|error| bug(&error))?;
        let open: Vec<_> =
            inputs.iter().filter_map(|input| shape_ranges.get_key_value(&input.name)).collect();
        if !open.is_empty() {
            let profile = builder.creata_optimization_profile().map_err(|error| bug(&error))?;
            // The builder frees it.
            let mut profile = ManuallyDrop::new(profile);
            for (name, range) in open {
                for (selector, shape) in [
                    (OptProfileSelector::kMIN, &range.min),
                    (OptProfileSelector::kOPT, &range.opt),
                    (OptProfileSelector::kMAX, &range.max),
                ] {
                    profile.set_dimensions(name, selector, &Dims64::from_slice(shape)).map_err(|_| {
                        self.failed(ErrorCode::InvalidRequest, &format!("set the shape range of `{name}`"))
                    })?;
                }
            }
            config
                .add_optimization_profile(&mut profile)
                .map_err(|_| self.failed(ErrorCode::InvalidRequest, "set the shape ranges"))?;
        }
        let memory = builder
            .build_serialized_network(parser.network_mut(), &mut config)
            .map_err(|_| self.failed(ErrorCode::BuildFailed, &format!("compile {}", graph.display())))?;
        let build_ms = milliseconds(started);

        let plan_size_bytes = memory.len() as u64;
        let warnings = self.warnings();
        let result =
            BuildResult { plan_size_bytes, parse_ms, build_ms, write_ms: 0, inputs, outputs, warnings };
        Ok((memory, result))
    }

    fn builder(&self) -> Result<Builder<'static>, Problem> {
        Builder::new(self.logger).map_err(|_| self.failed(ErrorCode::BuildFailed, "create a builder"))
    }

    fn parse<'a>(&self, builder: &mut Builder<'a>, path: &Path) -> Result<OnnxParser<'a>, Problem> {
        // Networks are strongly typed in both libraries, whatever is asked for: no flag says so any more.
        let network =
            builder.create_network(0).map_err(|_| self.failed(ErrorCode::BuildFailed, "create a network"))?;
        let mut parser = OnnxParser::new(network, self.logger)
            .map_err(|_| self.failed(ErrorCode::BuildFailed, "create a parser"))?;
        let name = path.file_name().and_then(OsStr::to_str).ok_or_else(|| {
            Problem::new(ErrorCode::InvalidRequest, format!("the path {} is not UTF-8", path.display()))
        })?;
        // The library keeps the path among its values: it must not be longer where the folder's name is.
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::env::set_current_dir(folder).map_err(|error| io_problem(&error))?;
        let text = &format!("./{name}");
        // From the file and not from memory, because external data lies relative to it.
        parser.parse_from_file(text, PARSER_VERBOSITY).map_err(|_| {
            self.failed(ErrorCode::InvalidGraph, &format!("read the graph {}", path.display()))
        })?;
        Ok(parser)
    }

    #[cfg(feature = "tensorrt-rtx")]
    fn set_targets(
        &self,
        config: &mut BuilderConfig<'_>,
        targets: &[ComputeCapability],
    ) -> Result<(), Problem> {
        use trtx::ComputeCapability as Target;
        let mut chosen = Vec::new();
        for target in targets {
            chosen.push(match target.sm() {
                75 => Target::kSM75,
                80 => Target::kSM80,
                86 => Target::kSM86,
                89 => Target::kSM89,
                120 => Target::kSM120,
                121 => Target::kSM121,
                // `flavour::check_targets` has refused it before.
                _ => {
                    return Err(Problem::new(
                        ErrorCode::UnsupportedTarget,
                        format!("compute capability {target}"),
                    ));
                }
            });
        }
        if chosen.is_empty() {
            chosen.push(Target::kCURRENT);
        }
        let refused =
            |_| self.failed(ErrorCode::UnsupportedTarget, &format!("build for {}", super::list(targets)));
        config.set_nb_compute_capabilities(chosen.len() as i32).map_err(refused)?;
        for (index, target) in (0..).zip(chosen) {
            config.set_compute_capability(target, index).map_err(refused)?;
        }
        Ok(())
    }

    #[cfg(not(feature = "tensorrt-rtx"))]
    fn set_targets(&self, _: &mut BuilderConfig<'_>, _: &[ComputeCapability]) -> Result<(), Problem> {
        Ok(())
    }
}

fn tensors(
    network: &NetworkDefinition<'_>,
) -> Result<(Vec<TensorDescription>, Vec<TensorDescription>), Problem> {
    let describe = |tensor: trtx::Result<Tensor<'_>>| {
        let tensor = tensor?;
        Ok(TensorDescription {
            name: tensor.name(network)?,
            element_type: element_type(tensor.data_type(network)).into(),
            shape: tensor.dimensions(network)?,
        })
    };
    let unreadable = |error: trtx::Error| {
        Problem::new(ErrorCode::InvalidGraph, format!("an input or output cannot be described: {error}"))
    };
    let inputs: trtx::Result<Vec<_>> =
        (0..network.nb_inputs()).map(|index| describe(network.input(index))).collect();
    let outputs: trtx::Result<Vec<_>> =
        (0..network.nb_outputs()).map(|index| describe(network.output(index))).collect();
    Ok((inputs.map_err(unreadable)?, outputs.map_err(unreadable)?))
}

/// Inputs whose *values* decide shapes need ranges of values, which the protocol doesn't have.
fn refuse_shape_tensors(network: &NetworkDefinition<'_>) -> Result<(), Problem> {
    for index in 0..network.nb_inputs() {
        let input = network.input(index).map_err(|error| bug(&error))?;
        if input.is_shape_tensor(network) {
            let name = input.name(network).unwrap_or_default();
            let message =
                format!("shapes depend on the values of input `{name}`, which this worker does not support");
            return Err(Problem::new(ErrorCode::InvalidGraph, message));
        }
    }
    Ok(())
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
