//! Paths in documents that others wrote: relative, with `/`, and one file on every file system.

/// A path that can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPortable {
    /// No path at all.
    #[error("is empty")]
    Empty,
    /// It begins with `/`, or a drive's letter.
    #[error("is not relative")]
    Absolute,
    /// A part is `.`, `..` or empty.
    #[error("has a part that is empty, `.` or `..`")]
    Dots,
    /// Control characters, or `\`, which separates on other systems.
    #[error("has a character that paths may not have: a control character, `\\` or `:`")]
    Character,
    /// Longer than what file systems take.
    #[error("is longer than file systems allow: {MAX_PATH_BYTES} bytes, {MAX_NAME_BYTES} a part")]
    Length,
}

const MAX_PATH_BYTES: usize = 1024;
const MAX_NAME_BYTES: usize = 255;

/// Checks that a path stays in its folder and means the same everywhere.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(path: &str) -> Result<(), NotPortable> {
    if path.is_empty() {
        return Err(NotPortable::Empty);
    }
    if path.starts_with('/') {
        return Err(NotPortable::Absolute);
    }
    if path.contains(|character: char| character.is_control() || matches!(character, '\\' | ':')) {
        return Err(NotPortable::Character);
    }
    if path.len() > MAX_PATH_BYTES || path.split('/').any(|part| part.len() > MAX_NAME_BYTES) {
        return Err(NotPortable::Length);
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(NotPortable::Dots);
    }
    Ok(())
}

/// Returns what two paths have in common that some file systems don't distinguish: those that fold case.
pub fn folded(path: &str) -> String {
    path.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_their_folder() {
        for path in ["a", "a/b.plan", "vision/model.plan", "ä/ö"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
        for (path, expected) in [
            ("", NotPortable::Empty),
            ("/a", NotPortable::Absolute),
            ("..", NotPortable::Dots),
            ("a/../b", NotPortable::Dots),
            ("./a", NotPortable::Dots),
            ("a//b", NotPortable::Dots),
            ("a/", NotPortable::Dots),
            ("a\\b", NotPortable::Character),
            ("C:a", NotPortable::Character),
            ("a\nb", NotPortable::Character),
            ("a\0", NotPortable::Character),
        ] {
            assert_eq!(check(path), Err(expected), "{path:?}");
        }
        assert_eq!(check(&"a".repeat(256)), Err(NotPortable::Length));
        assert_eq!(check(&"a/".repeat(513)), Err(NotPortable::Length));
        assert_eq!(folded("A/b"), folded("a/B"));
    }
}
