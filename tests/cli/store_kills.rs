//! One store through everything: `kill -9` at random moments, eight processes at once, a full disk. `cargo xtask stress store` does the
//! same many more times.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::home::{Home, Printed};

/// How many processes are killed; `cargo xtask stress store` sets it.
const KILLS: (&str, u64) = ("NIMCTL_TEST_KILLS", 10);
/// How often eight processes are started.
const ROUNDS: (&str, u64) = ("NIMCTL_TEST_ROUNDS", 1);
/// Decides when who is killed.
const SEED: (&str, u64) = ("NIMCTL_TEST_SEED", 21);
/// Models differ in the seed of their weights, of which there are as many.
const MODELS: u64 = 3;
/// Profiles of a recipe.
const PROFILES: usize = 3;

fn setting((name, default): (&str, u64)) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

fn recipe(model: &str, seed: u64) -> String {
    format!(
        "schema: nimctl.recipe/1\nmodel: {{ name: {model}, release: 1.0.0 }}\ngraphs:\n  vision:\n    source: {{ synth: {{ model: nvclip, size: \
         tiny, tower: vision, seed: {seed} }} }}\n    shapes: {{ IMAGE: {{ min: [1, 3, 224, 224], opt: [8, 3, 224, 224], max: [64, 3, \
         224, 224] }} }}\nprofiles:\n  - {{ backend: onnxruntime, precisions: [fp32, fp16], targets: generic }}\n  - {{ backend: fake, \
         precisions: [fp16], targets: {{ compute_capabilities: [\"8.9\"] }} }}\n"
    )
}

/// A home whose models are generated.
fn home() -> Home {
    let home = Home::new();
    for seed in 0..MODELS {
        home.write("r.yaml", recipe("m", seed));
        home.set_up(&["build", "r.yaml", "--store", "warm"]).exits(0);
    }
    fs_err::remove_dir_all(home.path("warm")).unwrap();
    home
}

/// Fails if anything in the store is lost or wrong. What killed processes left unfinished is neither.
#[track_caller]
fn nothing_is_wrong(home: &Home, store: &str, after: &str) {
    if !home.path(store).join("blobs/sha256").is_dir() {
        return;
    }
    let checked = home.set_up(&["store", "fsck", "--check-only", "--store", store]);
    assert_eq!(checked.code, Some(0), "after {after}:\n{checked}");
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs_err::read_dir(folder).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

fn bytes_in(folder: &Path) -> u64 {
    names_in(folder)
        .iter()
        .map(|name| fs_err::metadata(folder.join(name)).map_or(0, |found| found.len()))
        .sum()
}

/// Runs a command again and again, and kills it at random moments, until it gets to its end.
struct Killer<'a> {
    home: &'a Home,
    random: fastrand::Rng,
    left: u64,
    killed: u64,
}

