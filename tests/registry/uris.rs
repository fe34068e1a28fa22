//! `pull` of manifests whose uris say where the files are.

use std::path::Path;

use nimctl::digest::{Blake3, Sha256};
use serde_json::Value;

use crate::folder_server::{Nginx, content, file, serve};
use crate::releases::{RECIPE, nimctl};
use crate::running::run;
use crate::server::{Answer, Server};
use crate::support::bytes;

/// Returns a manifest with one profile of files given by path, uri and checksum.
pub(crate) fn manifest(files: &[(&str, &str, &str)]) -> String {
    let mut text = String::from(
        "schema_version: '2.0'\nprofile_selection_criteria: auto\nmodel: some/model\nrelease: r1\nprofiles:\n\
         - id: p1\n  tags: {precision: fp16}\n  workspace:\n    files:\n",
    );
    for (path, uri, checksum) in files {
        text += &format!("      {path:?}:\n        uri: {uri:?}\n");
        if !checksum.is_empty() {
            text += &format!("        checksum: {checksum}\n");
        }
    }
    text
}

fn blake3(bytes: &[u8]) -> String {
    Blake3::of(bytes).to_string()
}

/// Returns the names of what is in a folder, with hidden ones.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs_err::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn files_come_from_where_the_uris_say() {
    let (server, registry, folder) = (Server::start(), Server::start(), tempfile::tempdir().unwrap());
    let (web, layer, beside) = (bytes(300_000), bytes(5000), bytes(700));
    fs_err::create_dir_all(folder.path().join("www")).unwrap();
    fs_err::write(folder.path().join("www/a b.bin"), &web).unwrap();
    fs_err::create_dir_all(folder.path().join("in/sub")).unwrap();
    fs_err::write(folder.path().join("in/sub/beside.txt"), &beside).unwrap();
    let root = folder.path().join("www");
    server.before(move |request| {
        request.path = request.path.replace("%20", " ");
        request.answer = Some(file(&root, request));
    });
    let digest = registry.add_blob(&layer);
    let artifact = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"a/b","digest":"{}","size":2}},
        "layers":[{{"mediaType":"a/b","digest":"{digest}","size":5000,"annotations":{{"org.opencontainers.image.title":"weights/w.bin"}}}}]}}"#,
        Sha256::of(b"{}"),
    );
    registry.add_manifest("v1", artifact.as_bytes());
    let text = manifest(&[
        ("model/a.bin", &format!("http://{}/a%20b.bin", server.address()), &blake3(&web)),
        (
            "w.bin",
            &format!("oci://{}/a/b:v1?file=weights/w.bin", registry.address()),
            &Sha256::of(&layer).to_string(),
        ),
        (
            "again/w.bin",
            &format!("oci://{}/a/b:v1?file=weights/w.bin", registry.address()),
            &Sha256::of(&layer).to_string(),
        ),
        ("beside.txt", "file:sub/beside.txt", ""),
    ]);
    fs_err::write(folder.path().join("in/m.yaml"), text).unwrap();
    let pull = || run(folder.path(), &[], &["pull", "in/m.yaml", "--all", "-o", "out"]);

    let first = pull();
    let view = first.json();
    assert_eq!(view["profiles"][0]["files_bytes"], 310_700);
    assert_eq!(view["profiles"][0]["fetched_bytes"], 305_700);
    assert_eq!(view["unverified"][0], "p1/beside.txt");
    assert!(first.stderr.contains("not verified: p1/beside.txt"), "{}", first.stderr);
    let out = folder.path().join("out");
    assert_eq!(names(&out), ["SHA256SUMS", "model_manifest.yaml", "profiles"]);
    assert!(fs_err::read(out.join("profiles/p1/model/a.bin")).unwrap() == web);
    assert!(fs_err::read(out.join("profiles/p1/w.bin")).unwrap() == layer);
    assert!(fs_err::read(out.join("profiles/p1/beside.txt")).unwrap() == beside);
    let manifest = fs_err::read_to_string(out.join("model_manifest.yaml")).unwrap();
    assert!(manifest.contains("uri: file:profiles/p1/model/a.bin"), "{manifest}");
    let sums = fs_err::read_to_string(out.join("SHA256SUMS")).unwrap();
    assert!(sums.contains(&format!("{}  profiles/p1/w.bin", digest.to_hex())), "{sums}");

    // What a checksum verifies is not fetched again, and what was laid out is a manifest to pull from.
    let requests = server.requests().len();
    assert_eq!(pull().json()["profiles"][0]["fetched_bytes"], 700);
    assert_eq!(server.requests().len(), requests);
    let again =
        run(folder.path(), &[], &["pull", "out/model_manifest.yaml", "--profile", "p1", "-o", "third"]);
    assert_eq!(again.json()["profiles"][0]["files_bytes"], 310_700);
    fs_err::write(out.join("profiles/p1/model/a.bin"), "damaged").unwrap();
    assert_eq!(pull().json()["profiles"][0]["fetched_bytes"], 300_700);
    assert!(fs_err::read(out.join("profiles/p1/model/a.bin")).unwrap() == web);
    run(folder.path(), &[], &["pull", "in/m.yaml", "--all"])
        .fails(1, &["p1 was not made by nimctl", "-o FOLDER"]);
}

