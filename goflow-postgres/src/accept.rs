//! Accepting requests: one commit for all of them, or for as many as can be had together.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use goflow_core::store::{Accepted, DISPATCH_DEADLINE, Error, NewTasks};
use goflow_core::{TaskId, TaskSpec};
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::{DEADLINE, Kind, TRIES, exists, kind, translate};
use crate::sql;
use crate::store::PostgresStore;

mod insert;
mod keys;
mod unique;

use insert::{are_plain, insert, insert_plain};
use keys::{repeated, reserve_keys};
pub(crate) use unique::retake_key;
use unique::take_unique;

/// What became of one request.
pub(crate) type Answer = Result<Vec<Accepted>, Error>;

impl PostgresStore {
    pub(crate) async fn accept_requests(&self, requests: &[NewTasks]) -> Vec<Answer> {
        let deadline = Instant::now() + DEADLINE;
        let mut answers: Vec<Option<Answer>> = requests
            .iter()
            .map(|request| unfit(request).map(Err))
            .collect();
        let fit: Vec<usize> = (0..requests.len())
            .filter(|at| answers[*at].is_none())
            .collect();
        let admit = self.admit(requests, fit, &mut answers);
        let group = tokio::time::timeout_at(deadline, admit)
            .await
            .unwrap_or_default();
        // A group that fails because of one request is halved until the request stands alone.
        let mut groups: Vec<Vec<usize>> = vec![group];
        while let Some(mut group) = groups.pop() {
            if group.is_empty() {
                continue;
            }
            let members: Vec<&NewTasks> = group.iter().map(|at| &requests[*at]).collect();
            let result = match tokio::time::timeout_at(deadline, self.accept_group(&members)).await
            {
                Ok(result) => result,
                Err(_) => Err(sqlx::Error::PoolTimedOut),
            };
            match result {
                Ok(accepted) => {
                    for (at, answer) in group.into_iter().zip(accepted) {
                        answers[at] = Some(answer);
                    }
                }
                Err(error) if kind(&error) == Kind::Data && group.len() > 1 => {
                    let second = group.split_off(group.len() / 2);
                    groups.push(second);
                    groups.push(group);
                }
                Err(error) => {
                    let error = translate("accept", error);
                    for at in group {
                        answers[at] = Some(Err(error.clone()));
                    }
                }
            }
        }
        let late = || Err(Error::unavailable("accept", "no answer in time"));
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(late))
            .collect()
    }

    /// Those requests there is room for. The others are answered, but for repetitions, which need no room.
    async fn admit(
        &self,
        requests: &[NewTasks],
        fit: Vec<usize>,
        answers: &mut [Option<Answer>],
    ) -> Vec<usize> {
        let wanted = fit.iter().map(|at| requests[*at].tasks.len()).sum();
        let mut room = match self.live.room(wanted, &self.pools.queries).await {
            Ok(room) => room,
            Err(error) => {
                let error = translate("accept", error);
                for at in fit {
                    answers[at] = Some(Err(error.clone()));
                }
                return Vec::new();
            }
        };
        let mut admitted = Vec::with_capacity(fit.len());
        for at in fit {
            let request = &requests[at];
            if request.tasks.len() <= room {
                room -= request.tasks.len();
                admitted.push(at);
                continue;
            }
            let full = Error::Full {
                limit: self.options.max_live,
            };
            answers[at] = Some(self.repetition(request).await.unwrap_or(Err(full)));
        }
        admitted
    }

    /// The answer to a request that was accepted before.
    async fn repetition(&self, request: &NewTasks) -> Option<Answer> {
        let key = request.key.as_ref()?;
        let namespace = request.tasks.first()?.namespace.as_str();
        let found: Result<Option<(String, String, Uuid, i64)>, _> = sqlx::query_as(sql::FIND_KEYS)
            .bind(vec![namespace])
            .bind(vec![key.key.as_str()])
            .fetch_optional(&self.pools.lookups)
            .await;
        match found {
            Ok(found) => {
                let (_, _, id, hash) = found?;
                Some(repeated(id, hash.cast_unsigned(), key.body_hash))
            }
            Err(error) => Some(Err(translate("accept", error))),
        }
    }

    async fn accept_group(&self, requests: &[&NewTasks]) -> Result<Vec<Answer>, sqlx::Error> {
        let mut tries = 1;
        loop {
            match self.try_group(requests).await {
                Err(error) if kind(&error) == Kind::Conflict && tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }

    async fn try_group(&self, requests: &[&NewTasks]) -> Result<Vec<Answer>, sqlx::Error> {
        let specs: Vec<&TaskSpec> = requests
            .iter()
            .flat_map(|request| request.tasks.iter().map(|spec| &**spec))
            .collect();
        if requests.iter().all(|request| request.key.is_none()) && are_plain(&specs) {
            // A round trip in place of four.
            let mut taken = self.at_hand.take().await?;
            if !insert_plain(taken.connection(), &specs, DISPATCH_DEADLINE).await? {
                return Err(exists());
            }
            self.at_hand.keep(taken);
            self.live.add(specs.len().try_into().unwrap_or(i64::MAX));
            let accepted = |spec: &Arc<TaskSpec>| Accepted {
                id: spec.id,
                dispatch_now: true,
            };
            let answer = |request: &&NewTasks| Ok(request.tasks.iter().map(accepted).collect());
            return Ok(requests.iter().map(answer).collect());
        }
        let mut tx = self.pools.begin().await?;
        let (answers, added) = write_group(&mut tx, requests, DISPATCH_DEADLINE).await?;
        tx.commit().await?;
        self.live.add(added.try_into().unwrap_or(i64::MAX));
        Ok(answers)
    }
}

/// Writes what is new of some requests. Rows that may start at once are due for a sweep after `sweep`. Gives the
/// answers, and by how much the number of rows grew.
pub(crate) async fn write_group(
    connection: &mut PgConnection,
    requests: &[&NewTasks],
    sweep: Duration,
) -> Result<(Vec<Answer>, usize), sqlx::Error> {
    let mut answers = reserve_keys(connection, requests).await?;
    let holders = take_unique(connection, requests, &mut answers).await?;
    let mut specs: Vec<&TaskSpec> = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        if answers[at].is_none() {
            let new = request.tasks.iter().enumerate();
            let new = new.filter(|(place, _)| !holders.contains_key(&(at, *place)));
            specs.extend(new.map(|(_, spec)| &**spec));
        }
    }
    let later: HashSet<Uuid> = insert(connection, &specs, sweep).await?;
    let accepted = |at: usize| {
        let tasks = requests[at].tasks.iter().enumerate();
        tasks
            .map(|(place, spec)| match holders.get(&(at, place)) {
                Some(holder) => known(*holder),
                None => Accepted {
                    id: spec.id,
                    dispatch_now: !later.contains(&spec.id.as_uuid()),
                },
            })
            .collect()
    };
    let answers = answers.into_iter().enumerate();
    let answers = answers.map(|(at, answer)| answer.unwrap_or_else(|| Ok(accepted(at))));
    Ok((answers.collect(), specs.len()))
}

/// A task that was there before.
fn known(id: TaskId) -> Accepted {
    Accepted {
        id,
        dispatch_now: false,
    }
}

/// Why a request is not even tried.
pub(crate) fn unfit(request: &NewTasks) -> Option<Error> {
    let refused = |reason: &str| {
        Some(Error::Refused {
            reason: reason.to_owned(),
        })
    };
    if request.tasks.is_empty() {
        return refused("a request without tasks");
    }
    if request.key.is_some() && request.tasks.len() > 1 {
        return refused("an idempotency key is for a single task");
    }
    if request.tasks.iter().any(|spec| has_nul(spec)) {
        return refused("headers, tags, unique keys and content types must not contain NUL");
    }
    None
}

/// Whether a text of the task holds what no text column can.
pub(crate) fn has_nul(spec: &TaskSpec) -> bool {
    let pairs = spec.headers.iter().chain(&spec.tags);
    let key = spec.unique.as_ref().map(|unique| &unique.key);
    spec.payload.content_type.contains('\0')
        || key.is_some_and(|key| key.contains('\0'))
        || pairs
            .flat_map(|(k, v)| [k, v])
            .any(|text| text.contains('\0'))
}