impl Killer<'_> {
    fn until_done(
        &mut self,
        arguments: &[&str],
        before: &mut dyn FnMut(),
        after: &mut dyn FnMut(&str),
    ) -> Printed {
        let mut about_ms = 250;
        loop {
            before();
            let start = Instant::now();
            let mut command = self.home.command(arguments);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // One in five is left alone.
            if self.left > 0 && self.random.u8(..5) > 0 {
                std::thread::sleep(Duration::from_millis(self.random.u64(..about_ms)));
                let _ = child.kill();
            }
            let output = child.wait_with_output().unwrap();
            match output.status.code() {
                Some(_) => {
                    let printed = self.home.printed(&output);
                    printed.exits(0);
                    after("its end");
                    return printed;
                }
                None => {
                    (self.left, self.killed) = (self.left - 1, self.killed + 1);
                    about_ms = about_ms.max(start.elapsed().as_millis() as u64);
                    after("a kill");
                }
            }
        }
    }
}

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nothing_is_done_again() {
    let home = home();
    let random = fastrand::Rng::with_seed(setting(SEED));
    let mut killer = Killer { home: &home, random, left: setting(KILLS), killed: 0 };
    let mut cycle = 0;
    while killer.left > 0 {
        home.write("r.yaml", recipe("m", cycle % MODELS));
        cycle += 1;
        build(&home, &mut killer);
        publish(&home, &mut killer);
        pull(&home, &mut killer);
        for store in ["built", "pulled"] {
            let gc = ["store", "gc", "--keep-last", "1", "--store", store];
            killer.until_done(&gc, &mut || (), &mut |what| {
                nothing_is_wrong(&home, store, &format!("gc and {what}"))
            });
            let listed = home.set_up(&["store", "ls", "--store", store, "--output", "json"]).json();
            let profiles = listed["profiles"].as_array().unwrap();
            assert_eq!(profiles.len(), PROFILES, "{listed:#}");
            assert!(profiles.iter().all(|profile| profile["complete"] == true), "{listed:#}");
        }
        fs_err::remove_dir_all(home.path("layout")).unwrap();
    }
    // Nothing is left behind, once the next processes have been there.
    for store in ["built", "pulled"] {
        home.set_up(&["store", "fsck", "--store", store]).exits(0);
        home.set_up(&["store", "gc", "--store", store]).exits(0);
        let checked = home.set_up(&["store", "fsck", "--store", store, "--output", "json"]).exits(0).json();
        assert_eq!(checked["findings"].as_array().unwrap().len(), 0, "{checked:#}");
        assert_eq!(names_in(&home.path(store).join("tmp")), BTreeSet::new());
        assert_eq!(names_in(&home.path(store).join("nimctl/partial")), BTreeSet::new());
    }
    assert!(killer.killed > 0, "nobody was killed");
}

fn build(home: &Home, killer: &mut Killer<'_>) {
    let records = home.path("built/nimctl/builds");
    let mut done = BTreeSet::new();
    let done = std::cell::RefCell::new(&mut done);
    let printed = killer.until_done(
        &["build", "r.yaml", "--store", "built", "--output", "json"],
        &mut || **done.borrow_mut() = names_in(&records),
        &mut |what| {
            assert!(names_in(&records).is_superset(*done.borrow()), "after {what}: a record is lost");
            nothing_is_wrong(home, "built", &format!("build and {what}"));
        },
    );
    let view = printed.json();
    for job in view["jobs"].as_array().unwrap() {
        let record = job["key"].as_str().unwrap().trim_start_matches("sha256:").to_owned() + ".json";
        let ran = !job["reason"].is_null();
        assert!(!(ran && done.borrow().contains(&record)), "done again: {job:#}");
    }
    let again = home.set_up(&["build", "r.yaml", "--store", "built"]);
    again.exits(0).has(&["nothing to do"]);
}

fn publish(home: &Home, killer: &mut Killer<'_>) {
    let blobs = home.path("layout/blobs/sha256");
    let there = std::cell::Cell::new(0);
    let printed = killer.until_done(
        &["publish", "r.yaml", "--store", "built", "--to", "oci:layout", "--output", "json"],
        &mut || there.set(bytes_in(&blobs)),
        &mut |what| nothing_is_wrong(home, "built", &format!("publish and {what}")),
    );
    let sent = printed.json()["sent_bytes"].as_u64().unwrap();
    // Manifests and the index are written again.
    let all = bytes_in(&blobs);
    assert!(sent <= all - there.get() + 20_000, "{sent} sent of {all}, {} were there", there.get());
}

fn pull(home: &Home, killer: &mut Killer<'_>) {
    let there = std::cell::RefCell::new(BTreeSet::new());
    let blobs = home.path("pulled/blobs/sha256");
    let printed = killer.until_done(
        &["pull", "oci:layout", "--all", "--store", "pulled", "--output", "json"],
        &mut || there.replace(names_in(&blobs)).clear(),
        &mut |what| {
            assert!(names_in(&blobs).is_superset(&there.borrow()), "after {what}: a blob is lost");
            nothing_is_wrong(home, "pulled", &format!("pull and {what}"));
        },
    );
    let view = printed.json();
    let sum = |name: &str| -> u64 {
        view["profiles"].as_array().unwrap().iter().map(|profile| profile[name].as_u64().unwrap()).sum()
    };
    let new: u64 = names_in(&blobs)
        .difference(&there.borrow())
        .map(|name| fs_err::metadata(blobs.join(name)).unwrap().len())
        .sum();
    assert!(sum("fetched_bytes") <= new, "fetched again: {view:#}");
}

