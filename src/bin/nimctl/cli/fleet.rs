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
    /// Print the Jobs of Kubernetes that wait to be applied, for fleets whose Jobs nimctl doesn't apply itself.
    #[command(after_help = "\
Examples:
  # With `apply: by-hand` in the fleet file, while `nimctl build --fleet fleet.yaml` waits
  nimctl fleet manifests fleet.yaml | kubectl apply --server-side --filename -
  # What would the cluster say to such a Job?
  nimctl fleet manifests fleet.yaml --example | kubectl apply --dry-run=server --filename -")]
    Manifests {
        /// The fleet file.
        #[arg(value_name = "FILE", env = "NIMCTL_FLEET")]
        file: PathBuf,
        /// Print a Job of each executor, with a request for each of its pods, and look for no requests.
        #[arg(long)]
        example: bool,
    },
    /// Propose a fleet file for a cluster.
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
    /// Propose a fleet file from the labels of GPU feature discovery: an executor for each product.
    #[command(after_help = "\
Example:
  nimctl fleet discover kubernetes --image registry.example/nimctl:1 --exchange oci://registry.example/scratch > fleet.yaml")]
    Kubernetes {
        /// The image of the pods: nimctl, its workers and the compilers' libraries.
        #[arg(long, value_name = "IMAGE")]
        image: String,
        /// A repository that this machine and all pods reach.
        #[arg(long, value_name = "oci://HOST/NAME")]
        exchange: String,
        /// The context of kubectl; its current one by default.
        #[arg(long, value_name = "NAME")]
        context: Option<String>,
        /// The namespace of the Jobs; the context's own by default.
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
    },
}

/// Arguments of `work`.
#[derive(Debug, Args)]
#[command(after_help = "\
nimctl starts this command itself, in the jobs that it hands to Slurm and in the pods of its Jobs.

Examples:
  nimctl work --shared /scratch/nimctl --batch k3xw9aqz0bty
  nimctl work --exchange oci://registry.example/scratch --batch k3xw9aqz0bty
  nimctl work --backend tensorrt")]
pub(crate) struct Work {
    /// The folder that this node shares with the machine that asks.
    #[arg(long, value_name = "FOLDER", requires = "batch", required_unless_present_any = ["backend", "exchange"])]
    pub(crate) shared: Option<PathBuf>,
    /// The repository that requests and results travel through. In a pod of an Indexed Job (`JOB_COMPLETION_INDEX`), one request is answered.
    #[arg(long, value_name = "oci://HOST/NAME", requires = "batch", conflicts_with = "shared")]
    pub(crate) exchange: Option<String>,
    /// Speak to the exchange's registry without TLS.
    #[arg(long, requires = "exchange")]
    pub(crate) plain_http: bool,
    /// The batch of requests.
    #[arg(long, value_name = "NAME")]
    pub(crate) batch: Option<String>,
    /// Become the worker of this backend, which takes its requests from standard input.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["shared", "exchange", "batch"])]
    pub(crate) backend: Option<String>,
}
