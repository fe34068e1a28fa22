//! Exported on one machine, imported on another: whole or refused.

use std::path::{Path, PathBuf};

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::toolchain::{
    Export, InstallOutcome, Installed, Places, Stage, Tool, ToolchainError, Watch, export, import, locate,
};

use crate::fixture::{Fixture, LIBRARY, LIBRARY_NAME, lock, put, stages};

/// Two machines: one where the tool is installed, and one without anything.
struct Machines {
    first: Fixture,
    second: Places,
    tar: PathBuf,
}

impl Machines {
    fn new() -> Self {
        let first = Fixture::new();
        first.install().unwrap();
        let mut second = first.places.clone();
        second.data_folder = first.folder.path().join("second");
        let tar = first.folder.path().join("toolchain.tar");
        Self { first, second, tar }
    }

    fn export(&self) -> Result<Export, ToolchainError> {
        export(
            &[Tool::OnnxRuntime],
            &self.first.places,
            &self.tar,
            &mut Watch { progress: &mut |_| {}, cancelled: &|| false },
        )
    }

    fn import(&self) -> Result<Vec<Installed>, ToolchainError> {
        import(&self.tar, &self.second, &mut Watch { progress: &mut |_| {}, cancelled: &|| false })
    }

    /// Imports a tar that has to be refused, and checks that nothing is left of it.
    #[track_caller]
    fn refused(&self, tar: &[u8], kind: ErrorKind, expected: &str) {
        put(&self.tar, tar);
        let error = self.import().unwrap_err();
        assert!(error.to_string().contains(expected), "expected {expected:?} in {error}");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("toolchain.tar"), "{error}");
        assert!(error.hint().is_some(), "{error}");
        let left = walkdir::WalkDir::new(&self.second.data_folder).into_iter().flatten();
        let left: Vec<PathBuf> =
            left.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).collect();
        assert!(left.iter().all(|path| path.ends_with(".lock-onnxruntime")), "{left:?}");
        assert!(locate(Tool::OnnxRuntime, &self.second).is_err());
    }
}

/// A member of a tar, and what a stranger may make of it.
#[derive(Clone)]
struct Member {
    name: Vec<u8>,
    kind: tar::EntryType,
    link: &'static str,
    bytes: Vec<u8>,
}

/// Reads the members of a tar that we wrote.
fn members_of(tar: &Path) -> Vec<Member> {
    let mut archive = tar::Archive::new(fs_err::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        Member { name: entry.path_bytes().into_owned(), kind: entry.header().entry_type(), link: "", bytes }
    });
    entries.collect()
}

fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for Member { name, kind, link, bytes } in members {
        let mut header = tar::Header::new_gnu();
        // By hand: the crate itself refuses the names that are tried here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        archive.append(&header, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn list_of(members: &[Member]) -> serde_json::Value {
    serde_json::from_slice(&members[0].bytes).unwrap()
}

