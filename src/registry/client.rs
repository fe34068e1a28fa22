//! The client: its options, its connections, and what it learnt of its registries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Url, blocking, redirect};

use super::auth::Login;
use super::retry::now;
use super::{Options, PlainHttp, RegistryError, Repository};

/// Docker Hub's registry is not at its own name.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";

/// Speaks to any number of registries, from any number of threads.
pub struct Client<'a> {
    pub(super) options: Options,
    pub(super) watch: Watch<'a>,
    pub(super) login: Login,
    begin: Instant,
    direct: OnceLock<blocking::Client>,
    proxied: OnceLock<blocking::Client>,
    /// For plain http where TLS can't be set up: with a proxy, and without.
    without_tls: [OnceLock<blocking::Client>; 2],
    known: Mutex<Known>,
}

/// The caller's callbacks, called from whichever thread uses the client.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Called many times a second; `true` ends what is being done with [`RegistryError::Cancelled`].
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Gets what a user may want to know, though all goes on.
    pub notice: &'a (dyn Fn(Notice) + Sync),
}

/// What a user may want to know, though all goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Something failed and is tried again.
    Retrying {
        /// What failed.
        reason: String,
        /// After which time it is tried again.
        wait: Duration,
    },
    /// A host sends whole blobs where a range was asked for. Said once for each host.
    RangeIgnored {
        /// The host, with its port.
        host: String,
    },
    /// A mirror did not have something, or failed, and the next place is asked. Said once for each repository of a mirror.
    MirrorFailed {
        /// Why.
        reason: String,
    },
    /// A credential helper failed, and the registry is asked without credentials.
    HelperFailed {
        /// Which one, and why.
        problem: String,
    },
}

/// What was learnt of hosts.
#[derive(Default)]
struct Known {
    reached: BTreeSet<String>,
    without_ranges: BTreeSet<String>,
    without_chunks: BTreeSet<String>,
    failed_mirrors: BTreeSet<Repository>,
    /// Hosts that asked to be left alone, and until when.
    busy: BTreeMap<String, Instant>,
    /// Mirrors that were not reached, and are not tried again.
    away: BTreeSet<String>,
}

impl<'a> Client<'a> {
    /// Makes a client; nothing is sent yet. The time limit of the whole begins now.
    pub fn new(options: Options, watch: Watch<'a>) -> Self {
        let login = Login::default();
        let (direct, proxied, without_tls, known) = Default::default();
        Self { options, watch, login, begin: now(), direct, proxied, without_tls, known }
    }

