//! The one place that knows what the driver's errors mean.

use std::time::Duration;

use goflow_core::store::Error;
use sqlx::postgres::PgConnectOptions;

/// How long a call may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// How often a transaction is tried that lost against others.
pub(crate) const TRIES: usize = 4;

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The data is at fault: another batch may do.
    Data,
    /// A deadlock or the like: the same again may do.
    Conflict,
    /// The schema lacks something.
    Schema,
    /// Wrong credentials, no such database.
    Refused,
    /// Anything that may pass.
    Unavailable,
}

pub(crate) fn kind(error: &sqlx::Error) -> Kind {
    let database = match error {
        sqlx::Error::Database(database) => database,
        sqlx::Error::Encode(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::InvalidArgument(_) => return Kind::Data,
        _ => return Kind::Unavailable,
    };
    let code = database.code().unwrap_or_default();
    match code.as_ref() {
        "42P01" | "42703" | "42883" | "3F000" => return Kind::Schema,
        "42501" => return Kind::Refused,
        _ => {}
    }
    match code.get(..2).unwrap_or_default() {
        // Data exceptions, constraints, limits of a row.
        "22" | "23" | "54" => Kind::Data,
        "40" => Kind::Conflict,
        "28" | "3D" => Kind::Refused,
        _ => Kind::Unavailable,
    }
}

/// The port's error for what the driver said.
pub(crate) fn translate(operation: &'static str, error: sqlx::Error) -> Error {
    match kind(&error) {
        Kind::Data if is_exists(&error) => Error::Exists,
        Kind::Data | Kind::Refused => Error::Refused {
            reason: reason(&error),
        },
        Kind::Schema => Error::Outdated,
        Kind::Conflict | Kind::Unavailable => Error::unavailable(operation, error),
    }
}

/// A task of this id exists.
#[derive(Debug)]
struct Exists;

impl std::fmt::Display for Exists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a task of this id exists")
    }
}

impl std::error::Error for Exists {}

/// The error of an id that is taken, found before the database finds it.
pub(crate) fn exists() -> sqlx::Error {
    sqlx::Error::Encode(Box::new(Exists))
}

fn is_exists(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Encode(found) => found.is::<Exists>(),
        sqlx::Error::Database(database) => database.constraint() == Some("gf_task_pkey"),
        _ => false,
    }
}

/// What went wrong, in one line.
pub(crate) fn reason(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        other => other.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The error of a connection that could not be made: one line that says where and why.
pub(crate) fn unreachable(options: &PgConnectOptions, error: &sqlx::Error) -> Error {
    let place = place(options);
    let user = options.get_username();
    let why = reason(error);
    match error.as_database_error().and_then(|e| e.code()).as_deref() {
        Some("28P01" | "28000") => Error::Refused {
            reason: format!("postgres at {place} does not let {user} in: {why}"),
        },
        Some("3D000") => Error::Refused {
            reason: format!("postgres at {place}: {why}: create it, then run `gf migrate`"),
        },
        _ if kind(error) == Kind::Refused => Error::Refused {
            reason: format!("postgres at {place}: {why}"),
        },
        _ => Error::unavailable("connect", format!("postgres at {place}: {why}")),
    }
}

/// Where the server is, without secrets.
pub(crate) fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(path) => path.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Runs a call within its deadline.
pub(crate) async fn within<T>(
    deadline: Duration,
    operation: &'static str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(Error::unavailable(
            operation,
            format!("no answer within {} s", deadline.as_secs()),
        )),
    }
}