#[test]
fn libraries_go_to_a_machine_without_pip() {
    let machines = Machines::new();
    let exported = machines.export().unwrap();
    assert_eq!(exported.sha256, Sha256::of(&fs_err::read(&machines.tar).unwrap()));
    assert_eq!((exported.tools[0].files, exported.tools[0].size_bytes), (1, LIBRARY.len() as u64));
    let mut told = Vec::new();
    let installed = import(
        &machines.tar,
        &machines.second,
        &mut Watch { progress: &mut |progress| told.push(progress), cancelled: &|| false },
    );
    let installed = installed.unwrap();
    assert_eq!(installed[0].outcome, InstallOutcome::Installed);
    assert_eq!(stages(&told), [Stage::Unpacking]);
    assert_eq!(fs_err::read(&installed[0].files[0].path).unwrap(), LIBRARY);
    // As it is after an install with pip, file by file.
    let there = locate(Tool::OnnxRuntime, &machines.first.places).unwrap();
    let here = locate(Tool::OnnxRuntime, &machines.second).unwrap();
    assert_eq!(
        fs_err::read_to_string(here.folder.join("installed.json")).unwrap(),
        fs_err::read_to_string(there.folder.join("installed.json")).unwrap()
    );
    assert_eq!(fs_err::read_dir(&here.folder).unwrap().count(), 2);
    assert_eq!(fs_err::read_dir(here.folder.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(machines.import().unwrap()[0].outcome, InstallOutcome::AlreadyInstalled);
    put(&here.files[0].path, b"short");
    let reason = format!("{LIBRARY_NAME} has 5 bytes, not {}", LIBRARY.len());
    assert_eq!(machines.import().unwrap()[0].outcome, InstallOutcome::Repaired { reason });
    assert_eq!(fs_err::read(&here.files[0].path).unwrap(), LIBRARY);
}

#[test]
fn the_same_libraries_are_the_same_bytes() {
    let machines = Machines::new();
    machines.export().unwrap();
    let first = fs_err::read(&machines.tar).unwrap();
    machines.import().unwrap();
    let again = Machines { first: Fixture { places: machines.second.clone(), ..machines.first }, ..machines };
    fs_err::remove_file(&again.tar).unwrap();
    again.export().unwrap();
    assert_eq!(fs_err::read(&again.tar).unwrap(), first);
}

#[test]
fn what_is_not_whole_is_not_exported() {
    let machines = Machines::new();
    let library = locate(Tool::OnnxRuntime, &machines.first.places).unwrap().files.remove(0).path;
    // Of the right size: only its digest tells.
    let mut other = LIBRARY.to_vec();
    other[0] ^= 1;
    put(&library, &other);
    put(&machines.tar, b"an older one");
    let error = machines.export().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&format!("{LIBRARY_NAME} is {}", Sha256::of(&other))), "{error}");
    assert_eq!(fs_err::read(&machines.tar).unwrap(), b"an older one");
    let error = export(
        &[Tool::OnnxRuntime],
        &machines.second,
        &machines.tar,
        &mut Watch { progress: &mut |_| {}, cancelled: &|| false },
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "onnxruntime is not installed: there is nothing to export");
}

#[test]
fn a_cancelled_import_leaves_nothing() {
    let machines = Machines::new();
    machines.export().unwrap();
    let error =
        import(&machines.tar, &machines.second, &mut Watch { progress: &mut |_| {}, cancelled: &|| true })
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert!(locate(Tool::OnnxRuntime, &machines.second).is_err());
}

#[test]
fn another_version_is_refused() {
    let mut machines = Machines::new();
    machines.export().unwrap();
    let tar = fs_err::read(&machines.tar).unwrap();
    let text = serde_json::to_string(&machines.second.lock).unwrap();
    let newer = nimctl::toolchain::Lock::parse(&text.replace("\"1.0\"", "\"1.1\""), "newer").unwrap();
    let other = lock(Sha256::of(b"another wheel"), Sha256::of(LIBRARY), LIBRARY.len(), 1);
    let file = lock(machines.first.wheel_sha256, Sha256::of(b"x"), LIBRARY.len(), 1);
    for (lock, expected) in [
        (newer, "contains version 1.0 of onnxruntime, but version 1.1 is pinned"),
        (other, "contains files of the wheel sha256:"),
        (file, "contains other files of onnxruntime, but another list of files is pinned"),
    ] {
        machines.second.lock = lock;
        machines.refused(&tar, ErrorKind::Refused, expected);
    }
    machines.second.lock = machines.first.places.lock.clone();
    machines.second.host = "aarch64-linux".into();
    machines.refused(
        &tar,
        ErrorKind::Input,
        "contains libraries for x86_64-linux, but this machine is aarch64-linux",
    );
}

#[test]
fn what_is_no_export_is_refused() {
    let machines = Machines::new();
    machines.export().unwrap();
    let tar = fs_err::read(&machines.tar).unwrap();
    let members = members_of(&machines.tar);
    let library_first: Vec<Member> = members.iter().rev().cloned().collect();
    let mut large = members.clone();
    large[0].bytes = vec![b' '; (1 << 20) + 1];
    for (bytes, expected) in [
        (b"PK\x03\x04".repeat(300), "it is not a tar"),
        (vec![], "it is an empty tar"),
        (tar_of(&library_first), "it does not begin with toolchain.json"),
        (tar_of(&large), "toolchain.json has more than 1048576 bytes"),
        (tar[512..].to_vec(), "it is not a tar"),
    ] {
        machines.refused(&bytes, ErrorKind::Input, expected);
    }
    let mut newer = members.clone();
    newer[0].bytes = b"{\"schema\": \"nimctl.exported-tools/2\"}".to_vec();
    machines.refused(&tar_of(&newer), ErrorKind::Input, "written by a newer nimctl");
}