#[test]
fn a_pull_that_failed_goes_on_where_it_ended() {
    let (server, folder, data) = (Server::start(), tempfile::tempdir().unwrap(), bytes(200_000));
    let whole = data.clone();
    server.before(move |request| request.answer = Some(content(&whole, request)));
    let text = manifest(&[("a", &format!("http://{}/a", server.address()), &blake3(&data))]);
    fs_err::write(folder.path().join("m.yaml"), text).unwrap();
    let pull = || run(folder.path(), &[], &["pull", "m.yaml", "--all", "-o", "out", "--time-limit", "2"]);
    server.after(|request, answer| {
        answer.cut_after = Some(60_000);
        if request.header("range").is_some() {
            *answer = Answer::new(503);
        }
    });
    pull().fails(5, &["profile p1, file `a`", "503"]);
    assert!(names(&folder.path().join("out")).iter().all(|name| name.starts_with(".partial-pull")));
    server.after(|_, _| {});
    assert_eq!(pull().json()["profiles"][0]["fetched_bytes"], 140_000);
    let last = server.state().log.last().unwrap().header("range").map(str::to_owned);
    assert_eq!(last.as_deref(), Some("bytes=60000-"));
    assert!(fs_err::read(folder.path().join("out/profiles/p1/a")).unwrap() == data);
    assert_eq!(names(&folder.path().join("out")), ["SHA256SUMS", "model_manifest.yaml", "profiles"]);
}

#[test]
fn what_changes_while_it_is_fetched_is_no_file() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let mut count = 0;
    server.before(move |request| {
        count += 1;
        request.answer = Some(content(&bytes(100_000 + count), request));
        if let Some(answer) = &mut request.answer {
            answer.headers.retain(|(name, _)| name != "Content-Length");
            answer.cut_after = Some(30_000);
        }
    });
    let uri = format!("http://{}/a", server.address());
    fs_err::write(folder.path().join("m.yaml"), manifest(&[("a", &uri, "")])).unwrap();
    let ran = run(folder.path(), &[], &["pull", "m.yaml", "--all", "-o", "out"]);
    ran.fails(3, &["it changed while it was fetched"]);
}

