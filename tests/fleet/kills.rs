//! Whatever is killed at whatever moment: the next build completes, and what was done is not done again.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Fleet, NODES, wait};

/// How many times; `NIMCTL_FLEET_KILLS` asks for more.
fn rounds() -> u64 {
    let more = std::env::var("NIMCTL_FLEET_KILLS").ok().and_then(|text| text.parse().ok());
    more.unwrap_or(5)
}

/// What is killed, or restarted.
const VICTIMS: [&str; 5] = ["coordinator", "worker", "work", "slurmd", "controller"];

/// A number below `limit`, of a sequence that is the same in every run.
fn next(state: &mut u64, limit: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % limit
}

/// Kills every process of the cluster's jobs whose command line has a word.
fn kill_processes(fleet: &Fleet, word: &str) {
    for id in fleet.cluster.processes_of("") {
        let command = fs_err::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(word)
            && let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The builds that nodes began, by request; as often as they began.
fn begun(fleet: &Fleet) -> Vec<String> {
    let log = fs_err::read_to_string(fleet.home.path("built")).unwrap_or_default();
    let request = |line: &str| Some(line.split_once("/requests/")?.1.split_once('/')?.0.to_owned());
    log.lines().filter_map(request).collect()
}

/// The requests that have results.
fn done(fleet: &Fleet) -> BTreeSet<String> {
    let folder = fleet.home.path("shared/exchange-1/requests");
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let with_result = entries.filter(|entry| entry.path().join("result.json").is_file());
    with_result.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn whatever_dies_the_next_build_completes_with_slurm() {
    let fleet = Fleet::with("fp16, fp32", "SlurmdTimeout=5");
    fleet.report();
    fleet.write(|_| String::new(), "FAKE_SECONDS: '0.3'");
    // What the executors are is asked again, since they are others now.
    let mut state = 20_261_127;
    let first = fleet.home.read("r.yaml");
    for round in 0..rounds() {
        fleet.home.write("r.yaml", first.replace("max: [8", &format!("max: [{}", 9 + round)));
        let before = begun(&fleet).len();
        let mut coordinator = fleet.start();
        wait("a node builds", || begun(&fleet).len() > before);
        std::thread::sleep(Duration::from_millis(next(&mut state, 900)));
        let victim = VICTIMS[usize::try_from(next(&mut state, 5)).unwrap()];
        match victim {
            "coordinator" => coordinator.kill().unwrap(),
            "worker" => kill_processes(&fleet, "nimctl-backend-fake"),
            "work" => kill_processes(&fleet, "--batch"),
            "slurmd" => fleet.cluster.restart_node(NODES[usize::try_from(next(&mut state, 3)).unwrap()].0),
            _ => fleet.cluster.restart_controller(),
        }
        let finished = done(&fleet);
        coordinator.wait().unwrap();
        let report = fleet.report();
        assert_eq!(fleet.places(&report).len(), 7, "round {round}: {victim}");
        let begun = begun(&fleet);
        for id in finished {
            let times = begun.iter().filter(|other| **other == id).count();
            assert_eq!(times, 1, "round {round}: {victim}: {id} was done, and was begun again");
        }
        fleet.wait_for_an_empty_queue();
        assert!(fleet.requests_left().is_empty(), "round {round}: {victim}: {:?}", fleet.requests_left());
    }
}
