//! Hosts as `nimctl doctor --output json` described them where a real driver answered; only the uuids are made up.

use crate::home::Home;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/nvclip-demo/model_manifest.yaml");
/// Virtual machines with one GPU each, driver 580.159.04, 2026-11-26 and 27.
const HOSTS: [(&str, &str, &str); 2] = [
    ("h100.json", "h100-sxm", "no profile built for NVIDIA H100 80GB HBM3 fits"),
    ("h200.json", "h200", "no profile built for NVIDIA H200 fits"),
];

#[test]
fn hopper_takes_the_generic_profile() {
    for (file, known_as, warning) in HOSTS {
        let home = Home::new();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hosts");
        let host = fs_err::read_to_string(format!("{folder}/{file}")).unwrap();
        fs_err::write(home.path("host.json"), &host).unwrap();
        fs_err::copy(DEMO, home.path("model_manifest.yaml")).unwrap();
        let read = home.run(&["doctor", "--device-file", "host.json", "--output", "json"]).exits(0).json();
        let written: serde_json::Value = serde_json::from_str(&host).unwrap();
        assert_eq!(read["devices"], written["devices"]);
        assert_eq!(read["devices"][0]["known_as"], known_as);
        home.run(&["select", "-m", "model_manifest.yaml", "--device-file", "host.json"])
            .exits(0)
            .has(&["onnx-fp16", warning]);
    }
}
