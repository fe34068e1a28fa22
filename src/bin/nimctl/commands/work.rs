//! `nimctl work`.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::exchange::{Exchange, Scratch, SharedFolder};
use nimctl::machine;
use nimctl::nvml;
use nimctl::ops::fleet::work::{WorkOptions, work};
use nimctl::ops::resolve::FoundBackend;
use nimctl::registry::{InvalidReference, Repository, Watch};
use nimctl::worker::host::{Cancel, Elsewhere, NODE_PREFIX};
use serde::Serialize;

use super::places::tell;
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;

/// `nimctl.work/1`.
#[derive(Serialize)]
struct View {
    schema: &'static str,
    answered: usize,
}

/// Says which node this is, and becomes the worker; returns only if that fails.
fn become_worker(backend: &str, global: &Global) -> Failure {
    let found = environment::places(global).and_then(|places| {
        FoundBackend::find(backend, &environment::search_path(), &places).map_err(Failure::from)
    });
    let command = match found {
        Ok(found) => found.command.clone(),
        Err(failure) => return failure,
    };
    // Whoever started this reads it in the worker's log.
    #[expect(clippy::print_stderr, reason = "the line must be there with --quiet, too")]
    {
        let place = Elsewhere { node: environment::claim().node, machine: machine::look() };
        eprintln!("{NODE_PREFIX}{}", serde_json::to_string(&place).unwrap_or_default());
    }
    #[expect(clippy::disallowed_methods, reason = "this process becomes the other")]
    let error = std::process::Command::new(&command.path).envs(&command.environment).exec();
    Failure::new(ErrorKind::Unavailable, error)
}

/// Returns the repository of an exchange.
fn repository(exchange: &str) -> Result<Repository, Failure> {
    let name = exchange.strip_prefix("oci://").unwrap_or(exchange);
    name.parse().map_err(|error: InvalidReference| Failure::new(ErrorKind::Input, error))
}

/// Each request says itself how long it may take.
const NO_LIMIT_S: u64 = 0;

pub(crate) fn run(
    arguments: &cli::Work,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Work { shared, exchange, plain_http, batch, backend } = arguments;
    if let Some(backend) = backend {
        return Err(become_worker(backend, global));
    }
    let Some(batch) = batch else { return Ok(done()) };
    let workspace = environment::workspace(global, NO_LIMIT_S, cancel)?;
    let mut host = nvml::probe(environment::nvml_library().as_deref());
    environment::visible_devices().apply(&mut host);
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let folder;
    let scratch;
    let (exchange, only): (&dyn Exchange, Option<usize>) = match (shared, exchange) {
        (Some(shared), _) => {
            folder = SharedFolder::at(shared);
            (&folder, None)
        }
        (None, Some(exchange)) => {
            let options = Scratch::options(*plain_http, environment::registry_credentials());
            let watch = Watch { cancelled: &cancelled, notice: &notice };
            scratch = Scratch::new(repository(exchange)?, options, watch, environment::temporary_folder());
            (&scratch, environment::job_index()?)
        }
        (None, None) => return Ok(done()),
    };
    let options = WorkOptions { exchange, batch: batch.clone(), only, claim: environment::claim(), host };
    let on_request = |id: &str| output.talk(&format!("request {id}"));
    let answered =
        work(&workspace, &options, &on_request).map_err(|error| Failure::new(error.kind(), error))?;
    if cancel.is_cancelled() {
        return Err(Failure::new(ErrorKind::Interrupted, anyhow::anyhow!("interrupted")));
    }
    output.result(&format!("{answered} requests answered\n"), &View { schema: "nimctl.work/1", answered });
    Ok(done())
}
