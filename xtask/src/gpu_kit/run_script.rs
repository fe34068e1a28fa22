//! `run.sh` over a kit of scripts: what it writes when steps pass, fail, hang or lack a part.

use std::path::Path;

use serde_json::Value;
use xshell::{Shell, cmd};

/// Plays `nimctl`: `build` passes, `select` fails with words that JSON has to escape, `validate` never ends.
const NIMCTL: &str = r#"#!/usr/bin/env bash
case $1 in
--version) echo "nimctl 0" ;;
doctor) printf '{"schema": "nimctl.devices/1", "devices": [{"compute_capability": "9.0"}]}\n' ;;
build) printf '{"built": true}\n' && echo "- id: abc" >model_manifest.yaml ;;
select) printf 'a remark\nerror: no "profile" fits\n\tC:\\x\n' >&2 && exit 4 ;;
validate) sleep 60 ;;
*) exit 0 ;;
esac
"#;

/// Lays out a kit whose decompressor copies.
fn make_kit(shell: &Shell, kit: &Path) {
    let part = kit.join("part-1");
    shell.create_dir(&part).unwrap();
    shell.write_file(part.join("run.sh"), super::RUN).unwrap();
    shell.write_file(part.join("needs.txt"), "GLIBC_2.34\n").unwrap();
    shell.write_file(part.join("slices.sha256"), "").unwrap();
    shell.write_file(part.join("xz"), "#!/usr/bin/env bash\nexec cat\n").unwrap();
    let mut list = String::new();
    for (path, text) in [
        ("bin/nimctl", NIMCTL),
        ("bin/gpu-tests", "#!/usr/bin/env bash\nexit 0\n"),
        ("lib/tensorrt-rtx/libtensorrt_rtx.so.1", "elf"),
        ("recipes/x.yaml", "x"),
        ("manifests/nvclip-demo/model_manifest.yaml", "- id: abc\n- id: def\n"),
    ] {
        let file = path.replace('/', "+");
        // In two slices, of which `cat` makes one file again.
        let (head, tail) = text.split_at(text.len() / 2);
        shell.write_file(part.join(format!("{file}.xz.00")), head).unwrap();
        shell.write_file(part.join(format!("{file}.xz.01")), tail).unwrap();
        shell.write_file(kit.join("whole"), text).unwrap();
        let whole = kit.join("whole");
        let digest = cmd!(shell, "sha256sum {whole}").quiet().read().unwrap();
        let digest = digest.split_whitespace().next().unwrap();
        list.push_str(&format!("{digest} 755 {path} part-1/{file}.xz.00 part-1/{file}.xz.01\n"));
    }
    list.push_str("00 644 lib/onnxruntime-cuda/libonnxruntime.so.1 part-2/lib.xz.00\n");
    shell.write_file(part.join("files.txt"), list).unwrap();
}

#[test]
fn the_script_goes_on_after_failures_ends_in_time_and_writes_its_json() {
    let shell = Shell::new().unwrap();
    let folder = shell.create_temp_dir().unwrap();
    let kit = folder.path();
    make_kit(&shell, kit);
    let script = kit.join("part-1/run.sh");
    let out = kit.join("results");
    let printed = cmd!(shell, "bash {script} -o {out} -b 9").quiet().ignore_stderr().read().unwrap();
    let found: Value = serde_json::from_str(&shell.read_file(out.join("kit.json")).unwrap()).unwrap();
    assert_eq!((&found["schema"], &found["finished"]), (&"nimctl.gpu-kit/1".into(), &true.into()));
    assert!(found["seconds"].as_u64().unwrap() <= 14, "{printed}");
    let steps = found["steps"].as_array().unwrap();
    let step = |name: &str| {
        steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no {name} in\n{printed}"))
    };
    let check = |name: &str, status: &str, reason: &str| {
        let step = step(name);
        assert_eq!(step["status"], status, "{step}");
        let found = step["reason"].as_str().unwrap_or_default();
        assert!(found.contains(reason), "expected {reason:?} in {found:?}");
    };
    check("join", "failed", "lib/onnxruntime-cuda/libonnxruntime.so.1: part-2 is not here");
    check("nimctl", "passed", "");
    check("doctor", "passed", "");
    assert_eq!(step("doctor")["result"]["schema"], "nimctl.devices/1");
    assert_eq!(step("build-demo")["command"].as_str().unwrap().split(' ').nth(2), Some("build"));
    check("same-plans", "failed", "not built here: id: def");
    check("select", "failed", "error: no \"profile\" fits");
    assert_eq!(step("select")["exit_status"], 4);
    assert_eq!(step("select")["stderr"], "a remark\nerror: no \"profile\" fits\n\tC:\\x");
    check("validate-demo", "timed-out", "shortened because the time for everything ran out");
    check("gpu-tests", "skipped", "the 9 s for everything are used up");
    assert!(printed.contains("kit.json"), "{printed}");
}
