//! Arguments of `toolchain`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Toolchain {
    /// Fetch the pinned libraries with pip, verify and unpack them.
    #[command(after_help = "\
Examples:
  nimctl toolchain install
  nimctl toolchain install tensorrt-rtx
  PIP_NO_INDEX=1 PIP_FIND_LINKS=/mnt/wheels nimctl toolchain install")]
    Install {
        /// The tools [default: onnxruntime and tensorrt-rtx].
        names: Vec<String>,
    },
    /// List which tools are pinned and which are installed.
    List,
    /// Write installed libraries to a tar, for a machine without pip.
    #[command(after_help = "\
Examples:
  nimctl toolchain export onnxruntime -o toolchain.tar
  nimctl toolchain export onnxruntime tensorrt-rtx -o toolchain.tar

The tar has the pinned libraries and their digests; the same libraries are always the same bytes. Take it to the other
machine, and run `nimctl toolchain import toolchain.tar` there.

Exit codes:
  0  the tar was written
  1  a name is not a tool's, or the file cannot be written
  2  the command line is wrong
  5  a tool is not installed, or its files were changed")]
    Export {
        /// The tools.
        #[arg(required = true, value_name = "TOOL")]
        names: Vec<String>,
        /// The tar to write.
        #[arg(short = 'o', long = "output-file", value_name = "FILE.tar")]
        destination: PathBuf,
    },
    /// Install libraries from a tar that `nimctl toolchain export` wrote.
    #[command(after_help = "\
Examples:
  nimctl toolchain import toolchain.tar
  nimctl toolchain import toolchain.tar --data-dir /var/lib/nimctl

Every file is compared with its digest in the toolchain lock before anything is installed. A tool that is installed already
stays as it is.

Exit codes:
  0  the tools are installed
  1  the file is not such a tar, or is for another kind of machine; the data folder cannot be written
  2  the command line is wrong
  3  the tar is damaged, or has other versions than the lock pins")]
    Import {
        /// The tar.
        #[arg(value_name = "FILE.tar")]
        source: PathBuf,
    },
    /// Print the folder of a tool's libraries.
    Path {
        /// The tool.
        name: String,
    },
}
