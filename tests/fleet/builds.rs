//! What is built where.

use crate::support::Fleet;

#[test]
fn each_profile_is_built_on_a_node_with_its_gpu_with_slurm() {
    let fleet = Fleet::new("fp16");
    let report = fleet.report();
    assert_eq!(
        fleet.places(&report),
        [
            ("fake-h100-sxm-fp16", "hopper/hopper"),
            ("fake-a100-sxm-fp16", "ampere/ampere"),
            ("fake-l4-fp16", "ada/ada"),
            ("onnx-fp32", "here"),
        ]
        .map(|(profile, place)| (profile.to_owned(), place.to_owned()))
    );
    assert_eq!(fleet.built(), ["ada", "ampere", "hopper"]);
    fleet.wait_for_an_empty_queue();
    assert!(fleet.requests_left().is_empty(), "{:?}", fleet.requests_left());
    // Nothing to do: no job is started, and none is asked.
    let jobs = fleet.cluster.jobs().len();
    let second = fleet.report();
    assert_eq!(second["manifest_changed"], false);
    assert_eq!((fleet.cluster.jobs().len(), fleet.built().len()), (jobs, 3));
    // A dry run shows where each job would run.
    fleet.home.write("r.yaml", fleet.home.read("r.yaml").replace("max: [8", "max: [16"));
    let planned = fleet.build(&["--dry-run", "--output", "json"]).exits(0).json();
    let executors: Vec<&str> =
        planned["jobs"].as_array().unwrap().iter().filter_map(|job| job["executor"].as_str()).collect();
    assert_eq!(executors, ["hopper", "ampere", "ada"]);
    assert_eq!(fleet.cluster.jobs().len(), jobs);
}

#[test]
fn a_fleet_file_is_proposed_from_the_cluster_with_slurm() {
    let fleet = Fleet::new("fp16");
    let proposed = fleet.home.run(&["fleet", "discover", "slurm", "--shared", "/scratch"]);
    proposed.exits(0).has(&["  h100:\n", "gres: 'gpu:l4:1'\n      nodes: 1 # ada\n", "gpus: [l4]\n"]);
    let json =
        fleet.home.set_up(&["fleet", "discover", "slurm", "--shared", "/scratch", "--output", "json"]).json();
    fleet.home.write("proposed.yaml", json["fleet"].as_str().unwrap());
    fleet.home.run(&["fleet", "check", "proposed.yaml"]).exits(0);
}
