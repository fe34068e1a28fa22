//! The command line: what can be asked, with its help texts.

mod bench;
mod execution;
mod init;
mod manifest;
mod release;
mod report;
mod selection;
mod validation;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nimctl::ops::lower::NodePattern;
use nimctl::recipe::Only;
use nimctl::synth::NvclipSize;

use crate::output::Format;

pub(crate) use bench::Bench;
pub(crate) use init::Init;
pub(crate) use manifest::Manifest;
pub(crate) use release::{Release, Verify};
pub(crate) use report::{Report, ReportFormat};
pub(crate) use selection::{ListModelProfiles, Select};
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
  0 done  1 the input is wrong  2 usage  3 the check ran and said no  4 no profile fits
  5 a backend, driver, device or tool is missing or broke  70 a bug  130 interrupted";

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// How results are printed on stdout.
    #[arg(long, global = true, value_enum, default_value = "text", help_heading = "Global options")]
    pub(crate) output: Format,
    /// Print no progress and no remarks, only results and errors.
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Where toolchains and fetched models are kept [default: nimctl in the user's data folder].
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        env = "NIMCTL_DATA_DIR",
        help_heading = "Global options"
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where what was built is kept [default: store in the data folder].
    #[arg(long, global = true, value_name = "FOLDER", env = "NIMCTL_STORE", help_heading = "Global options")]
    pub(crate) store: Option<PathBuf>,
    /// Pins of the toolchains, in place of the built-in ones.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "NIMCTL_TOOLCHAIN_LOCK",
        help_heading = "Global options"
    )]
    pub(crate) toolchain_lock: Option<PathBuf>,
    /// Your own ONNX Runtime: the library or its folder.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NIMCTL_ONNXRUNTIME_LIB",
        help_heading = "Global options"
    )]
    pub(crate) onnxruntime_lib: Option<PathBuf>,
    /// Your own TensorRT for RTX: the library or its folder.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NIMCTL_TENSORRT_RTX_LIB",
        help_heading = "Global options"
    )]
    pub(crate) tensorrt_rtx_lib: Option<PathBuf>,
    /// Your own TensorRT: the library or its folder.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NIMCTL_TENSORRT_LIB",
        help_heading = "Global options"
    )]
    pub(crate) tensorrt_lib: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Propose a recipe for your own ONNX files.
    Init(Init),
    /// Build a recipe's profiles, and write their manifest.
    Build(Build),
    /// Check recipes, or print their JSON Schema.
    #[command(subcommand, arg_required_else_help = true)]
    Recipe(Recipe),
    /// Check the numbers of built profiles against the FP32 graphs.
    Validate(Validate),
    /// Measure how fast built profiles are, and compare.
    Bench(Bench),
    /// Build, validate, measure, and write a folder to ship, and a tar of it.
    Release(Release),
    /// Show what was built, checked and measured, as one page.
    Report(Report),
    /// Check a release: every digest and id, computed anew.
    Verify(Verify),
    /// Compute profile ids.
    HashProfile(HashProfile),
    /// Lower one ONNX model to FP16 or BF16.
    Lower(Lower),
    /// Show what is in an ONNX file: inputs, outputs, operators, parameters.
    #[command(after_help = "\
Examples:
  nimctl inspect models/nvclip-tiny/vision.onnx
  nimctl inspect model.onnx --output json")]
    Inspect {
        /// The ONNX file.
        model: PathBuf,
    },
    /// Install and list the compiler libraries.
    #[command(subcommand, arg_required_else_help = true)]
    Toolchain(Toolchain),
    /// List the backends that nimctl finds.
    #[command(subcommand, arg_required_else_help = true)]
    Backend(Backend),
    /// List a manifest's profiles: which run here, which don't.
    ListModelProfiles(ListModelProfiles),
    /// Choose the profile of a manifest that is to run here, and say why.
    Select(Select),
    /// Check, compare, merge and convert manifests.
    #[command(subcommand, arg_required_else_help = true)]
    Manifest(Manifest),
    /// Show this host's GPUs, its driver, and what is amiss with them.
    Doctor(Doctor),
    /// Make models.
    #[command(subcommand, arg_required_else_help = true)]
    Model(Model),
    /// Print the JSON Schema of a file that nimctl reads or writes.
    #[command(after_help = "Example:\n  nimctl schema passport")]
    Schema {
        /// Which file.
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
    /// Write man pages, one for each command.
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
    /// A profile's contents.json, `nimctl.contents/1`.
    Contents,
    /// A profile's passport, `nimctl.passport/1`.
    Passport,
    /// What must hold of a release, `nimctl.release-policy/1`.
    ReleasePolicy,
    /// What `nimctl bench` measured, `nimctl.bench/1`.
    Bench,
    /// The GPUs of a host, `nimctl.devices/1`.
    Devices,
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
  nimctl build recipes/nvclip-demo.yaml --only 'tensorrt-rtx-*' --output json")]
pub(crate) struct Build {
    /// The recipe.
    pub(crate) recipe: PathBuf,
    /// Where to write the manifest [default: manifests/<recipe>/model_manifest.yaml].
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name in which * stands for anything.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) only: Option<Only>,
    /// Print the worklist, and why each job must run; build nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Fail with exit code 5 if a profile can't be built on this machine.
    #[arg(long)]
    pub(crate) require_all: bool,
    /// Most jobs at a time [default: the number of cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Most time for one compilation, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "7200", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) job_timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Recipe {
    /// Check recipes: schema, names, targets, shape ranges. Graphs are not fetched; `build --dry-run` checks those too.
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
    /// Hash these tags alone (with --scheme nim-tags).
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<String>,
    /// The rule: `content` wants profiles whose tags name their bytes, `nim-tags` takes any tags.
    #[arg(long, value_enum, default_value = "content")]
    pub(crate) scheme: Scheme,
    /// Show what is hashed.
    #[arg(long)]
    pub(crate) explain: bool,
}

