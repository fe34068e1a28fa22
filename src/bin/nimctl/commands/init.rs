//! `nimctl init`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nimctl::nvml;
use nimctl::ops::init::{InitOptions, InitReport, init};
use nimctl::profile::ProfileSpec;
use nimctl::recipe::proposal::{DraftGraph, DraftInput, Trial};
use nimctl::worker::host::Cancel;
use serde::Serialize;

use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::table;

/// The maximum time for one run of a graph.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(
    arguments: &cli::Init,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Init { models, gpus, destination, name, release, force, no_trial } = arguments;
    let prints = destination == Path::new("-");
    let gpus = if gpus.is_empty() { gpus_here(output) } else { gpus.clone() };
    let options = InitOptions {
        models: models.clone(),
        gpus,
        destination: (!prints).then(|| destination.clone()),
        force: *force,
        name: name.clone(),
        release: release.clone(),
        try_graphs: !no_trial,
        places: environment::places(global)?,
        search_path: environment::search_path(),
        run_timeout: RUN_TIMEOUT,
        cancel: cancel.clone(),
    };
    let report = init(&options, &|graph| output.talk(&format!("{graph}: running it on ONNX Runtime")))?;
    let view = View::new(&report, options.destination.as_deref());
    if prints && !output.is_json() {
        output.data(&report.yaml);
        output.talk(&text(&report, None));
    } else {
        output.result(&text(&report, options.destination.as_deref()), &view);
    }
    Ok(done())
}

/// Returns the names of this host's GPUs, each once; those that are not known by name can't be built for.
fn gpus_here(output: &Output) -> Vec<String> {
    let mut host = nvml::probe(environment::nvml_library().as_deref());
    environment::visible_devices().apply(&mut host);
    let mut names: Vec<String> = Vec::new();
    for device in host.devices.iter().filter(|device| device.hidden_by.is_none()) {
        match &device.known_as {
            Some(name) if !names.contains(name) => names.push(name.clone()),
            Some(_) => {}
            None => output.warning(&format!(
                "{} is not a GPU that nimctl knows by name: name the nearest one with --gpus",
                device.product_name
            )),
        }
    }
    if !names.is_empty() {
        output.talk(&format!("no --gpus: the recipe is for the GPUs of this host, {}", names.join(", ")));
    }
    names
}

fn text(report: &InitReport, path: Option<&Path>) -> String {
    let InitReport { draft, yaml: _, recipe } = report;
    let mut text = String::new();
    let mut rows = Vec::new();
    for DraftGraph { name, source: _, inputs, dead_end: _, control_flow: _, trial: _ } in &draft.graphs {
        for DraftInput { info, range, sample } in inputs {
            let [min, opt, max] = match range {
                Some(range) => [&range.min, &range.opt, &range.max].map(|shape| format!("{shape:?}")),
                None => {
                    let shape: Vec<String> = info.shape.iter().map(ToString::to_string).collect();
                    let shape = format!("[{}]", shape.join(", "));
                    [shape.clone(), shape.clone(), shape]
                }
            };
            let sample = sample.as_ref().map_or_else(|| "-".into(), ToString::to_string);
            rows.push(vec![name.clone(), info.name.clone(), min, opt, max, sample]);
        }
    }
    text.push_str(&table(&["GRAPH", "INPUT", "MIN", "OPT", "MAX", "SAMPLES"], &rows));
    for DraftGraph { name, source: _, inputs: _, dead_end, control_flow, trial } in &draft.graphs {
        let said = match trial {
            Trial::Runs => "runs on ONNX Runtime in these shapes".into(),
            Trial::NotRun(why) => format!("not tried on ONNX Runtime: {why}"),
            Trial::Narrowed(why) => {
                format!(
                    "runs on ONNX Runtime with these shapes, but failed with the proposed opt shapes: {why}"
                )
            }
            Trial::Fails(why) => {
                format!("fails on ONNX Runtime in every shape that was tried; set `shapes` by hand: {why}")
            }
        };
        let _ = write!(text, "\n{name}: {said}");
        if let Some(why) = dead_end {
            let _ = write!(text, "\n{name}: no TensorRT profile, because {why}");
        } else if let Some(operator) = control_flow {
            let _ = write!(text, "\n{name}: has {operator} nodes, which TensorRT may refuse");
        }
    }
    let names: Vec<String> = recipe.profiles.iter().map(ProfileSpec::name).collect();
    let _ = writeln!(text, "\n\nprofiles: {}", names.join(", "));
    if draft.groups.groups.is_empty() && draft.groups.generic_only.is_empty() {
        text.push_str("no GPU was named and none was found here: add some with --gpus for TensorRT plans\n");
    }
    if !draft.groups.generic_only.is_empty() {
        let gpus = draft.groups.generic_only.join(", ");
        let _ = writeln!(text, "TensorRT no longer builds for {gpus}: the generic profile serves there");
    }
    if let Some(path) = path {
        let path = path.display();
        let _ = write!(
            text,
            "\nwrote {path}; look at the lines with DECIDE, then:\n  nimctl build {path}\n  nimctl validate {path}\n"
        );
    }
    text
}

/// `nimctl.init/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    path: Option<&'a Path>,
    recipe: &'a str,
    graphs: Vec<GraphView<'a>>,
    profiles: Vec<String>,
}

#[derive(Serialize)]
struct GraphView<'a> {
    name: &'a str,
    source: &'a str,
    trial: &'static str,
    reason: Option<&'a str>,
    no_tensorrt_because: Option<&'a str>,
}

impl<'a> View<'a> {
    fn new(report: &'a InitReport, path: Option<&'a Path>) -> Self {
        let InitReport { draft, yaml, recipe } = report;
        let graph =
            |DraftGraph { name, source, inputs: _, dead_end, control_flow: _, trial }: &'a DraftGraph| {
                let (word, reason) = match trial {
                    Trial::Runs => ("runs", None),
                    Trial::NotRun(why) => ("not_run", Some(why.as_str())),
                    Trial::Narrowed(why) => ("narrowed", Some(why.as_str())),
                    Trial::Fails(why) => ("fails", Some(why.as_str())),
                };
                GraphView { name, source, trial: word, reason, no_tensorrt_because: dead_end.as_deref() }
            };
        Self {
            schema: "nimctl.init/1",
            path,
            recipe: yaml,
            graphs: draft.graphs.iter().map(graph).collect(),
            profiles: recipe.profiles.iter().map(ProfileSpec::name).collect(),
        }
    }
}
