//! `nimctl backend`.

use std::process::ExitCode;

use nimctl::compute_capability::ComputeCapability;
use nimctl::ops::resolve::FoundBackend;
use nimctl::profile::capability_tag;
use nimctl::worker::discover;
use nimctl::worker::protocol::{Description, Support};
use serde::Serialize;

use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::table;

/// `nimctl.backend-list/1`.
#[derive(Serialize)]
struct View {
    schema: &'static str,
    backends: Vec<BackendView>,
}

#[derive(Serialize)]
struct BackendView {
    name: String,
    path: std::path::PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Description>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) fn run(arguments: &cli::Backend, global: &Global, output: &Output) -> Result<ExitCode, Failure> {
    let cli::Backend::List = arguments;
    let (places, search_path) = (environment::places(global)?, environment::search_path());
    let backends: Vec<BackendView> = discover::list(&search_path)
        .into_iter()
        .map(|discover::FoundBackend { name, path, source: _ }| {
            let found = FoundBackend::find(&name, &search_path, &places);
            match found.and_then(|found| found.description().cloned()) {
                Ok(description) => BackendView { name, path, description: Some(description), error: None },
                Err(error) => BackendView { name, path, description: None, error: Some(error.to_string()) },
            }
        })
        .collect();
    let rows: Vec<Vec<String>> = backends.iter().map(row).collect();
    let text = if rows.is_empty() {
        "no backends found\n".to_owned()
    } else {
        table(&["BACKEND", "LIBRARY", "BUILDS", "RUNS", "FOR"], &rows)
    };
    output.result(&text, &View { schema: "nimctl.backend-list/1", backends });
    Ok(done())
}

fn row(backend: &BackendView) -> Vec<String> {
    let Some(description) = &backend.description else {
        let error = backend.error.clone().unwrap_or_default();
        return vec![backend.name.clone(), "-".into(), "no".into(), "no".into(), error];
    };
    let support = |support: &Support| match support {
        Support::Available => "yes".to_owned(),
        Support::Unavailable(problem) => format!("no: {}", problem.message),
    };
    let library = description
        .library
        .as_ref()
        .map_or_else(|| "-".into(), |library| format!("{} {}", library.name, library.version));
    let capabilities: &[ComputeCapability] = &description.compute_capabilities;
    let capabilities =
        if capabilities.is_empty() { "-".into() } else { capability_tag(capabilities).replace('+', ", ") };
    vec![backend.name.clone(), library, support(&description.build), support(&description.run), capabilities]
}
