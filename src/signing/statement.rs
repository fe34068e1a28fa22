//! The in-toto statement: each file of a model with its SHA-256, and how they were collected.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::json;

use super::bundle::Payload;
use super::strict_json;
use crate::digest::Sha256;

/// The type of every in-toto statement, version 1.
pub(crate) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The type of what is said about the model.
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// The one of releases before 1.0, which did not name the files that were left out.
const OLD_PREDICATE_TYPE: &str = "https://model_signing/Digests/v0.1";
/// The only way of collecting files that is read: one digest for each file.
const METHOD: &str = "files";
const HASH: &str = "sha256";

/// The name of the only file of a model that is a file and no folder.
pub const MODEL_ITSELF: &str = ".";

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its path in the model, with `/`; [`MODEL_ITSELF`] if the model is a file.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Sha256,
}

/// What is signed of a model. [`Statement::new`] and [`Statement::parse`] give only what keeps the rules: at least one file, no name
/// twice, every path in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    model: String,
    allow_symlinks: bool,
    ignore_paths: Vec<String>,
    resources: Vec<Resource>,
}

/// A statement that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStatement {
    /// Not JSON of the right form.
    #[error("the signed statement cannot be read: {0}")]
    Json(String),
    /// Something else was signed.
    #[error("the signed statement is of type `{found}`, expected `{expected}`")]
    Type {
        /// The type that it has.
        found: String,
        /// The type of model signatures.
        expected: &'static str,
    },
    /// A signature of a release before 1.0.
    #[error(
        "signed in the format of model-signing 0.x (`{OLD_PREDICATE_TYPE}`), which is not supported: sign the model again"
    )]
    OldFormat,
    /// Files were collected in a way that is not supported.
    #[error(
        "files were collected by method `{method}` with hash type `{hash}`; only `{METHOD}` with `{HASH}` is supported"
    )]
    Method {
        /// The method.
        method: String,
        /// The hash type.
        hash: String,
    },
    /// What is said of the subjects breaks a rule.
    #[error("what the signed statement says cannot be read: {0}")]
    Predicate(String),
    /// Not one subject.
    #[error("the signed statement has {0} subjects, expected 1")]
    Subjects(usize),
    /// No file.
    #[error("no file is signed")]
    Empty,
    /// A path that is no path in the model.
    #[error("the path {name:?} can't be part of a model: {problem}")]
    Path {
        /// The path.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file that is listed twice.
    #[error("the file {0:?} is signed twice")]
    Twice(String),
    /// A digest that is none.
    #[error("the signed digest of {name:?} is not SHA-256 in 64 lower-case hex digits: {found:?}")]
    Digest {
        /// The file.
        name: String,
        /// What stands there.
        found: String,
    },
    /// The digest over all files is another one.
    #[error(
        "the signed statement contradicts itself: its digest is {stated}, and the digest of its files is {computed}"
    )]
    Root {
        /// The stated one.
        stated: String,
        /// The computed one.
        computed: String,
    },
}

/// What every statement has; the rest is up to its type.
#[derive(Deserialize)]
struct RawTypes {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

#[derive(Deserialize)]
struct RawStatement {
    subject: Vec<RawSubject>,
    predicate: RawPredicate,
}

#[derive(Deserialize)]
struct RawSubject {
    name: String,
    digest: RawDigest,
}

#[derive(Deserialize)]
struct RawDigest {
    sha256: String,
}

#[derive(Deserialize)]
struct RawPredicate {
    serialization: RawSerialization,
    resources: Vec<RawResource>,
}

#[derive(Deserialize)]
struct RawSerialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Deserialize)]
struct RawResource {
    name: String,
    algorithm: String,
    digest: String,
}

impl Statement {
    /// Makes a statement of a model's files; sorts files and ignored paths.
    ///
    /// # Errors
    /// No file, a path that leaves the model, a name twice.
    pub fn new(
        model: String,
        allow_symlinks: bool,
        ignore_paths: BTreeSet<String>,
        mut resources: Vec<Resource>,
    ) -> Result<Self, InvalidStatement> {
        // Part by part: `a/b` comes before `a-b`.
        resources.sort_by(|a, b| a.name.split('/').cmp(b.name.split('/')));
        let statement =
            Self { model, allow_symlinks, ignore_paths: ignore_paths.into_iter().collect(), resources };
        statement.check()?;
        Ok(statement)
    }