/// The rule of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheme {
    /// NIM's rule over tags with `content` among them.
    Content,
    /// NIM's bare rule.
    NimTags,
}

/// Arguments of `lower`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nimctl lower model.onnx -o model-fp16.onnx --precision fp16
  nimctl lower model.onnx -o model-fp16.onnx --precision fp16 --target tensorrt-rtx
  nimctl lower model.onnx --precision bf16 --dry-run
  nimctl lower model.onnx -o out.onnx --precision fp16 --keep-op Softmax --keep-node '/blocks/(0|11)/.*'")]
pub(crate) struct Lower {
    /// The model, with FP32 weights. Its external data is found beside it.
    #[arg(value_name = "IN.onnx")]
    pub(crate) source: PathBuf,
    /// The file to write; weights beyond what one file can hold go to <OUT.onnx>.data beside it.
    #[arg(short = 'o', long = "output-file", value_name = "OUT.onnx", required_unless_present = "dry_run")]
    pub(crate) destination: Option<PathBuf>,
    /// The precision to lower to.
    #[arg(long, value_enum)]
    pub(crate) precision: LowerPrecision,
    /// Keep nodes in FP32 whose whole name matches; a node without a name goes by its first output.
    #[arg(long = "keep-node", value_name = "REGEX")]
    pub(crate) keep_nodes: Vec<NodePattern>,
    /// Keep all nodes of an operator in FP32.
    #[arg(long = "keep-op", value_name = "TYPE")]
    pub(crate) keep_ops: Vec<String>,
    /// Lower all nodes of an operator that would stay in FP32 because it sums up many values.
    #[arg(long = "lower-op", value_name = "TYPE")]
    pub(crate) lower_ops: Vec<String>,
    /// The backend that the graph is for: softmax and normalizations are lowered where it computes them in FP32 inside.
    /// `any` assumes nothing.
    #[arg(long, value_name = "BACKEND", default_value = "any")]
    pub(crate) target: String,
    /// What becomes of the graph's FP32 inputs and outputs.
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) io: LowerIo,
    /// Write an FP32 graph that rounds as the lowered one would after each node, to measure what that loses on a
    /// runtime that doesn't compute in the precision.
    #[arg(long)]
    pub(crate) emulate: bool,
    /// Print what would be done; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A precision to lower to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LowerPrecision {
    /// IEEE 754 binary16.
    Fp16,
    /// The upper half of a binary32.
    Bf16,
}

/// What becomes of a graph's inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LowerIo {
    /// They stay FP32; casts are inside the graph.
    Keep,
    /// They are lowered too.
    Lower,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Toolchain {
    /// Fetch pinned libraries with pip, verify and unpack them.
    #[command(after_help = "\
Examples:
  nimctl toolchain install
  nimctl toolchain install tensorrt-rtx
  PIP_NO_INDEX=1 PIP_FIND_LINKS=/mnt/wheels nimctl toolchain install")]
    Install {
        /// Which [default: onnxruntime and tensorrt-rtx].
        names: Vec<String>,
    },
    /// List what is pinned and what is there.
    List,
    /// Print the folder of a tool's libraries.
    Path {
        /// Which.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Backend {
    /// List backends with what each can do here.
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
  0  the GPUs answer, or there is no NVIDIA GPU here
  1  --device or --device-file is wrong
  2  usage
  5  the driver is missing, too old or broken; or a GPU is lost, or doesn't open; or none may be asked")]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) devices: DeviceArguments,
}

/// The GPUs that a command is about, where they are not this host's.
#[derive(Debug, Args)]
pub(crate) struct DeviceArguments {
    /// Not this host's GPUs but these, by name: `l40s`, `h100-sxm:8`, `a100-sxm/1g.10gb`; `none` for a host without.
    #[arg(
        long = "device",
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "file",
        help_heading = "Devices"
    )]
    pub(crate) stated: Vec<String>,
    /// Not this host's GPUs but those that `nimctl doctor --output json` wrote to this file.
    #[arg(long = "device-file", value_name = "FILE", help_heading = "Devices")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Write a model of a known architecture with seeded weights.
    #[command(
        after_help = "Example:\n  nimctl model synth nvclip --size tiny --seed 20 -o models/nvclip-tiny"
    )]
    Synth {
        /// The architecture.
        #[arg(value_enum)]
        architecture: Architecture,
        /// How large: tiny, b32, l14 or h14.
        #[arg(long)]
        size: NvclipSize,
        /// What the weights are drawn from.
        #[arg(long, default_value = "0")]
        seed: u64,
        /// The folder to write to.
        #[arg(short = 'o', long = "output-dir", value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// An architecture that can be made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    /// The two towers of NV-CLIP.
    Nvclip,
}
