//! Applying outcomes: lock, decide, write, commit.

use foldhash::{HashMap, HashMapExt, HashSet};
use goflow_core::State;
use goflow_core::outcome::{Outcome, Verdict};
use goflow_core::state::Policy;
use goflow_core::store::{Applied, Error};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::accept::has_nul;
use crate::change::lock_ids;
use crate::error::{Kind, TRIES, kind, reason, translate};
use crate::read::find_finished;
use crate::rows::LiveRow;
use crate::sql;
use crate::store::PostgresStore;

mod decide;
mod finish;
mod rowless;
mod succeed;
mod write;

use decide::Pending;
pub(crate) use finish::{Finish, FinishColumns, LastError};

impl PostgresStore {
    pub(crate) async fn apply_outcomes(
        &self,
        outcomes: &[&Outcome],
        policy: &Policy,
    ) -> Result<Vec<Applied>, Error> {
        let (fit, mut applied): (Vec<&Outcome>, Vec<Option<Applied>>) = {
            let answers: Vec<_> = outcomes
                .iter()
                .map(|o| unfit(o).map(|why| Applied::Rejected(why.to_owned())))
                .collect();
            (
                outcomes
                    .iter()
                    .zip(&answers)
                    .filter(|(_, answer)| answer.is_none())
                    .map(|(o, _)| *o)
                    .collect(),
                answers,
            )
        };
        let mut results = self.apply_fit(&fit, policy).await?.into_iter();
        for answer in applied.iter_mut().filter(|answer| answer.is_none()) {
            *answer = results.next();
        }
        Ok(applied
            .into_iter()
            .map(|answer| answer.unwrap_or(Applied::Stale))
            .collect())
    }

    async fn apply_fit(
        &self,
        outcomes: &[&Outcome],
        policy: &Policy,
    ) -> Result<Vec<Applied>, Error> {
        let done = self.succeed(outcomes).await?;
        let is_done = |outcome: &Outcome| done.contains(&outcome.task.as_uuid());
        let rest: Vec<_> = outcomes
            .iter()
            .copied()
            .filter(|one| !is_done(one))
            .collect();
        let mut rest = self.apply_by_halves(&rest, policy).await?.into_iter();
        let applied = outcomes.iter().map(|one| match is_done(one) {
            true => Applied::Finished(State::Succeeded),
            false => rest.next().unwrap_or(Applied::Stale),
        });
        Ok(applied.collect())
    }

    /// Applies all that the tables take; halves a group that holds one they do not, until it stands alone.
    async fn apply_by_halves(
        &self,
        outcomes: &[&Outcome],
        policy: &Policy,
    ) -> Result<Vec<Applied>, Error> {
        let mut applied = Vec::with_capacity(outcomes.len());
        let mut groups = vec![outcomes];
        while let Some(group) = groups.pop() {
            match (self.apply_together(group, policy).await, group) {
                (Ok(some), _) => applied.extend(some),
                (Err(error), [_]) if kind(&error) == Kind::Data => {
                    applied.push(Applied::Rejected(reason(&error)));
                }
                (Err(error), _) if kind(&error) == Kind::Data => {
                    let (first, second) = group.split_at(group.len() / 2);
                    groups.extend([second, first]);
                }
                (Err(error), _) => return Err(translate("apply", error)),
            }
        }
        Ok(applied)
    }

    async fn apply_together(
        &self,
        outcomes: &[&Outcome],
        policy: &Policy,
    ) -> Result<Vec<Applied>, sqlx::Error> {
        let mut tries = 1;
        loop {
            match self.try_apply(outcomes, policy).await {
                Err(error) if kind(&error) == Kind::Conflict && tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }

    async fn try_apply(
        &self,
        outcomes: &[&Outcome],
        policy: &Policy,
    ) -> Result<Vec<Applied>, sqlx::Error> {
        if outcomes.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.pools.begin().await?;
        let mut pending = lock(&mut tx, outcomes).await?;
        let applied = outcomes
            .iter()
            .map(|outcome| {
                let id = outcome.task.as_uuid();
                pending
                    .get_mut(&id)
                    .map_or(Applied::Stale, |pending| pending.apply(outcome, policy))
            })
            .collect();
        let added = write::all(&mut tx, &pending, &self.options).await?;
        tx.commit().await?;
        self.live.add(added);
        Ok(applied)
    }
}

/// Locks the rows of all outcomes, and the ids of those tasks that may have none; gives what may be changed.
async fn lock<'o>(
    tx: &mut Transaction<'_, Postgres>,
    outcomes: &[&'o Outcome],
) -> Result<HashMap<Uuid, Pending<'o>>, sqlx::Error> {
    let all: HashSet<Uuid> = outcomes
        .iter()
        .map(|outcome| outcome.task.as_uuid())
        .collect();
    let with_spec = outcomes
        .iter()
        .filter(|outcome| outcome.spec.as_ref().is_some_and(|s| s.id == outcome.task));
    let mut rowless: HashMap<Uuid, &'o Outcome> = HashMap::new();
    for outcome in with_spec {
        rowless.entry(outcome.task.as_uuid()).or_insert(outcome);
    }
    if !rowless.is_empty() {
        lock_ids(tx, rowless.keys().copied().collect()).await?;
    }
    let ids: Vec<Uuid> = all.into_iter().collect();
    let rows: Vec<LiveRow> = sqlx::query_as(sql::LOCK_ROWS)
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?;
    let mut pending = HashMap::with_capacity(outcomes.len());
    for row in rows {
        rowless.remove(&row.id);
        pending.insert(row.id, Pending::of_row(row)?);
    }
    if rowless.is_empty() {
        return Ok(pending);
    }
    // A statement of its own after the lock: it sees what those committed who had it before.
    let ids: Vec<Uuid> = rowless.keys().copied().collect();
    let finished = find_finished(tx, &ids).await?;
    for id in finished {
        rowless.remove(&id);
    }
    pending.extend(
        rowless
            .into_iter()
            .filter_map(|(id, outcome)| Some((id, Pending::rowless(outcome)?))),
    );
    Ok(pending)
}

/// Why an outcome cannot be kept; found before it spoils the batch.
fn unfit(outcome: &Outcome) -> Option<&'static str> {
    if let Verdict::Succeeded(content) = &outcome.verdict
        && content.content_type.contains('\0')
    {
        return Some("the content type of the result contains NUL");
    }
    let spec = outcome.spec.as_deref()?;
    has_nul(spec).then_some("headers, tags or the content type of the task contain NUL")
}
