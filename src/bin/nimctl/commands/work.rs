//! `nimctl work`.

use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::exchange::Exchange;
use nimctl::nvml;
use nimctl::ops::fleet::work::{WorkOptions, work};
use nimctl::worker::host::Cancel;
use serde::Serialize;

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

/// Each request says itself how long it may take.
const NO_LIMIT_S: u64 = 0;

pub(crate) fn run(
    arguments: &cli::Work,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Work { shared, batch } = arguments;
    let workspace = environment::workspace(global, NO_LIMIT_S, cancel)?;
    let mut host = nvml::probe(environment::nvml_library().as_deref());
    environment::visible_devices().apply(&mut host);
    let options = WorkOptions {
        exchange: Exchange::at(shared),
        batch: batch.clone(),
        claim: environment::claim(),
        host,
    };
    let on_request = |id: &str| output.talk(&format!("request {id}"));
    let answered =
        work(&workspace, &options, &on_request).map_err(|error| Failure::new(error.kind(), error))?;
    if cancel.is_cancelled() {
        return Err(Failure::new(ErrorKind::Interrupted, anyhow::anyhow!("interrupted")));
    }
    output.result(&format!("{answered} requests answered\n"), &View { schema: "nimctl.work/1", answered });
    Ok(done())
}
