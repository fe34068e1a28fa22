//! Who we are: `WWW-Authenticate` is answered with Basic credentials or with a token of the registry's token server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};

use super::client::{Client, Notice, host_of};
use super::credentials::{Credential, Found, basic};
use super::error::Words;
use super::exchange::{Answer, Body};
use super::retry::{now, retry_after};
use super::{RegistryError, Repository};

/// A token's answer is small.
const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// The life of a token that names none, as the token specification has it.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds: it would expire on its way.
const MARGIN: Duration = Duration::from_secs(5);
const CLIENT_ID: &str = "nimctl";

/// What a request is allowed to do, such as `repository:models/vit:pull,push`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope(Vec<String>);

impl Scope {
    pub(super) fn pull(repository: &Repository) -> Self {
        Self(vec![format!("repository:{}:pull", repository.name())])
    }

    pub(super) fn push(repository: &Repository) -> Self {
        Self(vec![format!("repository:{}:pull,push", repository.name())])
    }

    pub(super) fn delete(repository: &Repository) -> Self {
        Self(vec![format!("repository:{}:pull,push,delete", repository.name())])
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// What was learnt of who wants which credentials.
#[derive(Default)]
pub(super) struct Login {
    state: Mutex<State>,
    /// Held while a token is fetched, so that threads don't all fetch one.
    fetching: Mutex<()>,
    /// Held while a helper is asked, for the same reason.
    looking: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// By host: how it wants to know us.
    challenges: BTreeMap<String, Challenge>,
    credentials: BTreeMap<Repository, Found>,
    tokens: BTreeMap<(Repository, Scope), Token>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    ends: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Client<'_> {
    /// Returns the `Authorization` of a request, by what the registry asked for so far.
    pub(super) fn authorization(
        &self,
        repository: &Repository,
        scope: &Scope,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let challenge = self.login.state().challenges.get(repository.host()).cloned();
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => match self.credential(repository)?.credential {
                Some(Credential::Basic { user, password }) => header(&basic(&user, &password)).map(Some),
                Some(Credential::IdentityToken(_)) | None => Ok(None),
            },
            Some(Challenge::Bearer { realm, service, scope: asked }) => {
                if let Some(token) = self.login.token(repository, scope) {
                    return Ok(Some(token));
                }
                let _fetching = self.login.fetching.lock().unwrap_or_else(PoisonError::into_inner);
                // Another thread may have fetched it in the meantime.
                if let Some(token) = self.login.token(repository, scope) {
                    return Ok(Some(token));
                }
                let token = self.token(repository, scope, &realm, service.as_deref(), asked.as_deref())?;
                let header = token.header.clone();
                self.login.state().tokens.insert((repository.clone(), scope.clone()), token);
                Ok(Some(header))
            }
        }
    }

    /// Learns from an answer of 401 how the registry wants to know us. Returns whether it is worth asking again.
    pub(super) fn challenged(
        &self,
        repository: &Repository,
        scope: &Scope,
        headers: &HeaderMap,
        used: Option<&HeaderValue>,
    ) -> Result<bool, RegistryError> {
        let Some(challenge) = strongest(headers) else { return Ok(false) };
        {
            let mut state = self.login.state();
            state.challenges.insert(repository.host().into(), challenge.clone());
            // The token that was refused is of no use, unless another thread has a new one already.
            let key = (repository.clone(), scope.clone());
            if state.tokens.get(&key).is_some_and(|token| Some(&token.header) == used) {
                state.tokens.remove(&key);
            }
        }
        let next = self.authorization(repository, scope)?;
        // What a challenge says of the scope is for the request that it answers; others have their own.
        if let Some(Challenge::Bearer { scope, .. }) =
            self.login.state().challenges.get_mut(repository.host())
        {
            *scope = None;
        }
        Ok(next.is_some() && next.as_ref() != used)
    }

    /// Says which credentials a registry refused.
    pub(super) fn login_in_words(&self, repository: &Repository) -> String {
        match self.login.state().credentials.get(repository) {
            Some(Found { credential: Some(_), origin, .. }) => {
                format!("sent were the credentials of {origin}")
            }
            Some(Found { problem: Some(problem), .. }) => problem.clone(),
            Some(_) => "no credentials were found for it".into(),
            None => "it did not say how to log in".into(),
        }
    }

    /// Returns the credentials for a repository, looked up once.
    fn credential(&self, repository: &Repository) -> Result<Found, RegistryError> {
        let _looking = self.login.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.login.state().credentials.get(repository) {
            return Ok(found.clone());
        }
        let found = self.options.credentials.find(repository, self.watch.cancelled)?;
        if let Some(problem) = &found.problem {
            (self.watch.notice)(Notice::HelperFailed { problem: problem.clone() });
        }
        self.login.state().credentials.insert(repository.clone(), found.clone());
        Ok(found)
    }

    /// Asks a token server.
    fn token(
        &self,
        repository: &Repository,
        scope: &Scope,
        realm: &str,
        service: Option<&str>,
        asked: Option<&str>,
    ) -> Result<Token, RegistryError> {
        let bad_realm = |problem: &str| RegistryError::BadAnswer {
            request: format!("the login at {}", repository.host()),
            problem: problem.to_owned(),
        };
        let mut url: Url = realm.parse().map_err(|_| bad_realm("its token server has no valid address"))?;
        if !self.allows(&url) {
            return Err(bad_realm("its token server is not reached by https"));
        }
        let mut scopes = scope.0.clone();
        scopes.extend(asked.into_iter().flat_map(str::split_whitespace).map(str::to_owned));
        scopes.sort();
        scopes.dedup();
        let mut headers = HeaderMap::new();
        let (method, mut body) = match self.credential(repository)?.credential {
            Some(Credential::IdentityToken(token)) => {
                let form = form(&[
                    ("grant_type", "refresh_token"),
                    ("service", service.unwrap_or_default()),
                    ("client_id", CLIENT_ID),
                    ("scope", &scopes.join(" ")),
                    ("refresh_token", &token),
                ]);
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                (Method::POST, Body::Bytes(Bytes::from(form)))
            }
            other => {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                for scope in &scopes {
                    query.append_pair("scope", scope);
                }
                drop(query);
                if let Some(Credential::Basic { user, password }) = other {
                    headers.insert(AUTHORIZATION, header(&basic(&user, &password))?);
                }
                (Method::GET, Body::Empty)
            }
        };
        let begin = now();
        // A token server that redirects is not followed: it would take the credentials along, or lose them.
        let answer = self.exchange(method, url, headers, &mut body)?;
        self.read_token(repository, begin, answer)
    }

    fn read_token(
        &self,
        repository: &Repository,
        begin: Instant,
        mut answer: Answer<'_>,
    ) -> Result<Token, RegistryError> {
        let request = answer.incoming.request().to_owned();
        let bad = |problem: &str| RegistryError::BadAnswer {
            request: request.clone(),
            problem: problem.to_owned(),
        };
        let body = answer.incoming.all(MAX_TOKEN_BYTES)?.ok_or_else(|| bad("the token is too large"))?;
        match answer.status {
            200 => {}
            status @ (400 | 401 | 403) => {
                return Err(RegistryError::Login {
                    host: host_of(&answer.url),
                    request,
                    status,
                    words: Words::of(&body),
                    login: self.login_in_words(repository),
                });
            }
            status => {
                let retry_after = retry_after(&answer.headers);
                return Err(RegistryError::Status { request, status, words: Words::of(&body), retry_after });
            }
        }
        // Nothing of the body is quoted: it has a secret.
        let json: serde_json::Value =
            serde_json::from_slice(&body).map_err(|_| bad("the token server's answer is not JSON"))?;
        let text = |name: &str| json[name].as_str().filter(|text| !text.is_empty());
        let token = text("token").or(text("access_token")).ok_or_else(|| bad("the answer has no token"))?;
        let header = header(&format!("Bearer {token}")).map_err(|_| bad("the token is no header"))?;
        let life = json["expires_in"].as_u64().map_or(DEFAULT_LIFE, Duration::from_secs);
        let life = life.clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600));
        Ok(Token { header, ends: begin + life.saturating_sub(MARGIN.min(life / 2)) })
    }
}

