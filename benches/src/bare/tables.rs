//! Two tables, for what is unfinished and what is done, and the statements on them.

use anyhow::{Context, Result};
use bytes::Bytes;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::rig::Database;

/// The tables: a primary key each, and one index for the questions people ask.
const CREATE: &str = "
    create table live (id uuid primary key, queue text not null, payload bytea not null, pushed_at bigint not null);
    create table done (id uuid primary key, queue text not null, state smallint not null, attempt int not null,
        result bytea, pushed_at bigint not null, finished_at bigint not null);
    create index on done (queue, finished_at)";

const COPY: &str = "copy live from stdin binary";

/// The same as a statement with arrays. The driver sends a small copy in two packets of which the second waits for the
/// confirmation of the first, 40 ms: for few rows this is the quicker way.
const INSERT: &str = "
    insert into live select f.id, 'default', f.payload, 1 from unnest($1::uuid[], $2::bytea[]) as f (id, payload)";

/// From so many rows on they are copied.
const MANY: usize = 250;

/// Moves rows from the one to the other.
const FINISH: &str = "
    with d as (delete from live where id = any($1) returning id, queue, pushed_at)
    insert into done
    select f.id, d.queue, 1, 1, f.result, d.pushed_at, 2
    from unnest($1::uuid[], $2::bytea[]) as f (id, result) join d on d.id = f.id
    on conflict (id) do nothing";

/// The same for tasks that have no row yet.
const RECORD: &str = "
    insert into done
    select f.id, 'default', 1, 1, f.result, 1, 2 from unnest($1::uuid[], $2::bytea[]) as f (id, result)
    on conflict (id) do nothing";

/// A task: its id and its payload, which is its result later on.
pub(super) type Row = (Uuid, Bytes);

/// A connection to the tables.
#[derive(Debug)]
pub(super) struct Tables(PgConnection);

/// Makes the tables.
pub(super) fn create(database: &Database<'_>) -> Result<()> {
    database.execute(CREATE)?;
    Ok(())
}

impl Tables {
    pub(super) async fn connect(url: &str) -> Result<Self> {
        let connection = PgConnection::connect(url).await;
        connection.map(Self).context("connect to Postgres")
    }

    /// Commits new rows.
    pub(super) async fn push(&mut self, rows: &[Row]) -> Result<()> {
        if rows.len() < MANY {
            let ids: Vec<Uuid> = rows.iter().map(|(id, _)| *id).collect();
            let payloads: Vec<&[u8]> = rows.iter().map(|(_, payload)| payload.as_ref()).collect();
            let insert = sqlx::query(INSERT).bind(ids).bind(payloads);
            insert.execute(&mut self.0).await?;
            return Ok(());
        }
        let mut copy = self.0.copy_in_raw(COPY).await?;
        copy.send(binary(rows)).await?;
        copy.finish().await?;
        Ok(())
    }

    /// Commits results; of rows that are there already when `full`.
    pub(super) async fn finish(
        &mut self,
        ids: Vec<Uuid>,
        results: Vec<&[u8]>,
        full: bool,
    ) -> Result<()> {
        let statement = if full { FINISH } else { RECORD };
        sqlx::query(statement)
            .bind(ids)
            .bind(results)
            .execute(&mut self.0)
            .await?;
        Ok(())
    }
}

/// Rows as `COPY … BINARY` takes them: <https://www.postgresql.org/docs/15/sql-copy.html>.
fn binary(rows: &[Row]) -> Vec<u8> {
    const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    const QUEUE: &[u8] = b"default";
    let field = |bytes: &mut Vec<u8>, value: &[u8]| {
        bytes.extend_from_slice(&(value.len() as i32).to_be_bytes());
        bytes.extend_from_slice(value);
    };
    let size: usize = rows.iter().map(|(_, payload)| payload.len() + 64).sum();
    let mut bytes = Vec::with_capacity(size + SIGNATURE.len() + 2);
    bytes.extend_from_slice(SIGNATURE);
    for (id, payload) in rows {
        bytes.extend_from_slice(&4_i16.to_be_bytes());
        field(&mut bytes, id.as_bytes());
        field(&mut bytes, QUEUE);
        field(&mut bytes, payload);
        field(&mut bytes, &1_i64.to_be_bytes());
    }
    bytes.extend_from_slice(&(-1_i16).to_be_bytes());
    bytes
}
