//! What dies on the way is done again, and what was done is not.

use crate::support::{Fleet, wait};

#[test]
fn what_runs_when_the_coordinator_dies_is_not_built_twice_with_slurm() {
    let fleet = Fleet::new("fp16");
    fleet.write(|_| String::new(), "FAKE_SECONDS: '3'");
    let mut coordinator = fleet.start();
    wait("every node builds", || fleet.built().len() == 3);
    coordinator.kill().unwrap();
    coordinator.wait().unwrap();
    let report = fleet.report();
    assert_eq!(fleet.built(), ["ada", "ampere", "hopper"]);
    assert_eq!(fleet.places(&report)[0].1, "hopper/hopper");
    fleet.wait_for_an_empty_queue();
    assert!(fleet.requests_left().is_empty(), "{:?}", fleet.requests_left());
}

#[test]
fn an_interrupted_build_cancels_what_it_started_with_slurm() {
    let fleet = Fleet::new("fp16");
    fleet.write(|_| String::new(), "FAKE_SECONDS: '100'");
    let mut coordinator = fleet.start();
    wait("every node builds", || fleet.built().len() == 3);
    let stranger = fleet.cluster.run("sbatch", &["--parsable", "--output=/dev/null", "--wrap=sleep 100"]);
    let id = rustix::process::Pid::from_child(&coordinator);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(coordinator.wait().unwrap().code(), Some(130));
    wait("its jobs are gone", || fleet.jobs_in_queue() == 1);
    assert!(fleet.requests_left().is_empty(), "{:?}", fleet.requests_left());
    fleet.cluster.run("scancel", &[stranger.trim()]);
}

#[test]
fn what_a_dead_node_had_is_built_on_another_with_slurm() {
    let fleet = Fleet::with("fp16", "SlurmdTimeout=5");
    fleet.write(|_| String::new(), "FAKE_SECONDS: '4'");
    let coordinator = fleet.start();
    wait("every node builds", || fleet.built().len() == 3);
    fleet.cluster.kill_node("hopper");
    wait("Slurm knows", || fleet.cluster.states()["hopper"].starts_with("down"));
    fleet.cluster.restart_node("hopper");
    let status = { coordinator }.wait().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(fleet.built(), ["ada", "ampere", "hopper", "hopper"]);
    fleet.wait_for_an_empty_queue();
}

#[test]
fn a_job_that_is_preempted_goes_on_later_with_slurm() {
    let conf = "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\nPartitionName=urgent Nodes=hopper PriorityTier=10";
    let fleet = Fleet::with("fp16", conf);
    fleet.report();
    fleet.home.write("r.yaml", fleet.home.read("r.yaml").replace("max: [8", "max: [16"));
    let keys = |name: &str| if name == "hopper" { "partition: gpu".to_owned() } else { String::new() };
    fleet.write(keys, "FAKE_SECONDS: '3'");
    let mut coordinator = fleet.start();
    wait("every node builds", || fleet.built().len() == 6);
    let urgent =
        ["--parsable", "--partition=urgent", "--gres=gpu:h100:1", "--output=/dev/null", "--wrap=sleep 1"];
    fleet.cluster.run("sbatch", &urgent);
    assert!(coordinator.wait().unwrap().success());
    assert_eq!(fleet.built().iter().filter(|node| *node == "hopper").count(), 3);
    fleet.wait_for_an_empty_queue();
    assert!(fleet.requests_left().is_empty(), "{:?}", fleet.requests_left());
}