impl Login {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self, repository: &Repository, scope: &Scope) -> Option<HeaderValue> {
        let state = self.state();
        let token = state.tokens.get(&(repository.clone(), scope.clone()))?;
        (token.ends > now()).then(|| token.header.clone())
    }
}

/// Returns a header whose value is never printed.
fn header(value: &str) -> Result<HeaderValue, RegistryError> {
    let mut header = HeaderValue::from_str(value).map_err(|_| RegistryError::BadAnswer {
        request: "login".into(),
        problem: "the credentials have characters that can't be sent".into(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}

fn form(pairs: &[(&str, &str)]) -> String {
    let Ok(mut url) = "http://form".parse::<Url>() else { unreachable!("it is an address") };
    url.query_pairs_mut().extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
    url.query().unwrap_or_default().into()
}

/// Returns the challenge to answer: a token before a password.
fn strongest(headers: &HeaderMap) -> Option<Challenge> {
    let all: Vec<Challenge> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenges)
        .collect();
    all.iter().find(|challenge| **challenge != Challenge::Basic).or(all.first()).cloned()
}

/// Reads the challenges of one header: `Bearer realm="…",service="…", Basic realm="…"`.
fn challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start_matches([' ', '\t']);
        match after.strip_prefix('=') {
            Some(value) if !word.is_empty() => {
                let (value, after) = parameter(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                rest = after;
            }
            Some(after) => rest = after,
            None => {
                found.push((word.to_ascii_lowercase(), BTreeMap::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    let challenge = |(scheme, mut parameters): (String, BTreeMap<String, String>)| match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        }),
        _ => None,
    };
    found.into_iter().filter_map(challenge).collect()
}

/// Reads a token or a quoted string, and returns what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let check =
            |header: &str, expected: &[Challenge]| assert_eq!(challenges(header), expected, "{header}");
        check(
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
            &[bearer(
                "https://auth.example/token",
                Some("registry.example"),
                Some("repository:a/b:pull,push"),
            )],
        );
        check(r#"Basic realm="a, \"b\" = c""#, &[Challenge::Basic]);
        check(
            r#"basic realm=x, BEARER Realm = "https://a" , service=s"#,
            &[Challenge::Basic, bearer("https://a", Some("s"), None)],
        );
        check("Negotiate, Basic", &[Challenge::Basic]);
        check("Bearer", &[]);
        check(r#"Bearer realm="open"#, &[bearer("open", None, None)]);
        for nothing in ["", ",,,", "=", "=\"", "x=y", "Digest a=b"] {
            check(nothing, &[]);
        }
    }

    #[test]
    fn a_token_goes_before_a_password() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=x"));
        assert_eq!(strongest(&headers), Some(Challenge::Basic));
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"https://a\""));
        assert_eq!(strongest(&headers), Some(bearer("https://a", None, None)));
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(form(&[("a", "b c&d"), ("e", "")]), "a=b+c%26d");
    }
}