#[test]
fn eight_processes_in_one_store() {
    let home = home();
    home.write("a.yaml", recipe("a", 0));
    home.write("b.yaml", recipe("b", 1));
    home.write("c.yaml", recipe("c", 2));
    home.set_up(&["build", "a.yaml", "--store", "origin"]).exits(0);
    home.set_up(&["publish", "a.yaml", "--store", "origin", "--to", "oci:layout"]).exits(0);
    for round in 0..setting(ROUNDS) {
        let store = format!("shared-{round}");
        let build = |recipe| ["build", recipe, "--store", &store, "--output", "json"];
        let pull = ["pull", "oci:layout", "--all", "--store", &store, "--output", "json"];
        let workers = [
            build("b.yaml").to_vec(),
            pull.to_vec(),
            build("b.yaml").to_vec(),
            pull.to_vec(),
            build("c.yaml").to_vec(),
            pull.to_vec(),
        ];
        let over = AtomicBool::new(false);
        let (outputs, collected) = std::thread::scope(|scope| {
            let gc = ["store", "gc", "--keep-last", "1", "--store", &store];
            let collectors: Vec<_> = (0..2)
                .map(|_| {
                    let (command, over) = (home.command(&gc), &over);
                    scope.spawn(move || collect(command, over))
                })
                .collect();
            let children: Vec<_> = workers
                .iter()
                .map(|arguments| {
                    let mut command = home.command(arguments);
                    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
                })
                .collect();
            let outputs: Vec<Output> =
                children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
            over.store(true, Ordering::SeqCst);
            let collected: u64 = collectors.into_iter().map(|collector| collector.join().unwrap()).sum();
            (outputs, collected)
        });
        assert!(collected > 0, "nothing was collected beside them");
        let views: Vec<Value> = outputs.iter().map(|output| home.printed(output).exits(0).json()).collect();
        let mut ran = Vec::new();
        let (mut fetched, mut files) = (0, 0);
        for view in &views {
            for job in view["jobs"].as_array().into_iter().flatten().filter(|job| !job["reason"].is_null()) {
                ran.push(job["key"].as_str().unwrap().to_owned());
            }
            files = files.max(sum(view, "files_bytes"));
            fetched += sum(view, "fetched_bytes");
        }
        let different: BTreeSet<&String> = ran.iter().collect();
        let jobs: BTreeSet<String> = views
            .iter()
            .flat_map(|view| view["jobs"].as_array().into_iter().flatten())
            .map(|job| job["key"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!((ran.len(), different.len()), (jobs.len(), jobs.len()), "each job once: {views:#?}");
        assert!(fetched <= files, "{fetched} bytes were fetched of {files}: {views:#?}");
        nothing_is_wrong(&home, &store, "all");
        let listed = home.set_up(&["store", "ls", "--store", &store, "--output", "json"]).json();
        let profiles = listed["profiles"].as_array().unwrap();
        assert_eq!(profiles.len(), 3 * PROFILES, "{listed:#}");
        assert!(profiles.iter().all(|profile| profile["complete"] == true), "{listed:#}");
        home.set_up(&["build", "b.yaml", "--store", &store]).exits(0).has(&["nothing to do"]);
        let again = home.set_up(&["pull", "oci:layout", "--all", "--store", &store, "--output", "json"]);
        assert_eq!(sum(&again.exits(0).json(), "fetched_bytes"), 0);
        fs_err::remove_dir_all(home.path(&store)).unwrap();
    }
}

fn sum(view: &Value, name: &str) -> u64 {
    view["profiles"].as_array().into_iter().flatten().filter_map(|profile| profile[name].as_u64()).sum()
}

/// Collects garbage until the others are done; returns how often.
fn collect(mut command: Command, over: &AtomicBool) -> u64 {
    let mut count = 0;
    while !over.load(Ordering::SeqCst) {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => count += 1,
            // The others have not made it yet.
            Some(1) if said.contains("there is no store") => {}
            _ => panic!("{}{said}", String::from_utf8_lossy(&output.stdout)),
        }
    }
    count
}

/// A file system of a few megabytes, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it.
    ///
    /// # Panics
    /// It can't be mounted. `cargo xtask test` leaves these tests out then.
    fn mount(folder: &Path, megabytes: u64) -> Self {
        fs_err::create_dir_all(folder).unwrap();
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder).output().unwrap();
        let said = String::from_utf8_lossy(&mounted.stderr);
        assert!(mounted.status.success(), "a tmpfs can only be mounted by root: {said}");
        Self(folder.into())
    }

    /// Fills it up to the last block once `begun` says so.
    fn fill(&self, begun: impl Fn() -> bool, over: &AtomicBool) {
        while !begun() {
            if over.load(Ordering::SeqCst) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut file = fs_err::File::create(self.filler()).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while std::io::Write::write_all(&mut file, &vec![7; size]).is_ok() {}
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn what_does_not_fit_on_a_small_disk() {
    let home = home();
    home.write("r.yaml", recipe("m", 0));
    home.set_up(&["build", "r.yaml", "--store", "origin"]).exits(0);
    home.set_up(&["publish", "r.yaml", "--store", "origin", "--to", "oci:layout"]).exits(0);
    let pull = ["pull", "oci:layout", "--all", "--store", "disk/store", "--output", "json"];
    let build = ["build", "r.yaml", "--store", "disk/store", "--output", "json", "--jobs", "1"];

    // Too small from the start: that is said before anything is written.
    {
        let _disk = SmallDisk::mount(&home.path("disk"), 2);
        let told: &[&str] = &["the disk of the store", "is full", "bytes are needed and", "are free"];
        home.set_up(&pull).exits(1).has(told);
        home.set_up(&build).exits(1).has(told);
        assert!(bytes_in(&home.path("disk/store/nimctl/partial")) == 0);
        nothing_is_wrong(&home, "disk/store", "a refusal");
    }
    // Filled by others in the middle.
    let store = home.path("disk/store");
    let has_files = |folder: &str| {
        let mut below = walkdir::WalkDir::new(store.join(folder)).into_iter().flatten();
        below.any(|entry| entry.metadata().is_ok_and(|found| found.is_file() && found.len() > 0))
    };
    for (command, begun) in [(&pull[..], "nimctl/partial"), (&build[..], "tmp")] {
        let mut refused = false;
        for _ in 0..30 {
            let disk = SmallDisk::mount(&home.path("disk"), 24);
            let over = AtomicBool::new(false);
            let printed = std::thread::scope(|scope| {
                scope.spawn(|| disk.fill(|| has_files(begun), &over));
                let printed = home.set_up(command);
                over.store(true, Ordering::SeqCst);
                printed
            });
            if printed.code == Some(0) {
                // It was done before the disk was full.
                continue;
            }
            printed.exits(1).has(&["the disk of the store", "is full", "nimctl store gc", "are free"]);
            nothing_is_wrong(&home, "disk/store", "a full disk");
            fs_err::remove_file(disk.filler()).unwrap();
            let whole = bytes_in(&home.path("disk/store/blobs/sha256"));
            let again = home.set_up(command).exits(0).json();
            let fetched = sum(&again, "fetched_bytes");
            let all = bytes_in(&home.path("disk/store/blobs/sha256"));
            assert!(fetched <= all - whole, "fetched again: {again:#}");
            home.set_up(&["store", "fsck", "--store", "disk/store"]).exits(0);
            refused = true;
            break;
        }
        assert!(refused, "the disk was never full in time: nimctl {}", command.join(" "));
    }
}
