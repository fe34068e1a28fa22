//! `nimctl doctor`.

use std::fmt::Write as _;
use std::process::ExitCode;

use nimctl::device::{Device, GpuProcess, Host, Origin, Problem, ProblemKind, ProcessKind};
use nimctl::error_kind::ErrorKind;
use nimctl::toolchain::{self, ToolState, ToolStatus};
use nimctl::worker::discover;

use crate::cli::{self, Global};
use crate::exit::{Failure, code, done};
use crate::output::{Output, harmless};
use crate::table::table;
use crate::{devices, environment};

/// The JSON is the host, as `--device-file` reads it.
pub(crate) fn run(arguments: &cli::Doctor, global: &Global, output: &Output) -> Result<ExitCode, Failure> {
    let host = devices::host(&arguments.devices)?;
    let cli::DeviceArguments { stated, file } = &arguments.devices;
    let is_this_host = stated.is_empty() && file.is_none();
    let tools = if is_this_host { tools(global) } else { String::new() };
    output.result(&text(&host, tools), &host);
    Ok(if is_broken(&host) { ExitCode::from(code(ErrorKind::Unavailable)) } else { done() })
}

/// Returns whether GPU programs will fail on this host although it should have a GPU.
fn is_broken(host: &Host) -> bool {
    let of_host = host.problems.iter().any(|problem| match problem.kind {
        ProblemKind::NoGpu | ProblemKind::NotSupported => false,
        // A container may have access to its own GPUs only.
        ProblemKind::NotPermitted => host.devices.is_empty(),
        ProblemKind::NoLibrary
        | ProblemKind::NoDriver
        | ProblemKind::TooOld
        | ProblemKind::DeviceLost
        | ProblemKind::Other => true,
    });
    let has = |device: &Device, kind| device.problems.iter().any(|problem| problem.kind == kind);
    let too_old = host.devices.iter().any(|device| has(device, ProblemKind::TooOld));
    let closed = |device: &Device| {
        let Device { compute_capability, memory_total_bytes, .. } = device;
        has(device, ProblemKind::NotPermitted)
            && (compute_capability.is_none() && memory_total_bytes.is_none())
    };
    let all_closed = !host.devices.is_empty() && host.devices.iter().all(closed);
    of_host || too_old || all_closed || host.devices.iter().any(Device::is_lost)
}

fn text(host: &Host, tools: String) -> String {
    let sections = [host_table(host), gpus(host), instances(host), processes(host), tools, problems(host)];
    let sections: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    sections.join("\n")
}

fn host_table(host: &Host) -> String {
    if host.origin == Origin::Stated {
        return "these GPUs were given by the user; the driver was not asked\n".into();
    }
    let rows =
        [("driver", &host.driver_version), ("max CUDA", &host.cuda_version), ("NVML", &host.nvml_version)];
    if rows.iter().all(|(_, version)| version.is_none()) {
        // A problem says why.
        return String::new();
    }
    let row = |(what, version): (&str, &Option<String>)| vec![what.into(), optional(version.as_deref())];
    table(&["HOST", ""], &rows.map(row))
}

fn gpus(host: &Host) -> String {
    if host.devices.is_empty() {
        return "no GPUs\n".into();
    }
    let heading = [
        "GPU",
        "NAME",
        "KNOWN AS",
        "CAPABILITY",
        "PCI ID",
        "ADDRESS",
        "FREE",
        "TOTAL",
        "BUSY",
        "ECC",
        "DISPLAY",
        "MIG",
        "PROGRAMS",
        "HIDDEN BY",
    ];
    let rows: Vec<Vec<String>> = host.devices.iter().map(gpu_row).collect();
    let any_hidden = host.devices.iter().any(|device| device.hidden_by.is_some());
    table(&heading[..heading.len() - usize::from(!any_hidden)], &rows)
}

fn gpu_row(device: &Device) -> Vec<String> {
    let programs = match device.processes.len() {
        0 => "-".into(),
        count => format!(
            "{count}, {}",
            gib(device.processes.iter().filter_map(|process| process.memory_bytes).sum())
        ),
    };
    let name = if device.is_lost() {
        format!("{} (LOST)", plain(&device.product_name))
    } else {
        plain(&device.product_name)
    };
    let mut row = vec![
        device.index.to_string(),
        name,
        optional(device.known_as.as_deref()),
        device.compute_capability.map_or_else(|| "-".into(), |capability| capability.to_string()),
        optional(device.pci_id.as_deref()),
        optional(device.pci_address.as_deref()),
        memory(device.memory_free_bytes),
        memory(device.memory_total_bytes) + if device.unified_memory { ", unified" } else { "" },
        device.utilization_percent.map_or_else(|| "-".into(), |percent| format!("{percent} %")),
        on_off(device.ecc_enabled),
        on_off(device.display_active),
        match device.mig_instances.len() {
            0 => on_off(device.mig_enabled),
            count => format!("on, {count}"),
        },
        programs,
    ];
    row.extend(device.hidden_by.as_deref().map(plain));
    row
}

