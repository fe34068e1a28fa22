//! Paths and ids that can be files and folders anywhere.

use std::collections::BTreeMap;

use super::{FileError, PullError, error};
use crate::manifest::ManifestProfile;
use crate::portable_path;

/// Checks that ids can be the names of folders beside each other.
pub(super) fn ids(ids: &[String]) -> Result<(), PullError> {
    let mut seen = BTreeMap::new();
    for id in ids {
        let problem = match (portable_path::check(id), seen.insert(portable_path::folded(id), id)) {
            (Err(problem), _) => format!("as the name of a folder, it {problem}"),
            (Ok(()), Some(other)) if other != id => {
                format!(
                    "{other} has the same name on file systems that fold case: pull them into two folders"
                )
            }
            (Ok(()), _) if id.starts_with('.') => "as the name of a folder, it begins with a dot".into(),
            _ => continue,
        };
        return Err(PullError::BadProfile { id: id.clone(), problem });
    }
    Ok(())
}

/// Checks that a profile's paths stay in its folder, and are one file each on every file system.
pub(super) fn files(profile: &ManifestProfile) -> Result<(), PullError> {
    // A path, or the folder of one: the path that has it, and whether it is the whole of that.
    let mut taken: BTreeMap<String, (&str, bool)> = BTreeMap::new();
    for path in profile.workspace.files.keys() {
        portable_path::check(path).map_err(|problem| error(profile, path, problem))?;
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for end in ends {
            let is_file = end == path.len();
            let part = portable_path::folded(&path[..end]);
            // Folders are shared; a file is alone, and so is a folder whose other spelling is a second one.
            let collision = taken.get(&part).filter(|(other, is_other_file)| {
                is_file || *is_other_file || other.get(..end) != path.get(..end)
            });
            if let Some((other, _)) = collision {
                return Err(error(profile, path, FileError::Collides { other: (*other).into() }));
            }
            taken.entry(part).or_insert((path, is_file));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{ManifestFile, Workspace};

    fn check(paths: &[&str]) -> Result<(), PullError> {
        let files = paths.iter().map(|path| ((*path).to_owned(), ManifestFile::default())).collect();
        super::files(&ManifestProfile {
            id: "x".into(),
            workspace: Workspace { files },
            ..Default::default()
        })
    }

    #[test]
    fn paths_are_one_file_each() {
        check(&["a", "b/a", "b/c", "b/d/e", "b.c"]).unwrap();
        for wrong in [
            &["../a"][..],
            &["/a"],
            &["a/./b"],
            &["a//b"],
            &["a\\b"],
            &["A", "a"],
            &["b/A", "b/a"],
            &["B/x", "b/y"],
            &["a", "a/b"],
            &["A", "a/b"],
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ids_are_names_of_folders() {
        let check = |ids: &[&str]| super::ids(&ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        check(&["ab", "cd", "a b"]).unwrap();
        for wrong in [&[".."][..], &[".x"], &["a:b"], &["Ab", "aB"]] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
