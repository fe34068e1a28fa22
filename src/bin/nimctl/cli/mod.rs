//! The command line: commands and arguments, with their help texts.

mod bench;
mod check;
mod distribution;
mod execution;
mod explain;
mod fleet;
mod global;
mod init;
pub(crate) mod limits;
mod manifest;
mod nim;
mod quantize;
mod release;
mod report;
mod reproduce;
mod sbom;
mod selection;
mod signing;
mod store;
mod toolchain;
mod validation;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nimctl::ops::lower::NodePattern;
use nimctl::recipe::Only;
use nimctl::synth::NvclipSize;

pub(crate) use bench::Bench;
pub(crate) use check::Check;
pub(crate) use distribution::{
    AcceptedArguments, Bundle, LayoutArgument, MirrorArgument, MirrorRelease, Publish, Pull,
    RegistryArguments,
};
pub(crate) use explain::Explain;
pub(crate) use fleet::{Discover, Fleet, FleetArguments, Work};
pub(crate) use global::Global;
pub(crate) use init::Init;
pub(crate) use manifest::Manifest;
pub(crate) use nim::{CreateModelStore, DownloadToCache, NimArguments};
pub(crate) use quantize::{BasePrecision, Quantize};
pub(crate) use release::Release;
pub(crate) use report::{Report, ReportFormat};
pub(crate) use reproduce::Reproduce;
pub(crate) use sbom::Sbom;
pub(crate) use selection::{ListModelProfiles, Select};
pub(crate) use signing::{Attest, BUILDER, PrivateKey, Sign, Trust, TrustArgument, Verify};
pub(crate) use store::{StoreCare, StoreGc};
pub(crate) use toolchain::Toolchain;
pub(crate) use validation::Validate;

/// Builds, names and verifies per-GPU inference profiles of ONNX models.
#[derive(Debug, Parser)]
#[command(name = "nimctl", version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0 success  1 the input is wrong  2 the command line is wrong  3 a check failed  4 no profile fits
  5 a backend, driver, device or tool is missing or failed  70 a bug  130 interrupted";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Propose a recipe for your own ONNX files.
    Init(Init),
    /// Check whether a model or recipe can be compiled, for which GPUs, and what stands in the way.
    Check(Check),
    /// Build a recipe's profiles, and write their manifest.
    Build(Build),
    /// Check recipes, or print their JSON Schema.
    #[command(subcommand, arg_required_else_help = true)]
    Recipe(Recipe),
    /// Check and propose the files that name other machines to build on.
    #[command(subcommand, arg_required_else_help = true)]
    Fleet(Fleet),
    /// Answer the requests of a batch, on a node of a fleet.
    Work(Work),
    /// Check the numbers of built profiles against the FP32 graphs.
    Validate(Validate),
    /// Measure the speed of built profiles, and compare it.
    Bench(Bench),
    /// Build, validate and measure the profiles, and write a release: a folder and a tar archive.
    Release(Release),
    /// Write one page with everything that was built, validated and measured.
    Report(Report),
    /// Tell the story of a profile: made from what, why rebuilt, what was found, who signed, what the trust policy says.
    Explain(Explain),
    /// Build a release again from what it was made from, and compare every file.
    Reproduce(Reproduce),
    /// Write the bill of materials of a release: its files, graphs, libraries and measurements, in CycloneDX.
    Sbom(Sbom),
    /// Sign a model: one signature over every file of a folder, or over one file.
    Sign(Sign),
    /// Attest what the passports of a release say: provenance, validation and benchmark of each profile, as signed statements.
    Attest(Attest),
    /// Verify a release: recompute every digest and id in it. With a key, certificates or a trust policy: verify a signature.
    Verify(Verify),
    /// Write and check trust policies: whose signatures a host accepts.
    #[command(subcommand, arg_required_else_help = true)]
    Trust(Trust),
    /// Publish a release: to a registry, or a folder or tar in the OCI image layout.
    Publish(Publish),
    /// Write a release as one file, for hosts without a network.
    Bundle(Bundle),
    /// Fetch profiles of a published release, and verify them.
    Pull(Pull),
    /// Copy a published release from one place to another.
    Mirror(MirrorRelease),
    /// Show what the store holds, remove what nobody needs, check and repair it.
    #[command(subcommand, arg_required_else_help = true)]
    Store(StoreCare),
    /// Compute profile ids.
    HashProfile(HashProfile),
    /// Lower one ONNX model to FP16 or BF16.
    Lower(Lower),
    /// Quantize one ONNX model to 8 or 4 bits.
    Quantize(Quantize),
    /// Show what is in an ONNX file or a plan: inputs, operators and parameters, or the types that a plan computes in.
    ///
    /// Of a plan of TensorRT for RTX it reports how many GEMMs compute in which type, which differ and why, whether attention is
    /// fused, and the bytes of weights by type. The plan itself says so; no GPU is needed. What the plan does not say is reported as
    /// unknown.
    #[command(after_help = "\