#[test]
fn damaged_and_hostile_tars_are_refused() {
    use tar::EntryType::{Directory, GNULongName, GNUSparse, Link, Regular, Symlink, XHeader};
    let machines = Machines::new();
    machines.export().unwrap();
    let tar = fs_err::read(&machines.tar).unwrap();
    let members = members_of(&machines.tar);
    let check = |tar: &[u8], expected: &str| machines.refused(tar, ErrorKind::Refused, expected);
    let edited = |edit: &dyn Fn(&mut Vec<Member>)| {
        let mut members = members.clone();
        edit(&mut members);
        tar_of(&members)
    };
    let name = format!("onnxruntime/{LIBRARY_NAME}");

    // Every way to cut it off.
    let library_at = tar.len() - 1024 - 512;
    check(&tar[..library_at - 512], &format!("it ends before {name}"));
    check(&tar[..library_at - 100], "cannot be read");
    check(&tar[..library_at + 5], &format!("it ends inside of {name}"));
    check(&tar[..tar.len() - 1024], "its end is missing");
    check(&tar[..tar.len() - 512], "its end is missing");
    check(&tar[..600], "it ends inside of toolchain.json");
    check(&[&tar[..], b"more"].concat(), "something follows its end");

    // One byte of the library, of its header and of what it says of itself.
    let mut flipped = tar.clone();
    flipped[library_at] ^= 1;
    check(&flipped, &format!("{name} is sha256:"));
    let mut flipped = tar.clone();
    flipped[library_at - 512 + 3] ^= 1;
    check(&flipped, &format!("{name} cannot be read"));
    let mut list = list_of(&members);
    let other = Sha256::of(b"other").to_string();
    list["tools"][0]["files"][0]["sha256"] = other.into();
    check(&edited(&|members| members[0].bytes = list.to_string().into_bytes()), "other files of onnxruntime");

    // Other names and other kinds of members.
    for place in
        ["../../escaped", "/etc/escaped", "onnxruntime/../escaped", "./onnxruntime/x", "onnxruntime/other"]
    {
        check(
            &edited(&|members| members[1].name = place.into()),
            &format!("it has `{place}` in the place of"),
        );
    }
    for kind in [Symlink, Link] {
        let link = |members: &mut Vec<Member>| {
            members[1] = Member { kind, link: "/etc/passwd", bytes: vec![], ..members[1].clone() };
        };
        check(&edited(&link), &format!("{name} is a link or something else that is not a file"));
    }
    for kind in [Directory, GNUSparse] {
        check(&edited(&|members| members[1].kind = kind), "is a link or something else");
    }
    for kind in [GNULongName, XHeader] {
        let before = |members: &mut Vec<Member>| {
            let long = Member {
                name: b"long".to_vec(),
                kind,
                link: "",
                bytes: b"24 path=onnxruntime/lib\n".to_vec(),
            };
            members.insert(1, long);
        };
        check(&edited(&before), "it has `long` in the place of");
    }

    // Too much, too little.
    check(&edited(&|members| members[1].bytes.push(0)), &format!("{name} has 20 bytes, not 19"));
    check(&edited(&|members| members.push(members[1].clone())), "which toolchain.json does not list");
    check(&edited(&|members| members.truncate(1)), &format!("it ends before {name}"));
    let more = Member { name: b"onnxruntime/more".to_vec(), kind: Regular, link: "", bytes: b"x".to_vec() };
    check(
        &edited(&|members| members.push(more.clone())),
        "`onnxruntime/more`, which toolchain.json does not list",
    );

    // And the tar that all of these were made of is taken.
    put(&machines.tar, &tar_of(&members));
    assert_eq!(machines.import().unwrap()[0].outcome, InstallOutcome::Installed);
}