    /// Parses the payload of an envelope.
    ///
    /// # Errors
    /// Everything that is no statement of a model, or breaks a rule.
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidStatement> {
        let json = |error: serde_json::Error| InvalidStatement::Json(error.to_string());
        let RawTypes { kind, predicate_type } = strict_json::parse(payload).map_err(json)?;
        if kind != STATEMENT_TYPE {
            return Err(InvalidStatement::Type { found: kind, expected: STATEMENT_TYPE });
        }
        if predicate_type == OLD_PREDICATE_TYPE {
            return Err(InvalidStatement::OldFormat);
        }
        if predicate_type != PREDICATE_TYPE {
            return Err(InvalidStatement::Type { found: predicate_type, expected: PREDICATE_TYPE });
        }
        let RawStatement { subject, predicate } = serde_json::from_slice(payload).map_err(json)?;
        let RawPredicate { serialization, resources } = predicate;
        let RawSerialization { method, hash_type, allow_symlinks, ignore_paths } = serialization;
        if method != METHOD || hash_type != HASH {
            return Err(InvalidStatement::Method { method, hash: hash_type });
        }
        let count = subject.len();
        let [RawSubject { name: model, digest: RawDigest { sha256: stated } }] =
            <[RawSubject; 1]>::try_from(subject).map_err(|_| InvalidStatement::Subjects(count))?;
        let resources = resources.into_iter().map(RawResource::check).collect::<Result<Vec<_>, _>>()?;
        let statement = Self { model, allow_symlinks, ignore_paths, resources };
        statement.check()?;
        let computed = statement.digest().to_hex();
        if computed != stated {
            return Err(InvalidStatement::Root { stated, computed });
        }
        Ok(statement)
    }

    fn check(&self) -> Result<(), InvalidStatement> {
        let Self { model: _, allow_symlinks: _, ignore_paths, resources } = self;
        if resources.is_empty() {
            return Err(InvalidStatement::Empty);
        }
        let mut names = BTreeSet::new();
        for Resource { name, digest: _ } in resources {
            let is_the_model = name == MODEL_ITSELF && resources.len() == 1;
            if !is_the_model {
                check_path(name)?;
            }
            if !names.insert(name) {
                return Err(InvalidStatement::Twice(name.clone()));
            }
        }
        ignore_paths.iter().try_for_each(|path| check_path(path))
    }

    /// Returns the digest that stands for the model: SHA-256 of the digests of its files, one after the other.
    pub fn digest(&self) -> Sha256 {
        let digests: Vec<u8> =
            self.resources.iter().flat_map(|resource| resource.digest.as_bytes()).copied().collect();
        Sha256::of(&digests)
    }

    /// Returns the bytes to sign.
    pub fn to_payload(&self) -> Vec<u8> {
        let Self { model, allow_symlinks, ignore_paths, resources } = self;
        let resources: Vec<_> = resources
            .iter()
            .map(|Resource { name, digest }| {
                json!({ "name": name, "algorithm": HASH, "digest": digest.to_hex() })
            })
            .collect();
        strict_json::to_readable(&json!({
            "_type": STATEMENT_TYPE,
            "subject": [{ "name": model, "digest": { "sha256": self.digest().to_hex() } }],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": METHOD,
                    "hash_type": HASH,
                    "allow_symlinks": allow_symlinks,
                    "ignore_paths": ignore_paths,
                },
                "resources": resources,
            },
        }))
    }

    /// Returns the name that the model had when it was signed. It says nothing: a model may be renamed.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Returns whether symbolic links were followed.
    pub fn allow_symlinks(&self) -> bool {
        self.allow_symlinks
    }

    /// Returns the files and folders that were left out.
    pub fn ignore_paths(&self) -> &[String] {
        &self.ignore_paths
    }

    /// Returns the files, in the order of the digest.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }
}

impl Payload for Statement {
    fn to_payload(&self) -> Vec<u8> {
        self.to_payload()
    }

    fn parse(payload: &[u8]) -> Result<Self, InvalidStatement> {
        Self::parse(payload)
    }
}

impl RawResource {
    fn check(self) -> Result<Resource, InvalidStatement> {
        let Self { name, algorithm, digest } = self;
        if algorithm != HASH {
            return Err(InvalidStatement::Digest { name, found: format!("{algorithm}:{digest}") });
        }
        match Sha256::from_hex(&digest) {
            Ok(digest) => Ok(Resource { name, digest }),
            Err(_) => Err(InvalidStatement::Digest { name, found: digest }),
        }
    }
}

