//! In one command the recipe is parsed once, its graph is resolved once, and each backend is probed once.
//!
//! Nothing in nimctl counts. The kernel tells how often a file was opened (inotify), and a backend's standard input is
//! copied to a file for each of its processes: one that was asked to describe itself, and nothing else, was a probe.
//! A graph is opened several times to resolve it once (to digest it, to read its inputs); how often is seen at a dry run,
//! which does nothing else.

use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::towers::{FP16, TEXT, recipe};
use crate::home::{Home, scripted_backends};
use crate::support::{real, real_folder};

const BORROWED: &str = "  - { backend: borrowed, precisions: [fp16], targets: { gpus: [l4] } }\n";

/// These also run the graph itself, for the numbers that others are compared with.
const RUN_THE_GRAPH: [&str; 2] = ["build, and compare with FP32", "validate, and compute the reference"];

/// What one command did.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    recipe_opened: usize,
    graph_opened: usize,
    /// Probes of the backends `borrowed` and `onnxruntime`.
    probes: [usize; 2],
}

/// Counts how often a file is opened. Opening it again while it is open counts once, unless something was read between.
struct Opens(OwnedFd);

impl Opens {
    fn of(path: &std::path::Path) -> Self {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let flags = WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::CLOSE_NOWRITE;
        inotify::add_watch(&events, path, flags).unwrap();
        Self(events)
    }

    fn count(self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.0, &mut buffer);
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(event) => count += usize::from(event.events().contains(ReadFlags::OPEN)),
                Err(Errno::AGAIN) => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Returns the number of processes of a backend that were only asked to describe themselves, and forgets them.
fn probes(home: &Home, backend: &str) -> usize {
    let folder = home.path("asked").join(backend);
    let mut count = 0;
    for entry in fs_err::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let asked = fs_err::read_to_string(&path).unwrap();
        count += usize::from(asked.lines().all(|line| line.contains("\"describe\"")));
        fs_err::remove_file(path).unwrap();
    }
    count
}

/// Makes a home whose two backends are real ones that write down what they are asked.
fn home() -> Home {
    let home = super::home()
        .with("BORROWED_WORKER", real("onnxruntime").path)
        .with("BORROWED_GPUS", "NVIDIA L4=8.9");
    for (backend, folder) in [("borrowed", scripted_backends()), ("onnxruntime", real_folder())] {
        fs_err::create_dir_all(home.path("asked").join(backend)).unwrap();
        let name = format!("nimctl-backend-{backend}");
        let asked = home.path("asked").join(backend);
        let script = format!("#!/bin/sh\ntee {}/$$ | {}\n", asked.display(), folder.join(&name).display());
        home.write_executable(&format!("backends/{name}"), &script);
    }
    let backends = home.path("backends");
    let home = home.with("NIMCTL_BACKENDS", backends);
    home.set_up(&["model", "synth", "nvclip", "--size", "tiny", "-o", "."]).exits(0);
    let synth = "{ synth: { model: nvclip, size: tiny, tower: text, seed: 20 } }";
    let text = recipe(&[TEXT], &format!("{BORROWED}{FP16}"));
    assert!(text.contains(synth));
    home.write("r.yaml", text.replace(synth, "{ path: text.onnx }"));
    home
}

fn counts(home: &Home, arguments: &[&str]) -> Counts {
    let (recipe, graph) = (Opens::of(&home.path("r.yaml")), Opens::of(&home.path("text.onnx")));
    home.set_up(arguments).exits(0);
    let probes = ["borrowed", "onnxruntime"].map(|backend| probes(home, backend));
    Counts { recipe_opened: recipe.count(), graph_opened: graph.count(), probes }
}

#[test]
fn everything_is_resolved_once_in_a_command() {
    let home = home();
    let quick = ["--rounds", "1", "--budget-ms", "50", "--batch", "1"];
    let all: [(&str, Vec<&str>); 10] = [
        ("build", vec!["build", "r.yaml", "--no-check"]),
        ("build, dry run", vec!["build", "r.yaml", "--dry-run"]),
        (RUN_THE_GRAPH[0], vec!["build", "r.yaml"]),
        ("build, nothing to do", vec!["build", "r.yaml"]),
        (RUN_THE_GRAPH[1], vec!["validate", "r.yaml"]),
        ("validate", vec!["validate", "r.yaml"]),
        ("bench", [&["bench", "r.yaml"], &quick[..]].concat()),
        ("report", vec!["report", "r.yaml", "-o", "report.html"]),
        ("hash-profile", vec!["hash-profile", "r.yaml"]),
        ("release", [&["release", "r.yaml", "-o", "out"], &quick[..4], &["--fresh"]].concat()),
    ];
    let mut table = String::from("recipe opened, graph opened, probes of borrowed, probes of onnxruntime\n");
    let mut failures = Vec::new();
    let all: Vec<(&str, Counts)> =
        all.iter().map(|(name, arguments)| (*name, counts(&home, arguments))).collect();
    let (_, dry) = &all[1];
    for (name, counted) in &all {
        let Counts { recipe_opened, graph_opened, probes } = counted;
        let _ = writeln!(table, "{name}: {recipe_opened}, {graph_opened}, {}, {}", probes[0], probes[1]);
        let once = *recipe_opened == 1 && probes.iter().all(|&probes| probes <= 1);
        let resolved_once = *graph_opened <= dry.graph_opened || RUN_THE_GRAPH.contains(name);
        if !once || !resolved_once {
            failures.push(*name);
        }
    }
    assert!(failures.is_empty(), "more than once: {failures:?}\n{table}");
}
