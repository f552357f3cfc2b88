//! Which Postgres it is.

use std::fmt;

use goflow_core::store::Error;
use sqlx::Connection;

use crate::connect::{open, parse};

/// The oldest major version of Postgres that goflow is tested with.
pub const OLDEST_SERVER: u32 = 15;

/// The version of a Postgres server, such as 15.14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// The number in front, which says what the server can do.
    pub major: u32,
    /// The number of its release.
    pub minor: u32,
}

impl ServerVersion {
    /// Whether it is recent enough for goflow.
    pub fn is_supported(self) -> bool {
        self.major >= OLDEST_SERVER
    }

    /// The version that a server gives as one number, such as 150014.
    fn of(number: u32) -> Self {
        Self {
            major: number / 10_000,
            minor: number % 10_000,
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version of the server at `url`, whatever its schema.
///
/// # Errors
/// Within 5 s: [`Error::Unavailable`] when it cannot be reached or does not tell, [`Error::Refused`] when it does not
/// let the user in or has no such database.
pub async fn server_version(url: &str) -> Result<ServerVersion, Error> {
    let connection = open(&parse(url)?).await?;
    let number = connection.server_version_num();
    connection.close().await.ok();
    let untold = || Error::unavailable("read the server's version", "it does not tell");
    Ok(ServerVersion::of(number.ok_or_else(untold)?))
}

#[cfg(test)]
mod tests {
    use goflow_test_servers::Postgres;

    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let version = ServerVersion::of(150_014);
        assert_eq!((version.major, version.minor), (15, 14));
        assert_eq!(version.to_string(), "15.14");
        assert!(version.is_supported());
        assert!(!ServerVersion::of(140_022).is_supported());
        assert!(ServerVersion::of(180_001).is_supported());
    }

    #[tokio::test]
    async fn a_server_tells_its_version_without_a_schema() {
        let server = Postgres::start().unwrap();
        let url = server.create_database().unwrap();
        let version = server_version(&url).await.unwrap();
        let said = server.execute(&url, "show server_version").unwrap();
        assert!(
            said.starts_with(&version.to_string()) && version.is_supported(),
            "{version}, {said}"
        );
        let error = server_version("postgres://127.0.0.1:1/a").await;
        assert!(matches!(error, Err(Error::Unavailable { .. })), "{error:?}");
    }
}