    /// Returns the HTTP client for an address; a proxy is never used for this machine itself.
    pub(super) fn http(&self, url: &Url) -> Result<blocking::Client, RegistryError> {
        let (slot, is_direct) = if is_loopback(url) { (&self.direct, true) } else { (&self.proxied, false) };
        let is_plain = url.scheme() == "http";
        let without_tls = &self.without_tls[usize::from(is_direct)];
        if let Some(client) = slot.get().or_else(|| without_tls.get().filter(|_| is_plain)) {
            return Ok(client.clone());
        }
        // reqwest takes the process's provider; that one is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let limits = &self.options.limits;
        let builder = || {
            let builder = blocking::Client::builder()
                .user_agent(concat!("nimctl/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(limits.connect)
                // Of a blocking client this is the time to the answer, then that of each read: not of the whole.
                .timeout(limits.idle)
                .tcp_user_timeout(limits.idle)
                .referer(false)
                // Each redirect is judged, and loses the credentials that are not for its target.
                .redirect(redirect::Policy::none());
            if is_direct { builder.no_proxy() } else { builder }
        };
        let set_up = |source| RegistryError::SetUp { source };
        match builder().build() {
            Ok(client) => Ok(slot.get_or_init(|| client).clone()),
            // A host that trusts no authority (a container without ca-certificates) can do without for plain http.
            Err(_) if is_plain => {
                let client = builder().tls_certs_only([]).build().map_err(set_up)?;
                Ok(without_tls.get_or_init(|| client).clone())
            }
            Err(source) => Err(set_up(source)),
        }
    }

    /// Returns the address of something in a repository, below `/v2/<name>/`.
    pub(super) fn url(&self, repository: &Repository, below: &str) -> Result<Url, RegistryError> {
        let host = repository.host();
        let registry = if host == DOCKER_HUB { DOCKER_HUB_REGISTRY } else { host };
        let parse = |scheme: &str| {
            let address = format!("{scheme}://{registry}/v2/{}/{below}", repository.name());
            address.parse::<Url>().map_err(|error| RegistryError::BadAnswer {
                request: format!("{repository}/{below}"),
                problem: format!("is not an address: {error}"),
            })
        };
        let plain = parse("http")?;
        if self.allows(&plain) { Ok(plain) } else { parse("https") }
    }

    /// Whether an address may be used.
    pub(super) fn allows(&self, url: &Url) -> bool {
        match (url.scheme(), self.options.plain_http) {
            ("https", _) | ("http", PlainHttp::All) => true,
            ("http", PlainHttp::Loopback) => is_loopback(url),
            _ => false,
        }
    }

    /// Returns the places that may have what is in a repository: its mirrors, then itself.
    pub(super) fn places(&self, repository: &Repository) -> Vec<Repository> {
        let known = self.known();
        let mirrors = self.options.mirrors.iter().filter_map(|mirror| mirror.of(repository));
        let mirrors = mirrors.filter(|place| !known.away.contains(place.host()));
        let mut places: Vec<Repository> = mirrors.chain([repository.clone()]).collect();
        places.dedup();
        places
    }

    /// Asks one place after another until one has it. Returns the first error that says more than that it isn't there.
    pub(super) fn in_places<T>(
        &self,
        repository: &Repository,
        mut ask: impl FnMut(&Repository) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let places = self.places(repository);
        let mut failure: Option<RegistryError> = None;
        for (number, place) in places.iter().enumerate() {
            let error = match ask(place) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            if number + 1 < places.len() {
                if !error.is_of_a_place() {
                    return Err(error);
                }
                self.mirror_failed(place, &error);
            }
            if failure.as_ref().is_none_or(|failure| failure.status() == Some(404)) {
                failure = Some(error);
            }
        }
        let Some(failure) = failure else { unreachable!("there is one place at least") };
        Err(failure)
    }

    fn mirror_failed(&self, place: &Repository, error: &RegistryError) {
        let mut known = self.known();
        if matches!(error, RegistryError::Unreachable { .. }) {
            known.away.insert(place.host().into());
        }
        let is_new = known.failed_mirrors.insert(place.clone());
        drop(known);
        if is_new {
            (self.watch.notice)(Notice::MirrorFailed { reason: error.to_string() });
        }
    }

    /// Fails when the caller cancels or the time is over.
    pub(super) fn check(&self, host: &str) -> Result<(), RegistryError> {
        if (self.watch.cancelled)() {
            return Err(RegistryError::Cancelled { host: host.into() });
        }
        if self.time_left().is_zero() {
            let doing = format!("talking to {host}");
            return Err(RegistryError::Deadline { doing, limit: self.options.limits.total });
        }
        Ok(())
    }

    pub(super) fn time_left(&self) -> Duration {
        self.options.limits.total.saturating_sub(now().saturating_duration_since(self.begin))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn was_reached(&self, host: &str) -> bool {
        self.known().reached.contains(host)
    }

    pub(super) fn reached(&self, host: &str) {
        let mut known = self.known();
        if !known.reached.contains(host) {
            known.reached.insert(host.into());
        }
    }

    /// A host limits requests: none of the client's threads sends it one for a while.
    pub(super) fn is_busy(&self, host: &str, wait: Duration) {
        let end = now() + wait;
        let mut known = self.known();
        let busy = known.busy.entry(host.into()).or_insert(end);
        *busy = end.max(*busy);
    }

    /// Returns how long a host wants to be left alone.
    pub(super) fn busy_for(&self, host: &str) -> Duration {
        let end = self.known().busy.get(host).copied();
        end.map_or(Duration::ZERO, |end| end.saturating_duration_since(now()))
    }

    /// A range was asked for and the whole came.
    pub(super) fn range_was_ignored(&self, host: &str) {
        if self.known().without_ranges.insert(host.into()) {
            (self.watch.notice)(Notice::RangeIgnored { host: host.into() });
        }
    }

    /// Whether an upload in several requests failed at this host before.
    pub(super) fn is_without_chunks(&self, host: &str) -> bool {
        self.known().without_chunks.contains(host)
    }

    pub(super) fn chunks_were_refused(&self, host: &str) {
        self.known().without_chunks.insert(host.into());
    }
}

/// Whether an address is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let address = host.trim_start_matches('[').trim_end_matches(']');
            address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// Returns host and port of an address, as a reference has them.
pub(super) fn host_of(url: &Url) -> String {
    match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.into(),
    }
}

/// Returns an address without its secrets: user, password, query (signed addresses), fragment.
pub(super) fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}