/// Returns whether `path` is `folder`, or a file in it; both with `/`.
pub fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Other than [`crate::portable_path`], this takes what any file on Linux may be called, but for characters that no one can see.
fn check_path(path: &str) -> Result<(), InvalidStatement> {
    let problem = if path.is_empty() {
        "it is empty"
    } else if path.starts_with('/') {
        "it is absolute"
    } else if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "a part of it is empty, `.` or `..`"
    } else if path.contains(char::is_control) {
        "it has a control character"
    } else {
        return Ok(());
    };
    Err(InvalidStatement::Path { name: path.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(names: &[&str]) -> Result<Statement, InvalidStatement> {
        let resources = names
            .iter()
            .map(|&name| Resource { name: name.into(), digest: Sha256::of(name.as_bytes()) })
            .collect();
        Statement::new("m".into(), false, BTreeSet::from([".git".into()]), resources)
    }

    #[track_caller]
    fn refused(change: impl Fn(String) -> String, expected: &str) {
        let text = String::from_utf8(statement(&["a", "b/c"]).unwrap().to_payload()).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text);
        let message = Statement::parse(changed.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn what_is_written_is_read() {
        let written = statement(&["b", "a-b", "a/b"]).unwrap();
        let names: Vec<_> = written.resources().iter().map(|resource| resource.name.as_str()).collect();
        assert_eq!(names, ["a/b", "a-b", "b"]);
        assert_eq!(Statement::parse(&written.to_payload()).unwrap(), written);
        let file = statement(&["."]).unwrap();
        assert_eq!(Statement::parse(&file.to_payload()).unwrap(), file);
    }

    #[test]
    fn paths_stay_in_the_model() {
        for name in ["", "/a", "..", "../a", "a/../b", "a//b", "a/", "./a", "a\nb", "a\0"] {
            let error = statement(&[name, "z"]).unwrap_err();
            assert!(matches!(error, InvalidStatement::Path { .. }), "{name:?}: {error}");
        }
        // Of a model that is a file, it is the only one.
        assert!(matches!(statement(&[".", "a"]), Err(InvalidStatement::Path { .. })));
        for name in ["a:b", "a\\b", "ä", "a b", "..a", ".hidden"] {
            statement(&[name]).unwrap();
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        assert_eq!(statement(&[]), Err(InvalidStatement::Empty));
        assert_eq!(statement(&["a", "a"]), Err(InvalidStatement::Twice("a".into())));
        refused(|text| text.replace(STATEMENT_TYPE, "https://in-toto.io/Statement/v0.1"), "Statement/v0.1");
        refused(|text| text.replace(PREDICATE_TYPE, OLD_PREDICATE_TYPE), "sign the model again");
        refused(|text| text.replace(PREDICATE_TYPE, "https://slsa.dev/provenance/v1"), "slsa.dev");
        refused(|text| text.replace("\"files\"", "\"shards\""), "`shards`");
        refused(|text| text.replace("\"hash_type\": \"sha256\"", "\"hash_type\": \"blake3\""), "`blake3`");
        refused(|text| text.replace("\"b/c\"", "\"../c\""), "`..`");
        refused(|text| text.replace("\".git\"", "\"/etc\""), "absolute");
        refused(|text| text.replace("\"b/c\"", "\"a\""), "signed twice");
        refused(|text| text.replace("\"name\": \"a\"", "\"name\": \"a\", \"name\": \"x\""), "appears twice");
        let of_a = Sha256::of(b"a").to_hex();
        let of_x = Sha256::of(b"x").to_hex();
        refused(|text| text.replace(&of_a, &of_x), "contradicts itself");
        refused(|text| text.replace(&of_a, &of_a.to_uppercase()), "lower-case");
        refused(|text| text.replacen("\"sha256\",", "\"md5\",", 1), "md5");
        refused(
            |text| {
                text.replace(
                    "\"subject\": [",
                    "\"subject\": [{\"name\": \"x\", \"digest\": {\"sha256\": \"\"}},",
                )
            },
            "2 subjects",
        );
    }

    #[test]
    fn ignored_folders_hold_what_is_below_them() {
        assert!(is_below("a", "a") && is_below("a/b", "a") && is_below("a/b/c", "a/b"));
        assert!(!is_below("ab", "a") && !is_below("a", "a/b"));
    }
}
