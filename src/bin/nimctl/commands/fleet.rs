//! `nimctl fleet`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::engines::{kubernetes, slurm};
use nimctl::error_kind::ErrorKind;
use nimctl::fleet::proposal::{KubernetesSite, propose_kubernetes, propose_slurm};
use nimctl::fleet::{Engine, Fleet};
use nimctl::ops::fleet::manifests::{WaitingJob, example_jobs, waiting_jobs};
use nimctl::ops::fleet::repository;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::publish::NO_JOB_RUNS_S;
use crate::cli::{self, FleetArguments, Global};
use crate::environment;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::table;

/// `nimctl.fleet-check/1`.
#[derive(Serialize)]
struct View {
    schema: &'static str,
    fleets: Vec<Checked>,
}

#[derive(Serialize)]
struct Checked {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    executors: Option<Vec<Executor>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Executor {
    name: String,
    engine: &'static str,
    gpus: Option<Vec<String>>,
    backends: Vec<String>,
    nodes: u32,
}

/// `nimctl.fleet-proposal/1`.
#[derive(Serialize)]
struct Proposal {
    schema: &'static str,
    fleet: String,
}

pub(crate) fn run(
    arguments: &cli::Fleet,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    match arguments {
        cli::Fleet::Check { files } => Ok(check_all(files, output)),
        cli::Fleet::Discover(cli::Discover::Slurm { shared }) => {
            let nodes = slurm::nodes(cancel).map_err(|error| Failure::new(error.kind(), error))?;
            Ok(proposed(propose_slurm(&nodes, shared), output))
        }
        cli::Fleet::Discover(cli::Discover::Kubernetes { image, exchange, context, namespace }) => {
            let nodes = kubernetes::nodes(context.as_deref(), cancel)
                .map_err(|error| Failure::new(error.kind(), error))?;
            let site = KubernetesSite {
                context: context.as_deref(),
                namespace: namespace.as_deref(),
                image,
                exchange,
            };
            Ok(proposed(propose_kubernetes(&nodes, site), output))
        }
        cli::Fleet::Manifests { file, example: true } => {
            let name = file.display().to_string();
            let text =
                nimctl::files::text::read(file).map_err(|error| Failure::new(ErrorKind::Input, error))?;
            let fleet = Fleet::parse(&text, &name).map_err(|error| Failure::new(ErrorKind::Input, error))?;
            let jobs = example_jobs(&fleet).into_iter().map(|job| (String::new(), job)).collect();
            print_jobs(jobs, output)
        }
        cli::Fleet::Manifests { file, example: false } => manifests(file, global, output, cancel),
    }
}

fn proposed(fleet: String, output: &Output) -> ExitCode {
    output.result(&fleet, &Proposal { schema: "nimctl.fleet-proposal/1", fleet: fleet.clone() });
    done()
}

/// `nimctl.fleet-manifests/1`.
#[derive(Serialize)]
struct Manifests {
    schema: &'static str,
    jobs: Vec<serde_json::Value>,
}

fn manifests(file: &Path, global: &Global, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let mut workspace = environment::workspace(global, NO_JOB_RUNS_S, cancel)?;
    let arguments = FleetArguments { fleet: Some(file.to_owned()), refresh_fleet: false };
    environment::use_fleet(&mut workspace, &arguments)?;
    let Some(used) = &workspace.fleet else { return Ok(done()) };
    let waiting = waiting_jobs(&workspace, used).map_err(|failure| Failure::new(failure.kind, failure))?;
    if waiting.is_empty() {
        output.talk("no request waits for a Job");
    }
    let with_comment = |WaitingJob { executor, owner, waiting, job }| {
        // What others wrote stays a comment.
        (format!("# executor {executor}: {waiting} requests of {}\n", owner.escape_debug()), job)
    };
    print_jobs(waiting.into_iter().map(with_comment).collect(), output)
}

/// Prints Jobs, each after its comment.
fn print_jobs(jobs: Vec<(String, serde_json::Value)>, output: &Output) -> Result<ExitCode, Failure> {
    let mut text = String::new();
    for (comment, job) in &jobs {
        let yaml = serde_saphyr::to_string(job).map_err(|error| Failure::new(ErrorKind::Bug, error))?;
        text.push_str(&format!("---\n{comment}{yaml}"));
    }
    let jobs = jobs.into_iter().map(|(_, job)| job).collect();
    output.result(&text, &Manifests { schema: "nimctl.fleet-manifests/1", jobs });
    Ok(done())
}

fn check_all(files: &[PathBuf], output: &Output) -> ExitCode {
    let fleets: Vec<Checked> = files.iter().map(|path| check(path)).collect();
    let mut text = String::new();
    for Checked { path, executors, error: _ } in &fleets {
        let Some(executors) = executors else { continue };
        let row = |executor: &Executor| {
            let Executor { name, engine, gpus, backends, nodes } = executor;
            let gpus = gpus.as_ref().map_or_else(|| "any".into(), |gpus| gpus.join(", "));
            vec![name.clone(), (*engine).into(), gpus, backends.join(", "), nodes.to_string()]
        };
        let rows: Vec<Vec<String>> = executors.iter().map(row).collect();
        text.push_str(&format!("{path}: ok\n\n"));
        text.push_str(&table(&["EXECUTOR", "ENGINE", "GPUS", "BACKENDS", "NODES"], &rows));
    }
    fleets.iter().filter_map(|checked| checked.error.as_deref()).for_each(|error| output.problem(error));
    let wrong = fleets.iter().any(|checked| checked.error.is_some());
    output.result(&text, &View { schema: "nimctl.fleet-check/1", fleets });
    if wrong { ExitCode::from(code(ErrorKind::Input)) } else { done() }
}

fn check(path: &Path) -> Checked {
    let name = path.display().to_string();
    let fleet = match nimctl::files::text::read(path) {
        Ok(text) => Fleet::parse(&text, &name).map_err(|error| error.to_string()).and_then(|fleet| {
            let of = |(executor, one): (&str, &nimctl::fleet::Executor)| match &one.engine {
                Engine::Slurm(_) => Ok(()),
                Engine::Kubernetes(keys) => repository(keys)
                    .map(drop)
                    .map_err(|problem| format!("{name}: executor `{executor}`: {problem}")),
            };
            fleet.executors.iter().try_for_each(of)?;
            Ok(fleet)
        }),
        Err(error) => Err(error.to_string()),
    };
    let executors = |fleet: &Fleet| {
        let view = |(name, executor): (&str, &nimctl::fleet::Executor)| Executor {
            name: name.into(),
            engine: match executor.engine {
                Engine::Slurm(_) => "slurm",
                Engine::Kubernetes(_) => "kubernetes",
            },
            gpus: executor.offers.gpus.clone(),
            backends: executor.offers.backends.clone(),
            nodes: executor.engine.nodes(),
        };
        fleet.executors.iter().map(view).collect()
    };
    match fleet {
        Ok(fleet) => Checked { path: name, executors: Some(executors(&fleet)), error: None },
        Err(error) => Checked { path: name, executors: None, error: Some(error) },
    }
}
