//! `nimctl fleet`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::fleet::Fleet;
use nimctl::fleet::proposal::propose;
use nimctl::slurm;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use crate::cli;
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

pub(crate) fn run(arguments: &cli::Fleet, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    match arguments {
        cli::Fleet::Check { files } => Ok(check_all(files, output)),
        cli::Fleet::Discover(cli::Discover::Slurm { shared }) => {
            let nodes = slurm::nodes(cancel).map_err(|error| Failure::new(error.kind(), error))?;
            let fleet = propose(&nodes, shared);
            output.result(&fleet, &Proposal { schema: "nimctl.fleet-proposal/1", fleet: fleet.clone() });
            Ok(done())
        }
    }
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
        Ok(text) => Fleet::parse(&text, &name).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let executors = |fleet: &Fleet| {
        let view = |(name, executor): (&str, &nimctl::fleet::Executor)| Executor {
            name: name.into(),
            engine: "slurm",
            gpus: executor.offers.gpus.clone(),
            backends: executor.offers.backends.clone(),
            nodes: executor.slurm.nodes,
        };
        fleet.executors.iter().map(view).collect()
    };
    match fleet {
        Ok(fleet) => Checked { path: name, executors: Some(executors(&fleet)), error: None },
        Err(error) => Checked { path: name, executors: None, error: Some(error) },
    }
}
