//! With a trust policy, no release is used that is older than the newest one that was accepted in the store.

use nimctl::digest::Sha256;

use crate::trust_gate::{SELECT, all_accepted, all_refused, home, of, pull};

#[test]
fn releases_do_not_roll_back() {
    let home = home(&["1.0.0", "2.0.0"]);
    pull(&home, "1.0.0", &["-o", "out"]).exits(0);
    all_accepted(&home, "line 3");
    pull(&home, "2.0.0", &["-o", "out-2"]).exits(0);
    let older = "m 1.0.0 is an older release than the one here: 2.0.0 was accepted in this store";
    pull(&home, "1.0.0", &["-o", "new"]).exits(3).has(&[older, "--allow-rollback"]);
    assert!(!home.path("new").exists());
    all_refused(&home, &[older, "nimctl pull PLACE --allow-rollback"]);
    let newest = ["select", "-m", "out-2/model_manifest.yaml", "--device", "none"];
    of(&home, &newest).exits(0);
    // In another store nothing newer was accepted, and without a policy nothing is remembered.
    let other = ["pull", "oci:layout-1.0.0", "--all", "--store", "other", "--signature", "1.0.0.sig"];
    home.set_up(&[&other[..], &["--trust", "keys/trust.yaml"]].concat()).exits(0);
    let freely = ["pull", "oci:layout-1.0.0", "--all", "--store", "t", "--signature", "1.0.0.sig"];
    home.set_up(&[&freely[..], &["--key", "keys/p256.pub"]].concat()).exits(0);
    home.set_up(&[&freely[..], &["--key", "keys/p256.pub", "--allow-rollback"]].concat()).exits(2);
    // On purpose. Then the later one is a later one again.
    pull(&home, "1.0.0", &["--allow-rollback"]).exits(0);
    all_accepted(&home, "line 3");
    of(&home, &newest).exits(0);
    pull(&home, "2.0.0", &[]).exits(0);
    all_refused(&home, &[older]);
}

#[test]
fn a_store_that_forgot_the_newest_release_accepts_none() {
    let home = home(&["1.0.0"]);
    pull(&home, "1.0.0", &["-o", "out"]).exits(0);
    let name = Sha256::of(b"m").to_hex();
    let newest = format!("t/nimctl/newest-releases/{name}.json");
    let whole = home.read(&newest);
    let other = whole.replace("\"m\"", "\"n\"");
    assert_ne!(other, whole);
    for damaged in ["", "{", "{\"schema\": \"nimctl.newest-release/1\"}", &other] {
        home.write(&newest, damaged);
        let reasons = [name.as_str(), "is the newest that was accepted here", "--allow-rollback"];
        all_refused(&home, &reasons);
        pull(&home, "1.0.0", &["-o", "new"]).exits(3).has(&reasons);
        // A repair that took it away would let older ones in.
        home.set_up(&["store", "fsck", "--store", "t"])
            .exits(3)
            .has(&[&format!("newest-releases/{name}.json")]);
        assert_eq!(home.read(&newest), damaged);
    }
    assert!(!home.path("new").exists());
    home.write(&newest, "{\"schema\": \"nimctl.newest-release/2\", \"what\": []}");
    of(&home, SELECT).exits(1).has(&["written by a newer nimctl"]);
    pull(&home, "1.0.0", &["--allow-rollback"]).exits(1).has(&["written by a newer nimctl"]);
    home.write(&newest, &other);
    pull(&home, "1.0.0", &["--allow-rollback"]).exits(0);
    assert_eq!(home.read(&newest), whole);
    all_accepted(&home, "line 3");
    home.set_up(&["store", "fsck", "--store", "t"]).exits(0);
}

#[test]
fn releases_that_cannot_be_compared_are_no_later_ones() {
    let home = home(&["1.0.0", "nightly"]);
    pull(&home, "1.0.0", &[]).exits(0);
    let refused =
        "m nightly can't be compared with 1.0.0, the newest release that was accepted in this store";
    pull(&home, "nightly", &["-o", "out"]).exits(3).has(&[refused, "--allow-rollback"]);
    pull(&home, "nightly", &["-o", "out", "--allow-rollback"]).exits(0);
    pull(&home, "nightly", &[]).exits(0);
    all_accepted(&home, "line 3");
}
