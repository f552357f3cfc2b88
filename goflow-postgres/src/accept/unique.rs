//! Unique keys: taken, folded within a group, looked up, given back.

use std::collections::{BTreeMap, HashMap, HashSet};

use goflow_core::store::{Error, NewTasks};
use goflow_core::{OnConflict, TaskId, TaskSpec};
use sqlx::PgConnection;

use super::Answer;
use super::keys::correct_keys;
use crate::read::finished_since;
use crate::sql;

mod rows;

use rows::{Columns, Name, find, name, period};

/// The tasks that are not new because another one has their key: by request and place in it.
pub(super) type Holders = HashMap<(usize, usize), TaskId>;

/// Takes the unique keys of those requests that have no answer yet. A task whose key is taken, by a task in the
/// store or by an earlier one of the group, is held by that one, or its request is answered with the error.
pub(super) async fn take_unique(
    connection: &mut PgConnection,
    requests: &[&NewTasks],
    answers: &mut [Option<Answer>],
) -> Result<Holders, sqlx::Error> {
    // In the order of the keys, so that no two groups can wait for each other.
    let mut first_askers: BTreeMap<Name<'_>, &TaskSpec> = BTreeMap::new();
    for (request, answer) in requests.iter().zip(&*answers) {
        let tasks = request.tasks.iter().filter(|_| answer.is_none());
        for (name, spec) in tasks.filter_map(|spec| Some((name(spec)?, spec))) {
            first_askers.entry(name).or_insert(spec);
        }
    }
    if first_askers.is_empty() {
        return Ok(Holders::new());
    }
    let taken = take(connection, &first_askers).await?;
    let decided = decide(requests, answers, &taken);
    give_back(connection, &first_askers, &taken, &decided.owners).await?;
    correct_keys(connection, requests, answers, &decided.holders).await?;
    Ok(decided.holders)
}

/// Takes again the key of a task that is about to be reopened, or gives the task that has it.
pub(crate) async fn retake_key(
    connection: &mut PgConnection,
    id: TaskId,
) -> Result<Option<TaskId>, sqlx::Error> {
    let lost: Option<(String, String)> = sqlx::query_as(sql::LOST_UNIQUE)
        .bind(id.as_uuid())
        .bind(finished_since(id))
        .fetch_optional(&mut *connection)
        .await?;
    let Some((namespace, key)) = lost else {
        return Ok(None);
    };
    let mut columns = Columns::default();
    columns.push((&namespace, &key), id, None);
    if !columns.insert(connection).await?.is_empty() {
        return Ok(None);
    }
    let holder = find(connection, &[&namespace], &[&key]).await?;
    if let Some((_, _, holder)) = holder.first() {
        return Ok(Some(TaskId::from(*holder)));
    }
    columns.bind(sql::MOVE_UNIQUE).execute(connection).await?;
    Ok(None)
}

/// What became of the keys that were asked for.
struct Taken {
    /// Those that tasks in the store have.
    holders: HashMap<(String, String), TaskId>,
    /// Those that were taken now, for their first asker.
    won: HashSet<(String, String)>,
}

async fn take(
    connection: &mut PgConnection,
    first_askers: &BTreeMap<Name<'_>, &TaskSpec>,
) -> Result<Taken, sqlx::Error> {
    let mut columns = Columns::default();
    for (name, spec) in first_askers {
        columns.push(*name, spec.id, period(spec));
    }
    let won: HashSet<_> = columns.insert(connection).await?.into_iter().collect();
    let mut holders = HashMap::new();
    if won.len() < first_askers.len() {
        // A statement of its own: it sees what those committed who had the keys locked before.
        for (namespace, key, task) in find(connection, &columns.namespace, &columns.key).await? {
            let name = (namespace, key);
            if !won.contains(&name) {
                holders.insert(name, TaskId::from(task));
            }
        }
    }
    Ok(Taken { holders, won })
}

/// Who gets what.
struct Decided<'a> {
    holders: Holders,
    owners: HashMap<Name<'a>, &'a TaskSpec>,
}

fn decide<'a>(
    requests: &[&'a NewTasks],
    answers: &mut [Option<Answer>],
    taken: &Taken,
) -> Decided<'a> {
    let there: HashMap<Name<'_>, TaskId> = taken
        .holders
        .iter()
        .map(|((namespace, key), id)| ((namespace.as_str(), key.as_str()), *id))
        .collect();
    let mut decided = Decided {
        holders: Holders::new(),
        owners: HashMap::new(),
    };
    for (at, request) in requests.iter().enumerate() {
        if answers[at].is_some() {
            continue;
        }
        // A request that is refused leaves its keys to those behind it.
        let mut owners: HashMap<Name<'_>, &TaskSpec> = HashMap::new();
        let mut holders = Vec::new();
        let mut refused = None;
        for (place, spec) in request.tasks.iter().enumerate() {
            let (Some(name), Some(unique)) = (name(spec), &spec.unique) else {
                continue;
            };
            let owner = || owners.get(&name).or_else(|| decided.owners.get(&name));
            let holder = there.get(&name).copied();
            match (
                holder.or_else(|| owner().map(|owner| owner.id)),
                unique.on_conflict,
            ) {
                (Some(holder), OnConflict::Reject) => {
                    refused = Some(holder);
                    break;
                }
                (Some(holder), OnConflict::Existing) => holders.push(((at, place), holder)),
                (None, _) => {
                    owners.insert(name, spec);
                }
            }
        }
        match refused {
            Some(holder) => answers[at] = Some(Err(Error::Duplicate(holder))),
            None => {
                decided.owners.extend(owners);
                decided.holders.extend(holders);
            }
        }
    }
    decided
}

/// Sees to it that the keys stand for those who own them: most do.
async fn give_back(
    connection: &mut PgConnection,
    first_askers: &BTreeMap<Name<'_>, &TaskSpec>,
    taken: &Taken,
    owners: &HashMap<Name<'_>, &TaskSpec>,
) -> Result<(), sqlx::Error> {
    let (mut moved, mut dropped) = (Columns::default(), Columns::default());
    for (name, first) in first_askers {
        let won = taken.won.contains(&(name.0.to_owned(), name.1.to_owned()));
        match owners.get(name) {
            Some(owner) if won && std::ptr::eq(*owner, *first) => {}
            Some(owner) => moved.push(*name, owner.id, period(owner)),
            None if won => dropped.push(*name, first.id, None),
            None => {}
        }
    }
    if !moved.is_empty() {
        let query = moved.bind(sql::MOVE_UNIQUE);
        query.execute(&mut *connection).await?;
    }
    if !dropped.is_empty() {
        sqlx::query(sql::DROP_UNIQUE)
            .bind(&dropped.namespace)
            .bind(&dropped.key)
            .execute(connection)
            .await?;
    }
    Ok(())
}