Examples:
  nimctl inspect models/nvclip-tiny/vision.onnx
  nimctl inspect model.onnx --output json
  nimctl inspect model.plan")]
    Inspect {
        /// The ONNX file or the plan.
        #[arg(value_name = "FILE")]
        model: PathBuf,
    },
    /// Install and list the compiler libraries.
    #[command(subcommand, arg_required_else_help = true)]
    Toolchain(Toolchain),
    /// List the backends that nimctl has found.
    #[command(subcommand, arg_required_else_help = true)]
    Backend(Backend),
    /// List the profiles of a manifest: which run here, and which don't.
    ListModelProfiles(ListModelProfiles),
    /// Fetch profiles of a manifest into NIM's cache.
    DownloadToCache(DownloadToCache),
    /// Write the files of a manifest's profile into a folder.
    CreateModelStore(CreateModelStore),
    /// Select the profile of a manifest to run on this host, and show why.
    Select(Select),
    /// Check, compare, merge and convert manifests.
    #[command(subcommand, arg_required_else_help = true)]
    Manifest(Manifest),
    /// Show this host's GPUs, its driver, and what is wrong with them.
    Doctor(Doctor),
    /// Generate models.
    #[command(subcommand, arg_required_else_help = true)]
    Model(Model),
    /// Print the JSON Schema of a file that nimctl reads or writes.
    #[command(after_help = "Example:\n  nimctl schema passport")]
    Schema {
        /// The kind of file.
        #[arg(value_enum)]
        file: SchemaOf,
    },
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example:\n  nimctl completions bash > ~/.local/share/bash-completion/completions/nimctl"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write one man page for each command.
    #[command(after_help = "Example:\n  nimctl man-pages ~/.local/share/man/man1")]
    ManPages {
        /// The folder to write to.
        folder: PathBuf,
    },
}

/// A file that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// A recipe, `nimctl.recipe/1`.
    Recipe,
    /// A manifest, NIM's schema 2.0.
    Manifest,
    /// A profile's contents.json, `nimctl.contents/2`.
    Contents,
    /// A profile's passport, `nimctl.passport/1`.
    Passport,
    /// The requirements for a release, `nimctl.release-policy/1`.
    ReleasePolicy,
    /// Whose signatures a host accepts, `nimctl.trust/1`.
    Trust,
    /// The machines to build on, `nimctl.fleet/1`.
    Fleet,
    /// The results of `nimctl bench`, `nimctl.bench/1`.
    Bench,
    /// The GPUs of a host, `nimctl.devices/1`.
    Devices,
    /// What `nimctl inspect` prints of a plan, `nimctl.plan/1`.
    Plan,
    /// One request of the worker protocol.
    WorkerRequest,
    /// One event of the worker protocol.
    WorkerEvent,
}

/// Arguments of `build`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nimctl build recipes/nvclip-demo.yaml
  nimctl build recipes/nvclip-demo.yaml --dry-run
  nimctl build recipes/nvclip-demo.yaml --only gpu=l4
  nimctl build recipes/nvclip-demo.yaml --only 'tensorrt-rtx-*' --output json
  nimctl build recipes/nvclip-demo.yaml --fleet fleet.yaml")]
pub(crate) struct Build {
    /// The recipe.
    pub(crate) recipe: PathBuf,
    /// Where to write the manifest [default: manifests/<recipe>/model_manifest.yaml].
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name, where * matches anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    #[command(flatten)]
    pub(crate) fleet: FleetArguments,
    /// Print the jobs and why each must run; build nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Fail with exit code 5 if a profile can't be built on this machine.
    #[arg(long)]
    pub(crate) require_all: bool,
    /// Don't compare lowered graphs with their FP32 graphs: each is run in ONNX Runtime, once for the same graph and samples.
    #[arg(long)]
    pub(crate) no_check: bool,
    /// The maximum number of concurrent jobs [default: the number of cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(limits::JOBS))]
    pub(crate) jobs: Option<u16>,
    /// The maximum time for one compilation, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "7200", value_parser = clap::value_parser!(u64).range(limits::SECONDS))]
    pub(crate) job_timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Recipe {
    /// Check recipes: schema, names, targets, shape ranges. To check the graphs too, use `build --dry-run`.
    #[command(after_help = "Example:\n  nimctl recipe check recipes/*.yaml")]
    Check {
        /// The recipes.
        #[arg(required = true)]
        recipes: Vec<PathBuf>,
    },
    /// Print the JSON Schema of recipes.
    Schema,
}

/// Arguments of `hash-profile`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nimctl hash-profile manifests/nvclip-demo/model_manifest.yaml
  nimctl hash-profile recipes/nvclip-demo.yaml --explain
  nimctl hash-profile --scheme nim-tags --tag gpu=a6000")]
pub(crate) struct HashProfile {
    /// A recipe whose profiles were built, a manifest, or a profile's folder.
    #[arg(required_unless_present = "tags", conflicts_with = "tags")]
    pub(crate) path: Option<PathBuf>,
    /// Hash only these tags (with --scheme nim-tags).
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<String>,
    /// The rule: `content` requires the tag `content`, which names the profile's bytes; `nim-tags` accepts any tags.
    #[arg(long, value_enum, default_value = "content")]
    pub(crate) scheme: Scheme,
    /// Show what is hashed.
    #[arg(long)]
    pub(crate) explain: bool,
}

/// The rule of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheme {
    /// NIM's rule; the tags include `content`.
    Content,
    /// NIM's rule, for any tags.
    NimTags,
}

