//! What a place says of a profile beside the bytes of its files: names that become paths here, and sizes that are added up. Anyone may
//! have written it, and the id only says that it was not changed since.

use std::collections::BTreeMap;

use crate::passport::{GraphPassport, Passport};
use crate::portable_path;
use crate::profile::{CONTENTS_FILE, Contents};
use crate::recipe::is_plain_name;
use crate::release::{PASSPORT_FILE, SAMPLES_FILE};

/// Checks that the files of a profile have paths that stay in its folder and don't become one, and sizes that can be added up.
pub(in crate::ops) fn check_contents(contents: &Contents) -> Result<(), String> {
    let ours = [CONTENTS_FILE, PASSPORT_FILE, SAMPLES_FILE];
    let mut paths: BTreeMap<String, &str> =
        ours.into_iter().map(|name| (portable_path::folded(name), name)).collect();
    let mut size_bytes = 0_u64;
    for file in &contents.files {
        let path = file.path.as_str();
        portable_path::check(path).map_err(|error| format!("file `{}`: {error}", path.escape_debug()))?;
        if let Some(other) = paths.insert(portable_path::folded(path), path) {
            return Err(format!("files `{other}` and `{path}` would be one file"));
        }
        size_bytes =
            size_bytes.checked_add(file.size_bytes).ok_or("its files have more than 2^64 bytes together")?;
    }
    match contents.graphs.keys().find(|name| !is_plain_name(name)) {
        Some(name) => Err(format!("`{}` is no name of a graph", name.escape_debug())),
        None => Ok(()),
    }
}

/// Checks that a passport is about the files of its profile, and that other files that it names have paths that stay in a folder.
pub(in crate::ops) fn check_passport(passport: &Passport) -> Result<(), String> {
    let contents = &passport.contents;
    if !passport.graphs.keys().eq(contents.graphs.keys()) {
        return Err("its passport is about other graphs than its contents.json".into());
    }
    let mut count = 0;
    for (name, graph) in &passport.graphs {
        let GraphPassport { lowering, compilation } = graph;
        for output in compilation.iter().chain([lowering]).flat_map(|record| &record.outputs) {
            let path = &output.path;
            portable_path::check(path)
                .map_err(|error| format!("file `{}` of its passport: {error}", path.escape_debug()))?;
        }
        for output in &graph.shipped().outputs {
            let path = format!("{name}/{}", output.path);
            let is_it = contents.files.iter().any(|file| {
                (file.path == path) && (file.sha256, file.size_bytes) == (output.sha256, output.size_bytes)
            });
            if !is_it {
                return Err(format!("its passport has another file `{path}` than its contents.json"));
            }
            count += 1;
        }
    }
    if count == contents.files.len() {
        Ok(())
    } else {
        Err("its contents.json lists files that are of no graph of its passport".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ContentsFile;

    /// A released passport whose contents list its files.
    fn passport() -> Passport {
        const GOLDEN: &[u8] = include_bytes!("../../../tests/fixtures/formats/passport-released.json");
        let mut passport = Passport::parse(GOLDEN, "golden").unwrap();
        let graphs = passport.graphs.iter();
        let files = graphs.flat_map(|(name, graph)| {
            graph.shipped().outputs.iter().map(move |output| ContentsFile {
                path: format!("{name}/{}", output.path),
                sha256: output.sha256,
                size_bytes: output.size_bytes,
            })
        });
        passport.contents.files = files.collect();
        passport
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Passport), expected: &str) {
        let mut passport = passport();
        change(&mut passport);
        let checked = check_contents(&passport.contents).and_then(|()| check_passport(&passport));
        let problem = checked.unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }

    #[test]
    fn what_is_ours_passes() {
        let passport = passport();
        assert!(!passport.contents.files.is_empty());
        check_contents(&passport.contents).unwrap();
        check_passport(&passport).unwrap();
    }

    #[test]
    fn paths_stay_in_their_folder_and_are_there_once() {
        let path =
            |path: &'static str| move |passport: &mut Passport| passport.contents.files[0].path = path.into();
        refused(path("../../escaped"), "has a part that is empty, `.` or `..`");
        refused(path("/etc/passwd"), "is not relative");
        refused(path("a\\b"), "a character that paths may not have");
        refused(path("Contents.json"), "files `contents.json` and `Contents.json` would be one file");
        refused(path("passport.json"), "would be one file");
        refused(
            |passport| {
                let first = passport.contents.files[0].clone();
                passport.contents.files.push(ContentsFile { path: first.path.to_uppercase(), ..first });
            },
            "would be one file",
        );
    }

    #[test]
    fn sizes_are_added_up() {
        refused(
            |passport| {
                let first = passport.contents.files[0].clone();
                passport.contents.files[0].size_bytes = u64::MAX;
                passport.contents.files.push(ContentsFile { path: "other".into(), ..first });
            },
            "more than 2^64 bytes",
        );
    }

    #[test]
    fn a_passport_is_about_the_files_of_its_profile() {
        refused(
            |passport| {
                let (name, digest) = passport.contents.graphs.pop_first().unwrap();
                passport.contents.graphs.insert(format!("../{name}"), digest);
            },
            "is no name of a graph",
        );
        refused(|passport| _ = passport.graphs.pop_first(), "about other graphs");
        let output = |passport: &mut Passport, path: &str| {
            let graph = passport.graphs.values_mut().next().unwrap();
            let record = graph.compilation.as_mut().unwrap_or(&mut graph.lowering);
            record.outputs[0].path = path.into();
        };
        refused(|passport| output(passport, "../../escaped"), "of its passport: has a part that is empty");
        refused(|passport| output(passport, "other.onnx"), "has another file");
        refused(
            |passport| {
                let first = passport.contents.files[0].clone();
                passport.contents.files.push(ContentsFile { path: "other".into(), ..first });
            },
            "that are of no graph",
        );
    }
}
