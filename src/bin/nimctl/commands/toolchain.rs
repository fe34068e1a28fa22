//! `nimctl toolchain`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::files::destination;
use nimctl::toolchain::{
    self, Export, ExportedTool, InstallOutcome, Installed, Pip, Tool, ToolState, ToolStatus, Watch,
};
use nimctl::worker::host::Cancel;
use serde::Serialize;

use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::progress::{byte_bar, show_bytes};
use crate::table::{counted, size, table};

pub(crate) fn run(
    arguments: &cli::Toolchain,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    match arguments {
        cli::Toolchain::Install { names } => install(names, global, output, cancel),
        cli::Toolchain::List => {
            let tools = toolchain::list(&environment::places(global)?);
            output.result(&list_text(&tools), &ListView { schema: "nimctl.toolchain-list/1", tools: &tools });
            Ok(done())
        }
        cli::Toolchain::Export { names, destination } => export(names, destination, global, output, cancel),
        cli::Toolchain::Import { source } => import(source, global, output, cancel),
        cli::Toolchain::Path { name } => {
            let located = toolchain::locate(parse(name)?, &environment::places(global)?)?;
            output.result(
                &located.folder.display().to_string(),
                &PathView { schema: "nimctl.toolchain-path/1", tool: &located },
            );
            Ok(done())
        }
    }
}

fn install(names: &[String], global: &Global, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let tools = match names {
        [] => vec![Tool::OnnxRuntime, Tool::TensorrtRtx],
        names => names.iter().map(|name| parse(name)).collect::<Result<_, _>>()?,
    };
    let places = environment::places(global)?;
    let mut all = Vec::new();
    for tool in tools {
        all.push(watched(tool.name(), output, cancel, |watch| {
            toolchain::install(tool, &places, &Pip::default(), watch)
        })?);
    }
    show_installed("nimctl.toolchain-install/1", all, output);
    Ok(done())
}

fn import(source: &Path, global: &Global, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let places = environment::places(global)?;
    let title = source.display().to_string();
    let all = watched(&title, output, cancel, |watch| toolchain::import(source, &places, watch))?;
    show_installed("nimctl.toolchain-import/1", all, output);
    Ok(done())
}

fn export(
    names: &[String],
    destination: &Path,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let tools: Vec<Tool> = names.iter().map(|name| parse(name)).collect::<Result<_, _>>()?;
    destination::check(destination, [])?;
    let places = environment::places(global)?;
    let title = destination.display().to_string();
    let Export { tools, sha256, size_bytes } =
        watched(&title, output, cancel, |watch| toolchain::export(&tools, &places, destination, watch))?;
    let mut text = String::new();
    for ExportedTool { tool, version, files, size_bytes } in &tools {
        text.push_str(&format!("{tool} {version}: {}, {}\n", counted(*files, "file"), size(*size_bytes)));
    }
    text.push_str(&format!("wrote {}, {}\n{sha256}\n", destination.display(), size(size_bytes)));
    let tools = tools
        .into_iter()
        .map(|ExportedTool { tool, version, files, size_bytes }| ExportedView {
            tool,
            version,
            files,
            size_bytes,
        })
        .collect();
    let view = ExportView {
        schema: "nimctl.toolchain-export/1",
        file: destination.into(),
        sha256,
        size_bytes,
        tools,
    };
    output.result(&text, &view);
    Ok(done())
}

/// Does something that shows its progress and can be interrupted.
fn watched<T>(
    title: &str,
    output: &Output,
    cancel: &Cancel,
    work: impl FnOnce(&mut Watch<'_>) -> Result<T, toolchain::ToolchainError>,
) -> Result<T, Failure> {
    let bar = output.shows_progress().then(byte_bar);
    let result = work(&mut Watch {
        progress: &mut |progress| {
            if let Some(bar) = &bar {
                show_bytes(bar, title, progress);
            }
        },
        cancelled: &|| cancel.is_cancelled(),
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(result?)
}

fn show_installed(schema: &'static str, all: Vec<Installed>, output: &Output) {
    let mut views = Vec::new();
    let mut text = String::new();
    for Installed { tool, version, folder, files: _, outcome } in all {
        let what = match &outcome {
            InstallOutcome::Installed => "installed".to_owned(),
            InstallOutcome::AlreadyInstalled => "already installed".to_owned(),
            InstallOutcome::Repaired { reason } => format!("installed again ({reason})"),
        };
        text.push_str(&format!("{tool} {version}: {what} in {}\n", folder.display()));
        views.push(InstalledView { tool, version, folder, outcome: what });
    }
    output.result(&text, &InstallView { schema, tools: views });
}

fn parse(name: &str) -> Result<Tool, Failure> {
    name.parse().map_err(|error: toolchain::UnknownTool| Failure::new(ErrorKind::Input, error))
}

fn list_text(tools: &[ToolStatus]) -> String {
    let rows: Vec<Vec<String>> = tools
        .iter()
        .map(|ToolStatus { tool, package, pinned_version, state }| {
            let state = match state {
                ToolState::Installed { folder, size_bytes } => {
                    format!("installed, {}, {}", size(*size_bytes), folder.display())
                }
                ToolState::Own { origin: _, library } => format!("your own, {}", library.display()),
                ToolState::NotInstalled => "not installed".into(),
                ToolState::Unusable { reason, hint: _ } => reason.clone(),
            };
            vec![
                tool.to_string(),
                pinned_version.clone().unwrap_or_else(|| "-".into()),
                package.clone().unwrap_or_else(|| "-".into()),
                state,
            ]
        })
        .collect();
    table(&["TOOL", "PINNED", "PACKAGE", "STATE"], &rows)
}

#[derive(Serialize)]
struct ListView<'a> {
    schema: &'static str,
    tools: &'a [ToolStatus],
}

#[derive(Serialize)]
struct PathView<'a> {
    schema: &'static str,
    tool: &'a toolchain::Located,
}

#[derive(Serialize)]
struct InstallView {
    schema: &'static str,
    tools: Vec<InstalledView>,
}

#[derive(Serialize)]
struct InstalledView {
    tool: Tool,
    version: String,
    folder: PathBuf,
    outcome: String,
}

#[derive(Serialize)]
struct ExportView {
    schema: &'static str,
    file: PathBuf,
    sha256: Sha256,
    size_bytes: u64,
    tools: Vec<ExportedView>,
}

#[derive(Serialize)]
struct ExportedView {
    tool: Tool,
    version: String,
    files: usize,
    size_bytes: u64,
}
