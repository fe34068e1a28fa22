//! What goes wrong through Kubernetes is told, and leaves nothing.

use std::process::Stdio;

use nimctl::exchange::{Claim, Exchange as _, Look, Scratch};
use nimctl::fleet::exchange::{
    FailureKind, Node, Outcome, REQUEST_SCHEMA, RESULT_SCHEMA, RemoteRequest, RemoteResult, What,
};
use nimctl::registry::{CredentialSource, Watch};

use crate::control_plane::Faults;
use crate::docker::DockerRegistry;
use crate::failures::{check, without_id};
use crate::pods::{Pods, tags_of};
use crate::support::wait;

/// Two commands and two pods on one repository, at the worst moments.
#[test]
fn what_comes_too_late_leaves_nothing_with_docker_registry() {
    for deletes in [true, false] {
        let registry = DockerRegistry::start_with(false, deletes);
        let folder = tempfile::tempdir().unwrap();
        let watch = Watch { cancelled: &|| false, notice: &|_| () };
        let open = || {
            let options = Scratch::options(false, CredentialSource::default());
            Scratch::new(registry.repository("scratch"), options, watch, folder.path().into())
        };
        let request = RemoteRequest {
            schema: REQUEST_SCHEMA.into(),
            what: What::Describe { backends: vec!["fake".into()] },
        };
        let claim = Claim { task: "j_0".into(), node: "n".into() };
        let result = |message: &str| RemoteResult {
            schema: RESULT_SCHEMA.into(),
            node: Node { name: "n".into(), gpus: Vec::new() },
            outcome: Outcome::Failed { kind: FailureKind::Unavailable, message: message.into() },
        };
        let [first, second, early, late] = [open(), open(), open(), open()];
        let put = |exchange: &Scratch<'_>| exchange.put("a", &exchange.stage().unwrap(), &request).unwrap();
        put(&first);
        put(&second);
        assert!(early.claim("a", &claim).unwrap() && late.claim("a", &claim).unwrap());
        assert_eq!(
            (&early.take("a").unwrap().request, &late.take("a").unwrap().request),
            (&request, &request)
        );
        early.finish("a", &result("early"), None).unwrap();
        assert!(!open().claim("a", &claim).unwrap(), "it is answered");
        assert_eq!(first.look_at("a").unwrap(), Look::Done(Box::new(result("early"))));
        first.remove("a").unwrap();
        // The late pod says nothing, and the second command puts its request in again, of which nothing is known.
        late.finish("a", &result("late"), None).unwrap();
        for exchange in [&first, &second] {
            assert_eq!(exchange.look_at("a").unwrap(), Look::Absent);
        }
        put(&second);
        assert_eq!(second.look(&["a"]).unwrap().remove(0).unwrap(), Look::Waiting);
        late.finish("a", &result("again"), None).unwrap();
        assert_eq!(second.look_at("a").unwrap(), Look::Done(Box::new(result("again"))));
        second.remove("a").unwrap();
        let left: Vec<String> = tags_of(&registry).into_iter().filter(|_| deletes).collect();
        assert_eq!(left, Vec::<String>::new());
        assert_eq!(second.batches().unwrap().len(), 0);
    }
}

#[test]
fn what_no_pod_can_do_is_told_with_docker_registry() {
    let pods = Pods::new();
    pods.describe();
    let all = |reason: &str| {
        ["fake-h100-sxm-fp16", "fake-a100-sxm-fp16", "fake-l4-fp16"].map(|name| (name, reason.to_owned()))
    };
    let check_all = |found: Vec<(String, String)>, reason: &str| {
        let expected = all(reason);
        check(&found, &expected.each_ref().map(|(name, reason)| (*name, reason.as_str())));
        assert_eq!((pods.plane.jobs(), pods.tags()), (Vec::new(), Vec::new()));
    };
    pods.plane.set_faults(Faults { has_no_image: true, ..Faults::default() });
    pods.write("max_wait: '00:00:03'");
    pods.describe_again(Faults { has_no_image: true, ..Faults::default() });
    check_all(
        pods.failed(5),
        "can never start (Kubernetes's reason: ImagePullBackOff: not found): correct the executor's keys",
    );
    pods.plane.set_faults(Faults { is_full: true, ..Faults::default() });
    check_all(
        pods.failed(5),
        "waited for a node for 00:00:03 (Kubernetes's reason: Unschedulable: 0/3 nodes are available: 3",
    );
    pods.write("");
    pods.plane.set_faults(Faults { has_little_memory: true, ..Faults::default() });
    pods.plane.set_image("FAKE_SECONDS", "60");
    let mut build = pods.home.command(&[&Pods::BUILD[..], &["--output", "json"]].concat());
    let build = build.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for round in 1..=3 {
        wait("three pods run", || pods.built().len() == 3 * round);
        pods.plane.kill_pods(false);
    }
    let found = without_id(&pods.home.printed(&build.wait_with_output().unwrap()).exits(5).json());
    check_all(found, "ran out of memory; ask for more with the executor's `memory_mib`");
}

impl Pods {
    /// Makes changed executors known, and then lets something go wrong.
    fn describe_again(&self, faults: Faults) {
        self.plane.set_faults(Faults::default());
        self.describe();
        self.plane.set_faults(faults);
    }
}

#[test]
fn a_job_that_somebody_deletes_is_not_applied_again_with_docker_registry() {
    let pods = Pods::new();
    pods.describe();
    pods.plane.set_image("FAKE_SECONDS", "60");
    let mut build = pods.home.command(&[&Pods::BUILD[..], &["--output", "json"]].concat());
    let build = build.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait("three pods run", || pods.built().len() == 3);
    // Until each has been asked after once.
    let gets = || pods.plane.calls().iter().filter(|call| call.contains("get jobs,pods")).count();
    let asked = gets();
    wait("all are asked after", || gets() >= asked + 4);
    pods.plane.delete_all();
    let found = without_id(&pods.home.printed(&build.wait_with_output().unwrap()).exits(5).json());
    assert!(
        found.iter().all(|(_, reason)| reason.contains("was cancelled, and not by this command")),
        "{found:?}"
    );
    assert_eq!((pods.built().len(), pods.plane.jobs()), (3, Vec::new()));
}

#[test]
fn an_api_that_is_away_for_a_while_is_waited_for_with_docker_registry() {
    let pods = Pods::new();
    pods.describe();
    pods.plane.set_faults(Faults { is_down: true, ..Faults::default() });
    let mut build = pods.start();
    let before = pods.plane.calls().len();
    wait("it is asked several times", || pods.plane.calls().len() > before + 6);
    pods.plane.set_faults(Faults::default());
    assert!(build.wait().unwrap().success());
    assert_eq!(pods.built().len(), 3);
}

#[test]
fn a_machine_without_kubectl_says_so_with_docker_registry() {
    let mut pods = Pods::new();
    pods.home.set("PATH", "/nowhere");
    let found = pods.failed(5);
    let reason = "cannot run `kubectl`: is it installed on this machine?";
    check(&found[..1], &[("fake-h100-sxm-fp16", reason)]);
}
