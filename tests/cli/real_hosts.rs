//! Hosts as `nimctl doctor --output json` described them where a real driver answered; only the uuids are made up.

use crate::home::Home;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/nvclip-demo/model_manifest.yaml");
/// A virtual machine with one GPU, driver 580.159.04, 2026-11-26.
const H200: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hosts/h200.json");

#[test]
fn an_h200_takes_the_generic_profile() {
    let home = Home::new();
    let host = fs_err::read_to_string(H200).unwrap();
    assert!(host.contains("\"known_as\": \"h200\""), "{host}");
    fs_err::write(home.path("host.json"), &host).unwrap();
    fs_err::copy(DEMO, home.path("model_manifest.yaml")).unwrap();
    let read = home.run(&["doctor", "--device-file", "host.json", "--output", "json"]).exits(0).json();
    let written: serde_json::Value = serde_json::from_str(&host).unwrap();
    assert_eq!(read["devices"], written["devices"]);
    home.run(&["select", "-m", "model_manifest.yaml", "--device-file", "host.json"])
        .exits(0)
        .has(&["onnx-fp16", "no profile built for NVIDIA H200 fits"]);
}