fn instances(host: &Host) -> String {
    let mut rows = Vec::new();
    for device in &host.devices {
        for instance in &device.mig_instances {
            let mut row = vec![
                format!("{}:{}", device.index, instance.index),
                optional(instance.profile.as_deref()),
                memory(instance.memory_free_bytes),
                memory(instance.memory_total_bytes),
                optional(instance.uuid.as_deref()),
            ];
            row.extend(instance.hidden_by.as_deref().map(plain));
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let any_hidden = rows.iter().any(|row| row.len() == 6);
    let heading = ["MIG INSTANCE", "PROFILE", "FREE", "TOTAL", "UUID", "HIDDEN BY"];
    table(&heading[..heading.len() - usize::from(!any_hidden)], &rows)
}

fn processes(host: &Host) -> String {
    let mut rows = Vec::new();
    for device in &host.devices {
        for GpuProcess { pid, name, kind, memory_bytes } in &device.processes {
            let kind = match kind {
                ProcessKind::Compute => "compute",
                ProcessKind::Graphics => "graphics",
            };
            rows.push(vec![
                device.index.to_string(),
                pid.to_string(),
                kind.into(),
                memory(*memory_bytes),
                optional(name.as_deref()),
            ]);
        }
    }
    if rows.is_empty() {
        String::new()
    } else {
        table(&["GPU", "PROCESS", "TYPE", "MEMORY", "PROGRAM"], &rows)
    }
}

/// Lists what nimctl itself needs on a host, without starting or hashing it.
fn tools(global: &Global) -> String {
    let mut rows: Vec<Vec<String>> = match environment::places(global) {
        Ok(places) => toolchain::list(&places).iter().map(tool_row).collect(),
        Err(failure) => vec![vec!["toolchains".into(), failure.message()]],
    };
    let backends = discover::list(&environment::search_path());
    rows.extend(
        backends
            .iter()
            .map(|backend| vec![format!("backend {}", backend.name), backend.path.display().to_string()]),
    );
    if backends.is_empty() {
        rows.push(vec!["backends".into(), "none found".into()]);
    }
    table(&["TOOL", "STATE"], &rows)
}

fn tool_row(status: &ToolStatus) -> Vec<String> {
    let state = match &status.state {
        ToolState::Installed { folder, size_bytes: _ } => format!("installed in {}", folder.display()),
        ToolState::Own { origin: _, library } => format!("yours, {}", library.display()),
        ToolState::NotInstalled => "not installed".into(),
        ToolState::Unusable { reason, hint: _ } => reason.clone(),
    };
    vec![status.tool.to_string(), state]
}

fn problems(host: &Host) -> String {
    let of_host = host.problems.iter().map(|problem| (None, problem));
    let of_devices = host
        .devices
        .iter()
        .flat_map(|device| device.problems.iter().map(move |problem| (Some(device), problem)));
    let mut text = String::new();
    for (device, Problem { kind, message, hint }) in of_host.chain(of_devices) {
        let severity = if *kind == ProblemKind::NoGpu { "note" } else { "problem" };
        let _ = match device {
            None => writeln!(text, "{severity}: {message}"),
            Some(Device { index, product_name, .. }) => {
                writeln!(text, "{severity}: GPU {index} ({}): {message}", plain(product_name))
            }
        };
        if let Some(hint) = hint {
            let _ = writeln!(text, "   hint: {hint}");
        }
    }
    text
}

fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "-".into(), plain)
}

/// Returns a name on one line, without control characters: programs choose their own names.
fn plain(name: &str) -> String {
    harmless(name).replace(['\n', '\t'], " ")
}

fn on_off(fact: Option<bool>) -> String {
    match fact {
        Some(true) => "on".into(),
        Some(false) => "off".into(),
        None => "-".into(),
    }
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), gib)
}

/// Formats a size in GiB, as GPUs are sold.
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
