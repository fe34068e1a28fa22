//! Roll-backs: a release that is older than the newest one that was accepted.

use super::version::Version;

/// A release that is not the newest one that was accepted, nor a later one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolledBack {
    /// It is older.
    #[error(
        "{} {} is an older release than the one here: {} was accepted in this store",
        model.escape_debug(), release.escape_debug(), newest.escape_debug()
    )]
    Older {
        /// The model.
        model: String,
        /// Its release.
        release: String,
        /// The newest one that was accepted.
        newest: String,
    },
    /// Nobody can tell.
    #[error(
        "{} {} can't be compared with {}, the newest release that was accepted in this store: only numbers with dots are compared",
        model.escape_debug(), release.escape_debug(), newest.escape_debug()
    )]
    NotComparable {
        /// The model.
        model: String,
        /// Its release.
        release: String,
        /// The newest one that was accepted.
        newest: String,
    },
}

impl RolledBack {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        let (Self::Older { newest, .. } | Self::NotComparable { newest, .. }) = self;
        format!(
            "use release {}, or take this one on purpose: `nimctl pull PLACE --allow-rollback`",
            newest.escape_debug()
        )
    }
}

/// Compares a release with the newest one of its model that was accepted; returns whether it is a later one.
///
/// # Errors
/// It is older, or the two can't be compared.
pub fn check_order(model: &str, release: &str, newest: &str) -> Result<bool, RolledBack> {
    if release == newest {
        return Ok(false);
    }
    let (model, release_text, newest_text) = (model.to_owned(), release.to_owned(), newest.to_owned());
    match (Version::parse(release), Version::parse(newest)) {
        (Some(release), Some(newest)) if release < newest => {
            Err(RolledBack::Older { model, release: release_text, newest: newest_text })
        }
        (Some(release), Some(newest)) => Ok(release > newest),
        _ => Err(RolledBack::NotComparable { model, release: release_text, newest: newest_text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_the_newest_or_a_later_one() {
        assert_eq!(check_order("m", "2.0.0", "2.0.0"), Ok(false));
        assert_eq!(check_order("m", "2.0", "2.0.0"), Ok(false));
        assert_eq!(check_order("m", "2.0.1", "2.0.0"), Ok(true));
        assert_eq!(check_order("m", "latest", "latest"), Ok(false));
        let older = check_order("m", "2.0.0-rc.1", "2.0.0").unwrap_err();
        assert_eq!(
            older.to_string(),
            "m 2.0.0-rc.1 is an older release than the one here: 2.0.0 was accepted in this store"
        );
        for (release, newest) in [("latest", "2.0.0"), ("2.0.0", "latest"), ("a", "b")] {
            let error = check_order("m", release, newest).unwrap_err();
            assert!(matches!(error, RolledBack::NotComparable { .. }), "{error}");
            assert!(error.hint().contains("--allow-rollback"));
        }
    }
}