#[test]
fn wrong_bytes_are_refused() {
    let (server, folder, data) = (Server::start(), tempfile::tempdir().unwrap(), bytes(10_000));
    let uri = format!("http://{}/a", server.address());
    let pull = |checksum: &str, code: i32, words: &[&str]| {
        fs_err::write(folder.path().join("m.yaml"), manifest(&[("a", &uri, checksum)])).unwrap();
        run(folder.path(), &[], &["pull", "m.yaml", "--all", "-o", "out", "--time-limit", "2"])
            .fails(code, words);
        assert!(!folder.path().join("out/profiles").exists());
    };
    let answer = |answer: Answer| server.before(move |request| request.answer = Some(answer.clone()));
    answer(Answer::new(200).body(&bytes(10_001)));
    pull(&blake3(&data), 3, &["has other bytes than the manifest says", "nothing of it is kept"]);
    answer(Answer::new(200).header("Content-Length", 10_000).body(&data[..9000]));
    let mut cut = Answer::new(200).body(&data);
    cut.cut_after = Some(9000);
    answer(cut);
    pull(&blake3(&data), 5, &["the connection closed after 9000 bytes"]);
    // More than was said is another answer, to nobody: what counts is the checksum.
    answer(Answer::new(200).header("Content-Length", 9000).body(&data));
    pull(&blake3(&data), 3, &["has other bytes"]);
    answer(Answer::new(404));
    pull(&blake3(&data), 1, &["was not found", "check the uri"]);
    answer(Answer::new(200).header("Content-Encoding", "gzip").body(&data));
    pull(&blake3(&data), 3, &["sends it compressed (gzip)"]);
    answer(Answer::new(302).header("Location", "file:///etc/passwd"));
    pull(&blake3(&data), 3, &["redirects to `file:///etc/passwd`, which is not https"]);
    answer(Answer::new(302).header("Location", "http://registry.example.com/a"));
    pull(&blake3(&data), 3, &["redirects to `http://registry.example.com/a`, which is not https"]);
    pull("md5:900150983cd24fb0d6963f7d28e17f72", 1, &["expected blake3:HEX, sha256:HEX or sha512:HEX"]);
    assert!(server.state().log.len() < 30);
}

#[test]
fn hostile_manifests() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    server.before(|request| request.answer = Some(content(b"x", request)));
    let uri = format!("http://{}/a", server.address());
    let pull = |files: &[(&str, &str, &str)], code: i32, word: &str| {
        fs_err::write(folder.path().join("m.yaml"), manifest(files)).unwrap();
        run(folder.path(), &[], &["pull", "m.yaml", "--all", "-o", "out"]).fails(code, &[word]);
    };
    for path in ["../a", "/etc/a", "a/../../b", "a\\\\b"] {
        pull(&[(path, &uri, "")], 1, "is not a path inside the workspace");
    }
    pull(&[("a//b", &uri, "")], 3, "has a part that is empty");
    pull(&[("C:a", &uri, "")], 3, "paths may not have");
    pull(&[("a", &uri, ""), ("A", &uri, "")], 3, "can't both be in one folder");
    pull(&[("a", &uri, ""), ("a/b", &uri, "")], 3, "can't both be in one folder");
    pull(&[("a", &uri, ""), ("a", &uri, "")], 1, "duplicate");
    pull(&[("a", "file:../secret", "")], 1, "below the manifest's folder");
    pull(&[("a", "file:///etc/passwd", "")], 1, "below the manifest's folder");
    pull(&[("a", "gopher://x", "")], 1, "the scheme `gopher` is not known");
    pull(&[("a", "http://example.com/a", "")], 1, "is reached by https only");
    pull(&[("a", "ngc://nim/a/b:1?file=a", "")], 1, "set NIM_REPOSITORY_OVERRIDE=s3://BUCKET/");
    fs_err::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
    pull(&[("a", "file:link/passwd", "")], 3, "leads out of the manifest's folder");
    assert_eq!(server.requests(), Vec::<String>::new());
    assert!(!folder.path().join("out/profiles").exists());

    // Links where a pull would write.
    let outside = folder.path().join("outside");
    fs_err::create_dir(&outside).unwrap();
    for name in ["profiles", ".partial-pull"] {
        let out = format!("out-{name}");
        fs_err::create_dir(folder.path().join(&out)).unwrap();
        fs_err::write(folder.path().join(&out).join("SHA256SUMS"), "").unwrap();
        fs_err::os::unix::fs::symlink(&outside, folder.path().join(&out).join(name)).unwrap();
        fs_err::write(folder.path().join("m.yaml"), manifest(&[("a", &uri, "")])).unwrap();
        run(folder.path(), &[], &["pull", "m.yaml", "--all", "-o", &out]).fails(1, &["is a link"]);
    }
    let out = folder.path().join("out-profile");
    fs_err::create_dir_all(out.join("profiles")).unwrap();
    fs_err::write(out.join("SHA256SUMS"), "").unwrap();
    fs_err::os::unix::fs::symlink(&outside, out.join("profiles/p1")).unwrap();
    run(folder.path(), &[], &["pull", "m.yaml", "--all", "-o", "out-profile"]).fails(1, &["is a link"]);
    assert_eq!(names(&outside), Vec::<String>::new());

    let mut large = manifest(&[]);
    large += &"#".repeat(100 << 20);
    fs_err::write(folder.path().join("m.yaml"), large).unwrap();
    run(folder.path(), &[], &["pull", "m.yaml", "--all", "-o", "out"]).fails(1, &["m.yaml"]);
}

