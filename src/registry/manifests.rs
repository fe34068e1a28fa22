//! Manifests and tags.

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LINK};

use super::auth::Scope;
use super::client::Client;
use super::download::content_length;
use super::exchange::{Answer, Body};
use super::request::Ask;
use super::{Reference, RegistryError, Repository};
use crate::digest::Sha256;

/// The largest manifest that is read or written: registries take no larger ones.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Registries that don't page send all tags at once.
const MAX_LIST_BYTES: u64 = 16 << 20;
const MAX_PAGES: usize = 10_000;

const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A manifest or an index, as its registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What it is: the `mediaType` that it names itself, else what the registry says.
    pub media_type: String,
    /// Its bytes, which have this digest.
    pub bytes: Vec<u8>,
    /// Its digest.
    pub digest: Sha256,
}

impl Client<'_> {
    /// Returns a manifest. By digest it is what its digest says; by tag, what the tag means at this moment: for what belongs
    /// together, a tag is asked for once, and all else by digest.
    ///
    /// # Errors
    /// No place has it; it is not what its digest says; it has more than [`MAX_MANIFEST_BYTES`]; the registry fails.
    pub fn get_manifest(&self, reference: &Reference) -> Result<Manifest, RegistryError> {
        self.in_places(&reference.repository, |place| {
            let reference = Reference { repository: place.clone(), ..reference.clone() };
            self.retrying(place.host(), || self.get_manifest_once(&reference))
        })
    }

    pub(super) fn get_manifest_once(&self, reference: &Reference) -> Result<Manifest, RegistryError> {
        let repository = &reference.repository;
        let url = self.url(repository, &format!("manifests/{}", reference.tag_or_digest()))?;
        let what = format!("manifest {reference}");
        let ask = Ask::new(Method::GET, url, repository, Scope::pull(repository), what.clone())
            .header(ACCEPT, &MANIFEST_TYPES.join(", "));
        let mut answer = self.ask(&ask, &mut Body::Empty)?;
        let too_large = || RegistryError::TooLarge { what: what.clone(), limit_bytes: MAX_MANIFEST_BYTES };
        if content_length(&answer.headers).is_some_and(|length| length > MAX_MANIFEST_BYTES) {
            return Err(too_large());
        }
        let bytes = answer.incoming.all(MAX_MANIFEST_BYTES)?.ok_or_else(too_large)?;
        let digest = Sha256::of(&bytes);
        if let Some(expected) = reference.digest.filter(|expected| *expected != digest) {
            return Err(RegistryError::WrongDigest { what, expected, got: digest.to_string() });
        }
        check_named_digest(&answer, &what, digest)?;
        let named = header(&answer.headers, CONTENT_TYPE.as_str());
        let named = named.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        let own = json.as_ref().and_then(|json| json["mediaType"].as_str());
        Ok(Manifest { media_type: own.unwrap_or(named).to_owned(), bytes, digest })
    }

    /// Stores a manifest under a tag, or under its digest if the reference has one and no tag. Where it has a `subject` and the
    /// registry lists no referrers itself, it is added to the list that stands under a tag of the subject.
    ///
    /// # Errors
    /// The bytes don't have the reference's digest, or are too many; the registry refuses them, in its own words.
    pub fn put_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Sha256, RegistryError> {
        let what = format!("manifest {reference}");
        let digest = Sha256::of(bytes);
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { what, limit_bytes: MAX_MANIFEST_BYTES });
        }
        if let Some(expected) = reference.digest.filter(|expected| *expected != digest) {
            return Err(RegistryError::WrongDigest { what, expected, got: digest.to_string() });
        }
        let repository = &reference.repository;
        let place = reference.tag.clone().unwrap_or_else(|| reference.tag_or_digest());
        let url = self.url(repository, &format!("manifests/{place}"))?;
        let ask = Ask::new(Method::PUT, url, repository, Scope::push(repository), what.clone())
            .header(CONTENT_TYPE, media_type);
        let lists_referrers = self.retrying(repository.host(), || {
            let mut body = Body::Bytes(bytes.to_vec().into());
            let answer = self.ask(&ask, &mut body)?;
            check_named_digest(&answer, &what, digest)?;
            Ok(answer.headers.contains_key("oci-subject"))
        })?;
        if !lists_referrers {
            self.add_to_fallback(repository, media_type, bytes, digest)?;
        }
        Ok(digest)
    }

    /// Deletes a manifest by its digest, with the tags that mean it; that it is not there is as good. Returns `false` where the registry
    /// doesn't delete, or not for us.
    ///
    /// # Errors
    /// The registry can't be reached, or fails.
    pub fn delete_manifest(&self, repository: &Repository, digest: Sha256) -> Result<bool, RegistryError> {
        let url = self.url(repository, &format!("manifests/{digest}"))?;
        let what = format!("manifest {}", repository.with_digest(digest));
        let ask = Ask::new(Method::DELETE, url, repository, Scope::delete(repository), what);
        let deleted = self.retrying(repository.host(), || self.ask(&ask, &mut Body::Empty).map(drop));
        match deleted {
            Err(RegistryError::NotFound { .. }) | Ok(()) => Ok(true),
            Err(error) if matches!(error.status(), Some(400 | 401 | 403 | 405 | 501)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the tags of a repository, in the registry's order; none if there is no such repository.
    ///
    /// # Errors
    /// The registry can't be reached, fails, or sends no list of tags.
    pub fn tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        let tags = self.in_places(repository, |place| {
            self.pages(place, "tags/list?n=1000", &format!("the tags of {place}"), |page| match &page["tags"]
            {
                serde_json::Value::Null => Some(Vec::new()),
                list => serde_json::from_value::<Vec<String>>(list.clone()).ok(),
            })
        });
        match tags {
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            tags => tags,
        }
    }

    /// Returns what all pages of a list have, each read by `read`, which returns `None` for what is no such page.
    pub(super) fn pages<T>(
        &self,
        place: &Repository,
        below: &str,
        what: &str,
        read: impl Fn(&serde_json::Value) -> Option<Vec<T>>,
    ) -> Result<Vec<T>, RegistryError> {
        let mut url = self.url(place, below)?;
        let home = url.origin();
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let ask = Ask::new(Method::GET, url.clone(), place, Scope::pull(place), what.into());
            let (page, next) = self.retrying(place.host(), || {
                let mut answer = self.ask(&ask, &mut Body::Empty)?;
                let too_large =
                    || RegistryError::TooLarge { what: what.to_owned(), limit_bytes: MAX_LIST_BYTES };
                let body = answer.incoming.all(MAX_LIST_BYTES)?.ok_or_else(too_large)?;
                let page = serde_json::from_slice(&body).ok().and_then(|page| read(&page));
                let page = page.ok_or_else(|| RegistryError::BadAnswer {
                    request: answer.incoming.request().into(),
                    problem: format!("the answer does not list {what}"),
                })?;
                let next = header(&answer.headers, LINK.as_str()).and_then(next_page);
                Ok((page, next.and_then(|next| answer.url.join(&next).ok())))
            })?;
            all.extend(page);
            match next {
                // A list goes on at the same registry, and not where it was.
                Some(next) if next.origin() == home && next != url => url = next,
                _ => return Ok(all),
            }
        }
        Ok(all)
    }
}

/// Compares a manifest's digest with the one that a registry names.
fn check_named_digest(answer: &Answer<'_>, what: &str, digest: Sha256) -> Result<(), RegistryError> {
    let named = header(&answer.headers, "docker-content-digest").map(str::trim).unwrap_or_default();
    if named.starts_with("sha256:") && named != digest.to_string() {
        let got = super::error::tame(named);
        return Err(RegistryError::WrongDigest { what: what.into(), expected: digest, got });
    }
    Ok(())
}

pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Reads `<address>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (_, rest) = link.split_once('<')?;
    let (address, parameters) = rest.split_once('>')?;
    (parameters.contains("rel=\"next\"") || parameters.contains("rel=next")).then(|| address.to_owned())
}