/// Arguments of `lower`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nimctl lower model.onnx -o model-fp16.onnx --precision fp16
  nimctl lower model.onnx -o model-fp16.onnx --precision fp16 --target tensorrt-rtx
  nimctl lower model.onnx --precision bf16 --dry-run
  nimctl lower model.onnx -o model-21.onnx --precision fp32 --opset 21
  nimctl lower model.onnx -o out.onnx --precision fp16 --keep-op Softmax --keep-node '/blocks/(0|11)/.*'")]
pub(crate) struct Lower {
    /// The model, with FP32 weights. Its external data must be beside it.
    #[arg(value_name = "IN.onnx")]
    pub(crate) source: PathBuf,
    /// The file to write; weights that don't fit into one file go to <OUT.onnx>.data beside it.
    #[arg(short = 'o', long = "output-file", value_name = "OUT.onnx", required_unless_present = "dry_run")]
    pub(crate) destination: Option<PathBuf>,
    /// The precision to lower to.
    #[arg(long, value_enum)]
    pub(crate) precision: LowerPrecision,
    /// Raise the model to this version of ONNX's operator set, 7 to 23, first. A model that has it or a later one keeps its own.
    #[arg(long, value_name = "VERSION", required_if_eq("precision", "fp32"))]
    pub(crate) opset: Option<i64>,
    /// Keep nodes in FP32 whose whole name matches; a node without a name is called after its first output.
    #[arg(long = "keep-node", value_name = "REGEX")]
    pub(crate) keep_nodes: Vec<NodePattern>,
    /// Keep all nodes of this operator in FP32.
    #[arg(long = "keep-op", value_name = "TYPE")]
    pub(crate) keep_ops: Vec<String>,
    /// Lower all nodes of this operator, even if it would stay in FP32 because it accumulates many values.
    #[arg(long = "lower-op", value_name = "TYPE")]
    pub(crate) lower_ops: Vec<String>,
    /// The backend that will run the graph: softmax and normalizations are lowered if it computes them in FP32
    /// internally. `any` makes no assumptions.
    #[arg(long, value_name = "BACKEND", default_value = "any")]
    pub(crate) target: String,
    /// What to do with the graph's FP32 inputs and outputs.
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) io: LowerIo,
    /// Write an FP32 graph that rounds after each node as the lowered graph would, to measure the loss on a runtime that
    /// doesn't support the precision.
    #[arg(long)]
    pub(crate) emulate: bool,
    /// Print the report; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A precision to lower to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LowerPrecision {
    /// As it is: only for --opset.
    Fp32,
    /// IEEE 754 binary16.
    Fp16,
    /// The upper half of a binary32.
    Bf16,
}

/// What to do with a graph's inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LowerIo {
    /// They stay FP32; the graph casts inside.
    Keep,
    /// They are lowered too.
    Lower,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Backend {
    /// List the backends, and what each can do on this machine.
    List,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nimctl doctor
  nimctl doctor --output json > host.json
  nimctl doctor --device-file host.json
  NIMCTL_NVML_LIB=/opt/driver/libnvidia-ml.so.1 nimctl doctor
  CUDA_VISIBLE_DEVICES=1 nimctl doctor

Exit codes:
  0  all GPUs respond, or this host has no NVIDIA GPU
  1  --device or --device-file is wrong
  2  the command line is wrong
  5  the driver is missing, too old or broken; a GPU is lost or cannot be opened; or access to all GPUs is denied")]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) devices: DeviceArguments,
}

/// The GPUs that a command uses instead of this host's.
#[derive(Debug, Args)]
pub(crate) struct DeviceArguments {
    /// Use these GPUs instead of this host's: `l40s`, `h100-sxm:8`, `a100-sxm/1g.10gb`; `none` for a host without GPUs.
    #[arg(
        long = "device",
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "file",
        help_heading = "Devices"
    )]
    pub(crate) stated: Vec<String>,
    /// Use the GPUs in this file, written by `nimctl doctor --output json`, instead of this host's.
    #[arg(long = "device-file", value_name = "FILE", help_heading = "Devices")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Generate a model of a known architecture with seeded weights.
    #[command(
        after_help = "Example:\n  nimctl model synth nvclip --size tiny --seed 20 -o models/nvclip-tiny"
    )]
    Synth {
        /// The architecture.
        #[arg(value_enum)]
        architecture: Architecture,
        /// The size: tiny, b32, l14 or h14.
        #[arg(long)]
        size: NvclipSize,
        /// The seed of the weights.
        #[arg(long, default_value = "0")]
        seed: u64,
        /// The folder to write to.
        #[arg(short = 'o', long = "output-dir", value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// An architecture that can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    /// The two towers of NV-CLIP.
    Nvclip,
}
