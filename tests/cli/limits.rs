//! Numbers that would stop a machine are refused before anything starts, and text is read as people save it.

use crate::home::Home;

#[test]
fn numbers_have_limits() {
    let home = Home::new();
    for arguments in [
        &["bench", "r.yaml", "--streams", "100000"][..],
        &["bench", "r.yaml", "--streams", "0"],
        &["bench", "r.yaml", "--streams", "128", "--threads", "1024"],
        &["bench", "r.yaml", "--threads", "1000000"],
        &["bench", "r.yaml", "--rounds", "60000"],
        &["bench", "r.yaml", "--batch", "99999999999"],
        &["bench", "r.yaml", "--budget-ms", "99999999999"],
        &["bench", "r.yaml", "--baseline", "b.json", "--fail-if", "throughput < -150%"],
        &["build", "r.yaml", "--jobs", "60000"],
        &["validate", "r.yaml", "--timeout", "99999999999"],
    ] {
        home.run(arguments);
    }
    insta::assert_snapshot!(home.transcript());
}

/// Some editors write a byte order mark, and some programs UTF-16.
#[test]
fn text_may_begin_with_a_byte_order_mark() {
    let home = Home::new();
    let manifest = "schema_version: '2.0'\nprofiles: []\n";
    home.write("plain.yaml", manifest);
    home.write("mark.yaml", format!("\u{feff}{manifest}"));
    for file in ["plain.yaml", "mark.yaml"] {
        home.run(&["list-model-profiles", "--manifest", file, "--device", "none"]).exits(0);
    }
    let utf_16: Vec<u8> = manifest.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs_err::write(home.path("utf16.yaml"), [&b"\xff\xfe"[..], &utf_16].concat()).unwrap();
    home.run(&["recipe", "check", "utf16.yaml"]).exits(1);
    let device = include_str!("../fixtures/formats/devices.json");
    home.write("device.json", format!("\u{feff}{device}"));
    home.run(&["list-model-profiles", "--manifest", "plain.yaml", "--device-file", "device.json"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}
