//! One request with its answer: redirects, login, and errors in the registry's words.

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, Url};

use super::auth::Scope;
use super::client::{Client, host_of, without_secrets};
use super::error::{Words, tame};
use super::exchange::{Answer, Body};
use super::retry::retry_after;
use super::web::Secret;
use super::{RegistryError, Repository};

/// How much of the body of an error is read.
const MAX_ERROR_BYTES: u64 = 64 * 1024;

/// What is asked of a registry or another server.
pub(super) struct Ask<'q> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) who: Who<'q>,
    pub(super) headers: HeaderMap,
    /// What it is about, in messages.
    pub(super) what: String,
}

/// Who is asked, and as whom.
pub(super) enum Who<'q> {
    /// The registry of a repository, which gets the credentials for it.
    Registry(&'q Repository, Scope),
    /// Any other server, with what `Authorization` says to it.
    Web(Option<&'q Secret>),
}

impl<'q> Ask<'q> {
    pub(super) fn new(
        method: Method,
        url: Url,
        repository: &'q Repository,
        scope: Scope,
        what: String,
    ) -> Self {
        Self { method, url, who: Who::Registry(repository, scope), headers: HeaderMap::new(), what }
    }

    pub(super) fn of_web(method: Method, url: Url, secret: Option<&'q Secret>, what: String) -> Self {
        Self { method, url, who: Who::Web(secret), headers: HeaderMap::new(), what }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }
}

impl Client<'_> {
    /// Sends a request to where it leads, logged in if that is asked for. Returns answers from 200 to 299; others are errors.
    pub(super) fn ask(&self, ask: &Ask<'_>, body: &mut Body<'_>) -> Result<Answer<'_>, RegistryError> {
        let (host, home) = match &ask.who {
            Who::Registry(repository, _) => {
                (repository.host().to_owned(), self.url(repository, "")?.origin())
            }
            Who::Web(_) => (host_of(&ask.url), ask.url.origin()),
        };
        self.sleep(self.busy_for(&host), &host)?;
        let mut url = ask.url.clone();
        let mut method = ask.method.clone();
        let mut redirects = 0;
        // A request without a login learns how to log in; one with a login, that it has run out. Each happens once.
        let (mut has_learnt, mut has_run_out) = (false, false);
        loop {
            // Only the server itself knows who we are: not where it redirects, not where it lets us upload.
            let is_home = url.origin() == home;
            let mut headers = ask.headers.clone();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            let authorization = match &ask.who {
                Who::Registry(repository, scope) if is_home => self.authorization(repository, scope)?,
                Who::Web(Some(secret)) if is_home => secret.header.clone(),
                _ => None,
            };
            if let Some(value) = &authorization {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let answer = self.exchange(method.clone(), url.clone(), headers, body)?;
            let was_challenged = if authorization.is_some() { &mut has_run_out } else { &mut has_learnt };
            match answer.status {
                200..=299 => return as_it_is(answer),
                401 if is_home && !*was_challenged => {
                    *was_challenged = true;
                    let Who::Registry(repository, scope) = &ask.who else {
                        return Err(self.refused(ask, answer));
                    };
                    let login =
                        self.challenged(repository, scope, &answer.headers, authorization.as_ref())?;
                    if !login {
                        return Err(self.refused(ask, answer));
                    }
                }
                301 | 302 | 303 | 307 | 308 => {
                    redirects += 1;
                    url = self.redirected(&answer, redirects)?;
                    if answer.status == 303 && method != Method::HEAD {
                        method = Method::GET;
                    }
                }
                _ => return Err(self.refused(ask, answer)),
            }
        }
    }

    fn redirected(&self, answer: &Answer<'_>, redirects: usize) -> Result<Url, RegistryError> {
        let request = answer.incoming.request().to_owned();
        let limit = self.options.limits.redirects;
        if redirects > limit {
            return Err(RegistryError::TooManyRedirects { request, limit });
        }
        self.location(answer)
    }

    /// Returns where an answer points to, if we may go there.
    pub(super) fn location(&self, answer: &Answer<'_>) -> Result<Url, RegistryError> {
        let request = answer.incoming.request().to_owned();
        let bad = |problem: &str| RegistryError::BadAnswer {
            request: request.clone(),
            problem: problem.to_owned(),
        };
        let location = answer.headers.get(LOCATION).ok_or_else(|| bad("the answer names no location"))?;
        let location = location.to_str().map_err(|_| bad("the location that it names is not an address"))?;
        let mut target =
            answer.url.join(location).map_err(|_| bad("the location that it names is not an address"))?;
        // It could be sent on as credentials otherwise.
        let _ = target.set_username("");
        let _ = target.set_password(None);
        // Nor may the network lead to a server on this machine.
        let is_downgrade = target.scheme() == "http" && answer.url.scheme() == "https";
        if is_downgrade || !self.allows(&target) {
            let problem = "which is not https".into();
            return Err(RegistryError::Redirect { request, target: without_secrets(&target), problem });
        }
        Ok(target)
    }

    /// Returns the error that an answer is.
    pub(super) fn refused(&self, ask: &Ask<'_>, mut answer: Answer<'_>) -> RegistryError {
        let status = answer.status;
        let words = match answer.incoming.all(MAX_ERROR_BYTES) {
            Ok(Some(body)) => Words::of(&body),
            Ok(None) => Words::default(),
            Err(error @ (RegistryError::Cancelled { .. } | RegistryError::Deadline { .. })) => return error,
            Err(_) => Words::default(),
        };
        let request = answer.incoming.request().to_owned();
        match status {
            404 => RegistryError::NotFound { what: ask.what.clone(), words },
            401 | 403 if retry_after(&answer.headers).is_none() => {
                let host = host_of(&answer.url);
                match &ask.who {
                    Who::Registry(repository, _) => {
                        let login = self.login_in_words(repository);
                        RegistryError::Login { host, request, status, words, login }
                    }
                    Who::Web(secret) => {
                        let origin = secret.map(|secret| secret.origin.clone());
                        RegistryError::Forbidden { host, request, status, words, origin }
                    }
                }
            }
            _ => {
                // Some hosts answer a burst of requests with 403, and say when to come back.
                let retry_after = retry_after(&answer.headers);
                RegistryError::Status { request, status, words, retry_after }
            }
        }
    }
}

/// Refuses an answer whose bytes are packed for the way: ranges, sizes and digests are of the file itself.
fn as_it_is(answer: Answer<'_>) -> Result<Answer<'_>, RegistryError> {
    let encoding = answer.headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    if matches!(encoding.trim().to_ascii_lowercase().as_str(), "" | "identity") {
        return Ok(answer);
    }
    let problem = format!(
        "the server sends it compressed ({}), although it was asked not to: switch compression off there",
        tame(encoding)
    );
    Err(RegistryError::BadAnswer { request: answer.incoming.request().into(), problem })
}
