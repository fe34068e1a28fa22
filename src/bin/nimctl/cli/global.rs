//! Options of every command.

use std::path::PathBuf;

use clap::Args;

use crate::output::{Format, ProgressFormat};

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The format of results on stdout.
    #[arg(long, global = true, value_enum, default_value = "text", help_heading = "Global options")]
    pub(crate) output: Format,
    /// How progress and messages are shown on stderr.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "auto",
        env = "NIMCTL_PROGRESS",
        help_heading = "Global options"
    )]
    pub(crate) progress: ProgressFormat,
    /// Print only results and errors: no progress, notes or warnings.
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// The folder for toolchains and fetched models [default: nimctl in the user's data folder].
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        env = "NIMCTL_DATA_DIR",
        help_heading = "Global options"
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// The folder for build results [default: store in the data folder].
    #[arg(long, global = true, value_name = "FOLDER", env = "NIMCTL_STORE", help_heading = "Global options")]
    pub(crate) store: Option<PathBuf>,
    /// A file of toolchain pins to use instead of the built-in ones.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "NIMCTL_TOOLCHAIN_LOCK",
        help_heading = "Global options"
    )]
    pub(crate) toolchain_lock: Option<PathBuf>,
    /// Your own ONNX Runtime: the library, or its folder.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NIMCTL_ONNXRUNTIME_LIB",
        help_heading = "Global options"
    )]
    pub(crate) onnxruntime_lib: Option<PathBuf>,
    /// Your own TensorRT for RTX: the library, or its folder.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NIMCTL_TENSORRT_RTX_LIB",
        help_heading = "Global options"
    )]
    pub(crate) tensorrt_rtx_lib: Option<PathBuf>,
    /// Your own TensorRT: the library, or its folder.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NIMCTL_TENSORRT_LIB",
        help_heading = "Global options"
    )]
    pub(crate) tensorrt_lib: Option<PathBuf>,
}
