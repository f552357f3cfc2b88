//! What people open in a browser.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse};

/// Nothing but the text of the page itself: no script, no style, no frame, no form.
const STRICT: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The description of the HTTP surface.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

const INDEX: &str = include_str!("index.html");

pub(super) async fn index() -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 1] = [(header::CONTENT_SECURITY_POLICY, STRICT)];
    (headers, Html(INDEX))
}

pub(super) async fn openapi() -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )],
        OPENAPI,
    )
}
