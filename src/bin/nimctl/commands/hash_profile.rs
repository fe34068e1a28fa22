//! `nimctl hash-profile`.

use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::ops::hash_profile::{self, HashedProfile, Named};
use nimctl::ops::resolve::resolve;
use nimctl::profile::Tags;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use crate::cli::{self, Global, Scheme};
use crate::environment;
use crate::exit::{Failure, code, done};
use crate::output::Output;

/// No job runs, so the time limit has no effect.
const NO_JOB_RUNS_S: u64 = 60;

pub(crate) fn run(
    arguments: &cli::HashProfile,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::HashProfile { path, tags, scheme, explain } = arguments;
    let profiles = match path {
        None => vec![hash_profile::of_tags(parse_tags(tags, *scheme)?)?],
        Some(path) => match hash_profile::named(path)? {
            Named::Folder => vec![hash_profile::of_folder(path)?],
            Named::Manifest => {
                let scheme = match scheme {
                    Scheme::Content => hash_profile::Scheme::Content,
                    Scheme::NimTags => hash_profile::Scheme::NimTags,
                };
                hash_profile::of_manifest(path, scheme, Some(&environment::store_folder(global)?))?
            }
            Named::Recipe(recipe) => {
                let workspace = environment::workspace(global, NO_JOB_RUNS_S, cancel)?;
                hash_profile::of_recipe(&workspace, &resolve(&workspace, *recipe, None, &|_| ())?)?
            }
        },
    };
    output.result(&text(&profiles, *explain), &View::new(&profiles, *explain));
    let differs = |profile: &HashedProfile| {
        !profile.is_opaque
            && profile.written.as_ref().is_some_and(|written| *written != profile.id.to_string())
    };
    if profiles.iter().any(differs) {
        output.problem("an id in the file does not match its tags");
        return Ok(ExitCode::from(code(ErrorKind::Refused)));
    }
    Ok(done())
}

fn parse_tags(pairs: &[String], scheme: Scheme) -> Result<Tags, Failure> {
    let mut tags = Tags::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::new(
                ErrorKind::Input,
                anyhow::anyhow!("--tag {pair} has no `=`: use KEY=VALUE"),
            ));
        };
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Failure::new(ErrorKind::Input, anyhow::anyhow!("--tag {key} is given twice")));
        }
    }
    if scheme == Scheme::Content && !tags.contains_key("content") {
        let error = anyhow::anyhow!("without the tag `content`, the id does not cover any files");
        return Err(Failure::new(ErrorKind::Input, error).hint(Some("add --scheme nim-tags".into())));
    }
    Ok(tags)
}

fn text(profiles: &[HashedProfile], explain: bool) -> String {
    let mut text = String::new();
    for HashedProfile { id, written, is_opaque, tags: _, hashed_text, contents_json } in profiles {
        text.push_str(&id.to_string());
        if let Some(written) = written.as_ref().filter(|written| **written != id.to_string()) {
            let opaque = if *is_opaque { ", opaque: its rule is not public" } else { "" };
            text.push_str(&format!("  (written: {written}{opaque})"));
        }
        text.push('\n');
        if explain {
            text.push_str(&format!("  BLAKE3 of: {hashed_text}\n"));
            if let Some(contents) = contents_json {
                text.push_str(&format!("  content, SHA-256 of: {contents}\n"));
            }
        }
    }
    text
}

/// `nimctl.profile-ids/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    profiles: Vec<ProfileView<'a>>,
}

#[derive(Serialize)]
struct ProfileView<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<&'a str>,
    is_opaque: bool,
    tags: &'a Tags,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashed_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contents_json: Option<&'a str>,
}

impl<'a> View<'a> {
    fn new(profiles: &'a [HashedProfile], explain: bool) -> Self {
        let view = |profile: &'a HashedProfile| {
            let HashedProfile { id, written, is_opaque, tags, hashed_text, contents_json } = profile;
            ProfileView {
                id: id.to_string(),
                written: written.as_deref(),
                is_opaque: *is_opaque,
                tags,
                hashed_text: explain.then_some(hashed_text.as_str()),
                contents_json: contents_json.as_deref().filter(|_| explain),
            }
        };
        Self { schema: "nimctl.profile-ids/1", profiles: profiles.iter().map(view).collect() }
    }
}
