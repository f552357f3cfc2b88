//! Idempotency keys: remembered, folded within a group, looked up.

use std::collections::{BTreeMap, HashMap, HashSet};

use goflow_core::TaskId;
use goflow_core::store::{Error, NewTasks};
use sqlx::PgConnection;
use uuid::Uuid;

use super::unique::Holders;
use super::{Answer, known};
use crate::sql;

/// Remembers the keys of requests. A request whose key was used before, or by an earlier one of the group, is
/// answered; the others are to be accepted.
pub(super) async fn reserve_keys(
    connection: &mut PgConnection,
    requests: &[&NewTasks],
) -> Result<Vec<Option<Answer>>, sqlx::Error> {
    let mut answers: Vec<Option<Answer>> = requests.iter().map(|_| None).collect();
    // In the order of the keys, so that no two groups can wait for each other.
    let mut firsts: BTreeMap<(&str, &str), (Uuid, u64)> = BTreeMap::new();
    for (request, answer) in requests.iter().zip(&mut answers) {
        let (Some(key), Some(spec)) = (&request.key, request.tasks.first()) else {
            continue;
        };
        let place = (spec.namespace.as_str(), key.key.as_str());
        match firsts.get(&place) {
            Some((id, hash)) => *answer = Some(repeated(*id, *hash, key.body_hash)),
            None => {
                firsts.insert(place, (spec.id.as_uuid(), key.body_hash));
            }
        }
    }
    if firsts.is_empty() {
        return Ok(answers);
    }
    let (namespaces, keys): (Vec<&str>, Vec<&str>) = firsts.keys().copied().unzip();
    let (ids, hashes): (Vec<Uuid>, Vec<i64>) = firsts
        .values()
        .map(|(id, hash)| (*id, hash.cast_signed()))
        .unzip();
    let won: Vec<(String, String)> = sqlx::query_as(sql::INSERT_KEYS)
        .bind(&namespaces)
        .bind(&keys)
        .bind(ids)
        .bind(hashes)
        .fetch_all(&mut *connection)
        .await?;
    if won.len() == firsts.len() {
        return Ok(answers);
    }
    let won: HashSet<(&str, &str)> = won
        .iter()
        .map(|(namespace, key)| (namespace.as_str(), key.as_str()))
        .collect();
    let known: Vec<(String, String, Uuid, i64)> = sqlx::query_as(sql::FIND_KEYS)
        .bind(&namespaces)
        .bind(&keys)
        .fetch_all(&mut *connection)
        .await?;
    let known: HashMap<(&str, &str), (Uuid, u64)> = known
        .iter()
        .map(|(namespace, key, id, hash)| {
            (
                (namespace.as_str(), key.as_str()),
                (*id, hash.cast_unsigned()),
            )
        })
        .collect();
    for (request, answer) in requests.iter().zip(&mut answers) {
        let (Some(key), Some(spec)) = (&request.key, request.tasks.first()) else {
            continue;
        };
        let place = (spec.namespace.as_str(), key.key.as_str());
        if !won.contains(&place)
            && let Some((id, hash)) = known.get(&place)
        {
            *answer = Some(repeated(*id, *hash, key.body_hash));
        }
    }
    Ok(answers)
}

/// The answer to a request whose key stands for a task already.
pub(super) fn repeated(id: Uuid, first_hash: u64, hash: u64) -> Answer {
    if first_hash == hash {
        Ok(vec![known(TaskId::from(id))])
    } else {
        Err(Error::KeyReused)
    }
}

/// Has the idempotency keys of requests that made no task stand for what they got instead, also for those
/// requests of the group that were folded into them.
pub(super) async fn correct_keys(
    connection: &mut PgConnection,
    requests: &[&NewTasks],
    answers: &mut [Option<Answer>],
    holders: &Holders,
) -> Result<(), sqlx::Error> {
    let mut instead: HashMap<TaskId, Answer> = HashMap::new();
    let mut moved: Vec<(&str, &str, Uuid)> = Vec::new();
    let mut dropped: Vec<(&str, &str)> = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        let (Some(key), Some(spec)) = (&request.key, request.tasks.first()) else {
            continue;
        };
        let (namespace, key) = (spec.namespace.as_str(), key.key.as_str());
        match (&answers[at], holders.get(&(at, 0))) {
            (None, Some(holder)) => {
                moved.push((namespace, key, holder.as_uuid()));
                instead.insert(spec.id, Ok(vec![known(*holder)]));
            }
            (Some(Err(Error::Duplicate(holder))), _) => {
                dropped.push((namespace, key));
                instead.insert(spec.id, Err(Error::Duplicate(*holder)));
            }
            _ => {}
        }
    }
    if instead.is_empty() {
        return Ok(());
    }
    for answer in answers.iter_mut() {
        let folded_into = match answer {
            Some(Ok(accepted)) => accepted.first().map(|accepted| accepted.id),
            _ => None,
        };
        if let Some(other) = folded_into.and_then(|id| instead.get(&id)) {
            *answer = Some(other.clone());
        }
    }
    if !moved.is_empty() {
        let namespaces: Vec<&str> = moved.iter().map(|(namespace, ..)| *namespace).collect();
        let keys: Vec<&str> = moved.iter().map(|(_, key, _)| *key).collect();
        let tasks: Vec<Uuid> = moved.iter().map(|(.., task)| *task).collect();
        sqlx::query(sql::MOVE_KEYS)
            .bind(namespaces)
            .bind(keys)
            .bind(tasks)
            .execute(&mut *connection)
            .await?;
    }
    if !dropped.is_empty() {
        let (namespaces, keys): (Vec<&str>, Vec<&str>) = dropped.into_iter().unzip();
        sqlx::query(sql::DROP_KEYS)
            .bind(namespaces)
            .bind(keys)
            .execute(connection)
            .await?;
    }
    Ok(())
}
