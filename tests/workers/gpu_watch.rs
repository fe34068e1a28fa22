//! A GPU that is watched while something runs on it, with a driver that is played.

use std::time::{Duration, Instant};

use nimctl::nvml::Watch;

use crate::nvml_stand_in::library;

#[test]
fn a_driver_that_hangs_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let watched = |host: &str, address: &str| {
        let watch = Watch::start(Some(&library(folder.path(), host)), address);
        std::thread::sleep(Duration::from_millis(600));
        let started = Instant::now();
        let found = watch.finish();
        assert!(started.elapsed() < Duration::from_secs(10));
        found
    };
    let hot = watched("HOT", "00000000:00:00.0");
    assert_eq!(hot.problem, None);
    assert!(hot.readings.len() >= 3 && hot.readings.is_sorted_by_key(|reading| reading.at), "{hot:?}");
    let stranger = watched("HOT", "00000000:07:00.0");
    assert!(stranger.problem.unwrap().starts_with("NVML could not find the GPU at 00000000:07:00.0"));
    let hanging = watched("HANGS", "00000000:00:00.0");
    assert_eq!(hanging.problem.as_deref(), Some("NVML did not answer within 2 s"));
}
