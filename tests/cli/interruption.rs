//! Ctrl-C and `kill -9` in the middle of a build.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::home::Home;
use crate::recipes::{FAKE, GENERIC, home_with_graph};

/// Starts a build whose worker hangs, and waits until the worker has written its grandchild's process id.
fn start_hanging_build(home: &Home) -> (Child, u32) {
    let file = home.path("grandchild");
    let mut command = home.command(&["build", "r.yaml", "--jobs", "1"]);
    command.env("FAKE_BEHAVIOUR", "grandchild").env("FAKE_FILE", &file);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = wait_for(|| fs_err::read_to_string(&file).ok()?.trim().parse().ok());
    (child, id)
}

pub(crate) fn wait_for<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "waited too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn is_alive(process_id: u32) -> bool {
    let status = fs_err::read_to_string(Path::new("/proc").join(process_id.to_string()).join("status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

#[test]
fn ctrl_c_ends_the_workers_and_keeps_what_was_finished() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    let (child, grandchild) = start_hanging_build(&home);
    signal(&child, rustix::process::Signal::INT);
    insta::assert_snapshot!("interrupted", home.printed(&child.wait_with_output().unwrap()).exits(130));
    wait_for(|| (!is_alive(grandchild)).then_some(()));
    assert!(!home.path("manifests").exists());
    assert_eq!(
        fs_err::read_dir(home.path("data/store/tmp")).unwrap().count(),
        0,
        "files in the making were left"
    );
    home.run(&["build", "r.yaml"]).exits(0);
    insta::assert_snapshot!("after_the_interruption", home.transcript());
}

#[test]
fn a_killed_build_leaves_nothing_that_hinders_the_next() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    let (mut child, grandchild) = start_hanging_build(&home);
    signal(&child, rustix::process::Signal::KILL);
    child.wait().unwrap();
    // A worker of ours ends when its standard input closes; the scripted one sleeps on, in its own process group.
    let grandchild = rustix::process::Pid::from_raw(i32::try_from(grandchild).unwrap());
    let group = rustix::process::getpgid(grandchild).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    assert!(!home.path("manifests").exists());
    home.run(&["build", "r.yaml"]).exits(0);
    assert_eq!(fs_err::read_dir(home.path("data/store/tmp")).unwrap().count(), 0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn two_builds_into_one_store_take_turns() {
    let home = home_with_graph(GENERIC);
    let builds: Vec<Child> = (0..4)
        .map(|_| {
            home.command(&["build", "r.yaml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for build in builds {
        home.printed(&build.wait_with_output().unwrap()).exits(0).has(&["onnx-fp32"]);
    }
}

/// A pipe that nobody writes to blocks the read: nothing looks at the flag.
#[test]
fn one_signal_is_enough_whatever_is_being_done() {
    let home = Home::new();
    let pipe = home.path("r.yaml");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for kind in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut command = home.command(&["recipe", "check", "r.yaml"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(|| catches(&child, kind).then_some(()));
        let start = Instant::now();
        signal(&child, kind);
        home.printed(&child.wait_with_output().unwrap()).exits(130).has(&["error: interrupted"]);
        assert!(start.elapsed() < Duration::from_secs(5), "{kind:?}: {:?}", start.elapsed());
    }
}

/// `nohup` starts a program with SIGHUP ignored, and means that it stays so.
#[test]
fn a_hang_up_that_is_ignored_stays_ignored() {
    let home = home_with_graph(FAKE);
    let file = home.path("grandchild");
    let program = home.command(&[]).get_program().to_owned();
    let command = home.command(&[]);
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(program)
        .args(["build", "r.yaml", "--jobs", "1"]);
    shell.current_dir(home.folder()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("FAKE_BEHAVIOUR", "grandchild").env("FAKE_FILE", &file);
    let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(|| fs_err::read_to_string(&file).ok()?.trim().parse::<u32>().ok());
    assert!(!catches(&child, rustix::process::Signal::HUP));
    signal(&child, rustix::process::Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(is_alive(child.id()));
    signal(&child, rustix::process::Signal::INT);
    home.printed(&child.wait_with_output().unwrap()).exits(130);
}

/// Returns whether a process has a handler for a signal.
fn catches(child: &Child, signal: rustix::process::Signal) -> bool {
    let status = fs_err::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
    u64::from_str_radix(mask, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}
