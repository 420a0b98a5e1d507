//! Who is at the other end of a connection, and whether this request of theirs is let in.
//!
//! Owns the checks of uid, key and browser origin, and what those who fail them are told. Keys themselves are
//! [`super::keys`]' part. What may be asked of a path is decided before, in [`super::routes`].

use std::net::{IpAddr, SocketAddr};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Request, Uri};

use super::GatewayContext;
use super::keys::{Access, Principal};
use crate::config::Config;
use crate::supervisor::{Code, Refusal};

/// Set by browsers alone: who made the page do this.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// On the stable socket.
    Unix {
        /// By peer credentials; `None` when the system did not tell.
        uid: Option<u32>,
    },
    /// On a TCP listener.
    Tcp {
        /// Their address.
        from: SocketAddr,
        /// Ours, on which they came.
        at: SocketAddr,
    },
}

impl Peer {
    /// What it is called as long as no key gives it a name.
    pub fn name(&self) -> String {
        match self {
            Self::Unix { uid: Some(uid) } => format!("uid:{uid}"),
            Self::Unix { uid: None } => "unknown".to_owned(),
            Self::Tcp { from, .. } => format!("tcp:{}", from.ip().to_canonical()),
        }
    }

    /// True when both ends are on this machine.
    fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp { from, at } => [from, at].iter().all(|end| end.ip().to_canonical().is_loopback()),
        }
    }

    /// Keeps pages in a browser away from a listener that asks for no key: whatever site they come from, and under
    /// whatever name that site lets this machine's address be looked up.
    pub fn check_browser<B>(&self, access: &Access, request: &Request<B>) -> Result<(), Refusal> {
        if matches!(self, Self::Unix { .. }) || !matches!(access, Access::Keyless) {
            return Ok(());
        }
        let no = |what: &str| {
            let message =
                format!("{what}; without keys only programs of this machine are served, set listen.api_key_file");
            Err(Refusal::new(Code::OriginNotAllowed, message))
        };
        let headers = request.headers();
        if !self.is_local() {
            return no("the connection does not stay on this machine");
        }
        if headers.contains_key(ORIGIN)
            || headers.get(FETCH_SITE).is_some_and(|site| site.as_bytes().ends_with(b"-site"))
        {
            return no("a page in a browser asks");
        }
        if !names_this_machine(headers, request.uri()) {
            return no("the Host header is none of localhost, 127.0.0.1 and [::1]");
        }
        Ok(())
    }

    /// Whose request this is.
    pub fn authenticate(
        &self,
        context: &GatewayContext,
        config: &Config,
        access: &Access,
        headers: &HeaderMap,
    ) -> Result<Principal, Refusal> {
        match self {
            Self::Unix { uid: Some(uid) } if *uid == context.owner_uid || config.listen.allow_uids.contains(uid) => {
                Ok(Principal::named(self.name()))
            }
            Self::Unix { uid: Some(uid) } => {
                let message = format!("uid {uid} is not served here; its owner can add it to listen.allow_uids");
                Err(Refusal::new(Code::UidNotAllowed, message))
            }
            Self::Unix { uid: None } => {
                let message = "the system does not tell who connects; connect from a process on this machine";
                Err(Refusal::new(Code::UidNotAllowed, message))
            }
            Self::Tcp { .. } => match access {
                Access::Keyless => Ok(Principal::named(self.name())),
                Access::Keys(ring) => match ring.find(bearer(headers)?) {
                    Some(principal) => Ok(principal.clone()),
                    None => Err(no_key("this API key is not known here")),
                },
                Access::Closed => {
                    let message =
                        "no API key is in force; the owner mends listen.api_key_file and runs `mlxsupctl reload`";
                    Err(Refusal::new(Code::InvalidApiKey, message))
                }
            },
        }
    }
}

fn no_key(what: &str) -> Refusal {
    let message = format!("{what}; send `Authorization: Bearer KEY` with a key from the file in listen.api_key_file");
    Refusal::new(Code::InvalidApiKey, message)
}

/// The key that came with a request.
fn bearer(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Err(no_key("there is no API key in the request")) };
    if all.next().is_some() {
        return Err(no_key("there is more than one Authorization header"));
    }
    let value = value.as_bytes().trim_ascii();
    let (scheme, key) = value.split_at(value.iter().position(|byte| *byte == b' ').unwrap_or(value.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(no_key("the Authorization header does not begin with `Bearer`"));
    }
    Ok(key.trim_ascii())
}

/// True when every name under which the request asks for this machine can only mean this machine.
fn names_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = Authority::try_from(host.as_bytes());
    host.is_ok_and(|host| is_this_machine(&host)) && uri.authority().is_none_or(is_this_machine)
}

fn is_this_machine(authority: &Authority) -> bool {
    // Without user and password: nobody writes them, and `localhost@elsewhere` reads as what it is not.
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost")
        || bare.unwrap_or(host).parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        let is = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            names_this_machine(&headers, &Uri::from_static("/v1/models"))
        };
        for good in ["localhost", "LocalHost:11535", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:11535"] {
            assert!(is(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost.",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "localhost@evil.example",
            "evil@localhost",
            "localhost evil.example",
            "localhost:80:80",
            "0.0.0.0",
        ] {
            assert!(!is(bad), "{bad}");
        }
        let mut twice = HeaderMap::new();
        twice.append(HOST, "localhost".parse().unwrap());
        assert!(!names_this_machine(&twice, &Uri::from_static("http://evil.example/v1/models")));
        twice.append(HOST, "localhost".parse().unwrap());
        assert!(!names_this_machine(&twice, &Uri::from_static("/v1/models")));
        assert!(!names_this_machine(&HeaderMap::new(), &Uri::from_static("/v1/models")));
    }

    #[test]
    fn bearer_tokens() {
        let key = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(<[u8]>::to_vec).map_err(|refusal| refusal.code)
        };
        for good in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(key(good), Ok(b"abc".to_vec()), "{good}");
        }
        assert_eq!(key("Bearer"), Ok(Vec::new()));
        for bad in ["Basic abc", "abc", "Bearerabc", ""] {
            assert_eq!(key(bad), Err(Code::InvalidApiKey), "{bad}");
        }
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, "Bearer a".parse().unwrap());
        twice.append(AUTHORIZATION, "Bearer b".parse().unwrap());
        assert!(bearer(&twice).is_err() && bearer(&HeaderMap::new()).is_err());
    }
}