#[test]
fn a_token_goes_to_its_endpoint_alone() {
    let (hub, elsewhere, folder) = (Server::start(), Server::start(), tempfile::tempdir().unwrap());
    let data = bytes(10_000);
    elsewhere.before({
        let data = data.clone();
        move |request| request.answer = Some(content(&data, request))
    });
    let target = format!("http://{}/cdn?signature=s3cret", elsewhere.address());
    hub.before(move |request| {
        let known = request.header("authorization") == Some("Bearer hf_token");
        let there = Answer::new(302).header("Location", &target);
        request.answer = Some(if known { there } else { Answer::new(401).body(b"{\"error\":\"gated\"}") });
    });
    let text = manifest(&[
        ("a", "hf://org/model@v1/sub/a.bin", &blake3(&data)),
        ("b", "hf://org/model:v1?file=b.bin", &blake3(&data)),
    ]);
    fs_err::write(folder.path().join("m.yaml"), text).unwrap();
    let endpoint = format!("http://{}", hub.address());
    let pull = |token: &str| {
        let variables = [("HF_ENDPOINT", endpoint.as_str()), ("HF_TOKEN", token)];
        run(folder.path(), &variables, &["pull", "m.yaml", "--all", "-o", "out"])
    };
    pull("").fails(5, &["(401): gated; no credentials were sent"]);
    let wrong = pull("hf_wrong");
    wrong.fails(5, &["(401): gated; sent was what HF_TOKEN says"]);
    assert!(!wrong.stderr.contains("hf_wrong"));
    assert_eq!(pull("hf_token").json()["profiles"][0]["fetched_bytes"], 20_000);
    let mut asked = hub.requests();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["GET /org/model/resolve/v1/b.bin", "GET /org/model/resolve/v1/sub/a.bin"]);
    assert!(elsewhere.state().log.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn ngc_is_where_a_mapping_says() {
    let (server, folder, data) = (Server::start(), tempfile::tempdir().unwrap(), bytes(1000));
    let root = folder.path().join("www");
    fs_err::create_dir_all(root.join("ngc/org/team/m:1")).unwrap();
    fs_err::write(root.join("ngc/org/team/m:1/a.bin"), &data).unwrap();
    // As NIM's documentation has the names of a bucket's objects.
    fs_err::write(root.join("org%2Fteam%2Fm%3A1%3Ffile%3Da.bin"), &data).unwrap();
    server.before(move |request| {
        request.path = request.path.replace("%25", "%");
        request.answer = Some(file(&root, request));
    });
    fs_err::write(
        folder.path().join("m.yaml"),
        manifest(&[("a.bin", "ngc://org/team/m:1?file=a.bin", &blake3(&data))]),
    )
    .unwrap();
    let mirror = format!("ngc://=http://{}/ngc", server.address());
    let pull = |variables: &[(&str, &str)], more: &[&str]| {
        let view = run(folder.path(), variables, &[&["pull", "m.yaml", "--all"], more].concat()).json();
        assert_eq!(view["profiles"][0]["fetched_bytes"], 1000);
    };
    pull(&[], &["-o", "one", "--mirror", &mirror]);
    pull(&[("NIM_REPOSITORY_OVERRIDE", &format!("http://{}/", server.address()))], &["-o", "two"]);
    pull(&[], &["-o", "three", "--mirror", "ngc://org=file:www/ngc/org"]);
    let place = ["pull", "host.example/a/b:1", "--all", "--mirror", &mirror];
    run(folder.path(), &[], &place).fails(1, &["--mirror with uris is for manifests"]);
}

/// The form of 2024 names a repository and its files, without checksums.
#[test]
fn the_form_of_2024() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let root = folder.path().join("www");
    fs_err::create_dir_all(root.join("nim/meta/m:1")).unwrap();
    for name in ["config.json", "rank0.engine"] {
        fs_err::write(root.join("nim/meta/m:1").join(name), name).unwrap();
    }
    serve(&server, &root);
    let text = "ab12:\n  model: meta/m\n  release: '1'\n  tags: {llm_engine: vllm}\n  workspace: !workspace\n    components:\n    \
                - dst: engine\n      src:\n        repo_id: ngc://nim/meta/m:1\n        files: [!name config.json, !name rank0.engine]\n";
    fs_err::write(folder.path().join("m.yaml"), text).unwrap();
    let mirror = format!("ngc://=http://{}", server.address());
    let view = run(folder.path(), &[], &["pull", "m.yaml", "--all", "-o", "out", "--mirror", &mirror]).json();
    assert_eq!(view["unverified"].as_array().unwrap().len(), 2);
    let got = fs_err::read_to_string(folder.path().join("out/profiles/ab12/engine/rank0.engine")).unwrap();
    assert_eq!(got, "rank0.engine");
    let select = run(
        folder.path(),
        &[],
        &["select", "-m", "out/model_manifest.yaml", "--profile", "ab12", "--allow-unsafe", "--device", "l4"],
    );
    select.json();
}

