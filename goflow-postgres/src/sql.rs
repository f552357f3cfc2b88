//! Every statement that runs, in one place; a test prepares each against the schema.
//!
//! Statements that change several rows lock them in the order of their ids first, so that no two of them can
//! wait for each other.

#[macro_use]
mod columns;
mod list;

#[cfg(test)]
pub(crate) use list::LISTS;
pub(crate) use list::{ListShape, Tables, list};

/// What a connection for changes sets. Plans must not depend on statistics: a table goes from empty to a
/// million rows in seconds, and a cached plan that reads all of it would stay for a minute.
pub(crate) const WRITE_SESSION: &str = "
    set statement_timeout = '4500ms'; set lock_timeout = '3s'; set idle_in_transaction_session_timeout = '5s';
    set tcp_user_timeout = '10s'; set jit = off;
    set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off";

/// What a connection for queries sets.
pub(crate) const QUERY_SESSION: &str = "
    set statement_timeout = '4500ms'; set lock_timeout = '3s'; set idle_in_transaction_session_timeout = '5s';
    set tcp_user_timeout = '10s'; set jit = off; set random_page_cost = 1.1";

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $($text:expr),+ ;)+) => {
        $($(#[$doc])* pub(crate) const $name: &str = concat!($($text),+);)+
        /// All of them, with their names.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

macro_rules! whole_live {
    () => {
        concat!(
            "select ",
            live_record!(),
            ", payload, null::bytea as result, gf_attempts(id) as attempts, \
         false as payload_omitted, false as result_omitted from gf_task where id = $1"
        )
    };
}
macro_rules! whole_history {
    () => {
        concat!(
            "select ",
            history_record!(),
            ", payload, result, attempts, false as payload_omitted, \
         false as result_omitted from gf_history where id = $1 and finished_at >= $2"
        )
    };
}

statements! {
    /// Whether the server answers.
    PING = "select 1";
    /// The id of the store.
    STORE_ID = "select store from gf_meta";
    /// The newest migration that was applied.
    SCHEMA_VERSION = "select max(version) from _sqlx_migrations where success";

    /// Remembers idempotency keys that are new or forgotten; gives those. The others are locked.
    INSERT_KEYS = "
        insert into gf_idempotency (namespace, key, task, body_hash, expires_at)
        select k.namespace, k.key, k.task, k.body_hash, now() + interval '24 hours'
        from unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) as k (namespace, key, task, body_hash)
        on conflict (namespace, key) do update
        set task = excluded.task, body_hash = excluded.body_hash, expires_at = excluded.expires_at
        where gf_idempotency.expires_at <= now()
        returning namespace, key";
    /// What keys stand for.
    FIND_KEYS = "
        select i.namespace, i.key, i.task, i.body_hash
        from unnest($1::text[], $2::text[]) as k (namespace, key)
        join gf_idempotency i on i.namespace = k.namespace and i.key = k.key
        where i.expires_at > now()";
    /// Forgets keys.
    EXPIRE_KEYS = "
        with old as materialized (
            select namespace, key from gf_idempotency where expires_at <= now()
            order by expires_at limit 10000 for update skip locked
        )
        delete from gf_idempotency i using old where i.namespace = old.namespace and i.key = old.key";

    /// Which of these ended since.
    FIND_FINISHED = "select id from gf_history where id = any($1) and finished_at >= $2";
    /// Accepts tasks; `$13` is how long each waits and `$14` until when.
    INSERT_TASKS = "
        insert into gf_task (", spec!(), ", attempt, attempt_limit, dispatch, waiting, state, due_at)
        select ", spec_values!(), ", 1, max_attempts, case when wait > 0 then 0 else 1 end, wait > 0,
            case when wait > 0 then 'scheduled' else 'queued' end,
            now() + case when wait > 0 then wait * interval '1 microsecond' else interval '5 s' end
        from (
            select t.*, coalesce(wait_us, extract(epoch from run_at - now()) * 1000000, 0) as wait
            from unnest(", spec_arrays!(), ", $13::bigint[], $14::timestamptz[])
                as t (", spec!(), ", wait_us, run_at)
        ) t
        returning id, not waiting as dispatch_now";
    /// How many tasks are unfinished, up to a number.
    COUNT_LIVE = "select count(*) from (select from gf_task limit $1) t";

    /// Keeps others from making a row of these ids.
    LOCK_IDS = "
        select pg_advisory_xact_lock(hashtextextended(id::text, 0))
        from (select id from unnest($1::uuid[]) as t (id) order by id) t";
    /// Locks rows and gives what decides.
    LOCK_ROWS = "
        select id, state, attempt, attempt_limit, dispatch, waiting, starts, unserved, backoff, queue, type
        from gf_task where id = any($1) order by id for update";
    /// Moves rows into the history.
    FINISH = "
        with d as (
            delete from gf_task t
            using unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::uuid[], $7::int[],
                    $8::timestamptz[], $9::timestamptz[], $10::smallint[], $11::bool[], $12::bool[])
                as f (id, state, result, result_content_type, error, worker, crashes, started_at, ended, class,
                    keep_error, failed_before)
            where t.id = f.id
            returning t.id, t.namespace, t.queue, t.type, t.payload, t.content_type, t.headers, t.tags,
                t.max_attempts, t.backoff, t.timeout_ms, t.start, t.attempt, t.attempt_limit, t.dispatch,
                f.state, f.result, f.result_content_type,
                case when f.keep_error then t.error else f.error end as error, coalesce(f.worker, t.worker) as worker, f.crashes,
                coalesce(f.started_at, t.started_at) as started_at, f.ended, f.class, f.failed_before
        )
        insert into gf_history (", spec!(), ", attempt, attempt_limit, dispatch, state, result,
            result_content_type, error, worker, crashes, started_at, finished_at, class, attempts)
        select ", spec!(), ", attempt, attempt_limit, dispatch, state, result, result_content_type, error, worker,
            crashes, started_at, least(greatest(ended, now() - interval '1 day'), now()), class,
            case when failed_before then gf_attempts(id) end
        from d";
    /// Forgets the failed attempts of tasks that took theirs into the history.
    DELETE_ATTEMPTS = "delete from gf_attempt where id = any($1)";
    /// Puts tasks into the history that never had a row.
    FINISH_ROWLESS = "
        insert into gf_history (", spec!(), ", attempt, attempt_limit, dispatch, state, result,
            result_content_type, error, worker, crashes, started_at, finished_at, class, attempts)
        select ", spec_values!(), ", attempt, max_attempts, dispatch, state, result, result_content_type, error,
            worker, crashes, started_at, least(greatest(ended, now() - interval '1 day'), now()), class,
            attempts::jsonb
        from unnest(", spec_arrays!(), ", $13::int[], $14::int[], $15::text[], $16::bytea[], $17::text[],
                $18::text[], $19::uuid[], $20::int[], $21::timestamptz[], $22::timestamptz[], $23::smallint[],
                $24::text[])
            as f (", spec!(), ", attempt, dispatch, state, result, result_content_type, error, worker, crashes,
                started_at, ended, class, attempts)";
    /// Makes the rows of tasks that had none and have not ended.
    INSERT_ROWLESS = "
        insert into gf_task (", spec!(), ", attempt, attempt_limit, dispatch, state, waiting, starts, unserved, error,
            worker, started_at, due_at)
        select ", spec_values!(), ", attempt, max_attempts, dispatch, state, waiting, starts, unserved, error,
            worker, started_at, now() + wait_us * interval '1 microsecond'
        from unnest(", spec_arrays!(), ", $13::int[], $14::int[], $15::text[], $16::bool[], $17::int[], $18::int[],
                $19::text[], $20::uuid[], $21::timestamptz[], $22::bigint[])
            as f (", spec!(), ", attempt, dispatch, state, waiting, starts, unserved, error, worker, started_at,
                wait_us)";
    /// Lets rows wait.
    WAIT = "
        update gf_task t
        set state = f.state, attempt = f.attempt, waiting = true, starts = 0, unserved = f.unserved,
            due_at = now() + f.wait_us * interval '1 microsecond', error = coalesce(f.error, t.error),
            worker = f.worker, started_at = coalesce(f.started_at, t.started_at)
        from unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::bigint[], $6::text[], $7::uuid[],
                $8::timestamptz[])
            as f (id, state, attempt, unserved, wait_us, error, worker, started_at)
        where t.id = f.id";
    /// Notes that deliveries run.
    STARTED = "
        update gf_task t
        set starts = f.starts, worker = f.worker, started_at = coalesce(f.started_at, t.started_at)
        from unnest($1::uuid[], $2::int[], $3::uuid[], $4::timestamptz[]) as f (id, starts, worker, started_at)
        where t.id = f.id";
    /// Keeps failed attempts. One that is there already is the same one.
    INSERT_ATTEMPTS = "
        insert into gf_attempt (id, attempt, error, worker, started_at, finished_at)
        select * from unnest($1::uuid[], $2::int[], $3::text[], $4::uuid[], $5::timestamptz[], $6::timestamptz[])
        on conflict do nothing";

    /// Claims what is due.
    CLAIM = "
        with due as materialized (
            select id from gf_task where due_at <= now() order by due_at limit $1 for update skip locked
        )
        update gf_task t
        set state = 'queued', dispatch = t.dispatch + t.waiting::int, waiting = false, due_at = now() + interval '5 s'
        from due where t.id = due.id
        returning t.id, t.namespace, t.queue, t.type, t.payload, t.content_type, t.headers, t.tags, t.max_attempts,
            t.backoff, t.timeout_ms, t.start, t.attempt, t.dispatch";
    /// Nothing more to do for rows whose dispatch the broker has.
    CONFIRM = "
        with confirmed as materialized (
            select t.id from gf_task t
            join unnest($1::uuid[], $2::int[]) as c (id, dispatch) on t.id = c.id
            where t.dispatch = c.dispatch and not t.waiting and t.due_at is not null
            order by t.id for update of t
        )
        update gf_task t set due_at = null from confirmed where t.id = confirmed.id";
    /// Makes unserved rows due. None of them waits longer than 72 s, which keeps the scan of the index short.
    WAKE_UNSERVED = "
        with unserved as materialized (
            select id from gf_task
            where due_at <= now() + interval '75 s' and waiting and unserved > 0 and queue = $1 and type = any($2)
            order by id for update
        )
        update gf_task t set due_at = least(t.due_at, now()) from unserved where t.id = unserved.id";

    /// Moves a finished task back among the unfinished.
    REOPEN = "
        with h as (
            delete from gf_history
            where id = $1 and finished_at >= $2 and state in ('failed', 'crashed', 'expired', 'cancelled')
            returning *
        ), a as (
            insert into gf_attempt (id, attempt, error, worker, started_at, finished_at)
            select h.id, a.attempt, a.error, a.worker, a.started_at, a.finished_at
            from h, jsonb_to_recordset(h.attempts)
                as a (attempt int, error text, worker uuid, started_at timestamptz, finished_at timestamptz)
        )
        insert into gf_task (", spec!(), ", attempt, attempt_limit, dispatch, waiting, state, due_at, error, worker,
            started_at)
        select ", spec!(), ", attempt + 1, attempt + max_attempts, dispatch, true, 'queued', now(), error, worker,
            started_at
        from h";

    /// A task that has not ended.
    GET_LIVE = whole_live!();
    /// A task, by one look at everything.
    GET = whole_live!(), " union all ", whole_history!(), " limit 1";
    /// Unfinished tasks by queue; ids are compared as text because there is no `min(uuid)`.
    COUNT_QUEUES = "
        select queue, count(*) filter (where state = 'scheduled') as scheduled,
            count(*) filter (where state = 'queued') as queued,
            count(*) filter (where state = 'retrying') as retrying,
            min(id::text collate \"C\") filter (where state = 'queued') as oldest, now() as at
        from gf_task group by queue order by queue";
    /// Those that wait for a worker of their type.
    COUNT_UNSERVED = "
        select queue, type, count(*) as tasks from gf_task
        where due_at <= now() + interval '75 s' and waiting and unserved > 0
        group by queue, type order by queue, type";

    /// Who the store is bound to; others wait.
    LOCK_META = "
        select broker, claim_owner, claim_until > now() as claimed, rebind_from, rebind_to from gf_meta for update";
    /// Binds the store, and has every present row handed over if `$3`.
    BIND = "
        update gf_meta set broker = $1, claim_owner = $2::uuid, claim_until = case when $2 is not null then now() + interval '8 s' end,
            rebind_from = case when $3 then '00000000-0000-0000-0000-000000000000' else rebind_from end,
            rebind_to = case when $3 then (select id from gf_task order by id desc limit 1) else rebind_to end";
    /// Makes the next rows due that another broker had; gives the last one looked at.
    REBIND_ROWS = "
        with todo as materialized (
            select id from gf_task where id > $1 and id <= $2 order by id limit $3 for update
        ), due as (
            update gf_task t set due_at = now() from todo where t.id = todo.id and not t.waiting
        )
        select id from todo order by id desc limit 1";
    /// How far that is.
    REBIND_FROM = "update gf_meta set rebind_from = $1";
    /// Gives a claim back.
    RELEASE_CLAIM = "update gf_meta set claim_owner = null, claim_until = null where claim_owner = $1";

    /// Locks of maintenance give way to the work.
    BRIEF_LOCKS = "select set_config('lock_timeout', '500ms', true)";
    /// Makes partitions ahead.
    MAKE_PARTITIONS = "select gf_make_partitions($1)";
    /// Drops those that are past their days.
    DROP_PARTITIONS = "select gf_drop_partitions()";
}
