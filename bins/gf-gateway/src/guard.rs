//! Keeps web pages from talking to a gateway behind their reader's back.
//!
//! A page can make its reader's browser send requests to the reader's own machine. It can't choose the `Host` of
//! a request to another name than its own (DNS rebinding aside, which the check of the host stops), and it can't
//! hide the `Origin` of a request that changes something.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::{Code, Problem, grpc_response};

/// Which hosts are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Only the names of this machine to itself.
    Loopback,
    /// Any.
    Any,
}

/// Checks host and origin of every request.
pub(crate) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match allowed(hosts, request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) if is_grpc(request.headers()) => grpc_response(problem),
        Err(problem) => problem.into_response(),
    }
}

/// Whether a request speaks gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn allowed(hosts: Hosts, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = host(uri, headers);
    if hosts == Hosts::Loopback && !host.as_ref().is_some_and(is_loopback) {
        return Err(Problem::new(
            Code::WrongHost,
            "this gateway answers to localhost only",
        ));
    }
    let harmless = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if let Some(origin) = headers.get(header::ORIGIN).filter(|_| !harmless) {
        let origin = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.parse::<Uri>().ok());
        let same = origin
            .as_ref()
            .and_then(Uri::authority)
            .zip(host.as_ref())
            .is_some_and(|(a, b)| a == b);
        if !same {
            return Err(Problem::new(
                Code::CrossOrigin,
                "requests from other origins are refused",
            ));
        }
    }
    Ok(())
}

/// The host asked for: `:authority` in HTTP/2, the `Host` header in HTTP/1. Two that differ are none.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut named = headers
        .get_all(header::HOST)
        .iter()
        .map(|value| value.to_str().ok()?.parse::<Authority>().ok());
    match (uri.authority(), named.next(), named.next()) {
        (Some(authority), None, _) => Some(authority.clone()),
        (Some(authority), Some(Some(host)), None) if *authority == host => Some(host),
        (None, Some(host), None) => host,
        _ => None,
    }
}

fn is_loopback(authority: &Authority) -> bool {
    let plain = !authority.as_str().contains('@');
    plain
        && matches!(
            authority.host().to_ascii_lowercase().as_str(),
            "localhost" | "127.0.0.1" | "[::1]"
        )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn code(hosts: Hosts, method: Method, host: &[&str], origin: Option<&str>) -> Option<Code> {
        let mut headers = HeaderMap::new();
        for host in host {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        allowed(hosts, &method, &Uri::from_static("/v1/tasks"), &headers)
            .err()
            .map(|problem| problem.code())
    }

    #[test]
    fn only_local_names_reach_a_local_gateway() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"] {
            assert_eq!(
                code(Hosts::Loopback, Method::GET, &[host], None),
                None,
                "{host}"
            );
        }
        for host in [
            &["evil.example"][..],
            &["127.0.0.1.evil.example"],
            &["localhost@evil.example"],
            &["user@localhost"],
            &[],
            &["localhost", "evil.example"],
            &[""],
        ] {
            assert_eq!(
                code(Hosts::Loopback, Method::GET, host, None),
                Some(Code::WrongHost),
                "{host:?}"
            );
        }
        assert_eq!(
            code(Hosts::Any, Method::GET, &["tasks.example"], None),
            None
        );
    }

    #[test]
    fn other_origins_change_nothing() {
        let post = |origin| code(Hosts::Loopback, Method::POST, &["localhost:8080"], origin);
        assert_eq!(post(None), None);
        assert_eq!(post(Some("http://localhost:8080")), None);
        for origin in [
            "http://evil.example",
            "http://localhost:9090",
            "null",
            "http://localhost:8080.evil.example",
        ] {
            assert_eq!(post(Some(origin)), Some(Code::CrossOrigin), "{origin}");
        }
        let get = code(
            Hosts::Loopback,
            Method::GET,
            &["localhost:8080"],
            Some("http://evil.example"),
        );
        assert_eq!(get, None);
    }
}
