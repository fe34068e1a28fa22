//! `nimctl toolchain`.

use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::toolchain::{self, InstallOutcome, Installed, Pip, Tool, ToolState, ToolStatus, Watch};
use nimctl::worker::host::Cancel;
use serde::Serialize;

use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::progress::{byte_bar, show_bytes};
use crate::table::{size, table};

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
    let mut views = Vec::new();
    let mut text = String::new();
    for tool in tools {
        let bar = output.shows_progress().then(byte_bar);
        let result = toolchain::install(
            tool,
            &places,
            &Pip::default(),
            &mut Watch {
                progress: &mut |progress| {
                    if let Some(bar) = &bar {
                        show_bytes(bar, tool.name(), progress);
                    }
                },
                cancelled: &|| cancel.is_cancelled(),
            },
        );
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let Installed { tool, version, folder, files: _, outcome } = result?;
        let what = match &outcome {
            InstallOutcome::Installed => "installed".to_owned(),
            InstallOutcome::AlreadyInstalled => "already installed".to_owned(),
            InstallOutcome::Repaired { reason } => format!("installed again ({reason})"),
        };
        text.push_str(&format!("{tool} {version}: {what} in {}\n", folder.display()));
        views.push(InstalledView { tool, version, folder, outcome: what });
    }
    output.result(&text, &InstallView { schema: "nimctl.toolchain-install/1", tools: views });
    Ok(done())
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
    folder: std::path::PathBuf,
    outcome: String,
}
