use proptest::prelude::*;

use super::*;

fn sources(variables: &[(&str, &str)], mappings: &[&str]) -> Sources {
    let variable = |name: &str| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| OsString::from(value))
    };
    let mut sources = Sources::from_environment(Path::new("folder"), variable);
    sources.mappings = mappings.iter().map(|mapping| mapping.parse().unwrap()).collect();
    sources
}

/// Returns the address without its query, the path, or the artifact and path, to which a uri leads.
fn leads(sources: &Sources, uri: &str) -> String {
    match sources.locate(uri) {
        Ok(Location::File(path)) => path.display().to_string(),
        Ok(Location::Web(file)) => file.name(),
        Ok(Location::Registry(reference, path)) => {
            format!("{} {} {path}", reference.repository, reference.tag_or_digest())
        }
        Ok(Location::Store(digest)) => digest.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn check(sources: &Sources, uri: &str, expected: &str) {
    assert_eq!(leads(sources, uri), expected);
}

#[test]
fn each_scheme() {
    let plain = sources(&[], &[]);
    check(&plain, "file:a/b%20c", "folder/a/b c");
    check(&plain, "https://host/a?b=c#d", "https://host/a");
    check(&plain, "oci://host:5000/a/b:1.0?file=x/y%20z", "host:5000/a/b 1.0 x/y z");
    check(&plain, "s3://bucket/a/b c%2F+", "https://bucket.s3.us-east-1.amazonaws.com/a/b%20c%252F%2B");
    check(&plain, "s3://a.b/c", "https://s3.us-east-1.amazonaws.com/a.b/c");
    check(&plain, "hf://o/n/a/b.bin", "https://huggingface.co/o/n/resolve/main/a/b.bin");
    check(&plain, "hf://o/n@refs%2Fpr%2F1/b c", "https://huggingface.co/o/n/resolve/refs%2Fpr%2F1/b%20c");
    check(&plain, "hf://o/n:rev?file=a/b", "https://huggingface.co/o/n/resolve/rev/a/b");
    check(&plain, "hf://o/n?file=a", "https://huggingface.co/o/n/resolve/main/a");
    let digest = Sha256::of(b"x").to_string();
    check(&plain, &format!("store:{digest}"), &digest);
    let elsewhere = sources(
        &[
            ("HF_ENDPOINT", "http://localhost:1/"),
            ("AWS_ENDPOINT_URL", "http://localhost:2"),
            ("AWS_REGION", "x"),
        ],
        &[],
    );
    check(&elsewhere, "hf://o/n/a", "http://localhost:1/o/n/resolve/main/a");
    check(&elsewhere, "s3://b/a", "http://localhost:2/b/a");
}

#[test]
fn what_leads_nowhere() {
    let plain = sources(&[], &[]);
    for uri in [
        "",
        "a/b",
        "ftp://host/a",
        "file:/etc/passwd",
        "file:///etc/passwd",
        "file:../a",
        "file:a/%2e%2e/b",
        "https://",
        "https://host:port/a",
        "oci://host/a:1",
        "oci://host/a:1?file=",
        "oci:host/a:1?file=x",
        "oci://host/A:1?file=x",
        "s3://bucket",
        "s3://bucket/",
        "s3:///a",
        "s3://b/../a",
        "s3://b@host/a",
        "hf://o/n",
        "hf://o/n/../../x",
        "hf://o/../a?file=x",
        "hf://o/n@/a",
        "hf://o/n@../a",
        "hf://o/n?file=/etc/passwd",
        "file:a\nb",
    ] {
        let said = leads(&plain, uri);
        assert!(said.starts_with("error: "), "{uri}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
    let error = plain.locate("ngc://nim/a/b:1?file=c").unwrap_err();
    assert!(error.hint().unwrap().contains("NIM_REPOSITORY_OVERRIDE=s3://BUCKET/"), "{error}");
    assert_eq!(shown("https://me:secret@host/a?sig=secret"), "https://host/a");
}

#[test]
fn links_do_not_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("in")).unwrap();
    fs_err::write(folder.path().join("secret"), "x").unwrap();
    fs_err::write(folder.path().join("in/plain"), "x").unwrap();
    for (name, target) in [("out", "../secret"), ("inside", "plain"), ("all", "/")] {
        fs_err::os::unix::fs::symlink(target, folder.path().join("in").join(name)).unwrap();
    }
    let sources = Sources { folder: folder.path().join("in"), ..Sources::default() };
    assert!(sources.locate("file:plain").is_ok());
    assert!(sources.locate("file:inside").is_ok());
    for uri in ["file:out", "file:all/etc/passwd"] {
        assert!(matches!(sources.locate(uri), Err(UriError::OutOfFolder { .. })), "{uri}");
    }
}

#[test]
fn mappings() {
    let mapped = sources(
        &[],
        &[
            "ngc://=https://m/ngc",
            "ngc://nim/meta=oci://r:5000/nim/meta",
            "hf://o=file:hf/o",
            "ngc://nim/x/y=s3://b/y",
        ],
    );
    check(&mapped, "ngc://org/team/m:1?file=a/b.bin", "https://m/ngc/org/team/m:1/a/b.bin");
    check(&mapped, "ngc://nim/meta/m:1?file=a", "r:5000/nim/meta/m 1 a");
    check(&mapped, "ngc://nim/metal/m:1?file=a", "https://m/ngc/nim/metal/m:1/a");
    check(&mapped, "ngc://nim/x/y:1?file=a", "https://b.s3.us-east-1.amazonaws.com/y%3A1/a");
    check(&mapped, "hf://o/n@1/a", "folder/hf/o/n@1/a");
    for wrong in ["", "a", "a=b", "ngc://", "ngc://=", "=x://y", "host=host/x"] {
        assert!(wrong.parse::<UriMapping>().is_err(), "{wrong}");
    }
}

/// As NIM's documentation of the variable shows it.
#[test]
fn nims_override() {
    let uri = "ngc://nim/meta/llama3-8b-instruct:hf?file=config.json";
    let name = "nim%252Fmeta%252Fllama3-8b-instruct%253Ahf%253Ffile%253Dconfig.json";
    let of = |place: &str| sources(&[("NIM_REPOSITORY_OVERRIDE", place)], &[]);
    check(&of("s3://nim_bucket/"), uri, &format!("https://s3.us-east-1.amazonaws.com/nim_bucket/{name}"));
    check(&of("s3://b/p/"), uri, &format!("https://b.s3.us-east-1.amazonaws.com/p/{name}"));
    check(&of("https://m/p"), uri, &format!("https://m/p/{name}"));
    assert!(leads(&of("gs://b"), uri).contains("expected s3://BUCKET/ or https://HOST/PATH"));
    check(&of("s3://b"), "https://host/a", "https://host/a");
}

#[test]
fn credentials_of_object_stores() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let text =
        "[default]\naws_access_key_id = A\naws_secret_access_key=B\n; no\n[other]\naws_access_key_id=C\n";
    fs_err::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let signed = |variables: &[(&str, &str)]| match sources(variables, &[]).locate("s3://b/a") {
        Ok(Location::Web(file)) => format!("{file:?}"),
        other => format!("{other:?}"),
    };
    assert!(!signed(&[]).contains("X-Amz"));
    assert!(signed(&[("AWS_SHARED_CREDENTIALS_FILE", file)]).contains("X-Amz-Credential=A%2F"));
    let both = [("AWS_ACCESS_KEY_ID", "K"), ("AWS_SECRET_ACCESS_KEY", "S"), ("AWS_SESSION_TOKEN", "T/")];
    assert!(
        signed(&both).contains("X-Amz-Credential=K%2F")
            && signed(&both).contains("X-Amz-Security-Token=T%2F")
    );
    let other = signed(&[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_PROFILE", "other")]);
    assert!(other.contains("for the profile `other`"), "{other}");
    assert!(!format!("{:?}", sources(&both, &[])).contains("\"S\""));
}

proptest! {
    /// Whatever a manifest says: an answer in one line, and no file out of its folder.
    #[test]
    fn any_uri(parts in prop::collection::vec(prop::sample::select(PARTS), 0..8)) {
        let uri = parts.concat();
        let plain = sources(&[("NIM_REPOSITORY_OVERRIDE", "s3://b/")], &["hf://x=file:y"]);
        match plain.locate(&uri) {
            Ok(Location::File(path)) => {
                prop_assert!(path.starts_with("folder"), "{uri}: {}", path.display());
                let is_plain = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(path.components().all(is_plain), "{uri}: {}", path.display());
            }
            Ok(Location::Web(_) | Location::Registry(_, _) | Location::Store(_)) => {}
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{uri}: {error}"),
        }
    }

    /// A password in an address is in no message.
    #[test]
    fn no_secret_is_shown(
        scheme in prop::sample::select(&["", "file:", "https://", "http://", "oci://", "s3://", "hf://", "ftp://"]),
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..6),
    ) {
        let uri = format!("{scheme}me:secret@host/{}", parts.concat());
        let said = match sources(&[], &[]).locate(&uri) {
            Ok(Location::Web(file)) => file.name(),
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        prop_assert!(!said.contains("secret"), "{uri}: {said}");
    }
}

/// What uris are made of.
const PARTS: &[&str] = &[
    "file:",
    "https://",
    "http://",
    "oci://",
    "s3://",
    "hf://",
    "ngc://",
    "store:sha256:",
    "a",
    "b.bin",
    "x",
    "/",
    "//",
    "..",
    ".",
    "%2e",
    "%2F",
    "%",
    ":",
    "@",
    "?file=",
    "?",
    "#",
    "=",
    " ",
    "\n",
    "\\",
    "ä",
    "host:5000",
    "[::1]",
];
