//! Identifiers: tasks, stores, workers, and the route outcomes take.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::ambient;
use crate::name::Text;

/// The id of a task: a UUIDv7, so ids sort by the time the task was pushed.
///
/// Handlers with side effects use it as their idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Uuid);

impl TaskId {
    /// A fresh id that carries the present time.
    #[expect(clippy::new_without_default, reason = "every call gives another id")]
    pub fn new() -> Self {
        Self(ambient::new_ordered_id())
    }

    /// The id as a UUID.
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// What it begins with: the time it was made, in milliseconds since the epoch.
    pub(crate) fn millis(&self) -> u64 {
        (self.0.as_u128() >> 80) as u64
    }

    /// The time this id was made, in milliseconds; the epoch for an id that is no UUIDv7.
    pub fn created_at(&self) -> OffsetDateTime {
        let stamp = self.0.get_timestamp();
        let nanos = stamp
            .filter(|_| self.0.get_version_num() == 7)
            .map_or(0, |t| {
                let (seconds, nanos) = t.to_unix();
                i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
            });
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The smallest id a task pushed at `time` or later can have: a bound for queries by time.
    pub fn lower_bound(time: OffsetDateTime) -> Self {
        let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let millis = millis.min((1 << 48) - 1);
        Self(Uuid::from_u128(u128::from(millis) << 80))
    }
}

impl Ord for TaskId {
    /// In the order of the bytes, compared as one number: maps of tasks compare all the time.
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_u128().cmp(&other.0.as_u128())
    }
}

impl PartialOrd for TaskId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Uuid> for TaskId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl FromStr for TaskId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The id of a store: made when the store is, kept as long as its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub Uuid);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Where the outcomes of a task go: engines that share a store share its route.
///
/// A lasting route belongs to a durable store and waits for its engines as long as it takes. A passing
/// route belongs to an engine whose records end with its process, and may be dropped some time after.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "Text<'_>")]
pub struct Route(ArrayString<MAX_ROUTE_BYTES>);

/// Longest name of a store in a route, in bytes.
const MAX_STORE_BYTES: usize = 64;

/// Longest route. Kept in place: it is in every message, and a count of those that share it would be what all threads
/// contend for.
const MAX_ROUTE_BYTES: usize = Route::LASTING.len() + MAX_STORE_BYTES;

impl Route {
    const LASTING: &str = "lasting-";
    const PASSING: &str = "passing-";

    /// The route of a store: lasting if its records outlive the process.
    pub fn of_store(store: StoreId, lasting: bool) -> Self {
        let kind = if lasting {
            Self::LASTING
        } else {
            Self::PASSING
        };
        let mut text = ArrayString::new();
        text.push_str(kind);
        text.push_str(store.0.simple().encode_lower(&mut Uuid::encode_buffer()));
        Self(text)
    }

    /// The route as text: a single subject token.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether outcomes on this route are kept until an engine takes them.
    pub fn is_lasting(&self) -> bool {
        self.0.starts_with(Self::LASTING)
    }
}

/// A text that is not a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a results route: {0:?}")]
pub struct InvalidRoute(String);

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl TryFrom<Text<'_>> for Route {
    type Error = InvalidRoute;
    fn try_from(Text(text): Text<'_>) -> Result<Self, InvalidRoute> {
        Self::try_from(&*text)
    }
}

impl TryFrom<String> for Route {
    type Error = InvalidRoute;
    fn try_from(text: String) -> Result<Self, InvalidRoute> {
        Self::try_from(text.as_str())
    }
}

impl TryFrom<&str> for Route {
    type Error = InvalidRoute;
    fn try_from(text: &str) -> Result<Self, InvalidRoute> {
        let name = text
            .strip_prefix(Self::LASTING)
            .or_else(|| text.strip_prefix(Self::PASSING));
        let legal = |name: &str| {
            (1..=MAX_STORE_BYTES).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        match ArrayString::from(text) {
            Ok(text) if name.is_some_and(legal) => Ok(Self(text)),
            _ => Err(InvalidRoute(text.chars().take(80).collect())),
        }
    }
}

impl From<Route> for String {
    fn from(route: Route) -> String {
        route.as_str().to_owned()
    }
}

/// The id of a running worker: fresh at every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub Uuid);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_know_their_time_and_bound_it() {
        let before = OffsetDateTime::now_utc() - time::Duration::milliseconds(1);
        let id = TaskId::new();
        assert!(id.created_at() >= before);
        assert!(TaskId::lower_bound(id.created_at()) <= id);
        assert!(TaskId::lower_bound(id.created_at() + time::Duration::milliseconds(1)) > id);
    }

    #[test]
    fn ids_are_in_the_order_of_their_bytes() {
        let mut ids: Vec<_> = (0..100).map(|_| TaskId(Uuid::new_v4())).collect();
        ids.sort();
        assert!(ids.is_sorted_by_key(|id| id.0.into_bytes()));
    }

    #[test]
    fn routes_are_single_tokens() {
        let store = StoreId(Uuid::now_v7());
        for lasting in [true, false] {
            let route = Route::of_store(store, lasting);
            assert_eq!(
                Route::try_from(route.as_str().to_owned()),
                Ok(route.clone())
            );
            assert_eq!(route.is_lasting(), lasting);
        }
        let longest = |length| Route::try_from(format!("passing-{}", "a".repeat(length)));
        assert!(longest(64).is_ok() && longest(65).is_err());
        for bad in ["", "lasting-", "lasting-a.b", "other-a", "passing->"] {
            assert!(
                Route::try_from(bad.to_owned()).is_err(),
                "{bad:?} was accepted"
            );
        }
    }
}
