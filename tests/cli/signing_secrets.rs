//! A private key, and the password of one, are in nothing that nimctl prints or writes.

use std::process::Output;

use crate::home::Home;
use crate::signing::signing_home;

const PASSWORD: &str = "correct horse";
/// No name of a variable, as a password that someone gives in the place of one.
const TYPED: &str = "secret-of-mine!";

/// Returns each line of a key's Base64.
fn lines(home: &Home, key: &str) -> Vec<String> {
    let text = home.read(key);
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("-----")).map(str::to_owned).collect()
}

/// Fails if anything that was printed or written has a part of the secrets.
#[track_caller]
fn has_no_secret(home: &Home, output: &Output, secrets: &[String]) {
    let signature = fs_err::read(home.path("model.sig")).unwrap_or_default();
    let data = walkdir::WalkDir::new(home.path("data")).into_iter().filter_map(Result::ok);
    let kept =
        data.filter(|entry| entry.file_type().is_file()).map(|entry| fs_err::read(entry.path()).unwrap());
    let places = [output.stdout.clone(), output.stderr.clone(), signature];
    for place in places.into_iter().chain(kept) {
        let place = String::from_utf8_lossy(&place).into_owned();
        for secret in secrets {
            // Half a line is as bad as a whole one, and a debugger's list of bytes too.
            let bytes = format!("{:?}", secret.as_bytes());
            let bytes = bytes.trim_matches(['[', ']']);
            for part in [&secret[..secret.len() / 2], &secret[secret.len() / 2..], bytes] {
                assert!(!place.contains(part), "{part:?} in {place}");
            }
        }
    }
}

#[test]
fn a_private_key_is_never_printed_or_written() {
    let home = signing_home();
    let secrets: Vec<String> = ["p256.key", "p256-sec1.key", "p256-encrypted.key", "rsa.key", "leaf.key"]
        .iter()
        .flat_map(|key| lines(&home, key))
        .chain([PASSWORD.to_owned(), TYPED.to_owned()])
        .collect();
    let (plain, encrypted) = (home.read("p256.key"), home.read("p256-encrypted.key"));
    let broken = plain.replace("-----END", "----END");
    let one_line = plain.replace('\n', "");
    let cases: &[(&[&str], i32)] = &[
        (&["--key", "p256.key"], 0),
        (&["--key", "p256-sec1.key"], 0),
        (&["--key", "p256-encrypted.key", "--password-env", "PASSWORD"], 0),
        (&["--key", "p256-encrypted.key", "--password-env", "WRONG"], 1),
        (&["--key", "p256-encrypted.key", "--password-env", "ABSENT"], 1),
        (&["--key", "p256-encrypted.key", "--password-env", PASSWORD], 1),
        (&["--key", "p256-encrypted.key", "--password-env", TYPED], 1),
        (&["--key", "p256-encrypted.key"], 1),
        (&["--key", "rsa.key"], 1),
        (&["--key-env", "KEY"], 0),
        (&["--key-env", "ENCRYPTED", "--password-env", "WRONG"], 1),
        (&["--key-env", "BROKEN"], 1),
        (&["--key-env", "ONE_LINE"], 1),
        (&["--key", "leaf.key", "--certificate", "leaf-expired.pem"], 1),
        // Where the key itself is given in the place of a name.
        (&["--key-env", &plain], 1),
        (&["--key", &plain], 1),
        (&["--key-fd", &plain], 1),
        (&["--key", "p256.key", "--certificate", &plain], 2),
        (&["--key", "p256.key", &plain], 2),
        (&[&format!("--key-file={plain}")], 2),
    ];
    for (arguments, code) in cases {
        for format in ["text", "json"] {
            let _ = fs_err::remove_file(home.path("model.sig"));
            let mut command = home.command(&[&["sign", "model", "--output", format], *arguments].concat());
            command.envs([
                ("PASSWORD", PASSWORD),
                ("WRONG", TYPED),
                ("KEY", &plain),
                ("ENCRYPTED", &encrypted),
                ("BROKEN", &broken),
                ("ONE_LINE", &one_line),
            ]);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(*code), "{}", String::from_utf8_lossy(&output.stderr));
            has_no_secret(&home, &output, &secrets);
        }
    }
    // A private key in the place of a public one.
    for arguments in [["--key", "p256.key"], ["--key", &plain], ["--certificate-chain", "leaf.key"]] {
        let output = home.command(&[&["verify", "model"][..], &arguments].concat()).output().unwrap();
        assert_ne!(output.status.code(), Some(0));
        has_no_secret(&home, &output, &secrets);
    }
}

#[test]
fn a_secret_is_found_where_it_is() {
    let home = signing_home();
    let secrets = lines(&home, "p256.key");
    let mut output = home.command(&["sign", "model", "--key", "p256.key"]).output().unwrap();
    output.stderr.extend_from_slice(secrets[1].as_bytes());
    let found =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| has_no_secret(&home, &output, &secrets)));
    assert!(found.is_err());
}

/// Where the process is stopped, neither its memory nor a dump of it can be had.
#[test]
fn no_core_dump_has_the_key() {
    let home = signing_home();
    let (_reader, writer) = std::io::pipe().unwrap();
    let (input, held) = std::io::pipe().unwrap();
    // It waits for the key.
    let mut command = home.command(&["sign", "model", "--key", "/dev/stdin"]);
    let mut child = command.stdin(input).stdout(writer).spawn().unwrap();
    let limits = || fs_err::read_to_string(format!("/proc/{}/limits", child.id())).unwrap_or_default();
    let is_set = |limits: &str| {
        limits
            .lines()
            .any(|line| line.starts_with("Max core file size") && line.split_whitespace().nth(4) == Some("0"))
    };
    let tries = (0..500).find(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        is_set(&limits())
    });
    assert!(tries.is_some(), "{}", limits());
    drop(held);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Documents of YAML show the line that is wrong, and a key file is one long string of YAML.
#[test]
fn a_key_in_the_place_of_a_document_is_not_printed() {
    let home = signing_home();
    for key in ["p256.key", "p256-sec1.key", "p256-encrypted.key", "rsa.key"] {
        for line in [
            &["trust", "check", key][..],
            &["verify", "model", "--trust", key],
            &["recipe", "check", key],
            &["build", key],
            &["release", key],
            &["doctor", "--toolchain-lock", key],
            &["manifest", "lint", key],
            &["hash-profile", key],
            &["select", "-m", key],
            &["explain", key],
            &["attest", key, "--key", key],
            &["publish", key, "--to", "oci:place"],
            &["verify", key],
            &["pull", key, "--all"],
            &["mirror", key, "oci:place"],
            &["toolchain", "import", key],
            &["create-model-store", "-m", key, "--model-store", "m"],
            &["verify", "model", "--key", "p256.pub", "--signature", key],
            &["verify", "model", "--certificate-chain", key],
            &["pull", "oci:place", "--key", key],
            &["trust", "init", key, "--model", "m"],
            &["inspect", key],
            &["lower", key, "-o", "lowered.onnx"],
        ] {
            for format in ["text", "json"] {
                let output = home.command(&[line, &["--output", format]].concat()).output().unwrap();
                // `doctor` tells what is wrong, and that it is.
                assert!(!output.status.success() || line[0] == "doctor", "{line:?}");
                has_no_secret(&home, &output, &lines(&home, key));
            }
        }
    }
}
