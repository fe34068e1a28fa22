//! The commands, how they are disturbed, and what they must give.

#![expect(
    clippy::disallowed_methods,
    reason = "processes are started to be killed, and nothing written is kept"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::leftovers::passport_is_right;
use super::paths_in;
use super::random::Random;
use crate::project::Variables;

/// The recipes differ in the seed of their weights.
const RECIPES: u64 = 3;
const KINDS: [&str; 6] = ["build", "validate", "bench", "release", "report", "select"];
/// The exit code of what was interrupted.
const INTERRUPTED: i32 = 130;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// A command is disturbed within this time.
const DISTURBED_WITHIN_MS: u64 = 4000;

/// How often commands ended how.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<(String, String), u64>);

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().map(|((kind, how), count)| format!("{kind} {how}: {count}"));
        f.write_str(&lines.collect::<Vec<_>>().join(", "))
    }
}

/// What is done to a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    None,
    Kill,
    Terminate,
}

/// Where everything is, and what is right.
pub(super) struct Place {
    nimctl: PathBuf,
    variables: Variables,
    folder: PathBuf,
    /// The manifest of each recipe, and the ids in it.
    manifests: Vec<(Vec<u8>, BTreeSet<String>)>,
}

impl Place {
    /// Writes the recipes and builds each once.
    pub(super) fn make(nimctl: PathBuf, variables: Variables, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder.join("out"))?;
        let mut place = Self { nimctl, variables, folder: folder.into(), manifests: Vec::new() };
        for number in 0..RECIPES {
            std::fs::write(folder.join(recipe_name(number)), recipe(number))?;
            let built = place.command(&["build", &recipe_name(number), "--quiet"]).output()?;
            ensure!(built.status.success(), "the first build failed: {}", text(&built.stderr));
            let manifest = std::fs::read(place.manifest(number))?;
            let ids = text(&manifest)
                .lines()
                .filter_map(|line| {
                    Some(line.trim().trim_start_matches("- ").strip_prefix("id: ")?.to_owned())
                })
                .collect::<BTreeSet<String>>();
            ensure!(!ids.is_empty(), "the manifest has no ids:\n{}", text(&manifest));
            place.manifests.push((manifest, ids));
        }
        Ok(place)
    }

    /// Returns where releases and reports are written.
    pub(super) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    /// Runs a command at random, disturbs it or not, and checks what came of it.
    pub(super) fn step(&self, process: u64, random: &mut Random, tally: &Mutex<Tally>) -> Result<()> {
        let kind = KINDS[random.below(KINDS.len() as u64) as usize];
        let number = random.below(RECIPES);
        // Some releases go to one place, where only the first can be.
        let destination = match random.below(3) {
            0 => "out/shared".to_owned(),
            _ => format!("out/{process}"),
        };
        let disturbance = match random.below(5) {
            0 => Disturbance::Kill,
            1 => Disturbance::Terminate,
            _ => Disturbance::None,
        };
        let after = Duration::from_millis(random.below(DISTURBED_WITHIN_MS));
        let arguments = self.arguments(kind, number, process, &destination);
        let child = self
            .command(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = disturbed(child, disturbance, after)?;
        let how = self.judge(kind, number, &destination, disturbance, &output).with_context(|| {
            format!(
                "nimctl {}\n{}\n{}\n{}",
                arguments.join(" "),
                output.status,
                text(&output.stdout),
                text(&output.stderr)
            )
        })?;
        if let Ok(mut tally) = tally.lock() {
            *tally.0.entry((kind.into(), how.into())).or_default() += 1;
        }
        Ok(())
    }

    fn arguments(&self, kind: &str, number: u64, process: u64, destination: &str) -> Vec<String> {
        let recipe = recipe_name(number);
        let manifest = self.manifest(number).display().to_string();
        let short = ["--rounds", "1", "--budget-ms", "100"];
        let words: Vec<&str> = match kind {
            "build" => vec!["build", &recipe, "--quiet"],
            "validate" => vec!["validate", &recipe, "--output", "json", "--quiet"],
            "bench" => [&["bench", &recipe, "--output", "json", "--quiet"], &short[..]].concat(),
            "release" => [&["release", &recipe, "-o", destination, "--quiet"], &short[..]].concat(),
            "report" => {
                return ["report", &recipe, "-o", &format!("out/{process}.html")].map(str::to_owned).into();
            }
            _ => vec!["select", "-m", &manifest, "--device", "none", "--output", "json"],
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// Says how a command ended, if that is right.
    fn judge(
        &self,
        kind: &str,
        number: u64,
        destination: &str,
        disturbance: Disturbance,
        output: &Output,
    ) -> Result<&'static str> {
        self.passports()?;
        let (code, signal) = (output.status.code(), output.status.signal());
        match (disturbance, code, signal) {
            (Disturbance::Kill, _, Some(SIGKILL)) => return Ok("killed"),
            // At once after its start it has no handler yet.
            (Disturbance::Terminate, Some(INTERRUPTED), _) | (Disturbance::Terminate, _, Some(SIGTERM)) => {
                return Ok("interrupted");
            }
            (_, Some(0), _) => {}
            (_, Some(1), _) if kind == "release" && text(&output.stderr).contains("already exists") => {
                return Ok("refused, because it is there");
            }
            _ => bail!("it ended wrongly"),
        }
        let (manifest, ids) = &self.manifests[number as usize];
        match kind {
            "build" => ensure!(
                std::fs::read(self.manifest(number))? == *manifest,
                "the manifest is no longer what it was"
            ),
            "validate" => {
                let view: Value = serde_json::from_slice(&output.stdout)?;
                let profiles = view["profiles"].as_array().context("no profiles")?;
                ensure!(profiles.len() == ids.len(), "not all profiles were validated");
                ensure!(profiles.iter().all(|profile| profile["verdict"] == "passed"), "one did not pass");
            }
            "bench" => {
                let view: Value = serde_json::from_slice(&output.stdout)?;
                let profiles = view["profiles"].as_array().context("no profiles")?;
                let is_measured = |profile: &Value| profile["bench"]["measured"]["cases"].is_array();
                ensure!(profiles.len() == ids.len(), "not all profiles were measured");
                ensure!(profiles.iter().all(is_measured), "one was not measured");
            }
            "release" => {
                let release = self.folder.join(destination);
                let mut tar = release.clone().into_os_string();
                tar.push(".tar");
                for path in [release.as_os_str(), &tar] {
                    let verified = self.command(&["verify"]).arg(path).output()?;
                    ensure!(verified.status.success(), "it does not verify: {}", text(&verified.stderr));
                }
                std::fs::remove_dir_all(&release)?;
                std::fs::remove_file(&tar)?;
            }
            "select" => {
                let selected = text(&output.stdout);
                ensure!(ids.iter().any(|id| selected.contains(id)), "it selected something else");
            }
            _ => {}
        }
        Ok("done")
    }

    /// Checks every passport that is there.
    fn passports(&self) -> Result<()> {
        for path in paths_in(&self.folder.join("store/nimctl/passports")) {
            let is_passport = path.extension().is_some_and(|extension| extension == "json");
            if is_passport {
                let text = std::fs::read_to_string(&path)?;
                passport_is_right(&text).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Runs each command once more for each recipe.
    pub(super) fn last_round(&self) -> Result<()> {
        // A release that was killed between its tar's name and its folder's leaves a whole tar.
        for path in paths_in(&self.out()) {
            if path.extension().is_some_and(|extension| extension == "tar") {
                let verified = self.command(&["verify"]).arg(&path).output()?;
                ensure!(verified.status.success(), "{} is not whole", path.display());
                std::fs::remove_file(&path)?;
            } else if path.is_dir() && !path.to_string_lossy().contains("/.nimctl-") {
                let verified = self.command(&["verify"]).arg(&path).output()?;
                ensure!(verified.status.success(), "{} is not whole", path.display());
                std::fs::remove_dir_all(&path)?;
            }
        }
        // Workers whose nimctl was killed end when they notice.
        std::thread::sleep(Duration::from_secs(2));
        for number in 0..RECIPES {
            for kind in KINDS {
                let arguments = self.arguments(kind, number, 0, "out/last");
                let output =
                    self.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).output()?;
                self.judge(kind, number, "out/last", Disturbance::None, &output).with_context(|| {
                    format!("at the end: nimctl {}: {}", arguments.join(" "), text(&output.stderr))
                })?;
            }
        }
        Ok(())
    }

    fn manifest(&self, number: u64) -> PathBuf {
        self.folder.join(format!("manifests/r{number}/model_manifest.yaml"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.nimctl);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("NIMCTL_DATA_DIR", self.folder.join("data"));
        command.env("NIMCTL_STORE", self.folder.join("store"));
        command
    }
}

/// Disturbs a command after some time, unless it has ended by then, and waits for it.
fn disturbed(mut child: Child, disturbance: Disturbance, after: Duration) -> Result<Output> {
    if disturbance == Disturbance::None {
        return Ok(child.wait_with_output()?);
    }
    std::thread::sleep(after);
    if child.try_wait()?.is_none() {
        match disturbance {
            Disturbance::None => {}
            Disturbance::Kill => child.kill()?,
            Disturbance::Terminate => {
                Command::new("kill").args(["-TERM", &child.id().to_string()]).output().context("kill")?;
            }
        }
    }
    Ok(child.wait_with_output()?)
}

fn recipe_name(number: u64) -> String {
    format!("r{number}.yaml")
}

fn recipe(number: u64) -> String {
    let seed = 20 + number;
    format!(
        "schema: nimctl.recipe/1\nmodel: {{ name: stress-{number}, release: 1.0.0 }}\ngraphs:\n  text:\n    source: {{ synth: {{ \
         model: nvclip, size: tiny, tower: text, seed: {seed} }} }}\n    shapes: {{ TEXT: {{ min: [1, 77], opt: [2, 77], max: [4, \
         77] }} }}\n    samples: {{ TEXT: {{ integers: {{ low: 0, high: 1024 }} }} }}\nprofiles:\n  - {{ backend: onnxruntime, \
         precisions: [fp32, fp16], targets: generic }}\n"
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
