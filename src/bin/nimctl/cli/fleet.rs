//! Arguments around fleets.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The options of commands that can run jobs on other machines.
#[derive(Debug, Args)]
pub(crate) struct FleetArguments {
    /// Use the machines of this fleet file, too: each profile on the first executor that offers its backend and GPU.
    #[arg(long, value_name = "FILE", env = "NIMCTL_FLEET")]
    pub(crate) fleet: Option<PathBuf>,
    /// Ask every executor again what its nodes are; nimctl otherwise asks once a day.
    #[arg(long, requires = "fleet")]
    pub(crate) refresh_fleet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Fleet {
    /// Check fleet files: executors, GPUs, backends, folders.
    #[command(after_help = "Example:\n  nimctl fleet check fleet.yaml")]
    Check {
        /// The fleet files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Propose a fleet file for this machine's cluster.
    #[command(subcommand, arg_required_else_help = true)]
    Discover(Discover),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Discover {
    /// Propose a fleet file from what `sinfo` says: an executor for each type of GPU in each partition.
    #[command(after_help = "Example:\n  nimctl fleet discover slurm --shared /scratch/nimctl > fleet.yaml")]
    Slurm {
        /// A folder that this machine and all nodes see.
        #[arg(long, value_name = "FOLDER")]
        shared: PathBuf,
    },
}

/// Arguments of `work`.
#[derive(Debug, Args)]
#[command(after_help = "\
nimctl starts this command itself, in the jobs that it hands to Slurm.

Examples:
  nimctl work --shared /scratch/nimctl --batch k3xW9aQz0bTy
  nimctl work --backend tensorrt")]
pub(crate) struct Work {
    /// The folder that this node shares with the machine that asks.
    #[arg(long, value_name = "FOLDER", requires = "batch", required_unless_present = "backend")]
    pub(crate) shared: Option<PathBuf>,
    /// The batch of requests.
    #[arg(long, value_name = "NAME", requires = "shared")]
    pub(crate) batch: Option<String>,
    /// Become the worker of this backend, which takes its requests from standard input.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["shared", "batch"])]
    pub(crate) backend: Option<String>,
}