/// Returns the digests of a store's blobs, and the ids of its passports.
fn stored(folder: &Path, store: &str) -> (Vec<String>, Vec<String>) {
    let store = folder.join(store);
    (names(&store.join("blobs/sha256")), names(&store.join("nimctl/passports")))
}

/// Pulls profiles of ours by a release folder's manifest, from a web server of the folder.
fn ours_come_from(start: impl FnOnce(&Path) -> (String, Box<dyn std::any::Any>)) {
    let folder = tempfile::tempdir().unwrap();
    let set_up = |arguments: &[&str]| nimctl(folder.path(), arguments);
    fs_err::write(folder.path().join("r.yaml"), RECIPE).unwrap();
    set_up(&["build", "r.yaml"]);
    set_up(&["publish", "r.yaml", "--to", "oci:layout"]);
    set_up(&["pull", "oci:layout", "--all", "--store", "s1", "-o", "release"]);
    let expected = stored(folder.path(), "s1");
    set_up(&["pull", "release/model_manifest.yaml", "--all", "--store", "s2"]);
    assert_eq!(stored(folder.path(), "s2"), expected);

    let text = fs_err::read_to_string(folder.path().join("release/model_manifest.yaml")).unwrap();
    let (address, _server) = start(&folder.path().join("release"));
    let remote = text.replace("file:profiles/", &format!("http://{address}/profiles/"));
    fs_err::write(folder.path().join("remote.yaml"), &remote).unwrap();
    let view = set_up(&["pull", "remote.yaml", "--all", "--store", "s3", "-o", "second"]);
    assert_eq!(view["unverified"].as_array().unwrap().len(), 0);
    assert_eq!(stored(folder.path(), "s3"), expected);
    // The release folder itself may be what the server serves.
    let manifest = format!("http://{address}/model_manifest.yaml");
    let one = set_up(&["pull", &manifest, "--device", "none", "--store", "s8", "-o", "third"]);
    assert_eq!(one["profiles"].as_array().unwrap().len(), 1);
    assert_eq!(set_up(&["verify", "third"])["findings"].as_array().unwrap().len(), 0);
    let gone = format!("http://{address}/gone.yaml");
    run(folder.path(), &[], &["pull", &gone, "--all"]).fails(1, &["was not found"]);
    assert_eq!(set_up(&["verify", "second"])["findings"].as_array().unwrap().len(), 0);
    let view = set_up(&["pull", "remote.yaml", "--all", "--store", "s3"]);
    assert_eq!(view["profiles"][0]["fetched_bytes"], 0);
    // A profile that was not pulled keeps its uris.
    set_up(&["pull", "remote.yaml", "--profile", "onnx-fp16", "--store", "s3", "-o", "one"]);
    assert_eq!(set_up(&["verify", "one"])["profiles"].as_array().unwrap().len(), 2);
    set_up(&["pull", "one/model_manifest.yaml", "--profile", "onnx-fp32", "--store", "s3", "-o", "one"]);
    assert_eq!(set_up(&["verify", "one"])["findings"].as_array().unwrap().len(), 0);
    // The host's own GPUs choose here too, by what the manifest says.
    let one = set_up(&["pull", "remote.yaml", "--device", "none", "--store", "s4"]);
    assert_eq!(one["profiles"].as_array().unwrap().len(), 1);
    // A build's manifest has its files in the store of that machine alone.
    let built = fs_err::read_dir(folder.path().join("manifests")).unwrap().next().unwrap().unwrap().path();
    let built = built.join("model_manifest.yaml");
    let built = built.to_str().unwrap();
    set_up(&["pull", built, "--all"]);
    run(folder.path(), &[], &["pull", built, "--all", "--store", "s5"]).fails(1, &["publish the release"]);

    // Other bytes under the right names.
    let id = view["profiles"][0]["profile_id"].as_str().unwrap();
    let model = format!("release/profiles/{id}/vision/model.onnx");
    let mut damaged = fs_err::read(folder.path().join(&model)).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs_err::write(folder.path().join(&model), damaged).unwrap();
    let ran = run(folder.path(), &[], &["pull", "remote.yaml", "--profile", id, "--store", "s6"]);
    ran.fails(3, &["nothing of it is kept"]);
    let contents = format!("release/profiles/{id}/contents.json");
    fs_err::write(folder.path().join(&contents), "{}").unwrap();
    let ran = run(folder.path(), &[], &["pull", "remote.yaml", "--profile", id, "--store", "s7"]);
    ran.fails(3, &["file `contents.json`", "has other bytes"]);
    assert_eq!(stored(folder.path(), "s7").1, Vec::<String>::new());
}

