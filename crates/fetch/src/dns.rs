//! Addresses of hosts, each looked up once and kept for a while.
//!
//! A name server drops some of many questions that come at once, and the C library asks again only after five
//! seconds (resolv.conf(5), `timeout`). Without this every request asks, those over a kept connection too.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How long an answer is good: a server that moves is found again by the next but one try.
const KEPT: Duration = Duration::from_secs(30);
/// The most hosts that are remembered: pages of an index may name any.
const MOST: usize = 256;

/// Asks `R` for each host once, however many connections are opened at a time.
#[derive(Debug, Default)]
pub(crate) struct Cached<R = DefaultResolver> {
    inner: R,
    hosts: Mutex<HashMap<String, Arc<Mutex<Option<Answer>>>>>,
}

#[derive(Debug)]
struct Answer {
    at: Instant,
    said: Result<ResolvedSocketAddrs, ureq::Error>,
}

impl<R: Resolver> Cached<R> {
    fn host(&self, key: String) -> Arc<Mutex<Option<Answer>>> {
        let mut hosts = held(&self.hosts);
        if hosts.len() >= MOST && !hosts.contains_key(&key) {
            hosts.clear();
        }
        hosts.entry(key).or_default().clone()
    }
}

impl<R: Resolver> Resolver for Cached<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return self.inner.resolve(uri, config, timeout);
        };
        let Some(key) = DefaultResolver::host_and_port(scheme, authority) else {
            return self.inner.resolve(uri, config, timeout);
        };
        let asked = Instant::now();
        let host = self.host(key);
        // Whoever comes while the host is being looked up waits for that answer.
        let mut known = held(&host);
        match &*known {
            Some(Answer { at, said: Ok(found) }) if at.elapsed() < KEPT => return Ok(found.clone()),
            Some(Answer { at, said: Err(error) }) if *at >= asked => {
                if let Some(error) = same(error) {
                    return Err(error);
                }
            }
            _ => {}
        }
        let said = self.inner.resolve(uri, config, timeout);
        let kept = match &said {
            Ok(found) => Some(Ok(found.clone())),
            Err(error) => same(error).map(Err),
        };
        *known = kept.map(|said| Answer { at: Instant::now(), said });
        said
    }
}

/// The failure of a look-up for another that waited for it.
fn same(error: &ureq::Error) -> Option<ureq::Error> {
    Some(match error {
        ureq::Error::HostNotFound => ureq::Error::HostNotFound,
        ureq::Error::Timeout(what) => ureq::Error::Timeout(*what),
        ureq::Error::Io(error) => ureq::Error::Io(io::Error::new(error.kind(), error.to_string())),
        _ => return None,
    })
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Takes a while, and knows one host.
    #[derive(Debug, Default)]
    struct Slow(AtomicUsize);

    impl Resolver for Slow {
        fn resolve(
            &self,
            uri: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
            if uri.host() != Some("here.invalid") {
                return Err(io::Error::other("no such name").into());
            }
            let mut found = self.empty();
            found.push(([127, 0, 0, 1], uri.port_u16().unwrap_or(80)).into());
            Ok(found)
        }
    }

    /// What 20 threads get that ask at once, in words.
    fn asked(names: &Cached<Slow>, uri: &str) -> Vec<String> {
        let one = || {
            let uri: Uri = uri.parse().unwrap();
            match names.resolve(&uri, &Config::default(), NextTimeout::default()) {
                Ok(found) => found[0].to_string(),
                Err(error) => error.to_string(),
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..20).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn a_host_is_looked_up_once_and_a_failure_again() {
        let names = Cached::<Slow>::default();
        assert_eq!(asked(&names, "https://here.invalid/a"), ["127.0.0.1:80"; 20]);
        assert_eq!(asked(&names, "https://here.invalid/b"), ["127.0.0.1:80"; 20]);
        assert_eq!(names.inner.0.load(Ordering::Relaxed), 1);
        // Another port is another server.
        assert_eq!(asked(&names, "https://here.invalid:8080/"), ["127.0.0.1:8080"; 20]);
        assert_eq!(names.inner.0.load(Ordering::Relaxed), 2);
        // A failure counts for those that waited for it, with its words, and for nobody after them.
        for times in [3, 4] {
            assert_eq!(asked(&names, "https://gone.invalid/"), ["io: no such name"; 20]);
            assert_eq!(names.inner.0.load(Ordering::Relaxed), times);
        }
    }
}
