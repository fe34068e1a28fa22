//! Tars that unpack to what was read, and others.

use super::*;

/// An entry: its path, its bytes, and records of its PAX header.
type Entry<'a> = (&'a str, &'a [u8], &'a [(&'a str, &'a [u8])]);

const PLAIN: [Entry<'static>; 3] =
    [("r/SHA256SUMS", b"sums", &[]), ("r/a", b"1", &[]), ("r/p/b", b"22", &[])];

fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes, records) in entries {
        archive.append_pax_extensions(records.iter().copied()).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let is_folder = path.ends_with('/');
        header.set_entry_type(if is_folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn read_tar(bytes: &[u8]) -> (Vec<String>, Vec<Finding>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), bytes).unwrap();
    let mut findings = Vec::new();
    let found = files(file.path(), &mut findings).unwrap();
    (found.into_keys().collect(), findings)
}

#[track_caller]
fn is_read(bytes: &[u8]) {
    let (names, findings) = read_tar(bytes);
    assert_eq!((names.join(" ").as_str(), findings), ("SHA256SUMS a p/b", Vec::new()));
}

#[track_caller]
fn is_found(bytes: &[u8], problem: &str) {
    let (_, findings) = read_tar(bytes);
    assert!(findings.iter().any(|finding| finding.problem.contains(problem)), "{problem}: {findings:?}");
}

#[test]
fn what_tar_makes_of_a_folder_is_read() {
    is_read(&tar_of(&PLAIN));
    let folders = [("r/", &b""[..], &[][..]), ("r/p/", b"", &[])];
    is_read(&tar_of(&[&folders[..], &PLAIN].concat()));
    // `./r`, and `.`.
    is_read(&tar_of(&[
        ("./", b"", &[]),
        ("./r/SHA256SUMS", b"", &[]),
        ("./r/a", b"1", &[]),
        ("./r/p/b", b"", &[]),
    ]));
    is_read(&tar_of(&[
        ("./", b"", &[]),
        ("./SHA256SUMS", b"", &[]),
        ("./a", b"1", &[]),
        ("./p/b", b"", &[]),
    ]));
    let records: &[(&str, &[u8])] = &[("mtime", b"1.5"), ("SCHILY.xattr.user.x", b"y")];
    is_read(&tar_of(&[PLAIN[0], PLAIN[1], ("r/p/b", b"22", records)]));
    // A long name is in a record of its own.
    is_read(&tar_of(&[PLAIN[0], PLAIN[1], ("short", b"22", &[("path", b"r/p/b")])]));
    // Blocks of more than one kind at the end.
    is_read(&[tar_of(&PLAIN), vec![0; 20 * 512]].concat());
}

#[test]
fn what_unpacks_to_something_else_is_found() {
    let plain = tar_of(&PLAIN);
    is_found(&tar_of(&[PLAIN[0], ("other/a", b"1", &[]), PLAIN[2]]), "outside of the folder r/");
    is_found(&tar_of(&[PLAIN[0], PLAIN[1], PLAIN[1]]), "more than once");
    is_found(
        &tar_of(&[PLAIN[0], PLAIN[1], ("r/a/b", b"", &[])]),
        "r/a is a file, not a folder".trim_start_matches("r/"),
    );
    is_found(&[&plain[..], &tar_of(&[("r/evil", b"", &[])])].concat(), "behind its end");
    is_found(&[&plain[..], b"x"].concat(), "behind its end");
    is_found(&plain[..plain.len() - 1024], "mark of its end");
    is_found(&plain[..plain.len() - 1024 - 500], "cut");
    is_found(&plain[..plain.len() - 1024 - 600], "cut");
    for name in ["r/../a", "/r/a", "r//a", "r/a/", "r/./a"] {
        let entry = tar_of(&[PLAIN[0], (name.trim_end_matches("/"), b"", &[("path", name.as_bytes())])]);
        is_found(&entry, "its name is not that of a file in a release");
    }
    is_found(&tar_of(&[("r/a", b"", &[("path", b"r/\xff")])]), "not UTF-8");
    for key in ["GNU.sparse.name", "GNU.sparse.major", "SCHILY.realsize", "hdrcharset", "linkpath"] {
        is_found(&tar_of(&[("r/a", b"", &[(key, b"1")])]), key);
    }
    is_found(&tar_of(&[("r/a", b"", &[("path", b"r/a"), ("path", b"r/b")])]), "two names");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_link(&mut header, "r/link", "/etc").unwrap();
    is_found(&archive.into_inner().unwrap(), "neither a file nor a folder");
}

#[test]
fn what_is_no_tar_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (bytes, expected) in [
        (&b"\x1f\x8b\x08\0"[..], "gunzip"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
        (b"text", "neither a folder nor a tar"),
    ] {
        fs_err::write(file.path(), [bytes, &[7; 600]].concat()).unwrap();
        let error = files(file.path(), &mut Vec::new()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