#[test]
fn profiles_of_ours_come_by_their_manifest() {
    ours_come_from(|root| {
        let server = Server::start();
        serve(&server, root);
        (server.address().into(), Box::new(server))
    });
}

#[test]
fn profiles_of_ours_come_with_nginx() {
    ours_come_from(|root| {
        let nginx = Nginx::start(root, "");
        (nginx.address().into(), Box::new(nginx))
    });
}

#[test]
fn profiles_of_ours_come_from_the_registry_that_a_manifest_names() {
    let (registry, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let set_up = |arguments: &[&str]| nimctl(folder.path(), arguments);
    fs_err::write(folder.path().join("r.yaml"), RECIPE).unwrap();
    set_up(&["build", "r.yaml"]);
    let place = format!("{}/models/m:1.0.0", registry.address());
    set_up(&["publish", "r.yaml", "--to", &place]);
    // The manifest that a pull leaves has one profile in the folder, and the other at the registry.
    set_up(&["pull", &place, "--profile", "onnx-fp16", "--store", "s1", "-o", "release"]);
    let manifest = "release/model_manifest.yaml";
    assert!(fs_err::read_to_string(folder.path().join(manifest)).unwrap().contains("uri: oci://"));
    let view: Value = set_up(&["pull", manifest, "--all", "--store", "s2", "-o", "second"]);
    assert_eq!(view["profiles"].as_array().unwrap().len(), 2);
    assert_eq!(set_up(&["verify", "second"])["findings"].as_array().unwrap().len(), 0);
    assert_eq!(stored(folder.path(), "s2").1.len(), 2);
}
