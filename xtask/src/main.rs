//! The project's own tasks: `cargo xtask <task>`. Whatever a user may want of a model is a verb of `nimctl`; here is
//! what only this repository needs.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "tasks talk to the person who runs them")]

mod bare_root;
mod bench;
mod bindings;
mod build_engines;
mod ci;
mod codegen;
mod dist;
mod glibc;
mod gpu_kit;
mod libclang;
mod peers;
mod project;
mod release;
mod set_up;
mod stress;
mod test;
mod test_gpu;
mod tidy;

use std::process::ExitCode;

use project::Project;

const TASKS: &str = "\
Usage: cargo xtask <task> [arguments]

Tasks:
  build-engines [RECIPE...] [OPTIONS]  set everything up, then build the profiles of recipes
                                       [default: recipes/nvclip-demo.yaml]; OPTIONS are those of `nimctl build`, and
                                       --release, which compiles nimctl and its workers in the release profile
  release [RECIPE...] [OPTIONS]        set everything up, then make a release [default: the demo's]; OPTIONS are those of
                                       `nimctl release`, and --release as above
  test [ARGS...]                       set everything up, then run all tests; ARGS go to the test runner, and then
                                       only what they select is run
  dist [--out DIR] [--key FILE [--certificate FILE] [--chain FILE]...]
                                       build nimctl and its workers for hosts with glibc 2.28 or later, and pack them with
                                       what a GPU host needs into a tar [default: target/dist], beside it a bill of materials,
                                       digests and, with a key, a signature; a clone in another folder gives the same bytes
  dist --try DIR                       try such a tar: release, sign and publish a small model here, then pull, verify and run
                                       it in a bare root that has nothing but the tar (root only)
  gpu-kit -o DIR                       make a folder, in parts of at most 60 MB, that tries everything on a GPU host
  gpu-kit --try DIR                    try such a folder on this machine, in a bare root with a stand-in driver
  stress [--minutes N] [--seed N]      four processes in one store, some killed or interrupted, for N minutes [default:
                                       10]: every result must be right or interrupted, and nothing left behind
  stress store [--kills N] [--rounds N] [--seed N]
                                       kill N processes [default: 200] that build, publish, pull and collect garbage; let
                                       eight do so at once, N times [default: 20]; fill a disk (root only): nothing may be
                                       lost, wrong or done again
  test-gpu [ARGS...]                   set everything up, then run the tests that need a GPU; without one they fail

Paths are relative to the repository's root. Without --release, executables are those of the dev profile;
CARGO_TARGET_DIR and NIMCTL_DATA_DIR are respected.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    if matches!(task.as_str(), "" | "help" | "--help" | "-h") {
        println!("{TASKS}");
        return ExitCode::SUCCESS;
    }
    let run = || -> anyhow::Result<ExitCode> {
        let project = Project::find()?;
        let done = |()| ExitCode::SUCCESS;
        match task.as_str() {
            "build-engines" => build_engines::run(&project, &arguments),
            "release" => release::run(&project, &arguments),
            "test" => test::run(&project, &arguments).map(done),
            "test-gpu" => test_gpu::run(&project, &arguments).map(done),
            "stress" => stress::run(&project, &arguments).map(done),
            "dist" => dist::run(&project, &arguments).map(done),
            "gpu-kit" => gpu_kit::run(&project, &arguments).map(done),
            "codegen" => codegen::run(&project, &arguments).map(done),
            "tidy" => tidy::run(&project).map(done),
            "bench" => bench::run(&project, &arguments).map(done),
            "ci" => ci::run(&project).map(done),
            unknown => {
                eprintln!("there is no task `{unknown}`\n\n{TASKS}");
                Ok(ExitCode::from(2))
            }
        }
    };
    run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
